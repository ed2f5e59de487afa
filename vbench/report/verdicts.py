"""From a number to a verdict: the rules that all claims share. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from vbench.model import HostKind, Technique
from vbench.report.gather import Panel
from vbench.results import significance, stats
from vbench.results.formatting import number


class Basis(Enum):
    """What a finding rests on, which decides what it may be called."""

    TIME = "time"  # a cost: decided by a clock on real hardware
    COUNT = "count"  # which events exit and how often: a count decides it anywhere
    SIGHT = "observation"  # what was observed on a host or in a guest


@dataclass(frozen=True)
class Part:
    """One statement of a claim. `holds` None: the evidence does not decide it."""

    holds: bool | None
    evidence: str
    basis: Basis = Basis.TIME


@dataclass(frozen=True)
class Finding:
    """A claim on one host: it holds if all its parts do, and is refuted if one is. `beside` was
    seen and decides nothing. `untested`: why nothing that was seen can decide it, and what to
    do."""

    parts: tuple[Part, ...]
    beside: str = ""
    untested: str = ""

    @property
    def holds(self) -> bool | None:
        return all_hold([part.holds for part in self.parts])

    @property
    def evidence(self) -> str:
        texts = (part.evidence for part in self.parts)
        return "; ".join(filter(None, [*texts, self.beside]))


Judge = Callable[[Panel], Finding | str]  # a text: why it was not measured here

NOT_HERE = "not measured here"
_PLAIN = {True: "confirmed", False: "refuted"}
_ABOUT_TIME = {True: "consistent", False: "not consistent"}


def verdict(panel: Panel, finding: Finding) -> str:
    """The verdict's words. About time only a clock on real hardware confirms or refutes."""
    holds = finding.holds
    if finding.untested or holds is None:
        return not_here(finding.untested) if finding.untested else "inconclusive"
    deciding = [p for p in finding.parts if p.holds is holds]
    # refuted is refuted by any of its parts: the firmest counts; confirmed rests on the weakest
    bases = {part.basis for part in deciding}
    timed = bases == {Basis.TIME} if holds is False else Basis.TIME in bases
    if panel.host.kind is HostKind.TESTBED:
        if timed:
            how = "timed in an emulated machine" if panel.wall else "counted, not timed"
            return f"{_ABOUT_TIME[holds]} ({how})"
        if Basis.COUNT in bases and not panel.wall:
            return f"{_PLAIN[holds]} by count"
        return f"{_PLAIN[holds]} in the testbed"
    if nested(panel):
        return f"nested: {_ABOUT_TIME[holds]}" if timed else f"{_PLAIN[holds]} (nested)"
    return _PLAIN[holds]


def not_here(why: str) -> str:
    """In place of a verdict: why there is none, and what to do."""
    return f"{NOT_HERE} ({why})"


def nested(panel: Panel) -> bool:
    """Whether the host is itself a virtual machine, or nobody knows that it is none."""
    return panel.host.facts.get("virtualization", "unknown") not in ("none", "")


def default_variants(panel: Panel, technique: Technique) -> list[str]:
    """A technique's variants without those made to show what one setting costs."""
    return [v for v in panel.variants(technique) if not panel.declared(v).contrast_to]


def all_hold(found: Sequence[bool | None]) -> bool | None:
    """True if all hold, False if one does not, None if one is undecided."""
    if False in found:
        return False
    return None if None in found or not found else True


def above(value: stats.Overhead, bound: float) -> bool | None:
    """By the whole interval over boots; None where it crosses the bound or there is one boot."""
    if value.low is None or value.high is None or value.boots < 2:
        return None
    return True if value.low > bound else False if value.high <= bound else None


def near_native(value: stats.Overhead) -> bool | None:
    """True by an equivalence test (`stats.equivalent`), False if the whole interval is above the
    bound; None otherwise, which includes guests faster than native."""
    if stats.equivalent(value):
        return True
    return False if above(value, stats.LOW_MAX) else None


def within(low: float, high: float, bounds: tuple[float, float]) -> bool | None:
    """Whether the whole of low to high lies inside the bounds, or outside of them."""
    if bounds[0] <= low and high < bounds[1]:
        return True
    return False if high < bounds[0] or low >= bounds[1] else None


def below(order: significance.Ordering) -> bool | None:
    """Whether A costs less than B, by the interval over boots of both."""
    if order.low is None or order.high is None or order.boots < 2:
        return None
    return True if order.high < 1 else False if order.low > 1 else None


def ordered(order: significance.Ordering) -> str:
    bounds = "" if order.low is None or order.high is None else (
        f" [{number(order.low)}, {number(order.high)}]"
    )  # fmt: skip
    return f"{number(order.ratio)}{bounds}"
