"""From samples to an overhead with its interval. Pure: no files, no clock, no randomness.

Everything is done on logarithms, where ratios add up. A boot is the unit of repetition:
rounds of one boot share its memory layout and placement, so pooling rounds of boots that
differ by 2 % makes a nominal 95 % interval cover 56-76 % (simulated; tests/unit/test_stats.py
does it again). Hence: mean per boot first, then Student's t over boots.

Counted instructions do not vary at random: their interval is the range over boots.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from vbench.model import Item, Pair, Statistic, Status, TimeBase
from vbench.results import student

CONFIDENCE = 0.95

# The one place that turns a number into a word (see `word` and `equivalent`).
LOW_MAX = 1.10
MEDIUM_MAX = 2.0

# Differences that decide a figure: it gets no word.
UNLIKE = (
    *("not_direct", "tcp_differs", "cpu_differs", "cpus_differ", "disk_differs"),
    "file_system_differs",
)
# When further boots of an item are not worth their time (see `settled`). Student's t of two boots
# is 12.7, of three 4.3: an interval of two is hardly one.
MIN_BOOTS = 3
PRECISION = 0.05
# Who looks at every boot whether it is the last meets a lucky interval more often. An interval that
# ends the boots early therefore is one of 97.5 %; benchmarks/stopping.py has what this leaves.
STOPPING_CONFIDENCE = 0.975


@dataclass(frozen=True)
class Overhead:
    """guest / native, 1.00 = free, with the bounds of its 95 % interval; where instructions are
    counted, those of its range over boots.

    `boots` == 1 means that the interval is over the rounds of this boot only and says nothing
    about the next one. `low` and `high` are None where one pair is all there is.
    """

    ratio: float
    low: float | None
    high: float | None
    n: int  # pairs
    boots: int

    @property
    def half_width(self) -> float | None:
        """Half of the interval's width as a share: 0.05 is 5 %. None without an interval."""
        if self.low is None or self.high is None:
            return None
        return math.sqrt(self.high / self.low) - 1

    @property
    def significant(self) -> bool:
        """Whether the interval excludes 1; False where there is no interval."""
        return self.low is not None and self.high is not None and not self.low <= 1 <= self.high


@dataclass(frozen=True)
class Estimate:
    """A mean of logarithms, the variance of that mean, and its degrees of freedom.

    `df` is 0 where nothing repeats, so nothing is known about the spread. Of counted instructions
    `extremes` are the least and the most that was observed, and there is no variance.
    """

    mean: float
    variance: float
    df: float
    extremes: tuple[float, float] | None = None

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
        """Bounds of the interval, or the extremes of what is counted, as logarithms."""
        if self.df <= 0 or self.extremes is not None:
            return self.extremes
        half = student.quantile((1 + confidence) / 2, self.df) * math.sqrt(self.variance)
        return self.mean - half, self.mean + half

    def minus(self, other: Estimate) -> Estimate:
        """Difference of independent estimates; Welch-Satterthwaite degrees of freedom."""
        whole = _combine(self.mean - other.mean, (self, other), 1)
        if self.extremes is None or other.extremes is None:
            return whole
        low, high = self.extremes[0] - other.extremes[1], self.extremes[1] - other.extremes[0]
        return replace(whole, extremes=(low, high))


def _combine(mean: float, parts: Sequence[Estimate], divisor: int) -> Estimate:
    """`mean` with the spread of (sum of independent parts) / divisor."""
    if any(part.df <= 0 for part in parts):
        return Estimate(mean, 0.0, 0)
    total = math.fsum(part.variance for part in parts)
    if total == 0:  # instruction counts may repeat exactly
        return Estimate(mean, 0.0, min(part.df for part in parts))
    df = total**2 / math.fsum(part.variance**2 / part.df for part in parts)
    return Estimate(mean, total / divisor**2, df)


def _of_values(values: Sequence[float], counted: bool) -> Estimate:
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return Estimate(mean, 0.0, 0)
    if counted:
        return Estimate(mean, 0.0, len(values) - 1, (min(values), max(values)))
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return Estimate(mean, variance / len(values), len(values) - 1)


def of_boots(boots: Mapping[int, Sequence[float]], counted: bool = False) -> Estimate:
    """Mean per boot, then over boots; with one boot, over its rounds. `counted`: instructions."""
    if len(boots) == 1:
        return _of_values(next(iter(boots.values())), counted)
    return _of_values([math.fsum(v) / len(v) for _, v in sorted(boots.items())], counted)


def log_ratios(pairs: Iterable[Pair]) -> dict[int, list[float]]:
    """log(guest / native) by boot. A pair without a positive native and guest time has none."""
    return _logs(
        (pair.boot, pair.guest_s / pair.native_s)
        for pair in pairs
        if pair.native_s is not None and pair.native_s > 0
    )


def log_guest(pairs: Iterable[Pair]) -> dict[int, list[float]]:
    """log(guest seconds per unit of work) by boot."""
    return _logs((pair.boot, pair.guest_s) for pair in pairs)


def log_native(pairs: Iterable[Pair]) -> dict[int, list[float]]:
    """log(native seconds per unit of work) by boot of the guest beside it."""
    return _logs((pair.boot, pair.native_s) for pair in pairs)


def _logs(samples: Iterable[tuple[int, float | None]]) -> dict[int, list[float]]:
    boots: dict[int, list[float]] = {}
    for boot, value in samples:
        if value is not None and value > 0:
            boots.setdefault(boot, []).append(math.log(value))
    return boots


def exp(log: float) -> float:
    return math.exp(max(-700.0, min(log, 700.0)))  # bounds of two wild pairs are beyond a float


def _overhead(estimate: Estimate, n: int, boots: int, confidence: float = CONFIDENCE) -> Overhead:
    bounds = estimate.interval(confidence)
    low, high = (None, None) if bounds is None else (exp(bounds[0]), exp(bounds[1]))
    return Overhead(math.exp(estimate.mean), low, high, n, boots)


def overhead(pairs: Iterable[Pair], counted: bool = False) -> Overhead | None:
    """exp(mean of log(guest / native)) with a 95 % interval; None without any native partner.

    `counted`: it is the ratio of instruction counts, with its range.
    """
    boots = log_ratios(pairs)
    return figure(boots, counted) if boots else None


def figure(boots: Mapping[int, Sequence[float]], counted: bool = False) -> Overhead:
    """The geometric mean of what was logged, an overhead or seconds, with its 95 % interval."""
    return _overhead(of_boots(boots, counted), sum(map(len, boots.values())), len(boots))


def quotient(
    of: Mapping[int, Sequence[float]], by: Mapping[int, Sequence[float]], counted: bool = False
) -> Overhead | None:
    """How many times as much `of` is as `by`, of independent boots; None where one has none."""
    if not of or not by:
        return None
    estimate = of_boots(of, counted).minus(of_boots(by, counted))
    pairs = min(sum(map(len, each.values())) for each in (of, by))
    return _overhead(estimate, pairs, min(len(of), len(by)))


def is_counted(item: Item) -> bool:
    """Whether the samples of an item are instructions."""
    return item.time_base is TimeBase.INSTRUCTIONS


def overhead_of(item: Item) -> Overhead | None:
    """`overhead` of an item; None also where its statistic forbids a ratio."""
    if item.statistic is not Statistic.RATIO or item.status is not Status.OK:
        return None
    return overhead(item.pairs, is_counted(item))


def typical(boots: Mapping[int, Sequence[float]]) -> float | None:
    """exp of the mean of boot means of logarithms: the geometric mean, in what was logged.

    With it the shown guest / native seconds give the shown overhead exactly.
    """
    return math.exp(of_boots(boots).mean) if boots else None


def word(value: Overhead) -> str | None:
    """low: the whole interval lies at or below 1.10; medium: above that, at or below 2;
    high: above 2; otherwise between. None without an interval over boots: one boot says
    nothing about the next."""
    if value.low is None or value.high is None or value.boots < 2:
        return None
    if value.high <= LOW_MAX:
        return "low"
    if value.low > MEDIUM_MAX:
        return "high"
    if value.low > LOW_MAX and value.high <= MEDIUM_MAX:
        return "medium"
    return "between"


def no_word(item: Item) -> bool:
    """Whether a word would judge the kernels' difference as well as the virtualization: in all
    that runs more than the user's own instructions."""
    faults = "fault" in f"{item.workload} {item.unit}"
    alone = item.category == "cpu" or (item.category == "memory" and not faults)
    return "kernel_differs" in item.flags and not alone


def judged(item: Item) -> bool:
    """Whether a word about this item would judge nothing but the virtualization."""
    return not no_word(item) and not any(flag in UNLIKE for flag in item.flags)


def equivalent(value: Overhead) -> bool:
    """Whether guest and native are equivalent within LOW_MAX: two one-sided tests at 2.5 % each,
    which hold together exactly where the 95 % interval lies within 1 / 1.10 and 1.10."""
    if value.low is None or value.high is None or value.boots < 2:
        return False
    return value.low >= 1 / LOW_MAX and value.high <= LOW_MAX


def undecided(value: Overhead) -> bool:
    """Whether the interval says nothing of use: the guest may be as fast as native or faster, and
    its overhead may as well be high; or the same the other way round."""
    if value.low is None or value.high is None or not value.low <= 1 <= value.high:
        return False
    return value.high > MEDIUM_MAX or value.low < 1 / MEDIUM_MAX


def settled(item: Item, most: int, precision: float | None = None) -> bool:
    """Whether further boots of an item by the wall clock, up to `most`, would decide nothing.

    After MIN_BOOTS boots at least, its interval decides the word, or is not wider than
    PRECISION to either side; or it is so wide that it would not decide after `most` boots either,
    if they are like those so far. With a `precision` of the user's that alone counts. A duration
    without a native counterpart (a boot) has no word, nor has what was measured under unlike
    conditions: unless the user asks for a precision, MIN_BOOTS do.
    """
    ratios = log_ratios(item.pairs) if item.statistic is Statistic.RATIO else {}
    logs = ratios or log_guest(item.pairs)
    boots = len(logs)
    if is_counted(item) or boots < MIN_BOOTS:
        return False
    if precision is None and (item.statistic is Statistic.ABSOLUTE or not judged(item)):
        return True
    estimate = of_boots(logs)
    value = _overhead(estimate, boots, boots, STOPPING_CONFIDENCE)
    if (value.half_width or 0.0) <= (precision or PRECISION):
        return True
    if precision is not None or not ratios:
        return False
    last = Estimate(estimate.mean, estimate.variance * boots / most, most - 1)
    return word(value) != "between" or word(_overhead(last, most, most)) == "between"


# ---------------------------------------------------------------- robustness


def outliers(pairs: Sequence[Pair]) -> tuple[int, ...]:
    """Indices of pairs far from the median: flagged, never dropped.

    Rule: modified z-score of the logarithm above 3.5, z = |x - median| / (1.4826 MAD)
    (Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993). The scale is taken as at
    least 0.1 %, else one tick of a clock is an outlier among counts that repeat exactly. Five
    pairs are needed. Uses log(guest / native) where all have a native partner, else log(guest).
    """
    if len(pairs) < 5 or any(pair.guest_s <= 0 for pair in pairs):
        return ()
    paired = all(pair.native_s is not None and pair.native_s > 0 for pair in pairs)
    logs = [math.log(p.guest_s / p.native_s if paired and p.native_s else p.guest_s) for p in pairs]
    middle = statistics.median(logs)
    distances = [abs(log - middle) for log in logs]
    scale = max(1.4826 * statistics.median(distances), 0.001)
    return tuple(i for i, distance in enumerate(distances) if distance > 3.5 * scale)


# ---------------------------------------------------------------- many workloads


@dataclass(frozen=True)
class GeometricMean:
    """Geometric mean of the overheads of one category, never shown without its extremes."""

    overhead: Overhead
    workloads: int
    smallest: tuple[str, float]  # workload, ratio
    largest: tuple[str, float]


def mean_of_workloads(
    logs: Mapping[str, Mapping[int, Sequence[float]]], counted: bool = False
) -> tuple[Estimate, int, int] | None:
    """(estimate, boots, pairs used) of the mean over workloads, each workload weighing alike.

    Only boots that have all workloads count: otherwise a boot without the slow one looks fast.
    """
    common = set.intersection(*(set(boots) for boots in logs.values())) if logs else set()
    if not common:
        return None
    used = {name: {b: boots[b] for b in sorted(common)} for name, boots in logs.items()}
    n = sum(len(values) for boots in used.values() for values in boots.values())
    if len(common) == 1:
        parts = [of_boots(boots, counted) for boots in used.values()]
        mean = math.fsum(part.mean for part in parts) / len(parts)
        whole = _combine(mean, parts, len(parts))
        if ranges := [part.extremes for part in parts if part.extremes is not None]:
            low, high = (math.fsum(bounds) / len(parts) for bounds in zip(*ranges, strict=True))
            whole = replace(whole, extremes=(low, high)) if whole.df > 0 else whole
        return whole, 1, n
    means = [
        math.fsum(math.fsum(boots[b]) / len(boots[b]) for boots in used.values()) / len(used)
        for b in sorted(common)
    ]
    return _of_values(means, counted), len(common), n


def geometric_mean(items: Iterable[Item]) -> GeometricMean | None:
    """Geometric mean across workloads of one category on one variant, per boot, then over boots.

    The workloads of a boot share its luck, so they are averaged within a boot first, and t is over
    boots. The interval holds in 95 % of cases however much they share (simulated for three and
    five boots: 0.946 to 0.953), and may be narrower than each workload's own: what is independent
    in them cancels.

    None where no item has a ratio, or no boot has them all. Raises ValueError if the items are
    of several categories or variants, whose mean would say nothing.
    """
    usable = {item.workload: item for item in items if overhead_of(item) is not None}
    if not usable:
        return None
    if len({(item.category, item.variant, item.host) for item in usable.values()}) > 1:
        raise ValueError("a geometric mean stays inside one category, variant and host")
    logs = {name: log_ratios(item.pairs) for name, item in sorted(usable.items())}
    whole = mean_of_workloads(logs, any(map(is_counted, usable.values())))
    if whole is None:
        return None
    estimate, boots, n = whole
    shared = set.intersection(*map(set, logs.values()))  # the boots that the mean is over
    ratios = sorted(
        (math.exp(of_boots({b: log[b] for b in shared}).mean), name) for name, log in logs.items()
    )
    smallest, largest = ratios[0][::-1], ratios[-1][::-1]
    return GeometricMean(_overhead(estimate, n, boots), len(logs), smallest, largest)
