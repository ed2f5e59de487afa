"""A gate that fails on what is significant and large, on what it could not see, on nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from sample_results import LOCAL, TESTBED, item, launch, pairs, result

from vbench.errors import UsageError
from vbench.model import HostFacts, Item, Pair, Result, Statistic, Status
from vbench.records import DeviceSettings
from vbench.results import significance
from vbench.results.compare import Comparison, Verdict, compare
from vbench.results.comparison import NOT_COMPARED, PASSED, REGRESSED, UNDECIDED


def host(identity: str = "local:myserver", **facts: str) -> HostFacts:
    return replace(LOCAL, identity=identity, facts={**LOCAL.facts, **facts})


def run(*items: Item, on: HostFacts = LOCAL, **changes: object) -> list[Result]:
    return [result(*(replace(i, host=on.identity) for i in items), host=on, **changes)]


def verdicts(comparison: Comparison) -> Mapping[str, Verdict]:
    return {row.workload: row.verdict for row in comparison.rows}


def test_a_real_slowdown_is_found_and_fails() -> None:
    got = compare(run(item("a", pairs(1.50, seed=1))), run(item("a", pairs(1.80, seed=2))), 5)
    (row,) = got.rows
    assert row.verdict is Verdict.REGRESSION
    assert got.status == REGRESSED
    assert row.percent == pytest.approx(20, abs=3)
    assert row.change is not None
    low, high = row.change.interval or (0, 0)
    assert low < row.change.ratio < high
    assert "1 regression" in got.render()
    assert "failed: 1 regression above 5 %" in got.render()


def test_a_significant_but_small_slowdown_is_tolerated() -> None:
    base = run(item("a", pairs(1.50, seed=1, spread=0.002)))
    new = run(item("a", pairs(1.53, seed=2, spread=0.002)))
    assert verdicts(compare(base, new, 5)) == {"a": Verdict.WITHIN}
    assert compare(base, new, 5).status == PASSED
    without_limit = compare(base, new, None)
    assert verdicts(without_limit) == {"a": Verdict.REGRESSION}
    assert without_limit.status == PASSED


def test_no_difference_needs_an_interval_that_proves_it() -> None:
    def spread(size: float) -> Comparison:
        base = run(item("a", pairs(1.50, seed=1, spread=size)))
        return compare(base, run(item("a", pairs(1.50, seed=2, spread=size))), 10)

    assert verdicts(spread(0.02)) == {"a": Verdict.SAME}
    assert verdicts(spread(0.30)) == {"a": Verdict.UNDECIDED}
    assert spread(0.10).status == PASSED
    assert spread(0.30).status == UNDECIDED  # it may as well be 30 % slower


@pytest.mark.parametrize(
    "slower",
    [(1.2, 1.2, 1.25, 3.0), (1.3, 1.3, 1.3, 10), (1.15, 1.2, 1.3, 2.2), (1.3, 1.3, 1.3, 0.2)],
)
def test_one_machine_that_is_far_from_the_others_hides_no_regression(
    slower: tuple[float, ...],
) -> None:
    """The wilder one machine is, the wider the interval, and the less a test can show."""

    def side(first: int, factors: tuple[float, ...]) -> list[Result]:
        return [
            made
            for i, factor in enumerate(factors, first)
            for made in run(
                *(item(w, pairs(2 * factor, seed=f"{w}{i}")) for w in "ab"),
                on=host(f"local:{i}", machine_id=f"id{i}"),
            )
        ]

    base, new = side(0, (1, 1.01, 0.99, 1)), side(4, slower)
    got = compare(base, new, 10)
    assert verdicts(got) == {"a": Verdict.UNDECIDED, "b": Verdict.UNDECIDED}
    assert all(row.hides.startswith("the likeliest change is +") for row in got.rows)
    assert got.rows[0].hides in got.render()
    assert got.status == UNDECIDED
    assert "failed: 2 rows undecided" in got.render()
    assert got.render().endswith("; 2 of 2 rows not judged\n")
    allowed = compare(base, new, 10, allow_missing=True)
    assert allowed.status == PASSED
    assert allowed.render().endswith("; 2 of 2 rows not judged\n")
    assert compare(base, new, None).status == PASSED


def test_one_wild_boot_hides_no_regression() -> None:
    slower = [*pairs(1.3 * 2, seed=2)[3:], Pair(1.0, 52.0, 0)]
    got = compare(run(item("a", pairs(2.0, seed=1))), run(item("a", slower)), 10)
    assert verdicts(got) == {"a": Verdict.UNDECIDED}
    assert got.status == UNDECIDED


@pytest.mark.parametrize("boots", [1, 2])
def test_too_few_boots_are_said_as_that(boots: int) -> None:
    base = run(item("a", pairs(25, seed=1, boots=boots, spread=0.6)), item("b", pairs(2.0)))
    new = run(item("a", pairs(60, seed=2, boots=boots, spread=0.6)), item("b", pairs(2.0)))
    got = compare(base, new, 10)
    assert verdicts(got)["a"] is Verdict.TOO_FEW
    assert "too few boots" in got.render()
    assert "no significant difference" not in got.render()


def test_one_boot_on_a_side_is_never_judged_but_noted() -> None:
    rounds = [Pair(1.0, 1.5, 0)] * 3  # repeat exactly, and say nothing about the next boot
    got = compare(run(item("a", rounds)), run(item("a", pairs(3.0))), 5)
    (row,) = got.rows
    assert row.verdict is Verdict.TOO_FEW
    assert "one boot on a side" in row.note
    assert row.percent == pytest.approx(100, abs=5)
    assert got.status == NOT_COMPARED
    assert "no series could be compared" in got.render()


@pytest.mark.parametrize(
    ("base_boots", "new_boots", "status"),
    [
        (1, 1, NOT_COMPARED),
        (5, 1, UNDECIDED),
        (1, 5, NOT_COMPARED),  # NEW is the better base
        (5, 2, UNDECIDED),
        (2, 2, UNDECIDED),  # tested, but it may be any change
    ],
)
def test_a_row_without_a_verdict_passes_no_gate(
    base_boots: int, new_boots: int, status: int
) -> None:
    def side(seed: int, boots: int) -> list[Result]:
        wild = pairs(25 * seed, seed=seed, boots=boots, spread=0.6)
        return run(item("a", wild), item("b", pairs(2.0)))

    got = compare(side(1, base_boots), side(2, new_boots), 10)
    assert verdicts(got) == {"a": Verdict.TOO_FEW, "b": Verdict.SAME}
    assert got.status == status
    assert got.render().endswith("; 1 of 2 rows not judged\n")
    allowed = compare(side(1, base_boots), side(2, new_boots), 10, allow_missing=True)
    assert allowed.status == PASSED
    assert allowed.render().endswith("was found; 1 of 2 rows not judged\n")


def test_improvement() -> None:
    slow, fast = run(item("a", pairs(1.8, seed=1))), run(item("a", pairs(1.2, seed=2)))
    assert verdicts(compare(slow, fast, 5)) == {"a": Verdict.IMPROVEMENT}
    assert compare(slow, slow, 10).status == PASSED


def test_many_rows_are_corrected_for_by_holm() -> None:
    names = [f"w{i:02}" for i in range(30)]
    base = run(*(item(w, pairs(1.5, seed=w)) for w in names))
    new = run(*(item(w, pairs(1.5, seed=w + "n")) for w in names))
    got = compare(base, new, 0)
    raw = [row.change.p or 0 for row in got.rows if row.change]
    assert min(raw) < 0.05  # one in twenty is wrong by design
    assert not got.regressions
    assert sorted(row.p or 0 for row in got.rows) == sorted(significance.holm(raw))


def test_seconds_are_compared_only_between_known_cpus() -> None:
    boot = item("boot", pairs(6.0, None), statistic=Statistic.ABSOLUTE, category="boot")
    items = item("a", pairs(1.5, seed=1)), boot
    (row,) = compare(run(boot), run(item("boot", pairs(9.0, None), statistic="absolute")), 10).rows
    assert (row.verdict, row.quantity) == (Verdict.REGRESSION, "seconds")
    unknown = host(cpu_model="unknown")
    got = compare(run(*items, on=unknown), run(*items, on=unknown), 10)
    assert verdicts(got) == {"a": Verdict.SAME, "boot": Verdict.UNUSABLE}
    assert got.status == NOT_COMPARED


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


# ------------------------------------------------------------------ what could not be compared


def test_another_workload_definition_is_refused_by_name() -> None:
    new = run(item("a", pairs(9.0), definition="sha256:other"), item("b", pairs(2.0)))
    got = compare(run(item("a", pairs(1.5)), item("b", pairs(2.0))), new, 10)
    row = next(row for row in got.rows if row.workload == "a")
    assert row.verdict is Verdict.REFUSED
    assert "definition (`sha256:a` against `sha256:other`)" in row.note
    assert got.status == NOT_COMPARED
    assert "--allow-missing" in got.render()


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"device": DeviceSettings(further={"cache": "unsafe"})}, "device setting cache"),
        ({"versions": {"qemu": "9.0", "vbench": "1"}}, "version of qemu"),
        ({"digests": {"qemu": "f00d"}}, "digest of qemu"),
        ({"image": "sha256:other"}, "image"),
    ],
)
def test_files_of_one_side_that_differ_are_refused(change: dict[str, object], key: str) -> None:
    other = run(item("a", pairs(1.5)), launches=(launch("tcg", 0, **change),), started="2026-02-02")
    base = run(item("a", pairs(1.5)))
    (row,) = compare([*base, *other], base, 5).rows
    assert row.verdict is Verdict.REFUSED
    assert f"the files of BASE differ: {key} (" in row.note
    # what differs between the sides may be what is to be compared: it is named
    got = compare(base, other, 10)
    assert verdicts(got) == {"a": Verdict.SAME}
    assert any(w.startswith(key) and w.endswith(": tcg") for w in got.warnings)


def test_one_side_with_two_definitions_is_refused() -> None:
    base = [
        *run(item("a", pairs(1.5))),
        *run(item("a", pairs(1.5), definition="other"), started="2026-02-02T00:00:00Z"),
    ]
    (row,) = compare(base, run(item("a", pairs(1.5))), 5).rows
    assert row.verdict is Verdict.REFUSED
    assert "the files of BASE differ: definition" in row.note


def test_missing_new_and_failed_are_told_apart() -> None:
    base = run(
        item("gone", pairs(2.0)),
        item("broke", pairs(2.0)),
        item("never", status=Status.UNSUPPORTED),
        item("same", pairs(2.0)),
    )
    new = run(
        item("fresh", pairs(2.0)),
        item("broke", status=Status.FAILED, reason="the guest died"),
        item("never", status=Status.UNSUPPORTED),
        item("same", pairs(2.0)),
    )
    got = compare(base, new, 10)
    assert verdicts(got) == {
        "gone": Verdict.MISSING,
        "broke": Verdict.FAILED,
        "fresh": Verdict.NEW,
        "same": Verdict.SAME,
    }
    notes = {row.workload: row.note for row in got.rows}
    assert notes["broke"] == "the guest died"
    assert got.status == NOT_COMPARED
    assert compare(base, new, 10, allow_missing=True).status == PASSED
    assert compare(base, new, None).status == PASSED


def test_a_new_series_fails_no_gate() -> None:
    base = run(item("a", pairs(2.0)))
    assert compare(base, run(item("a", pairs(2.0)), item("b", pairs(2.0))), 10).status == PASSED


def test_a_regression_outweighs_what_is_missing() -> None:
    base = run(item("a", pairs(1.5, seed=1)), item("b", pairs(2.0)))
    assert compare(base, run(item("a", pairs(3.0, seed=2))), 10).status == REGRESSED


def test_a_partial_run_is_named() -> None:
    whole, part = run(item("a", pairs(2.0))), run(item("a", pairs(2.0)), planned=9, done=4)
    (warning,) = compare(whole, part, 10).warnings
    assert warning.startswith("NEW is partial: the run of 2026-01-02")
    assert warning.endswith("made 4 of 9 planned measurements")


def test_samples_that_are_no_numbers_fail() -> None:
    nan = [Pair(1.0, float("nan"), boot) for boot in range(5)]
    got = compare(run(item("a", pairs(1.5))), run(item("a", nan)), 5)
    assert verdicts(got) == {"a": Verdict.UNUSABLE}
    assert got.status == NOT_COMPARED
    assert compare(run(item("a", nan)), run(item("a", nan)), None).status == NOT_COMPARED


def test_nothing_to_compare() -> None:
    got = compare([], [], 5)
    assert got.summary() == "nothing to compare"
    assert got.status == NOT_COMPARED


@pytest.mark.parametrize("limit", [-1.0, float("nan")])
def test_a_senseless_limit_is_a_usage_error(limit: float) -> None:
    with pytest.raises(UsageError, match="makes no sense"):
        compare([], [], limit)


def test_order_of_files_does_not_matter() -> None:
    a = run(item("a", pairs(1.5)), item("b", pairs(2.0)))
    b = run(item("a", pairs(1.9), variant="tcg,vcpus=2"))
    assert compare([*a, *b], [*b, *a], 5) == compare([*b, *a], [*a, *b], 5)


def flagged(*flags: str) -> Item:
    return item("a", [replace(each, flags=flags) for each in pairs(1.5, seed=2)], category="disk")


@pytest.mark.parametrize("flags", [("not_direct",), ("tcp_differs", "steal"), ("cpus_differ",)])
def test_a_flag_that_forbids_a_word_is_refused_where_one_side_has_it(
    flags: tuple[str, ...],
) -> None:
    (row,) = compare(run(flagged()), run(flagged(*flags)), 10).rows
    assert row.verdict is Verdict.REFUSED
    assert row.note == f"flags that forbid a word (`none` against `{flags[0]}`)"
    assert verdicts(compare(run(flagged(*flags)), run(flagged(*flags)), 10)) == {"a": Verdict.SAME}


def test_a_kernel_of_the_guests_own_is_what_ab_was_asked_about() -> None:
    """Native is the same on both sides there; of counts the guest's are compared alone."""
    base, new = run(flagged()), run(replace(flagged(), flags=("kernel_differs",)))
    assert verdicts(compare(base, new, 10)) == {"a": Verdict.REFUSED}
    assert verdicts(compare(base, new, 10, paired=True)) == {"a": Verdict.SAME}
    counts = {
        "time_base": TESTBED.time_base,
        "host": TESTBED.identity,
        "host_kind": TESTBED.kind,
    }
    alike, other = (
        run(item("a", pairs(1.5, spread=0.0), flags=flags, category="disk", **counts), on=TESTBED)
        for flags in ((), ("kernel_differs",))
    )
    assert verdicts(compare(alike, other, 10)) == {"a": Verdict.SAME}


def test_what_disturbed_one_side_is_named() -> None:
    got = compare(run(flagged()), run(flagged("throttled", "steal")), 10)
    assert verdicts(got) == {"a": Verdict.SAME}
    assert got.rows[0].note == (
        "steal: 0% of the pairs of BASE, 100% of NEW; "
        "throttled: 0% of the pairs of BASE, 100% of NEW"
    )
    quiet = [replace(each, flags=("steal",) * (each.boot == 0)) for each in pairs(1.5, seed=2)]
    assert compare(run(flagged()), run(item("a", quiet)), 10).rows[0].note == ""


def test_facts_of_hosts_that_differ_are_named() -> None:
    slow = host(cpu_quota="10% of a CPU", governor="powersave")
    usual = host(cpu_quota="none", governor="performance")
    items = item("a", pairs(1.5))
    (one, other) = compare(run(items, on=usual), run(items, on=slow), 10).warnings
    assert one.endswith("differ: governor (`performance` against `powersave`)")
    assert other.endswith("differ: cpu_quota (`none` against `10% of a CPU`)")
    assert compare(run(items, on=usual), run(items, on=host()), 10).warnings == ()


def test_a_ratio_and_an_absolute_value_are_refused() -> None:
    base = run(item("a", pairs(1.5)))
    (row,) = compare(base, run(item("a", pairs(1.5, None), statistic=Statistic.ABSOLUTE)), 10).rows
    assert row.verdict is Verdict.REFUSED
    assert row.note == "statistic (`ratio` against `absolute`)"
    (row,) = compare(base, run(item("a", pairs(1.5, None))), 10).rows
    assert row.verdict is Verdict.REFUSED
    assert row.note == "statistic (`ratio` against `ratio without native`)"


def test_an_item_without_pairs_is_not_taken_for_one_without_native() -> None:
    (row,) = compare(run(item("a", pairs(1.5))), run(item("a", ())), 10).rows
    assert row.verdict is Verdict.UNUSABLE


def test_pairs_that_lost_their_native_are_counted() -> None:
    lost = [replace(pairs(1.5)[0], native_s=None), *pairs(1.5)[1:]]
    (row,) = compare(run(item("a", pairs(1.5))), run(item("a", lost)), 10).rows
    assert row.verdict is Verdict.SAME
    assert row.note == "1 of 15 pairs of NEW left out, which have no native"


def test_boots_that_were_lost_are_said_beside_what_the_others_show() -> None:
    """What was lost may be what became slower."""
    reason = "TCP used reno on both sides; boot 2: the guest was lost; boot 4: it hung"
    base = result(item("a", pairs(2.0)))
    new = result(item("a", pairs(2.0), reason=reason))
    (row,) = compare([base], [new], None).rows
    assert row.note == "NEW lost boot 2: the guest was lost; NEW lost boot 4: it hung"
    assert compare([base], [base], None).rows[0].note == ""
