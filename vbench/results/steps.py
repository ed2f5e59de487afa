"""Where the level of values in time changes, and stays changed. Pure.

Seeded binary segmentation (Kovács et al. 2023): in the values, and in windows of a half, a
quarter... of them, so that a change and its undoing do not hide each other. The split of which
Student's t says that it is least by chance is taken, and each side split in turn.
benchmarks/history.py has the rate of false alarms, and of changes that are found.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from vbench.results import student

MIN_SIDE = 4  # values that a level must last for: two wild runs are no change
MIN_WINDOW = 20


@dataclass(frozen=True)
class Step:
    """The value with index `at` is the first of the new level. `change` is the new level's mean
    less the old one's. `p`: how probable it is to find such a step where there is none."""

    at: int
    change: float
    p: float


def steps(values: Sequence[float], level: float, least: float = 0.0) -> list[Step]:
    """Steps of more than `least`, in the order of the values. `level`: how probable one false step
    in a series without any is allowed to be."""
    if not values:
        return []
    places = dict(_splits(values, 0, level, least))
    bounds = [0, *sorted(places), len(values)]
    means = [statistics.fmean(values[a:b]) for a, b in pairwise(bounds)]
    return [Step(at, means[i + 1] - means[i], places[at]) for i, at in enumerate(bounds[1:-1])]


def _splits(
    values: Sequence[float], offset: int, level: float, least: float
) -> list[tuple[int, float]]:
    """(place, p) of all splits of these values, the first of which has the index `offset`."""
    windows = list(_windows(len(values)))
    if not windows:
        return []
    tries = sum(end - start - 2 * MIN_SIDE + 1 for start, end in windows)
    p, start, at, end = min(_split(values, *window) for window in windows)
    p = min(1.0, tries * p)
    before, after = values[start:at], values[at:end]
    change = statistics.fmean(after) - statistics.fmean(before)
    if p >= level or abs(change) <= least or _typical(before, after, change) < abs(change) / 2:
        return []
    return [
        *_splits(values[:at], offset, level, least),
        (offset + at, p),
        *_splits(values[at:], offset + at, level, least),
    ]


def _windows(count: int) -> Iterator[tuple[int, int]]:
    """All, then halves that overlap by half of their length, and so on. In shorter ones than
    MIN_WINDOW it cannot be told how much values are like the ones before them."""
    if count >= 2 * MIN_SIDE:
        yield 0, count
    length = count // 2
    while length >= MIN_WINDOW:
        starts = range(0, count - length + 1, max(1, length // 2))
        yield from ((start, start + length) for start in starts)
        if starts[-1] + length < count:
            yield count - length, count
        length //= 2


def _split(values: Sequence[float], start: int, end: int) -> tuple[float, int, int, int]:
    """The best split of a window: its p, and the window with the place in it."""
    window = values[start:end]
    places = range(MIN_SIDE, len(window) - MIN_SIDE + 1)
    at = min(places, key=lambda k: _distance(window, k))
    return _chance(window, at), start, start + at, end


def _distance(values: Sequence[float], at: int) -> float:
    """Of all values from the median of their side: wild ones do not move it as they move means."""
    sides = values[:at], values[at:]
    medians = [statistics.median(side) for side in sides]
    return math.fsum(
        abs(each - median) for side, median in zip(sides, medians, strict=True) for each in side
    )


def _typical(before: Sequence[float], after: Sequence[float], change: float) -> float:
    """How far apart the medians are, in the direction of the change. A wild value moves a mean; a
    level moves more than half of the values."""
    if change < 0:
        before, after = after, before
    return statistics.median_low(after) - statistics.median_high(before)


def _chance(values: Sequence[float], at: int) -> float:
    """Student's t of two samples, whose variance is the larger the more a value is like the one
    before it: then they say less."""
    sides = values[:at], values[at:]
    means = [statistics.fmean(side) for side in sides]
    rest = [value - mean for side, mean in zip(sides, means, strict=True) for value in side]
    squares = math.fsum(each * each for each in rest)
    df = len(values) - 2
    if squares <= 1e-18 * len(values):  # equal but for rounding
        return 0.0 if abs(means[1] - means[0]) > 1e-9 else 1.0
    like = math.fsum(a * b for a, b in pairwise(rest)) / squares
    like = min(0.9, max(0.0, like))
    error = math.sqrt(squares / df * (1 / at + 1 / (len(values) - at)) * (1 + like) / (1 - like))
    return student.two_sided((means[1] - means[0]) / error, df)
