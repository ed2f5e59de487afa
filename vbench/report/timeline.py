"""Series over the runs of months: a point for each run, and where its level changed. Pure.

A series is one workload on one variant on one machine. A point is what the report shows of it: the
overhead with its interval, the instructions where they are counted, or seconds. Changes of level
are looked for in the logarithms, in all series together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from vbench.model import CATEGORIES, Item, Result, Statistic, Status, TimeBase
from vbench.report import cells
from vbench.report.fleet import SETTINGS
from vbench.results import identity, stats, steps
from vbench.results.exactness import EXACT
from vbench.results.merge import distinct

# A change of level below this is not worth a word; counts repeat to less.
LEAST = 0.01
# How probable one false change in a whole history is. A history is looked at again and again, so it
# is less than the usual 5 %.
LEVEL = 0.01


class Name(NamedTuple):
    """What a series is a series of. `what`: "overhead", "instructions" or "seconds"."""

    host: str
    category: str
    workload: str
    variant: str
    what: str


@dataclass(frozen=True)
class Point:
    """One run's figure, and the conditions that it was measured under, by name."""

    started: str  # ISO 8601, UTC
    value: float
    low: float | None
    high: float | None
    conditions: Mapping[str, str]


@dataclass(frozen=True)
class Turn:
    """A change of level: from the point `at` on, a series has the geometric mean `after` in place
    of `before`. `changed` says which conditions changed with it, `p` how probable such a step is by
    chance, corrected for all series."""

    at: int
    before: float
    after: float
    p: float
    changed: Sequence[str]

    @property
    def percent(self) -> float:
        return 100 * (self.after / self.before - 1)


@dataclass
class Line:
    """A series, in the order of time."""

    name: Name
    points: list[Point] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)

    @property
    def level(self) -> float:
        """The geometric mean of its points since the last change."""
        start = self.turns[-1].at if self.turns else 0
        return _mean([math.log(point.value) for point in self.points[start:]])


class Timeline:
    """All series of some results. With `by_class`, machines of one class are one: runners of a
    cloud have another name in each run."""

    def __init__(self, results: Iterable[Result], *, by_class: bool = False) -> None:
        found: dict[tuple[Name, str], Line] = {}
        self.runs: set[str] = set()
        hosts: dict[str, set[str]] = {}
        ordered = sorted(distinct(results), key=lambda one: (one.started, one.variant))
        called = identity.names([result.host for result in ordered], ["machine id"])
        for result in ordered:
            self.runs.add(result.started)
            host = _class(result) if by_class else called(result.host)
            hosts.setdefault(host, set()).add(result.started)
            for item in result.items:
                made = _figure(item)
                if made is None:
                    continue
                what, value = made
                name = Name(host, item.category, item.workload, item.variant, what)
                line = found.setdefault((name, item.definition), Line(name))
                line.points.append(
                    Point(result.started, value.ratio, value.low, value.high, _under(result, item))
                )
        self.lines = sorted(found.values(), key=_order)
        self.once = len(self.runs) > 1 and all(len(runs) == 1 for runs in hosts.values())
        level = LEVEL / max(1, len(self.lines))
        for line in self.lines:
            line.turns = list(_turns(line, level))

    def changes(self) -> dict[tuple[str, str], dict[str, None]]:
        """By start of a run and host, which conditions were another than in the run before."""
        found: dict[tuple[str, str], dict[str, None]] = {}
        for line in self.lines:
            for before, after in pairwise(line.points):
                for each in identity.differing(before.conditions, after.conditions):
                    found.setdefault((after.started, line.name.host), {})[each] = None
        return dict(sorted(found.items()))


def _class(result: Result) -> str:
    key = identity.machine_class(result.host)
    return f"{key['CPU model'] or 'unknown CPU'}, {key['CPUs'] or 'unknown'} CPUs"


def _figure(item: Item) -> tuple[str, stats.Overhead] | None:
    """What a series shows of an item, with its interval; None where it has nothing to show."""
    if item.status is not Status.OK or item.statistic is Statistic.QUANTILES:
        return None
    counted = item.time_base is TimeBase.INSTRUCTIONS
    if item.statistic is Statistic.RATIO and not counted:
        value = cells.overhead(item)
        return None if value is None else ("overhead", value)
    logs = stats.log_guest(item.pairs)
    if not logs:
        return None
    return "instructions" if counted else "seconds", stats.figure(logs, counted)


def _under(result: Result, item: Item) -> dict[str, str]:
    facts = result.host.facts
    named = ("kernel", "clocksource", *SETTINGS)
    return {
        "version of vbench": result.vbench_version,
        **{name.replace("_", " "): facts[name] for name in named if name in facts},
        **identity.settings(result, item),
    }


def _turns(line: Line, level: float) -> Iterable[Turn]:
    logs = [math.log(point.value) for point in line.points]
    counted = line.name.what == "instructions"
    least = math.log1p(EXACT if counted else LEAST)
    found = steps.steps(logs, level, least)
    bounds = [0, *(step.at for step in found), len(logs)]
    for i, step in enumerate(found):
        before, after = line.points[step.at - 1], line.points[step.at]
        yield Turn(
            step.at,
            _mean(logs[bounds[i] : step.at]),
            _mean(logs[step.at : bounds[i + 2]]),
            min(1.0, step.p * LEVEL / level),
            identity.differing(before.conditions, after.conditions),
        )


def _mean(logs: Sequence[float]) -> float:
    return stats.exp(math.fsum(logs) / len(logs))


def _order(line: Line) -> tuple[object, ...]:
    name = line.name
    known = CATEGORIES.index(name.category) if name.category in CATEGORIES else len(CATEGORIES)
    return name.host, known, name, line.points[0].started
