"""Guests with a part-time load, more and more of them, until one has to wait for another."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from vbench.contract.guest import Guest
from vbench.contract.host import Host
from vbench.contract.undo import paused
from vbench.errors import Unsupported
from vbench.measure.ksm import merged
from vbench.measure.lab import Lab
from vbench.measure.load import Loaded, Requests, available_mib, events_for, pss_mib
from vbench.records import Clock, UsageScope

pytestmark = pytest.mark.workload(boots=1, named=True)

# A server that does too little for a machine of its own: one request is due in each period, and its
# hypervisor is busy for that share of a CPU with them.
_PERIOD_S, _SHARE = 0.02, 0.18
# Four seconds of them for one guest, to which all others are compared, then two; half of that where
# there is little time.
_REQUESTS, _SHORT_S = (200, 100), 30.0
_STEPS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48)
# The quality that is kept: the 99th percentile of response time is at most so many times that of
# one guest alone.
_SLOWER = 2.0
_SPARE_MIB = 256  # memory that is left to the host
# Where others use more of the host's CPUs meanwhile, as a share, it is measured again, so often.
_FOREIGN, _TRIES = 0.05, 3
_BUDGETS = 2.0  # it is measured for whoever names it, and takes so many times what others may


def scenario_consolidation_part_time(lab: Lab) -> None:
    """Add guests, each busy 18 % of a CPU, until responses take twice as long."""
    steps = _steps(lab.host)
    ports, guests, budget_s = lab.ports(steps[-1]), list[Guest](), lab.left_s
    sizes = _REQUESTS if budget_s > _SHORT_S else tuple(each // 2 for each in _REQUESTS)
    events, alone_s = 0, 0.0
    for number, count in enumerate(steps):
        if not _grown(lab, guests, ports[:count]):
            lab.counted(ended_by_memory=1)
            break
        if guests[0].capabilities.usage is UsageScope.HOST:
            raise Unsupported("its host does not see how much of the CPUs its guests take")
        events = events or events_for(lab.host, guests[0], _SHARE, _PERIOD_S)
        requests = Requests(sizes[number > 0], _PERIOD_S, events)
        late_s = _measured(lab, guests, requests, _SLOWER * alone_s)
        alone_s = alone_s or late_s
        if late_s > _SLOWER * alone_s:
            break
        if (budget_s - lab.left_s) * (count + 1) > _BUDGETS * budget_s * count:
            lab.counted(ended_by_budget=1)
            break
    else:
        lab.counted(ended_by_maximum=1)
    if not alone_s:
        raise Unsupported("no guest fits into the host's memory")
    lab.counted(slower_limit=_SLOWER, load_percent=100 * _SHARE, period_ms=1000 * _PERIOD_S)
    _merged(lab, guests)
    lab.record(alone_s, crowded=True)


def _steps(host: Host) -> Sequence[int]:
    """Up to as many as take all CPUs of the host."""
    said = host.facts().facts["cpus"]
    cpus = int(said) if said.isdecimal() else _STEPS[-1]
    return [each for each, less in zip(_STEPS, (0, *_STEPS), strict=False) if less * _SHARE < cpus]


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


def _measured(lab: Lab, guests: Sequence[Guest], requests: Requests, limit_s: float) -> float:
    """The 99th percentile of response time in guests: what is above a limit is measured once more,
    so that one hiccup of the host ends no curve. As many processes natively, too, while the guests
    stand still."""
    loaded = _least_disturbed(lab, guests, requests)
    if limit_s and loaded.quantile(0.99) > limit_s:
        again = _least_disturbed(lab, guests, requests)
        loaded = min(loaded, again, key=lambda each: each.quantile(0.99))
    _tell(lab, f"{len(guests)} guests", loaded, Clock.GUEST)
    memory_mib = _memory_mib(guests)
    if memory_mib is not None:
        lab.counted(**{f"{len(guests)} guests: pss_mib": memory_mib})
    native = lab.native(guests[0])
    if native is not None and all(guest.capabilities.pausable for guest in guests):
        with paused(*guests):
            there = lab.under_load([native] * len(guests), requests)
        _tell(lab, f"{len(guests)} natively", there, Clock.CLIENT)
    return loaded.quantile(0.99)


def _least_disturbed(lab: Lab, guests: Sequence[Guest], requests: Requests) -> Loaded:
    best = lab.under_load(guests, requests, guests)
    for _ in range(_TRIES - 1):
        if best.foreign is None or best.foreign <= _FOREIGN:
            break
        again = lab.under_load(guests, requests, guests)
        if again.foreign is not None and again.foreign < best.foreign:
            best = again
    return best


def _memory_mib(guests: Sequence[Guest]) -> float | None:
    """Of each on average; None where it is not known of all."""
    found = [pss_mib(guest) for guest in guests]
    known = [each for each in found if each is not None]
    return sum(known) / len(known) if len(known) == len(found) else None


def _merged(lab: Lab, guests: Sequence[Guest]) -> None:
    """Memory of each with what is alike kept once, while all of them do nothing."""
    before_mib = _memory_mib(guests)
    if before_mib is None:
        return
    try:
        with merged(lab.host) as scans:
            after_mib = _memory_mib(guests)
    except Unsupported as error:
        lab.note(error.what)
        return
    if after_mib is not None:
        lab.counted(
            **{"ksm: guests": len(guests), "ksm: scans": scans},
            **{"ksm: pss_before_mib": before_mib, "ksm: pss_mib": after_mib},
        )


def _tell(lab: Lab, who: str, loaded: Loaded, clock: Clock) -> None:
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        lab.took(who, name, loaded.quantile(share), clock)
    lab.counted(
        **{
            f"{who}: busy_percent": 100 * loaded.busy,
            f"{who}: missed_percent": 100 * loaded.missed,
        }
    )
    if loaded.each is not None:
        lab.counted(**{f"{who}: cpu_percent": 100 * loaded.each})
    if loaded.foreign is not None:
        lab.counted(**{f"{who}: foreign_percent": 100 * loaded.foreign})
