"""Variances of many series, each known from few repetitions, made to lend each other strength.

Smyth's (2004) empirical Bayes moderation, which limma made a standard where thousands of series
have three samples each. Variances of a group are taken as drawn from a scaled inverse chi-square
distribution, whose two parameters the group itself tells. Each is then drawn towards the common
one, and has more degrees of freedom: as many more as the group is homogeneous. Pure.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

MIN_SERIES = 5  # series in a group: two parameters are fitted to them


def moderated(variances: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """(variance, degrees of freedom > 0) of each series of a group, moderated.

    As they are where there are fewer than MIN_SERIES, or no variance at all.
    """
    if len(variances) < MIN_SERIES or not any(variance for variance, _ in variances):
        return list(variances)
    # a variance of 0 is one of a clock's ticks, not of the series; its logarithm would rule
    floor = 1e-5 * statistics.median(variance for variance, _ in variances if variance)
    known = [(max(variance, floor), df) for variance, df in variances]
    prior, prior_df = _prior(known)
    most = math.fsum(df for _, df in known)
    return [
        (_drawn(variance, df, prior, prior_df), min(df + prior_df, most)) for variance, df in known
    ]


def _drawn(variance: float, df: float, prior: float, prior_df: float) -> float:
    if math.isinf(prior_df):
        return prior
    return (prior_df * prior + df * variance) / (prior_df + df)


def _prior(known: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The common variance and its degrees of freedom, by the moments of the logarithms; infinitely
    many where the variances differ no more than chance makes them."""
    logs = [math.log(v) - digamma(df / 2) + math.log(df / 2) for v, df in known]
    mean = statistics.fmean(logs)
    excess = statistics.variance(logs) - statistics.fmean(trigamma(df / 2) for _, df in known)
    if excess <= 0:
        total = math.fsum(df for _, df in known)
        return math.fsum(v * df for v, df in known) / total, math.inf
    half = trigamma_inverse(excess)
    return math.exp(mean + digamma(half) - math.log(half)), 2 * half


def digamma(x: float) -> float:
    """Derivative of the logarithm of the gamma function, x > 0: the recurrence up to 10, then the
    asymptotic series (DLMF 5.5.2, 5.11.2)."""
    below = 0.0
    while x < 10:
        below += 1 / x
        x += 1
    y = 1 / x**2
    series = y * (1 / 12 - y * (1 / 120 - y * (1 / 252 - y * (1 / 240 - y / 132))))
    return math.log(x) - 1 / (2 * x) - series - below


def trigamma(x: float) -> float:
    """Derivative of `digamma`, in the same way (DLMF 5.15.5, 5.15.8)."""
    below = 0.0
    while x < 10:
        below += 1 / x**2
        x += 1
    y = 1 / x**2
    series = 1 / 6 - y * (1 / 30 - y * (1 / 42 - y * (1 / 30 - y * 5 / 66)))
    return 1 / x + y / 2 + y / x * series + below


def trigamma_inverse(value: float) -> float:
    """The x whose trigamma is `value` > 0: bisection, as trigamma falls all the way."""
    low, high = 0.0, 1.0
    while trigamma(high) > value:
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        if trigamma(middle) > value:
            low = middle
        else:
            high = middle
    return high
