"""The hypervisors that were measured: which there are, what they were seen to be, what they take to
install. The second table, its chapter and its claims ask here. Pure.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vbench.model import HostKind, Status, Technique
from vbench.records import Access, Hypervisor, HypervisorType, Installation, Place
from vbench.report.choice import CPU, Choice, choose
from vbench.report.gather import Gathered, Panel
from vbench.report.overview import BOOT_PHASES, boot_times

# The columns of the second table. A type that a guest cannot tell has none.
COLUMNS = (HypervisorType.ONE, HypervisorType.HYBRID, HypervisorType.TWO)
ORDER = (*COLUMNS, HypervisorType.UNKNOWN)
# A type is not to blame for its technique, so one that is not hardware-assisted is named.
_HOW = {
    Technique.FULL: ", translating",
    Technique.PARA: ", paravirtual",
    Technique.HARDWARE: "",
}


@dataclass(frozen=True)
class FirstCommand:
    """Seconds from launch to the first command, sorted, and how the kernel was `start`ed: "" where
    that was not recorded."""

    choice: Choice
    start: str
    seconds: list[float]

    @property
    def median_s(self) -> float:
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Measured:
    """A hypervisor, and each of its variants in its panel."""

    kind: Hypervisor
    of: tuple[Choice, ...]

    def best(self, panel: Panel | None = None) -> Choice | None:
        """The variant that stands for it, in one panel or in all."""
        panels = [panel] if panel else list({c.panel.number: c.panel for c in self.of}.values())
        return choose(panels, None, CPU, hypervisor=self.kind.name)

    @property
    def ran(self) -> bool:
        """Whether a guest of it ran or was measured; one that failed before tells nothing."""
        return any(
            c.launch is not None
            or any(i.variant == c.variant and i.status is Status.OK for i in c.panel.items)
            for c in self.of
        )

    @property
    def module(self) -> str:
        """The module of the host's kernel that it was seen to be."""
        found = (c.launch.attestation.module for c in self.of if c.launch is not None)
        return next(filter(None, found), "")

    @property
    def place(self) -> Place | None:
        """What it was seen to be on its host; None where nobody saw it."""
        found = (place(c.panel, c.variant) for c in self.of)
        return next(filter(None, found), None)

    @property
    def installation(self) -> Installation | None:
        """What it takes to install: of several ways, counted before not counted, the smallest."""
        found = [i for c in self.of if (i := c.panel.installations.get(c.variant)) is not None]
        return min(found, key=lambda i: (i.packages is None, i.disk_mib or 0.0), default=None)

    @property
    def access(self) -> list[tuple[Access, Panel]]:
        """What a user was seen to need to launch its guests, in each panel where that was seen; the
        testbed last, because a distribution sets modes that it has not."""
        found = {
            c.panel.number: (c.launch.attestation.access, c.panel)
            for c in self.of
            if c.launch is not None and c.launch.attestation.access is not None
        }
        return sorted(found.values(), key=lambda each: each[1].host.kind is HostKind.TESTBED)

    @property
    def launchers(self) -> dict[str, Panel]:
        """Who launched it, each with a panel where: root or not, by the host's facts. Nobody where
        it was not seen on the host: a machine that was already there is only logged in to."""
        launched = [c.panel for c in self.of if place(c.panel, c.variant) is not None]
        return {p.host.facts.get("user", ""): p for p in reversed(launched)}

    def first_commands(self, *, wall: bool = True) -> list[FirstCommand]:
        """The quickest variant by each way to start a guest, the quickest way first: a guest that
        firmware boots is later than one whose kernel is started at once, whatever runs it."""
        panels = {c.panel.number: c.panel for c in self.of if c.panel.wall is wall}
        own = {choice.variant for choice in self.of}
        backends = {choice.backend for choice in self.of}  # of what a workload launched by itself
        timed = [
            FirstCommand(choice, choice.start, seconds)
            for panel in panels.values()
            for variant in panel.launched()
            if (choice := Choice(panel, variant)).launch is not None
            and (variant in own or (variant not in panel.variants() and choice.backend in backends))
            and (seconds := boot_times(panel, variant, BOOT_PHASES[0]))
        ]
        found: dict[str, FirstCommand] = {}
        for each in sorted(timed, key=lambda each: each.median_s):
            found.setdefault(each.start, each)
        return list(found.values())

    def first_command(self, *, wall: bool = True) -> FirstCommand | None:
        """The quickest of `first_commands`."""
        return next(iter(self.first_commands(wall=wall)), None)


def place(panel: Panel, variant: str) -> Place | None:
    """What the hypervisor of a variant was seen to be; older results tell its module only."""
    for launch in panel.launches:
        if launch.variant == variant:
            found = launch.attestation
            return found.place or (Place.MODULE if found.module else None)
    return None


def stated_access(gathered: Gathered, each: Measured) -> Mapping[str, str] | None:
    """What its backends state that a user needs to launch its guests: text and source."""
    known: dict[str, Mapping[str, Mapping[str, str]]] = {}
    for of in gathered.facts.values():
        known |= of
    facts = (known.get(choice.variant.partition(",")[0], {}) for choice in each.of)
    return next((found["access"] for found in facts if "access" in found), None)


def measured(panels: Iterable[Panel]) -> list[Measured]:
    """All that have a variant in these panels, by type and name."""
    found: dict[str, tuple[Hypervisor, list[Choice]]] = {}
    for panel in panels:
        for variant in panel.variants():
            kind = panel.declared(variant).hypervisor
            if kind is not None:
                found.setdefault(kind.name, (kind, []))[1].append(Choice(panel, variant))
    made = [Measured(kind, tuple(of)) for kind, of in found.values()]
    return sorted(made, key=lambda each: (ORDER.index(each.kind.type), each.kind.name))


def how(choice: Choice) -> str:
    """By which technique, where it is not the usual one."""
    return _HOW[choice.technique]


def common_panel(panels: Sequence[Panel]) -> Panel | None:
    """The machine on which most types were measured, then most hypervisors."""

    def rank(panel: Panel) -> tuple[int, int, bool, int]:
        there = [each for each in measured([panel]) if each.best() is not None]
        return len({each.kind.type for each in there}), len(there), panel.wall, -panel.number

    return max(panels, key=rank, default=None)
