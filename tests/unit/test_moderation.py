"""Moderated variances: their parts against SciPy, and what they do to tests."""

from __future__ import annotations

import math
import random
import statistics
from typing import Any

import pytest

from vbench.results import moderation, student


@pytest.mark.parametrize("x", [0.5, 1.0, 1.5, 3.0, 9.99, 10.0, 123.0])
def test_polygammas_agree_with_scipy(x: float, scipy: Any) -> None:
    assert moderation.digamma(x) == pytest.approx(scipy.special.digamma(x), rel=1e-12, abs=1e-12)
    assert moderation.trigamma(x) == pytest.approx(scipy.special.polygamma(1, x), rel=1e-12)
    assert moderation.trigamma_inverse(moderation.trigamma(x)) == pytest.approx(x, rel=1e-10)


def sample(rng: random.Random, variance: float, df: int) -> float:
    return statistics.variance(rng.gauss(0, math.sqrt(variance)) for _ in range(df + 1))


def test_alike_variances_become_one_with_the_freedom_of_all() -> None:
    same = [(2.0, 4.0)] * 6
    assert moderation.moderated(same) == [(pytest.approx(2.0), 24.0)] * 6


def test_unlike_variances_lend_each_other_little() -> None:
    unlike = [(10.0 ** (-4 * i), 6.0) for i in range(6)]
    for (before, df), (after, more) in zip(unlike, moderation.moderated(unlike), strict=True):
        assert df < more < df + 0.5
        assert after > 0.9 * before
    assert moderation.moderated(unlike)[0][0] == pytest.approx(1.0, rel=0.1)


def test_few_or_no_variances_are_left_alone() -> None:
    assert moderation.moderated([(2.0, 4.0)] * 4) == [(2.0, 4.0)] * 4
    assert moderation.moderated([(0.0, 4.0)] * 9) == [(0.0, 4.0)] * 9


def test_a_variance_of_nothing_becomes_a_small_one() -> None:
    (drawn, _), *_ = moderation.moderated([(0.0, 4.0), *[(1.0, 4.0)] * 9])
    assert 0 < drawn < 1


@pytest.mark.parametrize("heterogeneity", [0.0, 0.7])
def test_moderated_tests_hold_their_level_and_find_more(heterogeneity: float) -> None:
    """Groups of 10 series whose variances differ by a factor e^(2 x 0.7) or not at all."""
    rng = random.Random(11)  # noqa: S311
    alarms, plain, found = 0, 0, 0
    for _ in range(200):
        true = [math.exp(rng.gauss(0, 2 * heterogeneity)) for _ in range(10)]
        own = [(sample(rng, variance, 6), 6.0) for variance in true]
        for variance, before, after in zip(true, own, moderation.moderated(own), strict=True):
            noise = rng.gauss(0, math.sqrt(variance))
            alarms += student.two_sided(noise / math.sqrt(after[0]), after[1]) < 0.05
            shifted = noise + 6 * math.sqrt(variance)
            plain += student.two_sided(shifted / math.sqrt(before[0]), before[1]) < 0.0005
            found += student.two_sided(shifted / math.sqrt(after[0]), after[1]) < 0.0005
    assert 0.035 <= alarms / 2000 <= 0.065
    assert found > plain * 1.1
