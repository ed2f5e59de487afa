"""Numbers computed by hand, simulated coverage, and properties that must hold for any sample."""

from __future__ import annotations

import math
import random
import statistics
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_results import item, pairs

from vbench.model import Item, Pair, Statistic, Status, TimeBase
from vbench.report import verdicts
from vbench.results import significance, stats
from vbench.results.stats import Overhead

POSITIVE = st.floats(1e-9, 1e3)
PAIRS = st.lists(
    st.builds(Pair, POSITIVE, POSITIVE, st.integers(0, 4)), min_size=1, max_size=30
).map(tuple)


def known(low: float | None, high: float | None) -> Overhead:
    return Overhead(1.0, low, high, 9, 3)


def test_overhead_by_hand() -> None:
    # boot means of the logarithm: ln 2, ln 2, ln 8 -> mean (5/3) ln 2; t(2) at 97.5 % = 4.30265
    sample = [
        Pair(1.0, 2.0, 0),
        Pair(2.0, 4.0, 1),
        Pair(1.0, 4.0, 2),
        Pair(1.0, 16.0, 2),
    ]
    got = stats.overhead(sample)
    assert got is not None
    logs = [math.log(2), math.log(2), math.log(8)]
    half = 4.302652729911275 * statistics.stdev(logs) / math.sqrt(3)
    assert got.ratio == pytest.approx(2 ** (5 / 3))
    assert got.low == pytest.approx(math.exp(statistics.mean(logs) - half))
    assert got.high == pytest.approx(math.exp(statistics.mean(logs) + half))
    assert (got.n, got.boots) == (4, 3)


def test_one_boot_takes_its_rounds() -> None:
    got = stats.overhead([Pair(1.0, 1.0, 7), Pair(1.0, math.e**2, 7)])
    assert got is not None
    assert got.boots == 1
    # logs 0 and 2: mean 1, standard error 1, t(1) = 12.7062
    assert got.ratio == pytest.approx(math.e)
    assert math.log(got.high or 0) == pytest.approx(1 + 12.706204736174698)


def test_one_pair_has_no_interval() -> None:
    assert stats.overhead([Pair(1.0, 2.0, 0)]) == Overhead(2.0, None, None, 1, 1)
    assert not Overhead(2.0, None, None, 1, 1).significant


def counted(ratio: float, *others: float, variant: str = "v") -> Item:
    """An item of the testbed: a pair a boot, with these ratios."""
    sample = [Pair(1.0, value, boot) for boot, value in enumerate((ratio, *others))]
    return replace(
        item("cpu-prime", sample, time_base=TimeBase.INSTRUCTIONS), backend=variant, variant=variant
    )


def test_counted_instructions_have_a_range_and_no_t() -> None:
    got = stats.overhead_of(counted(1.004, 1.006))
    assert got is not None
    assert (got.low, got.high) == (pytest.approx(1.004), pytest.approx(1.006))
    by_t = stats.overhead(counted(1.004, 1.006).pairs)
    assert by_t is not None
    assert by_t.low is not None
    assert by_t.low < 0.995  # t of two boots has 12.7 standard errors


def test_two_counted_boots_decide_near_native_and_an_order() -> None:
    """T3 at x1.005 was undecided by Student's t over two boots."""
    mean = stats.geometric_mean([counted(1.005, 1.0052)])
    assert mean is not None
    assert stats.equivalent(mean.overhead)
    order = significance.ordering([counted(1.10, 1.12, variant="a")], [counted(1.3, 1.32)])
    assert order is not None
    assert (order.low, order.high) == (pytest.approx(1.10 / 1.32), pytest.approx(1.12 / 1.3))


def test_the_range_of_a_mean_over_one_boot_is_the_mean_of_ranges() -> None:
    one = replace(counted(1.0), pairs=(Pair(1.0, 1.0, 0), Pair(1.0, 1.1, 0)))
    other = replace(one, workload="cpu-other", pairs=(Pair(1.0, 2.0, 0), Pair(1.0, 2.2, 0)))
    mean = stats.geometric_mean([one, other])
    assert mean is not None
    assert mean.overhead.low == pytest.approx(math.sqrt(2.0))
    assert mean.overhead.high == pytest.approx(math.sqrt(2.2 * 1.1))


def test_missing_native_is_missing_not_zero() -> None:
    assert stats.overhead([Pair(None, 2.0, 0)]) is None
    got = stats.overhead([Pair(None, 9.0, 0), Pair(1.0, 2.0, 0), Pair(0.0, 2.0, 0)])
    assert got == Overhead(2.0, None, None, 1, 1)


def test_no_ratio_where_the_statistic_forbids_it() -> None:
    assert stats.overhead_of(item("x", pairs(2.0), statistic=Statistic.QUANTILES)) is None
    assert stats.overhead_of(item("x", (), status=Status.FAILED)) is None


def test_counts_that_repeat_exactly_have_an_interval_of_no_width() -> None:
    got = stats.overhead([Pair(2e-7, 3e-7, boot) for boot in (0, 0, 1, 1)])
    assert got is not None
    assert got.low == got.high == got.ratio == pytest.approx(1.5)


def _coverage(pooled: bool) -> float:
    """Share of 2,000 intervals that hold the truth: 5 boots x 3 rounds, boots differ by 2 %."""
    rng = random.Random(20260102)  # noqa: S311
    truth, hits = 1.5, 0
    for _ in range(2000):
        sample = [
            Pair(1.0, truth * math.exp(shift + rng.gauss(0, 0.005)), 0 if pooled else boot)
            for boot, shift in enumerate([rng.gauss(0, 0.02) for _ in range(5)])
            for _ in range(3)
        ]
        got = stats.overhead(sample)
        assert got is not None
        hits += (got.low or 0) <= truth <= (got.high or 0)
    return hits / 2000


def test_nominal_95_percent_interval_covers_the_truth_and_pooling_would_not() -> None:
    assert 0.92 <= _coverage(pooled=False) <= 0.975
    assert _coverage(pooled=True) < 0.85


@given(PAIRS)
def test_interval_holds_the_ratio_and_order_does_not_matter(sample: tuple[Pair, ...]) -> None:
    got = stats.overhead(sample)
    assert got is not None
    again = stats.overhead(sample[::-1])
    assert again is not None
    assert got.ratio == pytest.approx(again.ratio)
    if got.low is not None and got.high is not None:
        assert got.low <= got.ratio * (1 + 1e-9)
        assert got.high >= got.ratio * (1 - 1e-9)


@given(PAIRS, st.floats(0.01, 100))
def test_scaling_the_guest_scales_the_overhead(sample: tuple[Pair, ...], factor: float) -> None:
    scaled = [Pair(p.native_s, p.guest_s * factor, p.boot) for p in sample]
    before, after = stats.overhead(sample), stats.overhead(scaled)
    assert before is not None
    assert after is not None
    assert after.ratio == pytest.approx(before.ratio * factor, rel=1e-9)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.9, 1.10, "low"),
        (0.9, 1.1001, "between"),
        (1.1001, 2.0, "medium"),
        (1.10, 2.0, "between"),
        (1.9, 2.1, "between"),
        (2.0, 3.0, "between"),
        (2.0001, 3.0, "high"),
        (None, None, None),
    ],
)
def test_word(low: float | None, high: float | None, expected: str | None) -> None:
    assert stats.word(known(low, high)) == expected


def test_significant() -> None:
    assert known(1.01, 1.2).significant
    assert known(0.5, 0.9).significant
    assert not known(0.99, 1.2).significant


def test_outliers_are_named_not_dropped() -> None:
    sample = [*pairs(1.5, boots=5, rounds=3), Pair(1e-6, 9e-6, 4)]
    assert stats.outliers(sample) == (15,)
    got = stats.overhead(sample)
    assert got is not None
    assert got.n == 16


def test_one_tick_among_exact_counts_is_no_outlier() -> None:
    exact = [Pair(None, 2745e-9, 0)] * 9
    assert stats.outliers([*exact, Pair(None, 2746e-9, 0)]) == ()
    assert stats.outliers([*exact, Pair(None, 2900e-9, 0)]) == (9,)
    assert stats.outliers([Pair(None, 1.0, 0), Pair(None, 9.0, 0)]) == ()


def test_geometric_mean_by_hand() -> None:
    a = item("a", [Pair(1, 2.0, 0), Pair(1, 2.0, 1)])
    b = item("b", [Pair(1, 8.0, 0), Pair(1, 8.0, 1), Pair(1, 99.0, 2)])
    got = stats.geometric_mean([a, b])
    assert got is not None
    assert got.overhead.ratio == pytest.approx(4.0)  # boot 2 lacks `a`, so it does not count
    assert (got.overhead.boots, got.workloads) == (2, 2)
    assert got.smallest == ("a", pytest.approx(2.0))
    assert got.largest == ("b", pytest.approx(8.0))  # of the same boots


def test_geometric_mean_of_one_boot_adds_the_variances_of_its_workloads() -> None:
    a = item("a", [Pair(1, 2.0, 0), Pair(1, 2.2, 0)])
    b = item("b", [Pair(1, 8.0, 0), Pair(1, 8.1, 0)])
    got = stats.geometric_mean([a, b])
    assert got is not None
    assert got.overhead.boots == 1
    assert got.overhead.low is not None
    assert got.overhead.low < 4.1 < (got.overhead.high or 0)


def test_geometric_mean_of_unlike_things_is_refused() -> None:
    with pytest.raises(ValueError, match="one category"):
        stats.geometric_mean([item("a", pairs(2.0)), item("b", pairs(2.0), category="memory")])
    assert stats.geometric_mean([]) is None
    apart = [item("a", [Pair(1, 2.0, 0)]), item("b", [Pair(1, 2.0, 1)])]
    assert stats.geometric_mean(apart) is None


def test_ordering() -> None:
    fast = [item(w, pairs(1.05, seed=w)) for w in "ab"]
    slow = [item(w, pairs(1.5, seed=w + "slow")) for w in "ab"]
    got = significance.ordering(fast, slow)
    assert got is not None
    assert verdicts.below(got) is True
    assert got.workloads == ("a", "b")
    reverse = significance.ordering(slow, fast)
    assert reverse is not None
    assert verdicts.below(reverse) is False
    assert reverse.ratio == pytest.approx(1 / got.ratio)
    assert (reverse.low or 0) * (got.high or 0) == pytest.approx(1)
    same = significance.ordering(fast, [item(w, pairs(1.05, seed=w + "again")) for w in "ab"])
    assert same is not None
    assert verdicts.below(same) is None
    unlike = [item("a", pairs(2.0), definition="another")]
    assert significance.ordering(fast, unlike) is None


def test_ordering_without_repetition_decides_nothing() -> None:
    got = significance.ordering([item("a", [Pair(1.0, 1.1, 0)])], [item("a", [Pair(1.0, 9.9, 0)])])
    assert got is not None
    assert got.ratio == pytest.approx(1 / 9)
    assert (got.low, got.high) == (None, None)
    assert verdicts.below(got) is None


def test_the_interval_of_an_ordering_is_welchs(scipy: Any) -> None:
    many, few = pairs(1.1, seed=2, boots=5), pairs(1.0, seed=1, boots=4)
    got = significance.ordering([item("w", many)], [item("w", few)])
    a = [statistics.mean(v) for v in stats.log_ratios(many).values()]
    b = [statistics.mean(v) for v in stats.log_ratios(few).values()]
    interval = scipy.stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert got is not None
    assert math.log(got.low or 0) == pytest.approx(interval.low, rel=1e-12)
    assert math.log(got.high or 0) == pytest.approx(interval.high, rel=1e-12)


def test_holm_by_hand() -> None:
    # Holm 1979: sorted 0.005, 0.01, 0.03, 0.04 -> times 4, 3, 2, 1, then made monotone
    assert significance.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert significance.holm([]) == []


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_only_raises_and_keeps_the_order(values: list[float]) -> None:
    adjusted = significance.holm(values)
    assert all(raw <= new <= 1 for raw, new in zip(values, adjusted, strict=True))
    ranked = [adjusted[i] for i in sorted(range(len(values)), key=lambda i: values[i])]
    assert ranked == sorted(ranked)


def test_rank_correlation_permutes_whole_blocks() -> None:
    rising = [[(n, 10.0 * n), (n + 0.5, 10.0 * n + 1)] for n in range(6)]
    found = significance.rank_correlation(rising)
    assert found is not None
    assert found.tau == pytest.approx(1.0)
    assert found.p == pytest.approx(2 / math.factorial(6))  # the order as it is, both ways
    falling = significance.rank_correlation([[(-x, y) for x, y in block] for block in rising])
    assert falling is not None
    assert falling.tau == pytest.approx(-1.0)
    assert falling.significant
    assert significance.rank_correlation(rising[:4]) is None
    assert not significance.Correlation(0.56, 0.05).significant  # p is to be below 0.05


def test_rank_correlation_of_many_blocks_is_the_same_each_time() -> None:
    rng = random.Random(7)  # noqa: S311
    noise = [[(rng.random(), rng.random())] for _ in range(10)]
    found = significance.rank_correlation(noise)
    assert found is not None
    assert found.p > 0.05
    assert significance.rank_correlation(noise) == found


def test_the_interval_of_a_mean_holds_whatever_workloads_of_a_boot_share() -> None:
    """Two thousand runs of three boots, four workloads that share none or most of a boot's luck."""
    chance = random.Random(5)  # noqa: S311 - no secret
    spreads, boots, runs = (0.11, 0.08, 0.02, 0.03), 3, 2000
    for shared in (0.0, 0.9):
        held = 0
        for _ in range(runs):
            luck = [chance.gauss(0, 1) for _ in range(boots)]
            logs = {
                str(sd): {
                    b: [sd * (shared**0.5 * luck[b] + (1 - shared) ** 0.5 * chance.gauss(0, 1))]
                    for b in range(boots)
                }
                for sd in spreads
            }
            found = stats.mean_of_workloads(logs)
            assert found is not None
            bounds = found[0].interval()
            assert bounds is not None
            held += bounds[0] <= 0 <= bounds[1]
        assert 0.935 < held / runs < 0.965  # 0.95, by three standard errors
