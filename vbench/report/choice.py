"""Which variant stands for a technique or a hypervisor on the first screen. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vbench.model import Launch, Technique
from vbench.records import DeviceModel
from vbench.report import paravirtual, reference
from vbench.report.gather import Panel
from vbench.report.reference import ReferenceSet
from vbench.report.verdicts import default_variants
from vbench.results import stats
from vbench.results.formatting import NOTHING, TIMES, plural, times

COUNTED = "†"  # marks what was counted in the testbed
PART = "‡"  # marks a mean over a part of its reference workloads
WORDLESS = "§"  # marks a figure without a word
UNDECIDED = "undecided"  # in place of what stats.undecided() tells of
DOUBTFUL = "(?)"  # marks what has a `doubt`
_WIDE = 1.0  # an interval that reaches further than this share, a factor of 2, tells little
CPU = (reference.COMPUTING, reference.MEMORY, reference.SYSTEM_CALLS)


@dataclass(frozen=True)
class Choice:
    """A variant in its panel."""

    panel: Panel
    variant: str

    @property
    def launch(self) -> Launch | None:
        return self.panel.launch(self.variant)

    @property
    def backend(self) -> str:
        return self.variant.partition(",")[0]

    @property
    def start(self) -> str:
        """How its guest's kernel was started; empty where that was not recorded."""
        return self.launch.device.start if self.launch is not None else ""

    def device(self, kind: str) -> str:
        """`disk ahci`: what was attested of the guest's "disk" or "network"; empty without it."""
        parts = self.launch.attestation.summary.split("; ") if self.launch is not None else []
        return next((part for part in parts if part.startswith(f"{kind} ")), "")

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

    def worded(self) -> str:
        """The ratios of computing, memory and system calls, each after its word or with a mark that
        it has none; a word that all share stands once."""
        words = [self.word(each) for each in CPU]
        ratios = [self.ratio(each) for each in CPU]
        if words[0] and len(set(words)) == 1:
            return f"{words[0]} {' / '.join(ratios)}"
        said = (NOTHING, UNDECIDED, DOUBTFUL)  # these say themselves why there is none
        return " / ".join(
            f"{word} {ratio}" if word else ratio + ("" if ratio.endswith(said) else WORDLESS)
            for word, ratio in zip(words, ratios, strict=True)
        )

    def word(self, of: ReferenceSet) -> str:
        """**low**, **medium** or **high**. Empty unless each workload may be judged, and the whole
        interval lies within one word."""
        value = self.mean(of)
        word = None if value is None else stats.word(value)
        judged = all(map(stats.judged, reference.measured(self.panel, self.variant, of)))
        return f"**{word}**" if word in WORDS and judged else ""


def brief(ratio: float) -> str:
    """A ratio with as many digits as a glance takes in."""
    return f"{TIMES}{ratio:,.{2 if ratio < 10 else 1 if ratio < 100 else 0}f}"


def doubt(value: stats.Overhead) -> str:
    """What the reader must know before believing a difference."""
    if value.low is None or value.high is None or value.boots < 2:
        return " (one boot: not certain)"
    if value.low <= 1 <= value.high and not stats.equivalent(value):
        return f" (not certain: the interval holds {TIMES}1.00)"
    if (value.half_width or 0.0) > _WIDE:
        return f" (not certain: {times(value.low)} to {times(value.high)})"
    return ""


def parted(a: stats.Overhead, b: stats.Overhead) -> bool:
    """Whether their intervals over boots have no value in common."""
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return False
    return min(a.boots, b.boots) > 1 and (a.high < b.low or b.high < a.low)


WORDS = ("low", "medium", "high")


def choose(
    panels: Iterable[Panel],
    technique: Technique | None,
    sets: Iterable[ReferenceSet],
    *,
    hypervisor: str = "",
) -> Choice | None:
    """The variant that fills a cell, of one `hypervisor` if it is named. A paravirtual guest that
    calls its hypervisor goes before one that does not; by the clock before counted; without a
    `technique`, hardware-assisted before others; then the one that measured most
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
                silent = technique is Technique.PARA and not paravirtual.calls(panel, variant)
                rank = (silent, not panel.wall, other, -covered, unusual, at, order)
                found.append((rank, Choice(panel, variant)))
    return min(found, key=lambda pair: pair[0])[1] if found else None


def _emulated(panel: Panel, variant: str) -> bool:
    return panel.declared(variant).devices is DeviceModel.EMULATED
