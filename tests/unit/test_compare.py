"""A gate that fails on what is significant and large, and on nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
from sample_results import LOCAL, item, pairs, result

from vbench.errors import UsageError
from vbench.model import HostFacts, Item, Pair, Result, Statistic, Status
from vbench.results import significance, stats
from vbench.results.compare import Comparison, Verdict, compare


def host(identity: str = "local:myserver", **facts: str) -> HostFacts:
    return replace(LOCAL, identity=identity, facts={**LOCAL.facts, **facts})


def run(*items: Item, on: HostFacts = LOCAL, **changes: object) -> list[Result]:
    return [result(*(replace(i, host=on.identity) for i in items), host=on, **changes)]


def verdicts(comparison: Comparison) -> Mapping[str, Verdict]:
    return {row.workload: row.verdict for row in comparison.rows}


def test_a_real_slowdown_is_found_and_fails() -> None:
    got = compare(
        run(item("a", pairs(1.50, seed=1))),
        run(item("a", pairs(1.80, seed=2))),
        fail_above_percent=5,
    )
    (row,) = got.rows
    assert row.verdict is Verdict.REGRESSION
    assert got.failed
    assert got.compared == 1
    assert row.change is not None
    assert row.change.ratio == pytest.approx(1.2, rel=0.03)
    assert row.change.low is not None
    assert row.change.low < row.change.ratio < (row.change.high or 0)
    assert "1 regression" in got.render()


def test_a_significant_but_small_slowdown_is_tolerated() -> None:
    base = run(item("a", pairs(1.50, seed=1, spread=0.002)))
    new = run(item("a", pairs(1.53, seed=2, spread=0.002)))
    assert verdicts(compare(base, new, 5)) == {"a": Verdict.WITHIN}
    assert not compare(base, new, 5).failed
    without_limit = compare(base, new, None)
    assert verdicts(without_limit) == {"a": Verdict.REGRESSION}
    assert not without_limit.failed


def test_a_large_but_insignificant_slowdown_does_not_fail() -> None:
    base = run(item("a", pairs(1.50, seed=1, spread=0.5)))
    new = run(item("a", pairs(1.80, seed=2, spread=0.5)))
    assert verdicts(compare(base, new, 5)) == {"a": Verdict.SAME}


def test_improvement_and_same() -> None:
    slow, fast = run(item("a", pairs(1.8, seed=1))), run(item("a", pairs(1.2, seed=2)))
    assert verdicts(compare(slow, fast, 5)) == {"a": Verdict.IMPROVEMENT}
    again = compare(slow, slow, 0)
    assert verdicts(again) == {"a": Verdict.SAME}
    assert not again.failed


def test_many_rows_are_corrected_for_by_holm() -> None:
    names = [f"w{i:02}" for i in range(30)]
    base = run(*(item(w, pairs(1.5, seed=w)) for w in names))
    new = run(*(item(w, pairs(1.5, seed=w + "n")) for w in names))
    got = compare(base, new, 0)
    raw = [row.change.p for row in got.rows if row.change]
    assert min(p for p in raw if p is not None) < 0.05  # one in twenty is wrong by design
    assert set(verdicts(got).values()) == {Verdict.SAME}
    assert sorted(row.p or 0 for row in got.rows) == sorted(
        significance.holm([p or 0 for p in raw])
    )


def test_another_cpu_compares_overheads_and_warns() -> None:
    boot = item("boot", pairs(6.0, None), statistic=Statistic.ABSOLUTE, category="boot")
    base = run(item("a", pairs(1.5, seed=1)), boot)
    # twice as fast a machine: seconds halve, the overhead stays
    new = run(item("a", pairs(1.5, 0.5e-6, seed=2)), boot, on=host(cpu_model="AMD EPYC"))
    got = compare(base, new, 5)
    assert verdicts(got) == {"a": Verdict.SAME, "boot": Verdict.UNKNOWN}
    assert any("another CPU" in w and "AMD EPYC" in w for w in got.warnings)
    assert next(r for r in got.rows if r.workload == "a").seconds is None
    assert "warning: another CPU" in got.render()


def test_unknown_cpus_are_not_alike() -> None:
    unknown = host(cpu_model="unknown")
    boot = item("boot", pairs(6.0, None), statistic=Statistic.ABSOLUTE)
    got = compare(run(boot, on=unknown), run(boot, on=unknown), None)
    assert verdicts(got) == {"boot": Verdict.UNKNOWN}


def test_like_machines_compare_seconds_of_what_has_no_overhead() -> None:
    base = run(item("boot", pairs(6.0, None, seed=1), statistic=Statistic.ABSOLUTE))
    new = run(item("boot", pairs(9.0, None, seed=2), statistic=Statistic.ABSOLUTE))
    (row,) = compare(base, new, 10).rows
    assert (row.verdict, row.quantity) == (Verdict.REGRESSION, "seconds")
    (same,) = compare(run(item("a", pairs(1.5))), run(item("a", pairs(1.5))), 10).rows
    assert same.seconds is not None


def test_latencies_compare_their_quantiles() -> None:
    def latency(scale: float, seed: int) -> Item:
        made = [
            replace(p, quantiles={"p50": (None, 1e-6), "p99": (None, p.guest_s * scale)})
            for p in pairs(1.0, seed=seed)
        ]
        return item("latency", made, statistic=Statistic.QUANTILES)

    got = compare(run(latency(1, 1)), run(latency(2, 2)), 5)
    assert {r.quantity: r.verdict for r in got.rows} == {
        "p50 seconds": Verdict.SAME,
        "p99 seconds": Verdict.REGRESSION,
    }
    other = compare(run(latency(1, 1)), run(latency(2, 2), on=host(cpus="8")), 5)
    assert verdicts(other) == {"latency": Verdict.UNKNOWN}


def test_another_workload_definition_is_refused_by_name() -> None:
    new = run(item("a", pairs(9.0), definition="sha256:other"))
    got = compare(run(item("a", pairs(1.5))), new, 5)
    (row,) = got.rows
    assert row.verdict is Verdict.REFUSED
    assert "sha256:a, now sha256:other" in row.note
    assert not got.failed
    assert got.compared == 0


def test_one_side_with_two_definitions_is_refused() -> None:
    base = [
        *run(item("a", pairs(1.5))),
        *run(item("a", pairs(1.5), definition="other"), started="2026-02-02T00:00:00Z"),
    ]
    (row,) = compare(base, run(item("a", pairs(1.5))), 5).rows
    assert row.verdict is Verdict.REFUSED
    assert "several workload definitions" in row.note


def test_missing_new_and_failed_are_told_apart() -> None:
    base = run(
        item("gone", pairs(2.0)), item("broke", pairs(2.0)), item("never", status=Status.FAILED)
    )
    new = run(
        item("fresh", pairs(2.0)),
        item("broke", status=Status.FAILED, reason="the guest died"),
        item("never", status=Status.FAILED),
    )
    got = compare(base, new, 5)
    assert verdicts(got) == {
        "gone": Verdict.MISSING,
        "broke": Verdict.MISSING,
        "fresh": Verdict.NEW,
    }
    notes = {row.workload: row.note for row in got.rows}
    assert notes["broke"] == "failed: the guest died"
    assert not got.failed


def test_one_pair_cannot_be_judged() -> None:
    (row,) = compare(run(item("a", [Pair(1, 2, 0)])), run(item("a", [Pair(1, 9, 0)])), 5).rows
    assert row.verdict is Verdict.UNKNOWN
    assert row.note == "too few samples to judge"


def test_runners_of_other_names_match_when_there_is_no_doubt() -> None:
    base = run(item("a", pairs(1.5)), on=host("local:runner-1"))
    new = run(item("a", pairs(1.5)), on=host("local:runner-2"))
    got = compare(base, new, 5)
    assert verdicts(got) == {"a": Verdict.SAME}
    assert any("local:runner-1 is compared with local:runner-2" in w for w in got.warnings)
    two = compare([*base, *run(item("a", pairs(1.5)), on=host("local:runner-3"))], new, 5)
    assert {row.verdict for row in two.rows} == {Verdict.MISSING, Verdict.NEW}


def test_several_files_of_a_side_add_their_boots() -> None:
    one = run(item("a", pairs(1.5, seed=1, boots=2)))
    more = run(item("a", pairs(1.5, seed=2, boots=2)), started="2026-02-02T00:00:00Z")
    (row,) = compare([*one, *more, *one], run(item("a", pairs(1.5, seed=3))), 5).rows
    four = [stats.overhead(pairs(1.5, seed=seed, boots=2)) for seed in (1, 2)]
    # two boots each, so the mean of four boot means is the mean of both means
    assert row.base == pytest.approx(math.sqrt(math.prod(o.ratio for o in four if o)))


def test_order_of_files_does_not_matter() -> None:
    a = run(item("a", pairs(1.5)), item("b", pairs(2.0)))
    b = run(item("a", pairs(1.9), variant="tcg,vcpus=2"))
    assert compare([*a, *b], [*b, *a], 5) == compare([*b, *a], [*a, *b], 5)


@pytest.mark.parametrize("limit", [-1.0, float("nan")])
def test_a_senseless_limit_is_a_usage_error(limit: float) -> None:
    with pytest.raises(UsageError, match="makes no sense"):
        compare([], [], limit)


def test_nothing_to_compare() -> None:
    got = compare([], [], 5)
    assert got.summary() == "nothing to compare"
    assert not got.failed
