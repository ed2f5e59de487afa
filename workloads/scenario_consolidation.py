"""Guests with a part-time load, more and more of them, until one has to wait for another."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from vbench.contract.guest import Guest
from vbench.contract.host import Host
from vbench.errors import Unsupported
from vbench.measure.lab import Lab
from vbench.measure.load import Loaded, Requests, available_mib, events_of, pss_mib
from vbench.records import Clock

pytestmark = pytest.mark.workload(boots=1, named=True)

# A server that does too little for a machine of its own: natively it is busy for that share of a
# period, and one request is due in each.
_PERIOD_S, _SHARE = 0.02, 0.18
# Four seconds of them; two where there is little time.
_REQUESTS, _REQUESTS_SHORT, _SHORT_S = 200, 100, 30.0
_STEPS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16)
# The quality that is kept: the 99th percentile of response time is at most so many times that of
# one guest alone.
_SLOWER = 2.0
_SPARE_MIB = 256  # memory that is left to the host


def scenario_consolidation_part_time(lab: Lab) -> None:
    """Add guests, each busy 18 % of a CPU natively, until responses take twice as long."""
    ports, guests, budget_s = lab.ports(_STEPS[-1]), list[Guest](), lab.left_s
    requests, alone_s = Requests(_REQUESTS, _PERIOD_S, 0), 0.0
    for count in _STEPS:
        if not _grown(lab, guests, ports[:count]):
            lab.counted(ended_by_memory=1)
            break
        if not requests.events:
            on = lab.native(guests[0]) or guests[0]
            size = _REQUESTS if budget_s > _SHORT_S else _REQUESTS_SHORT
            requests = Requests(size, _PERIOD_S, events_of(on, _SHARE * _PERIOD_S))
        late_s = _measured(lab, guests, requests)
        alone_s = alone_s or late_s
        if late_s > _SLOWER * alone_s:
            break
        if (budget_s - lab.left_s) * (count + 1) > budget_s * count:
            lab.counted(ended_by_budget=1)
            break
    else:
        lab.counted(ended_by_maximum=1)
    if not alone_s:
        raise Unsupported("no guest fits into the host's memory")
    lab.counted(slower_limit=_SLOWER, load_percent=100 * _SHARE, period_ms=1000 * _PERIOD_S)
    lab.record(alone_s, crowded=True)


def _grown(lab: Lab, guests: list[Guest], ports: Sequence[Host]) -> bool:
    """One guest on each port; false where the next one does not fit into memory."""
    for port in ports[len(guests) :]:
        needed_mib = (guests[0].device.memory_mib or 0) if guests else 0
        free_mib = available_mib(lab.host)
        if free_mib is not None and free_mib < needed_mib + _SPARE_MIB:
            return False
        try:  # any CPU will do: else all guests share the same one
            guests.append(lab.launch(port, "pin=off"))
        except Unsupported:  # none is pinned by this backend
            guests.append(lab.launch(port))
    lab.sleep(0.5)
    return True


def _measured(lab: Lab, guests: Sequence[Guest], requests: Requests) -> float:
    """The 99th percentile of response time in guests. As many processes natively, too, while the
    guests stand still."""
    loaded = lab.under_load(guests, requests, guests)
    _tell(lab, f"{len(guests)} guests", loaded, Clock.GUEST)
    memory = [mib for guest in guests if (mib := pss_mib(guest)) is not None]
    if memory:
        lab.counted(**{f"{len(guests)} guests: pss_mib": sum(memory) / len(memory)})
    native = lab.native(guests[0])
    if native is not None and all(guest.capabilities.pausable for guest in guests):
        for guest in guests:
            guest.pause()
        there = lab.under_load([native] * len(guests), requests)
        _tell(lab, f"{len(guests)} natively", there, Clock.CLIENT)
        for guest in guests:
            guest.resume()
    return loaded.quantile(0.99)


def _tell(lab: Lab, who: str, loaded: Loaded, clock: Clock) -> None:
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        lab.took(who, name, loaded.quantile(share), clock)
    lab.counted(
        **{
            f"{who}: busy_percent": 100 * loaded.busy,
            f"{who}: missed_percent": 100 * loaded.missed,
        }
    )
    if loaded.foreign is not None:
        lab.counted(**{f"{who}: foreign_percent": 100 * loaded.foreign})
