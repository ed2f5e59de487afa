"""From a number to a verdict: the rules that all claims share. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vbench.model import HostKind, Item, Technique
from vbench.report.gather import Panel
from vbench.results import significance, stats
from vbench.results.formatting import number


@dataclass(frozen=True)
class Finding:
    """Whether a claim holds on one host, and by which number; None: the number decides nothing.

    `timed` False: an observation or a count, which is as good where nothing is timed.
    """

    holds: bool | None
    told: str
    timed: bool = True


Judge = Callable[[Panel], Finding | str]  # a text: why it was not measured here


def verdict(panel: Panel, finding: Finding) -> str:
    """The words of the document's claim check; in time only on hardware of its own."""
    plainly = {True: "confirmed", False: "refuted", None: "undecided"}[finding.holds]
    if not finding.timed:
        emulated = panel.host.kind is HostKind.TESTBED
        return f"{plainly} in the emulated machine" if emulated else plainly
    agrees = {True: "agrees", False: "disagrees", None: "decides nothing"}[finding.holds]
    if not panel.wall:
        return f"counted, not timed (the count {agrees})"
    if panel.host.facts.get("virtualization", "unknown") not in ("none", ""):
        return f"nested (the figure {agrees})"
    return plainly


def default_variants(panel: Panel, technique: Technique) -> list[str]:
    """A technique's variants without those made to show what it would be like otherwise."""
    return [v for v in panel.variants(technique) if "nested_paging=off" not in v]


def rated(panel: Panel, variant: str, *categories: str) -> list[Item]:
    return [item for item in panel.of(variant, *categories) if item.name in panel.overheads]


def all_hold(found: Sequence[bool | None]) -> bool | None:
    """True if all hold, False if one does not, None if one is undecided."""
    if False in found:
        return False
    return None if None in found else True


def above(value: stats.Overhead, bound: float) -> bool | None:
    if value.low is None or value.high is None:
        return None
    return True if value.low > bound else False if value.high <= bound else None


def below(order: significance.Ordering) -> bool | None:
    if order.low is None or order.high is None:
        return None
    return True if order.high < 1 else False if order.low > 1 else None


def ordered(order: significance.Ordering) -> str:
    bounds = "" if order.low is None or order.high is None else (
        f" [{number(order.low)}, {number(order.high)}]"
    )  # fmt: skip
    return f"{number(order.ratio)}{bounds}"
