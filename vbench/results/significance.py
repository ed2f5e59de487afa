"""Whether one is more than the other: two variants, overhead and exits. Pure."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations, pairwise, permutations
from operator import mul

from vbench.model import Item
from vbench.results.stats import (
    CONFIDENCE,
    exp,
    is_counted,
    log_ratios,
    mean_of_workloads,
    overhead_of,
)


@dataclass(frozen=True)
class Ordering:
    """Overheads of A against those of B: the ratio A / B with its 95 % interval.

    Bounds are None where one side has no repetition. `boots` are those of the side with fewer.
    """

    ratio: float
    low: float | None
    high: float | None
    workloads: tuple[str, ...]  # those that both have
    boots: int


def ordering(a_items: Iterable[Item], b_items: Iterable[Item]) -> Ordering | None:
    """How A's overheads lie to B's, over the workloads (same definition) of both.

    Boots of A and B are different boots, so they are not paired: the mean log overhead of the
    common workloads per boot, then Welch's interval over boots. None without common workloads.
    """
    a = {i.workload: i for i in a_items if overhead_of(i) is not None}
    b = {i.workload: i for i in b_items if overhead_of(i) is not None}
    common = tuple(sorted(w for w in a if w in b and a[w].definition == b[w].definition))
    counted = any(is_counted(a[w]) for w in common)
    mean_a = mean_of_workloads({w: log_ratios(a[w].pairs) for w in common}, counted)
    mean_b = mean_of_workloads({w: log_ratios(b[w].pairs) for w in common}, counted)
    if mean_a is None or mean_b is None:
        return None
    difference = mean_a[0].minus(mean_b[0])
    bounds = difference.interval()
    low, high = (None, None) if bounds is None else map(exp, bounds)
    return Ordering(math.exp(difference.mean), low, high, common, min(mean_a[1], mean_b[1]))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down adjustment: compare the results with the level itself.

    In the order of the input; never below the raw value, never above 1.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    for rank, i in enumerate(order):
        adjusted[i] = min(1.0, (len(p_values) - rank) * p_values[i])
    for before, after in pairwise(order):  # keep the order of the raw values
        adjusted[after] = max(adjusted[after], adjusted[before])
    return adjusted


@dataclass(frozen=True)
class Correlation:
    """Kendall's tau, -1 to 1, and the two-sided probability of one as far from 0 by chance."""

    tau: float
    p: float

    @property
    def significant(self) -> bool:
        return self.p < round(1 - CONFIDENCE, 9)  # 1 - 0.95 is a little above 0.05


MIN_BLOCKS = 5  # fewer cannot be significant
_PERMUTATIONS = 5040


def rank_correlation(blocks: Sequence[Sequence[tuple[float, float]]]) -> Correlation | None:
    """Whether y rises with x over all points; None for fewer than MIN_BLOCKS.

    Points of one block (all of one size) may depend on each other, so whole blocks of x are
    permuted against those of y: all ways, or 5,040 of them, always the same.
    """
    count = len(blocks)
    if count < MIN_BLOCKS:
        return None
    x, y = ([[point[axis] for point in block] for block in blocks] for axis in (0, 1))
    signs_x, signs_y = _signs(x), _signs(y)

    @cache
    def agreement(a: int, b: int, i: int, j: int) -> int:
        """Concordant less discordant pairs, the x of blocks a and b beside the y of i and j."""
        return sum(map(mul, signs_x[a][b], signs_y[i][j]))

    def score(order: Sequence[int]) -> int:
        within = sum(agreement(a, a, i, i) for i, a in enumerate(order)) // 2
        places = combinations(enumerate(order), 2)
        return within + sum(agreement(a, b, i, j) for (i, a), (j, b) in places)

    if math.factorial(count) <= _PERMUTATIONS:
        orders: Iterable[Sequence[int]] = permutations(range(count))
    else:
        chosen = random.Random(0)  # noqa: S311
        orders = [range(count), *(chosen.sample(range(count), count) for _ in range(_PERMUTATIONS))]
    observed = score(range(count))
    scores = [score(order) for order in orders]
    share = min(sum(s >= observed for s in scores), sum(s <= observed for s in scores))
    points = sum(map(len, blocks))
    tau = observed / math.comb(points, 2)
    return Correlation(tau, min(1.0, 2 * share / len(scores)))


def _signs(blocks: Sequence[Sequence[float]]) -> list[list[list[int]]]:
    """For each two blocks, the sign of each value of the one less each of the other."""
    return [[[(p > q) - (p < q) for p in one for q in other] for other in blocks] for one in blocks]
