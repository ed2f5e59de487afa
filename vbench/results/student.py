"""Student's t distribution in pure Python: a report needs no compiled library for one quantile.

The tail is the regularized incomplete beta function, evaluated by its continued fraction
(NIST Digital Library of Mathematical Functions, 8.17.22). Agrees with SciPy to a relative
1e-12 (tests/unit/test_student.py).
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

_TINY = 1e-300  # stands for a denominator of 0 in Lentz's method
_EPSILON = 1e-16


def two_sided(t: float, df: float) -> float:
    """P(|T| >= |t|) with `df` > 0 degrees of freedom."""
    if math.isinf(t):
        return 0.0
    square = t * t
    outside, inside = df / (df + square), square / (df + square)
    # x^a (1-x)^b / B(a, b), with a = df / 2 and b = 1/2; log1p keeps the digits of a small t
    front = _inverse_beta(df / 2) * math.exp(-df / 2 * math.log1p(square / df)) * math.sqrt(inside)
    if outside < (df + 2) / (df + 5):  # where the continued fraction converges fast
        return front / (df / 2 * _fraction(df / 2, 0.5, outside))
    return 1 - front / (0.5 * _fraction(0.5, df / 2, inside))


@lru_cache(maxsize=4096)
def quantile(probability: float, df: float) -> float:
    """The t that T stays below with `probability`, 0 < probability < 1."""
    if probability < 0.5:
        return -quantile(1 - probability, df)
    tail = 2 * (1 - probability)
    t = NormalDist().inv_cdf(probability)  # never above: Student's tails are the heavier ones
    density = _inverse_beta(df / 2) / math.sqrt(df)
    # The tail is convex in t, so Newton's steps from below never pass the solution.
    while True:
        slope = 2 * density * math.exp(-(df + 1) / 2 * math.log1p(t * t / df))
        step = (two_sided(t, df) - tail) / slope
        t += step
        if step <= 1e-14 * t:
            return t


def _inverse_beta(a: float) -> float:
    """1 / B(a, 1/2) = gamma(a + 1/2) / (gamma(a) gamma(1/2))."""
    if a < 20:
        ratio = math.gamma(a + 0.5) / math.gamma(a)
    else:  # asymptotic series of the logarithm (DLMF 5.11.8); the next term is below 1e-14
        terms = (-1 / 8, 1 / 192, -1 / 640, 17 / 14336, -31 / 18432)
        series = math.fsum(term / a ** (2 * i + 1) for i, term in enumerate(terms))
        ratio = math.sqrt(a) * math.exp(series)
    return ratio / math.sqrt(math.pi)


def _fraction(a: float, b: float, x: float) -> float:
    """The continued fraction 1 + d1/(1 + d2/(1 + ...)) by Lentz's method.

    I_x(a, b) = x^a (1-x)^b / (a B(a, b)) / fraction.
    """
    value, above, below = 1.0, 1.0, 0.0
    factor, i = 0.0, 0
    while abs(factor - 1) > _EPSILON:
        i += 1
        m = i // 2
        if i % 2:
            d = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            d = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        below = 1 / ((1 + d * below) or _TINY)
        above = (1 + d / above) or _TINY
        factor = above * below
        value *= factor
    return value
