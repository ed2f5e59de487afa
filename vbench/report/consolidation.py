"""Consolidation: what a host with more and more guests is like for who is served by one. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from vbench.model import SCENARIOS, Item
from vbench.report import units
from vbench.report.document import Block, Cell, Table
from vbench.report.gather import Panel
from vbench.report.scenarios import counts, measured, medians, seconds
from vbench.report.svg import Axis, Dot, Row, dot_plot
from vbench.report.verdicts import Finding, Part
from vbench.results.formatting import NOTHING, TIMES, code, duration, number, plural

KIND = SCENARIOS[3]
GUESTS, NATIVELY = "guests", "natively"
HOW = "vbench run --workload 'consolidation*'"
# W1: what consolidation lifts utilization to.
BUSY_PERCENT = 60.0
# Of a host that does so much for others the figures say nothing.
FOREIGN_PERCENT = 5.0
# A guest that is late so often when it is alone has no quality that could be kept.
MISSED_PERCENT = 5.0
_KSM = ("guests", "scans", "pss_before_mib", "pss_mib")
_SLOWER = 2.0  # in results that do not say
THRESHOLDS = (
    f"consolidation is confirmed where at least {BUSY_PERCENT:g} % of the host's CPUs are busy "
    f"with as many guests as keep the 99th percentile of response time below {_SLOWER:g} times "
    f"that of one, and undecided where others use more than {FOREIGN_PERCENT:g} % or one guest "
    f"alone is late with more than {MISSED_PERCENT:g} % of its requests"
)


@dataclass(frozen=True)
class Point:
    """So many at a time. Seconds from when a request was due until it was done; per cent."""

    count: int
    p50_s: float
    p95_s: float
    p99_s: float
    busy: float
    missed: float
    foreign: float | None
    pss_mib: float | None
    each: float | None  # of one CPU, what one of them takes on average


@dataclass(frozen=True)
class Curve:
    """All that were measured, in order; `limit`: how many times as slow is too slow."""

    points: tuple[Point, ...]
    limit: float

    @property
    def lost(self) -> Point | None:
        """The first one whose quality is lost."""
        bound_s = self.points[0].p99_s * self.limit
        return next((point for point in self.points if point.p99_s > bound_s), None)

    @property
    def kept(self) -> Point:
        """The last one before that."""
        lost = self.lost
        return self.points[-1 if lost is None else self.points.index(lost) - 1]


def curve(item: Item, who: str) -> Curve | None:
    """That of guests, or natively, without steps that took no time; None where one alone was not
    measured, with which all others are compared."""
    counted = medians(item)
    found = [re.fullmatch(rf"(\d+) {who}: busy_percent", name) for name in counted]
    points = []
    for number_ in sorted(int(each[1]) for each in found if each):
        name = f"{number_} {who}"
        times = [seconds(item, name, each) for each in ("p50", "p95", "p99")]
        if not all(times):
            continue
        p50_s, p95_s, p99_s = (each[0] for each in times)
        if min(p50_s, p95_s, p99_s) <= 0:  # no response time
            continue
        points.append(
            Point(
                number_,
                p50_s,
                p95_s,
                p99_s,
                counted[f"{name}: busy_percent"],
                counted.get(f"{name}: missed_percent", 0.0),
                counted.get(f"{name}: foreign_percent"),
                counted.get(f"{name}: pss_mib"),
                counted.get(f"{name}: cpu_percent"),
            )
        )
    limit = counted.get("slower_limit", _SLOWER)
    if not points or points[0].count != 1 or limit < 1:
        return None
    return Curve(tuple(points), limit)


def blocks(panel: Panel) -> list[Block]:
    """A table for each variant."""
    found: list[Block] = []
    for item in measured(panel, KIND):
        guests, native = curve(item, GUESTS), curve(item, NATIVELY)
        if guests is None:
            continue
        text = _launched(panel, item) + _sentence(item, guests, native)
        found.append(f"**Consolidation**, {code(item.variant)}. {text}")
        found.append(_table(panel, guests, native))
    return found


def sentence(panel: Panel) -> str:
    """How many guests a host served well; empty where it was not measured."""
    found = [(i, guests) for i in measured(panel, KIND) if (guests := curve(i, GUESTS))]
    texts = (
        f"With {plural(of.kept.count, 'guest')} of {code(item.variant)} the host is "
        f"{number(of.kept.busy)} % busy, and the 99th percentile of response time is below "
        f"{TIMES}{of.limit:g} that of one guest."
        for item, of in found
    )
    return " ".join(texts)


def _sentence(item: Item, guests: Curve, native: Curve | None) -> str:
    counted = medians(item)
    return (
        f"Each guest gets a request every {counted.get('period_ms', 0.0):g} ms, whether the last "
        f"one is done or not. {_load(guests, native)}Response time is from when a request was due "
        f"until it was done, by the guest's clock. {_end(item, guests)} The native processes ran "
        "while the guests stood still. *CPU of each* is what its hypervisor's process takes of one "
        "CPU. *Missed* are requests that were done after the next one was due. *Memory* is the "
        "hypervisor's process, with its share of what it has in common with others (PSS)."
        f"{_ksm(item)}"
    )


def _launched(panel: Panel, item: Item) -> str:
    """With what options its guests were launched, where the workload has its own."""
    variants = {one.variant for one in panel.launches if one.id in item.launches}
    others = sorted(variants - {item.variant})
    return f"Its guests are {', '.join(map(code, others))}. " if others else ""


def _load(guests: Curve, native: Curve | None) -> str:
    """What the requests of one guest take, and natively: in that lies the price."""
    one = guests.points[0].each
    if one is None:
        return ""
    text = f"With them one guest keeps its hypervisor's process busy for {number(one)} % of a CPU"
    natively = native.points[0].each if native else None
    if natively is None:
        return f"{text}. "
    return f"{text}; natively the same requests take {number(natively)} %. "


def _ksm(item: Item) -> str:
    """What merging of pages that are alike saves."""
    counted = medians(item)
    if any(f"ksm: {each}" not in counted for each in _KSM):
        return ""
    before, after = counted["ksm: pss_before_mib"], counted["ksm: pss_mib"]
    return (
        f" After {plural(round(counted['ksm: scans']), 'scan')} by the host's KSM, which keeps one "
        f"copy of pages that are alike, each of {round(counted['ksm: guests'])} guests takes "
        f"{number(after)} MiB in place of {number(before)}."
    )


def _end(item: Item, guests: Curve) -> str:
    if guests.lost is not None:
        return (
            f"The 99th percentile stays below {TIMES}{guests.limit:g} of one guest's with up to "
            f"{plural(guests.kept.count, 'guest')}."
        )
    return f"The quality was not lost: {_why_ended(item)}."


def _why_ended(item: Item) -> str:
    if counts(item, "ended_by_memory"):
        return "the host has no memory for a further guest"
    if counts(item, "ended_by_budget"):
        return "there was no time for further guests"
    return "no more guests were tried"


def _table(panel: Panel, guests: Curve, native: Curve | None) -> Table:
    scale = units.clock(panel.host.time_base)
    beside = {point.count: point for point in native.points} if native else {}
    rows: list[Sequence[Cell | units.Figures | str]] = []
    for point in guests.points:
        there = beside.get(point.count)
        rows.append(
            [
                Cell(str(point.count), point.count),
                _percent(point.busy),
                _percent(point.each),
                *(units.Figures([s], scale) for s in (point.p50_s, point.p95_s, point.p99_s)),
                f"{TIMES}{point.p99_s / guests.points[0].p99_s:.2f}",
                _percent(point.missed),
                NOTHING if point.pss_mib is None else Cell(number(point.pss_mib), point.pss_mib),
                _percent(point.foreign),
                *(
                    [NOTHING] * 3
                    if there is None
                    else [
                        _percent(there.each),
                        *(units.Figures([s], scale) for s in (there.p50_s, there.p99_s)),
                    ]
                ),
            ]
        )
    headings = [
        "Guests",
        "Host busy, %",
        "CPU of each, % of one CPU",
        "Response, median",
        "95th percentile",
        "99th",
        "99th to one guest's",
        "Missed, %",
        "Memory of each, MiB",
        "CPU used by others, % of the host's",
        "Natively: CPU of each, % of one CPU",
        "median",
        "99th",
    ]
    return units.table(headings, rows, alike=True)


def _percent(value: float | None) -> Cell | str:
    return NOTHING if value is None else Cell(number(value), value)


def plot(panel: Panel) -> str | None:
    """Response time by the number of guests, and natively; None where it was not measured."""
    legend: list[str] = []
    rows: list[Row] = []
    limits: list[float] = []  # in ms
    for item in measured(panel, KIND):
        curves = [(who, found) for who in (GUESTS, NATIVELY) if (found := curve(item, who))]
        if not curves or curves[0][0] != GUESTS:
            continue
        rows.append(Row(item.variant))
        guests = curves[0][1]
        limits.append(1000 * guests.limit * guests.points[0].p99_s)
        for point in curves[0][1].points:
            dots = []
            for who, found in curves:
                if who not in legend:
                    legend.append(who)
                for each in found.points:
                    if each.count == point.count:
                        dots.append(_dot(legend.index(who), who, each))
            late = ", too slow" if point is guests.lost else ""
            rows.append(Row(f"{point.count}, host {number(point.busy)} % busy{late}", tuple(dots)))
    if not rows:
        return None
    axis = Axis(
        "response time in ms, log scale; mark: median; bar: to the 99th percentile; "
        "dashed: its limit",
        True,
        lines=tuple((limit, False) for limit in limits),
    )
    return dot_plot("Consolidation: response time by the number of guests", axis, rows, legend)


def _dot(series: int, who: str, point: Point) -> Dot:
    middle, high = 1000 * point.p50_s, 1000 * point.p99_s
    text = f"{point.count} {who}: median {number(middle)} ms, 99th percentile {number(high)} ms"
    return Dot(series, middle, middle, high, text)


def claim(panel: Panel) -> Finding | str:
    """W1: utilization is lifted to 60 % at least, while response time is kept."""
    parts = []
    for item in measured(panel, KIND):
        if (found := curve(item, GUESTS)) is not None:
            parts.append(_part(panel, item, found))
    return Finding(tuple(parts)) if parts else f"measure it by {code(HOW)}"


def _part(panel: Panel, item: Item, found: Curve) -> Part:
    base = panel.host.time_base
    one, kept, lost = found.points[0], found.kept, found.lost
    texts = [
        f"{code(item.variant)}: one guest keeps the host {number(one.busy)} % busy, "
        f"{plural(kept.count, 'guest')} {number(kept.busy)} %"
    ]
    if one.each is not None:
        texts[0] += f" (one guest {number(one.each)} % of a CPU)"
    if lost is None:
        texts.append(f"with a response time that is kept ({_why_ended(item)})")
    else:
        texts.append(
            f"with {lost.count} the 99th percentile of response time is "
            f"{duration(lost.p99_s, base)} instead of {duration(one.p99_s, base)}"
        )
    holds: bool | None = kept.busy >= BUSY_PERCENT
    if lost is None and not holds:
        holds = None
    if one.missed > MISSED_PERCENT:
        holds = None
        texts.append(f"one guest alone is late with {number(one.missed)} % of its requests")
    used = [p.foreign for p in (one, kept, *([lost] if lost else [])) if p.foreign is not None]
    if not used or max(used) > FOREIGN_PERCENT:
        holds = None
        texts.append(
            f"others used up to {number(max(used))} % of the CPUs"
            if used
            else "what others used is not known"
        )
    return Part(holds, ", ".join(texts))
