"""Which variant stands for a technique or a hypervisor on the first screen. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vbench.model import Launch, Technique
from vbench.records import DeviceModel
from vbench.report import cells, reference
from vbench.report.gather import Gathered, Panel
from vbench.report.reference import ReferenceSet
from vbench.report.verdicts import default_variants
from vbench.results import stats
from vbench.results.formatting import NOTHING, TIMES

COUNTED = "†"  # marks what was counted in the testbed
CPU = (reference.COMPUTING, reference.MEMORY, reference.SYSTEM_CALLS)
DISK = (reference.DISK_THROUGHPUT, reference.DISK_OPERATIONS)
NETWORK = (reference.NETWORK_THROUGHPUT, reference.NETWORK_OPERATIONS)


@dataclass(frozen=True)
class Choice:
    """A variant in its panel."""

    panel: Panel
    variant: str

    @property
    def launch(self) -> Launch | None:
        of = (one for one in self.panel.launches if one.variant == self.variant)
        return next(of, None)

    @property
    def technique(self) -> Technique:
        return next(t for t in Technique if self.variant in self.panel.variants(t))

    def mean(self, of: ReferenceSet) -> stats.Overhead | None:
        """Of the reference workloads that it measured; None without any."""
        found = stats.geometric_mean(reference.measured(self.panel, self.variant, of))
        return None if found is None else found.overhead

    def overheads(self) -> str:
        """The ratios of computing, memory and system calls, in short."""
        values = (self.mean(each) for each in CPU)
        return " / ".join(NOTHING if value is None else brief(value.ratio) for value in values)

    def word(self, sets: Iterable[ReferenceSet]) -> str:
        """low, medium, high, or from one to the other: of all sets that may be judged."""
        rated: list[int] = []
        for each in sets:
            value = self.mean(each)
            items = reference.measured(self.panel, self.variant, each)
            if value is None or value.low is None or value.high is None or value.boots < 2:
                continue
            if all(map(cells.judged, items)):
                rated += [_rank(value.low), _rank(value.high)]
        if not rated:
            return ""
        low, high = _WORDS[min(rated)], _WORDS[max(rated)]
        return low if low == high else f"{low} to {high}"


def brief(ratio: float) -> str:
    """A ratio with as many digits as a glance takes in."""
    return f"{TIMES}{ratio:,.{2 if ratio < 10 else 1 if ratio < 100 else 0}f}"


_WORDS = ("low", "medium", "high")


def _rank(bound: float) -> int:
    return 0 if bound <= stats.LOW_MAX else 1 if bound <= stats.MEDIUM_MAX else 2


def choose(
    panels: Iterable[Panel],
    technique: Technique | None,
    sets: Iterable[ReferenceSet],
    *,
    hypervisor: str = "",
) -> Choice | None:
    """The variant that fills a cell, of one `hypervisor` if it is named. By the clock goes before
    counted; then the one that measured most of the reference workloads; then the one with the
    devices that are usual for the technique."""
    sets = tuple(sets)
    found = []
    for at, panel in enumerate(panels):
        variants = [v for t in Technique for v in default_variants(panel, t)]
        if technique is not None:
            variants = default_variants(panel, technique)
        for order, variant in enumerate(variants):
            covered = len(reference.measured(panel, variant, *sets))
            kind = panel.declared(variant).hypervisor
            named = not hypervisor or (kind is not None and kind.name == hypervisor)
            if covered and named:
                unusual = _emulated(panel, variant) != (technique is Technique.FULL)
                rank = (not panel.wall, -covered, unusual, at, order)
                found.append((rank, Choice(panel, variant)))
    return min(found, key=lambda pair: pair[0])[1] if found else None


def launched(gathered: Gathered, technique: Technique) -> Choice | None:
    """A variant of the technique that ran at all."""
    for panel in gathered.panels:
        for variant in panel.variants(technique):
            choice = Choice(panel, variant)
            if choice.launch is not None:
                return choice
    return None


def _emulated(panel: Panel, variant: str) -> bool:
    return panel.declared(variant).devices is DeviceModel.EMULATED
