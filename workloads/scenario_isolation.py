"""What a guest has for itself, and what a neighbour that takes all it can get takes from it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from vbench.contract.guest import Guest
from vbench.contract.undo import paused
from vbench.errors import Unsupported
from vbench.measure import isolation, surface
from vbench.measure.isolation import Neighbours, TwoGuests
from vbench.measure.lab import Lab
from vbench.measure.load import CpuTime
from vbench.records import Clock

pytestmark = pytest.mark.workload(boots=1, named=True)

# A fork bomb comes last: its guest may not answer any more.
_DISRUPTORS = ("cpu", "memory", "disk", "network", "fork")
_NEEDS_S = 9.0  # what one of them takes, in translated guests and natively


def scenario_isolation_neighbour(lab: Lab) -> None:
    """Measure a guest beside a disruptor in another one, and processes within equal limits."""
    guest, other = (lab.launch(port) for port in lab.ports(2))
    native, host_end = lab.native(guest), lab.host_end(guest)
    lab.counted(**{"cpu: processes": isolation.HOGS, "fork: processes": isolation.PROCESSES})
    lab.counted(**isolation.sights(guest, other, native))
    try:
        lab.counted(**isolation.overheard(guest, other, host_end))
    except Unsupported as error:
        lab.note(error.what)
    with ExitStack() as stack:
        sides = [
            _Side(lab, "guests", TwoGuests(guest, other, host_end), Clock.GUEST, (guest, other))
        ]
        if native is not None:
            processes = stack.enter_context(
                isolation.two_processes(native, guest.device.memory_mib)
            )
            lab.counted(limited=float(processes.limited))
            # first, as long as both guests can be stopped meanwhile
            sides.insert(0, _Side(lab, "natively", processes, Clock.CLIENT, still=(guest, other)))
        work = {side.where: side.alone() for side in sides}
        longest_s = 0.0  # of the victim's work in a guest
        for number, kind in enumerate(_DISRUPTORS):
            if number and lab.left_s < _NEEDS_S:
                lab.counted(ended_by_budget=1)
                break
            if not other.alive:
                lab.note(f"the disruptor's guest was lost before it could do {kind}")
                break
            for side in sides:
                took_s = side.beside(kind, work[side.where])
            longest_s = max(longest_s, took_s)
        lab.record(longest_s, crowded=True)


def scenario_isolation_surface(lab: Lab) -> None:
    """Count the functions of the host's kernel that a guest's work reaches, and the same natively.

    What takes part in them is what a guest could attack.
    """
    guest = lab.launch()
    native = lab.native(guest)
    if native is None or native.host is not guest.host:
        raise Unsupported("natively the same would run on another kernel")
    began, lost = guest.host.clock(), 0
    everything: dict[str, set[str]] = {"guests": set(), "natively": set()}
    with surface.traced(guest.host):
        commands, natively = surface.work(guest), surface.work(native)
        for kind in [each for each in commands if each in natively]:
            found = {
                "guests": surface.of_guest(guest, commands[kind]),
            }
            with paused(guest):  # see surface.of_native
                found["natively"] = surface.of_native(native, natively[kind])
            for where, reached in found.items():
                lab.counted(**{f"{kind}, {where}: functions": len(reached.functions)})
                everything[where] |= reached.functions
                lost += reached.lost
    for where, functions in everything.items():
        lab.counted(**{f"all, {where}: functions": len(functions)})
    both = everything["guests"] & everything["natively"]
    lab.counted(**{"all, both: functions": len(both), "events_lost": lost})
    lab.record(guest.host.clock() - began)


@dataclass(frozen=True)
class _Side:
    """Two neighbours: they are `guests`, or processes that work while the guests `still` do not."""

    lab: Lab
    where: str
    neighbours: Neighbours
    clock: Clock
    guests: tuple[Guest, ...] = ()
    still: tuple[Guest, ...] = ()

    def alone(self) -> dict[str, str]:
        """What the victim is to do from now on; how long it takes is told."""
        with paused(*self.still):
            work = isolation.work_of(self.neighbours)
            before = CpuTime.of(self.lab.host, self.guests)
            alone_s = isolation.work_s(self.neighbours, work)
            foreign = CpuTime.of(self.lab.host, self.guests).since(before).foreign
        for name, seconds in alone_s.items():
            self.lab.took(f"alone, {self.where}", name, seconds, self.clock)
        if self.guests and foreign is not None:
            self.lab.counted(**{f"alone, {self.where}: foreign_percent": 100 * foreign})
        return work

    def beside(self, kind: str, work: dict[str, str]) -> float:
        """The same beside a disruptor; seconds in all, 0 where there can be none of the kind."""
        with paused(*self.still):
            found = isolation.disturbed(self.neighbours, work, kind)
        if found is None:
            return 0.0
        who = f"{kind}, {self.where}"
        for name, seconds in found.work_s.items():
            self.lab.took(who, name, seconds, self.clock)
        self.lab.took(who, "answer", found.answer_s, Clock.CLIENT)
        self.lab.counted(**{f"{who}: finished": float(not found.stopped)})
        return isolation.GIVEN_UP_S if found.stopped else sum(found.work_s.values())
