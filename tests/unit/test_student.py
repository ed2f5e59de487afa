"""Student's t against SciPy, which only tests need."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbench.results import significance, student

DEGREES = (1, 1.3, 2, 2.7, 3, 4, 5, 7.77, 10, 19.99, 20.01, 33.3, 39.9, 40.1, 57, 100, 333, 1000.5)


@pytest.mark.parametrize("df", DEGREES)
def test_the_tail_agrees_with_scipy(df: float, scipy: Any) -> None:
    for t in (0.0, 1e-5, 0.01, 0.3, 1.0, 1.5, 2.0, 3.0, 5.0, 12.7, 30.0, 100.0):
        expected = 2 * scipy.stats.t.sf(t, df)
        assert student.two_sided(t, df) == pytest.approx(expected, rel=1e-12)
        assert student.two_sided(-t, df) == student.two_sided(t, df)


@pytest.mark.parametrize("df", DEGREES)
def test_the_quantile_agrees_with_scipy(df: float, scipy: Any) -> None:
    for probability in (0.025, 0.2, 0.5, 0.6, 0.8, 0.9, 0.975, 0.995, 0.9999, 1 - 1e-6):
        expected = scipy.stats.t.ppf(probability, df)
        assert student.quantile(probability, df) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_quantiles_of_the_tables() -> None:
    # Student's own table, two-sided 5 %
    for df, expected in ((1, 12.706205), (2, 4.302653), (4, 2.776445), (30, 2.042272)):
        assert student.quantile(0.975, df) == pytest.approx(expected, abs=5e-7)


def test_nothing_is_beyond_infinity() -> None:
    assert student.two_sided(math.inf, 3) == 0.0


@given(st.floats(1, 1e6), st.lists(st.floats(0, 50), min_size=2, max_size=5))
def test_the_tail_falls_with_t(df: float, values: list[float]) -> None:
    tails = [student.two_sided(t, df) for t in sorted(values)]
    assert all(0 <= b <= a <= 1 for a, b in pairwise(tails))


def test_rank_correlation_agrees_with_scipys_permutation_test(scipy: Any) -> None:
    x = [3.0, 1.0, 4.0, 1.5, 5.0, 9.0]
    y = [2.0, 1.0, 8.0, 2.5, 2.8, 7.0]
    found = significance.rank_correlation([[point] for point in zip(x, y, strict=True)])
    assert found is not None

    def tau(values: object) -> float:
        return float(scipy.stats.kendalltau(values, y).statistic)

    expected = scipy.stats.permutation_test((x,), tau, permutation_type="pairings")
    assert found.tau == pytest.approx(expected.statistic, rel=1e-12)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-12)
