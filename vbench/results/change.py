"""How much a series changed between two sides, and how small a change could have been seen. Pure.

Figures that vary at random are compared by Student's t over the *units of repetition*: machines
where the sides were measured on different ones, else boots. Counts that repeat are compared
exactly.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vbench.results import exit_reasons, student
from vbench.results.formatting import number, signed
from vbench.results.stats import CONFIDENCE, exp

Boots = Mapping[int, Sequence[float]]  # logarithms of one machine's samples, by boot
Machines = Mapping[tuple[str, ...], Boots]  # by the machine's identity

# An interval that reaches above this many times the limit leaves a large change open. In ordinary
# spreads the widest of 100 intervals reaches 1.2 times a limit of 10 % (benchmarks/gate.py).
REACH = 3
POWER = 0.80  # Cohen's (1988) usual chance of finding a change that is there


@dataclass(frozen=True)
class Change:
    """new / base of one series; `log` is its logarithm.

    `variance` is that of one unit, pooled over both sides, with `df` degrees of freedom; `scale`
    times it is the variance of `log`. With `df` 0 nothing is repeated and nothing is known.
    `boot_spread`: standard deviation of the boots of one machine, as a share of the value.
    `alone`: one machine stands on each side, and not the same one.
    """

    log: float
    variance: float
    scale: float
    df: float
    unit: str  # "machine", "run" of a machine, "boot", or "pair" of boots
    units: tuple[int, int]  # of base and new
    boot_spread: float | None
    middle: float  # as `log`, of the medians of the units: a single wild one does not move it
    alone: bool = False

    @property
    def ratio(self) -> float:
        return math.exp(self.log)

    @property
    def repeats(self) -> int:
        """How many units the side with fewer has. One new run is judged by the spread of those
        before it, so there it is they that count."""
        return self.units[0] if self.unit == "run" else min(self.units)

    @property
    def spread(self) -> float:
        """Standard deviation of one unit, as a share of the value."""
        return math.expm1(math.sqrt(self.variance))

    @property
    def error(self) -> float:
        return math.sqrt(self.variance * self.scale)

    @property
    def p(self) -> float | None:
        """Two-sided; None without repetition."""
        if self.df <= 0:
            return None
        if self.error == 0:
            return 1.0 if math.isclose(self.log, 0, abs_tol=1e-12) else 0.0
        return student.two_sided(self.log / self.error, self.df)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Bounds of the ratio's 95 % interval; None without repetition."""
        if self.df <= 0:
            return None
        half = student.quantile((1 + CONFIDENCE) / 2, self.df) * self.error
        return exp(self.log - half), exp(self.log + half)

    def within(self, bound: float) -> bool:
        """Whether the two sides are equivalent: two one-sided tests, each at 2.5 %, show that the
        change is above 1 / (1 + bound) and below 1 + bound."""
        interval = self.interval
        return interval is not None and interval[0] > 1 / (1 + bound) and interval[1] < 1 + bound

    def hides(self, bound: float) -> str:
        """Why a change that was not shown may well be above `bound`, a share: "" if not so."""
        if (likely := max(self.log, self.middle)) > math.log1p(bound):
            return f"the likeliest change is {signed(100 * math.expm1(likely))} %"
        interval = self.interval
        if interval is not None and interval[1] > 1 + REACH * bound:
            return f"a change of {signed(100 * (interval[1] - 1))} % is not excluded"
        return ""

    def smallest(self, level: float) -> float | None:
        """The change, as a share, that a two-sided test at `level` finds with chance POWER."""
        if self.df <= 0:
            return None
        steps = student.quantile(1 - level / 2, self.df) + student.quantile(POWER, self.df)
        return exp(steps * self.error) - 1


def change(
    base: Machines, new: Machines, *, paired: bool = False, unit: str = "machine"
) -> Change | None:
    """None if a side has no sample.

    On the same machines a machine's own level cancels and boots are the units; so they are where
    a single machine stands on each side, as there is nothing else to go by. Otherwise each machine
    is one unit, the mean of its boots: what lies between machines of one class is in the interval.

    `paired`: the sides took turns on one machine. The units are then pairs of boots of one number,
    in which a slow drift of the machine cancels; a boot without its partner is left out.
    `unit`: what the keys of unlike sides name, "machine" or "run".
    """
    if not base or not new:
        return None
    if paired and base.keys() == new.keys() and len(base) == 1:
        return _paired(*base.values(), *new.values())
    old, young = _means(base), _means(new)
    boots = [values for side in (old, young) for values in side.values()]
    within, boots_df = _pooled(boots)
    boot_spread = math.expm1(math.sqrt(within)) if boots_df else None
    same = base.keys() == new.keys()
    if same or len(base) == len(new) == 1:
        blocks = [(old[a], young[b]) for a, b in zip(sorted(old), sorted(young), strict=True)]
        log = math.fsum(statistics.fmean(b) - statistics.fmean(a) for a, b in blocks) / len(blocks)
        scale = math.fsum(1 / len(a) + 1 / len(b) for a, b in blocks) / len(blocks) ** 2
        counts = (sum(len(a) for a, _ in blocks), sum(len(b) for _, b in blocks))
        # a side of one boot tells nothing about the next, however much the other side has
        known = all(len(values) > 1 for values in boots)
        df = boots_df if known else 0
        medians = [statistics.median(b) - statistics.median(a) for a, b in blocks]
        middle = statistics.median(medians)
        return Change(log, within, scale, df, "boot", counts, boot_spread, middle, alone=not same)
    sides = [[statistics.fmean(values) for values in side.values()] for side in (old, young)]
    log = statistics.fmean(sides[1]) - statistics.fmean(sides[0])
    variance, df = _pooled(sides)
    middle = statistics.median(sides[1]) - statistics.median(sides[0])
    scale = 1 / len(base) + 1 / len(new)
    units = (len(base), len(new))
    return Change(log, variance, scale, df, unit, units, boot_spread, middle)


def _paired(base: Boots, new: Boots) -> Change | None:
    shared = sorted(base.keys() & new.keys())
    if not shared:
        return None
    pairs = [(statistics.fmean(base[boot]), statistics.fmean(new[boot])) for boot in shared]
    logs = [after - before for before, after in pairs]
    variance, df = _pooled([logs])
    within, boots_df = _pooled([[before for before, _ in pairs], [after for _, after in pairs]])
    boot_spread = math.expm1(math.sqrt(within)) if boots_df else None
    units = (len(logs), len(logs))
    mean, middle = statistics.fmean(logs), statistics.median(logs)
    return Change(mean, variance, 1 / len(logs), df, "pair", units, boot_spread, middle)


def typical(side: Machines) -> float:
    """The geometric mean, each machine weighing alike, and each boot of a machine."""
    return math.exp(statistics.fmean(statistics.fmean(v) for v in _means(side).values()))


def _means(side: Machines) -> dict[tuple[str, ...], list[float]]:
    """Means of boots, by machine: rounds of one boot are no repetitions of each other."""
    return {
        machine: [statistics.fmean(boots[boot]) for boot in sorted(boots)]
        for machine, boots in side.items()
    }


def _pooled(groups: Sequence[Sequence[float]]) -> tuple[float, int]:
    """Variance within groups, and its degrees of freedom; 0 of them where nothing repeats."""
    df = sum(len(values) - 1 for values in groups)
    if df == 0:
        return 0.0, 0
    square = math.fsum(
        (value - statistics.fmean(values)) ** 2 for values in groups for value in values
    )
    return square / df, df


@dataclass(frozen=True)
class Count:
    """A counted figure: the median over boots of each boot's median, and the range of all."""

    value: float
    low: float
    high: float
    boots: int

    def repeats(self, within: float) -> bool:
        """Whether all samples of at least two boots are as near to each other as that."""
        return self.boots > 1 and self.high <= self.low * (1 + within)


def count(side: Machines) -> Count | None:
    """Over all machines: what is counted depends on none. None without samples."""
    boots = [math.exp(statistics.median(v)) for of in side.values() for v in of.values()]
    if not boots:
        return None
    logs = [value for of in side.values() for values in of.values() for value in values]
    return Count(statistics.median(boots), math.exp(min(logs)), math.exp(max(logs)), len(boots))


def changed_exits(base: Mapping[str, float], new: Mapping[str, float]) -> list[str]:
    """Reasons whose exits per unit of work changed, the largest change first.

    By more than 2 % of all exits of the unit: a timer's exits, and what runs beside the work, fall
    into one count or the other. By more than one in 10,000 units: an exit costs some thousand
    instructions, and less than one of a unit is no reason for its change.
    """
    before, after = exit_reasons.split(dict(base)), exit_reasons.split(dict(new))
    least = max(0.02 * max(sum(before.values()), sum(after.values())), 1e-4)
    changes = {
        reason: after.get(reason, 0.0) - before.get(reason, 0.0) for reason in {*before, *after}
    }
    return [
        f"{reason} {number(before.get(reason, 0.0))} now {number(after.get(reason, 0.0))}"
        for reason, size in sorted(changes.items(), key=lambda of: (-abs(of[1]), of[0]))
        if abs(size) > least
    ]
