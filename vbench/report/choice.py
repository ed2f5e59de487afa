"""Which variant stands for a technique or a hypervisor on the first screen. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vbench.model import Launch, Technique
from vbench.records import DeviceModel
from vbench.report import reference
from vbench.report.gather import Gathered, Panel
from vbench.report.reference import ReferenceSet
from vbench.report.verdicts import default_variants
from vbench.results import stats
from vbench.results.formatting import NOTHING, TIMES, plural

COUNTED = "†"  # marks what was counted in the testbed
PART = "‡"  # marks a mean over a part of its reference workloads
UNDECIDED = "undecided"  # in place of what stats.undecided() tells of
DOUBTFUL = "(?)"  # marks what has a `doubt`
CPU = (reference.COMPUTING, reference.MEMORY, reference.SYSTEM_CALLS)


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

    def lacking(self, of: ReferenceSet) -> str:
        """`1 of 4 workloads` where the mean is over a part of its set; else empty."""
        count, total = len(reference.measured(self.panel, self.variant, of)), len(of.workloads)
        return f"{count} of {plural(total, 'workload')}" if count < total else ""

    def ratio(self, of: ReferenceSet) -> str:
        """The mean in short, with marks for what it lacks."""
        value = self.mean(of)
        if value is None:
            return NOTHING
        if stats.undecided(value):
            return UNDECIDED
        marks = (PART if self.lacking(of) else "") + (DOUBTFUL if doubt(value) else "")
        return brief(value.ratio) + marks

    def overheads(self) -> str:
        """The ratios of computing, memory and system calls, in short."""
        return " / ".join(map(self.ratio, CPU))

    def word(self, sets: Iterable[ReferenceSet]) -> str:
        """low, medium, high, or from one to the other. Empty unless every set may be judged, and
        its whole interval lies within one word."""
        found: list[int] = []
        for each in sets:
            value = self.mean(each)
            items = reference.measured(self.panel, self.variant, each)
            word = None if value is None else stats.word(value)
            if word not in _WORDS or not all(map(stats.judged, items)):
                return ""
            found.append(_WORDS.index(word))
        low, high = _WORDS[min(found)], _WORDS[max(found)]
        return low if low == high else f"{low} to {high}"


def brief(ratio: float) -> str:
    """A ratio with as many digits as a glance takes in."""
    return f"{TIMES}{ratio:,.{2 if ratio < 10 else 1 if ratio < 100 else 0}f}"


def doubt(value: stats.Overhead) -> str:
    """What the reader must know before believing a difference."""
    if value.low is None or value.high is None or value.boots < 2:
        return " (one boot: not certain)"
    if value.low <= 1 <= value.high and not stats.equivalent(value):
        return f" (not certain: the interval holds {TIMES}1.00)"
    return ""


def parted(a: stats.Overhead, b: stats.Overhead) -> bool:
    """Whether their intervals over boots have no value in common."""
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return False
    return min(a.boots, b.boots) > 1 and (a.high < b.low or b.high < a.low)


_WORDS = ("low", "medium", "high")


def choose(
    panels: Iterable[Panel],
    technique: Technique | None,
    sets: Iterable[ReferenceSet],
    *,
    hypervisor: str = "",
) -> Choice | None:
    """The variant that fills a cell, of one `hypervisor` if it is named. By the clock goes before
    counted; without a `technique`, hardware-assisted before others; then the one that measured most
    of the reference workloads; then the one with the devices that are usual for the technique."""
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
                other = technique is None and variant not in panel.variants(Technique.HARDWARE)
                rank = (not panel.wall, other, -covered, unusual, at, order)
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
