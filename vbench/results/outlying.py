"""Which of many values do not belong to the others. Pure.

Rosner's (1983) generalized extreme studentized deviate: the most extreme value is taken out, again
and again, and each time tested against those that are left. So several that lie far out do not
hide each other, as they would from a test against the mean and deviation of all.
benchmarks/fleet.py has its rate of false alarms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vbench.results import student

MIN_VALUES = 5


@dataclass(frozen=True)
class Crowd:
    """What is common to the values, and which of them are far from it.

    `p`: by index of each value that is far out, how probable it is that one of so many lies so far
    out by chance.
    """

    centre: float
    spread: float  # standard deviation of one value
    p: Mapping[int, float]


def crowd(values: Sequence[float], excess: Sequence[float], level: float) -> Crowd:
    """`excess`: the variance that each value has beyond that of the others, because less is known
    of it. `level`: how probable one false alarm among all values is allowed to be. At most a third
    of them are found far out, of less than 50 a fifth: among few, the last ones left look too much
    alike. So none is of less than MIN_VALUES."""
    order = sorted(range(len(values)), key=values.__getitem__)
    rest = _Sums(values)
    low, high = 0, len(order) - 1
    taken: list[int] = []
    p: list[float] = []
    for _ in range(len(order) // (3 if len(order) >= 50 else 5)):
        below, above = rest.mean - values[order[low]], values[order[high]] - rest.mean
        far, low, high = (
            (order[low], low + 1, high) if below > above else (order[high], low, high - 1)
        )
        count = rest.count
        rest.take(values[far])
        taken.append(far)
        p.append(min(1.0, count * rest.probability(values[far], excess[far])))
    # those taken before the last one that is significant were only hidden by it
    found = max((i + 1 for i, each in enumerate(p) if each < level), default=0)
    core = _Sums([value for i, value in enumerate(values) if i not in set(taken[:found])])
    return Crowd(
        core.mean,
        math.sqrt(core.variance),
        {far: min(p[i:found]) for i, far in enumerate(taken[:found])},
    )


class _Sums:
    """Mean and variance of values, from which one may be taken."""

    def __init__(self, values: Sequence[float]) -> None:
        self.count = len(values)
        self._origin = math.fsum(values) / self.count  # squares of differences keep their digits
        self._sum = 0.0
        self._squares = math.fsum((value - self._origin) ** 2 for value in values)

    def take(self, value: float) -> None:
        self.count -= 1
        self._sum -= value - self._origin
        self._squares -= (value - self._origin) ** 2

    @property
    def mean(self) -> float:
        return self._origin + self._sum / self.count

    @property
    def variance(self) -> float:
        """0 for one value."""
        squares = self._squares - self._sum**2 / self.count
        return max(0.0, squares) / max(1, self.count - 1)

    def probability(self, value: float, excess: float) -> float:
        """That a value like these, with `excess`, lies as far from them: Student's t."""
        error = math.sqrt(self.variance * (1 + 1 / self.count) + excess)
        if error == 0:
            return 1.0 if math.isclose(value, self.mean, abs_tol=1e-9) else 0.0
        return student.two_sided((value - self.mean) / error, self.count - 1)
