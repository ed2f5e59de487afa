"""Machines are matched by their class, never by name, and what lies between them is counted in."""

from __future__ import annotations

import math
import random
import statistics
from dataclasses import replace
from typing import Any

import pytest
from sample_results import LOCAL, TESTBED, item, pairs, result

from vbench.model import HostFacts, Item, Pair, Result, Statistic
from vbench.results import change, identity
from vbench.results.compare import Comparison, Verdict, compare
from vbench.results.comparison import NOT_COMPARED, PASSED, REGRESSED


def runner(number: int, **facts: str) -> HostFacts:
    known = {**LOCAL.facts, "machine_id": f"id{number}", "address": f"mac{number}"}
    return replace(LOCAL, identity=f"local:runner-{number}", facts={**known, **facts})


def on(host: HostFacts, *items: Item, **changes: object) -> Result:
    return result(*(replace(i, host=host.identity) for i in items), host=host, **changes)


def fleet(
    first: int, overhead: float, *, apart: float = 0.02, seed: object = 0, machines: int = 4
) -> list[Result]:
    """The same two workloads on several runners, whose overheads differ by `apart`."""
    rng = random.Random(str(seed))  # noqa: S311
    made = []
    for number in range(first, first + machines):
        level = overhead * math.exp(rng.gauss(0, apart))
        items = [item(w, pairs(level, seed=f"{seed}{number}{w}")) for w in "ab"]
        made.append(on(runner(number), *items))
    return made


def test_four_runners_of_other_names_on_each_side_are_compared() -> None:
    slower = compare(fleet(1, 2.0, seed=1), fleet(5, 6.0, seed=2), 10)
    assert {row.verdict for row in slower.rows} == {Verdict.REGRESSION}
    assert slower.status == REGRESSED
    again = compare(fleet(1, 2.0, seed=1), fleet(5, 2.0, seed=3), 10)
    assert not again.regressions
    assert again.status == PASSED
    assert "4 in BASE, 4 in NEW" in again.render()


def test_seconds_of_cpus_that_may_differ_are_not_compared_and_say_so() -> None:
    boot = item("boot", pairs(6.0, None), statistic=Statistic.ABSOLUTE, category="boot")
    (row,) = compare([on(runner(1), boot)], [on(runner(1), boot)], 5, across=["CPUs"]).rows
    assert row.verdict is Verdict.UNUSABLE
    assert row.note == "no overhead, and seconds are of unknown or unlike CPUs"


@pytest.mark.parametrize(
    ("after_s", "verdict"), [(0.94, Verdict.UNDECIDED), (1.2, Verdict.REGRESSION)]
)
def test_a_step_of_the_guest_s_clock_is_no_change(after_s: float, verdict: Verdict) -> None:
    def boots(seconds: float) -> Result:
        of = [Pair(None, seconds, boot) for boot in range(3)]
        made = item("boot-userspace", of, statistic=Statistic.ABSOLUTE, category="boot")
        return on(runner(1), made)

    (row,) = compare([boots(0.93)], [boots(after_s)], 1).rows
    assert row.verdict is verdict


def test_each_backend_on_a_runner_of_its_own_is_compared_and_noted() -> None:
    def side(first: int, overhead: float) -> list[Result]:
        return [
            on(runner(first + i), item("a", pairs(overhead, seed=i), variant=v, backend=v))
            for i, v in enumerate(("tcg", "tcg-virtio", "kvm-emulated", "kvm-virtio"))
        ]

    got = compare(side(1, 2.0), side(5, 6.0), 10)
    assert len(got.regressions) == 4
    assert any("4 rows with one machine on each side" in warning for warning in got.warnings)


def test_what_lies_between_machines_is_in_the_interval() -> None:
    """Boots of one machine agree closely; machines are 20 % apart; nothing changed."""
    for seed in range(10):
        base, new = fleet(1, 2.0, apart=0.2, seed=seed), fleet(5, 2.0, apart=0.2, seed=seed + 100)
        assert not compare(base, new, 5).regressions


def test_the_change_of_machines_is_students_over_their_means(scipy: Any) -> None:
    sides = [fleet(1, 2.0, seed=1), fleet(5, 2.2, seed=2)]
    (row, _) = compare(sides[0], sides[1], 5).rows
    means = [
        [
            statistics.fmean(
                statistics.fmean(math.log(p.guest_s / (p.native_s or 0)) for p in of)
                for of in ([p for p in r.items[0].pairs if p.boot == b] for b in range(5))
            )
            for r in side
        ]
        for side in sides
    ]
    expected = scipy.stats.ttest_ind(means[1], means[0])
    interval = expected.confidence_interval(0.95)
    assert row.change is not None
    assert (row.change.unit, row.change.units, row.change.df) == ("machine", (4, 4), 6)
    assert row.change.p == pytest.approx(expected.pvalue, rel=1e-9)
    low, high = row.change.interval or (0, 0)
    assert math.log(low) == pytest.approx(interval.low, rel=1e-9)
    assert math.log(high) == pytest.approx(interval.high, rel=1e-9)


def test_on_the_same_machines_boots_are_the_units() -> None:
    """Each machine's own level, 50 % apart here, cancels."""
    base, new = fleet(1, 2.0, apart=0.5, seed=1), fleet(1, 2.4, apart=0.5, seed=1)
    got = compare(base, new, 5)
    assert [row.change.unit for row in got.rows if row.change] == ["boot", "boot"]
    assert len(got.regressions) == 2
    assert got.rows[0].percent == pytest.approx(20, abs=2)


def test_one_machine_takes_the_spread_of_the_other_sides() -> None:
    got = compare(fleet(1, 2.0, seed=1), fleet(9, 2.0, seed=2, machines=1), 5)
    assert {(r.change.unit, r.change.df) for r in got.rows if r.change} == {("machine", 3)}


def test_several_files_of_a_machine_add_their_boots() -> None:
    one = on(runner(1), item("a", pairs(1.5, seed=1, boots=2)))
    more = on(runner(1), item("a", pairs(1.5, seed=2, boots=2)), started="2026-02-02T00:00:00Z")
    (row,) = compare([one, more, one], [on(runner(1), item("a", pairs(1.5, seed=3)))], 10).rows
    assert row.change is not None
    assert row.change.units == (4, 5)


# ------------------------------------------------------------------ classes


@pytest.mark.parametrize(
    ("fact", "value", "key"),
    [
        ("cpu_model", "AMD EPYC", "CPU model ("),
        ("cpus", "64", "CPUs (`2` against `64`)"),
        ("kernel", "6.12.1", "kernel (`6.1.0-37-amd64` against `6.12.1`)"),
        ("clocksource", "hpet", "clock source (unknown against `hpet`)"),
    ],
)
def test_machines_of_another_class_are_refused_by_key(fact: str, value: str, key: str) -> None:
    """Whatever their name: BASE and NEW are called the same here."""
    other = replace(runner(1, **{fact: value}), identity="local:runner-1")
    got = compare([on(runner(1), item("a", pairs(1.5)))], [on(other, item("a", pairs(9.0)))], 5)
    (row,) = got.rows
    assert row.verdict is Verdict.REFUSED
    assert key in row.note
    assert got.status == NOT_COMPARED
    crossed = {"cpu_model": "CPU model", "cpus": "CPUs", "kernel": "kernel"}.get(fact)
    across = [crossed or "clock source"]
    (row,) = compare(
        [on(runner(1), item("a", pairs(1.5)))], [on(other, item("a", pairs(9.0)))], 5, across=across
    ).rows
    assert row.verdict is Verdict.REGRESSION


def test_counts_that_are_gone_are_missing_though_the_times_are_there() -> None:
    timed = result(item("a", pairs(1.5)))
    got = compare([timed, counted(1000)], [timed], 10)
    assert [row.verdict for row in got.rows] == [Verdict.MISSING, Verdict.SAME]
    assert got.status == NOT_COMPARED


def test_two_cpus_under_one_name_are_not_pooled() -> None:
    intel, amd = runner(1), replace(runner(1, cpu_model="AMD"), identity="local:runner-1")
    base = [on(intel, item("a", pairs(1.5, seed=1))), on(amd, item("a", pairs(3.0, seed=2)))]
    new = [on(intel, item("a", pairs(1.5, seed=3)))]
    got = compare(base, new, 10)
    lost, row = got.rows
    assert row.base == pytest.approx(1.5, rel=0.03)
    assert lost.verdict is Verdict.MISSING
    assert lost.note.startswith("not in NEW on such machines: CPU model")
    assert got.status == NOT_COMPARED
    assert compare(base, new, 10, allow_missing=True).status == PASSED
    assert compare(new, base, 10).status == PASSED  # a further class hides no regression of BASE
    assert any(
        "1 machine of BASE without one of its class in NEW: CPU model" in w for w in got.warnings
    )


def test_two_clones_of_one_template_are_two_machines() -> None:
    def clone(id: str, overhead: float) -> Result:
        host = replace(runner(1), facts={**runner(1).facts, "address": id})
        return on(host, item("a", pairs(overhead, seed=id)), started=f"2026-01-0{len(id)}")

    (row,) = compare([clone("x", 1.5), clone("xx", 4.5)], [clone("xxx", 1.5)], 5).rows
    assert row.counts == (2, 1)
    assert row.change is not None
    assert row.change.unit == "machine"


def test_another_clock_makes_another_machine_and_a_kernel_that_has_just_booted_does_not() -> None:
    early, late, other = (
        identity.machine(runner(1, clocksource=of)) for of in ("tsc-early", "tsc", "hpet")
    )
    assert early == late
    assert identity.differing(late, other) == ["clock source (`tsc` against `hpet`)"]


def test_guests_of_one_physical_host_are_no_two_machines() -> None:
    def side(seed: int) -> list[Result]:
        hosts = (runner(n, physical_host="node4" if n < 3 else "") for n in (1, 2, 3))
        return [on(host, item("a", pairs(1.5, seed=f"{seed}{host.identity}"))) for host in hosts]

    (row,) = compare(side(1), side(2), 5).rows
    assert row.counts == (2, 2)
    assert row.change is not None
    assert row.change.units == (15, 15)  # boots, as the machines are the same


def test_files_without_the_new_facts_are_compared() -> None:
    base, new = item("a", pairs(1.5, seed=1)), item("a", pairs(3.0, seed=2))
    assert compare([result(base)], [result(new)], 5).status == REGRESSED
    assert compare([result(base)], [on(runner(1), new)], 5).status == REGRESSED


# ------------------------------------------------------------------ power


def test_without_spread_a_change_is_certain_and_without_repetition_unknown() -> None:
    exact: change.Machines = {("m",): {0: [0.0], 1: [0.0]}}
    other: change.Machines = {("m",): {0: [0.1], 1: [0.1]}}
    single: change.Machines = {("m",): {0: [0.1, 0.1]}}
    found = [change.change(exact, new) for new in (exact, other, single)]
    assert [one.p for one in found if one] == [1.0, 0.0, None]
    assert change.change(exact, {}) is None


def test_the_smallest_change_is_what_is_found_four_times_in_five() -> None:
    rng = random.Random(5)  # noqa: S311
    spread, boots, found = 0.04, 5, 0

    def side(shift: float) -> change.Machines:
        return {("m",): {b: [rng.gauss(shift, spread)] for b in range(boots)}}

    known = change.Change(0, spread**2, 2 / boots, 2 * boots - 2, "boot", (boots, boots), None, 0)
    smallest = known.smallest(0.05)
    assert smallest is not None
    for _ in range(1000):
        got = change.change(side(0), side(math.log1p(smallest)))
        assert got is not None
        found += (got.p or 0) < 0.05
    assert 0.75 <= found / 1000 <= 0.85


def test_a_gate_that_is_blind_to_its_limit_says_so() -> None:
    base, new = ([on(runner(1), item("a", pairs(1.5, seed=s, spread=0.2)))] for s in (1, 2))
    text = compare(base, new, 10).render()
    assert "Smallest change that this comparison finds with a probability of 80%" in text
    assert "in 1 of 1 rows, a change of 10 % is found with a probability below 80%" in text
    calm = [on(runner(1), item("a", pairs(1.5, spread=0.002)))]
    assert "a probability below" not in compare(calm, calm, 10).render()


# ------------------------------------------------------------------ counts


ON_TESTBED: dict[str, Any] = {
    "host": TESTBED.identity,
    "host_kind": TESTBED.kind,
    "time_base": TESTBED.time_base,
}


def counted(instructions: float, *, noise: float = 0.0, **changes: object) -> Result:
    made = [Pair(None, (instructions + noise * boot) * 1e-9, boot) for boot in (0, 0, 1, 1, 2, 2)]
    return result(item("a", made, **ON_TESTBED, **changes), host=TESTBED)


def judged(base: Result, new: Result, limit: float | None) -> Comparison:
    return compare([base], [new], limit)


def test_counts_are_compared_exactly() -> None:
    base = counted(10_000, exits={"HLT": 1.0, "MSR": 2.0})
    same = judged(base, counted(10_009), 1)
    assert [row.verdict for row in same.rows] == [Verdict.SAME]
    (row,) = judged(base, counted(10_020, exits={"HLT": 1.0, "MSR": 3.0}), 1).rows
    assert (row.verdict, row.says) == (Verdict.WITHIN, "exits: MSR 2.00 now 3.00")
    (row,) = judged(base, counted(10_200), 1).rows
    assert row.verdict is Verdict.REGRESSION
    assert row.p is None
    (row,) = judged(base, counted(9_900, exits={"HLT": 1.0, "MSR": 2.0}), 1).rows
    assert (row.verdict, row.says) == (Verdict.IMPROVEMENT, "no exit reason changed")
    assert judged(base, counted(10_200), 1).status == REGRESSED
    seldom, never = (counted(of, exits={"VINTR": n}) for of, n in ((10_000, 5e-5), (10_200, 0)))
    assert judged(seldom, never, 1).rows[0].says == "no exit reason changed"


def test_what_cannot_be_counted_is_never_taken_for_exact() -> None:
    """Two boots may agree by chance where a machine's idle time is in the count."""
    (row,) = judged(counted(10_000, counted=False), counted(10_020, counted=False), 1).rows
    assert row.p is not None


@pytest.mark.parametrize(
    ("base", "new", "verdict"),
    [
        ({"noise": 2000}, {"noise": 0}, Verdict.UNDECIDED),
        # a step of a clock
        ({"noise": 0}, {"noise": 0, "instructions": 10_110}, Verdict.UNDECIDED),
        ({"noise": 0}, {"noise": 0, "instructions": 13_000}, Verdict.REGRESSION),
    ],
)
def test_what_is_no_exact_count_fails_a_gate_only_by_a_regression_that_was_found(
    base: dict[str, Any], new: dict[str, Any], verdict: Verdict
) -> None:
    """A few boots of what waits decide nothing at 1 %: such a gate would never pass."""
    sides = [counted(**{"instructions": 10_000, "counted": False, **of}) for of in (base, new)]
    got = judged(*sides, 1)
    (row,) = got.rows
    assert row.verdict is verdict
    assert "no exact count" in row.says
    assert got.status == (REGRESSED if verdict is Verdict.REGRESSION else PASSED)
    once = [replace(of, items=tuple(first_boot(i) for i in of.items)) for of in sides]
    assert judged(*once, 1).rows[0].verdict is Verdict.TOO_FEW
    assert not judged(*once, 1).not_compared


def first_boot(one: Item) -> Item:
    return replace(one, pairs=tuple(pair for pair in one.pairs if pair.boot == 0))


def events(instructions: int, other_boot: int) -> Result:
    made = [
        Pair(None, 1.0, boot, quantiles=dict.fromkeys(("p50", "p99"), (None, value * 1e-9)))
        for boot, value in enumerate((instructions, other_boot))
    ]
    return result(item("a", made, **ON_TESTBED, statistic=Statistic.QUANTILES), host=TESTBED)


@pytest.mark.parametrize(
    ("base", "new", "verdict"),
    [
        ((1310, 1310), (1310, 1316), Verdict.SAME),
        ((107, 113), (107, 107), Verdict.SAME),
        ((1310, 1310), (1318, 1318), Verdict.WITHIN),
        ((8000, 8000), (8009, 8009), Verdict.WITHIN),
        ((1310, 1316), (1340, 1346), Verdict.REGRESSION),
    ],
)
def test_a_step_of_the_clock_that_single_events_are_timed_by_is_no_change(
    base: tuple[int, int], new: tuple[int, int], verdict: Verdict
) -> None:
    got = judged(events(*base), events(*new), 1)
    assert [row.verdict for row in got.rows] == [verdict]


def test_of_counted_events_the_median_alone_is_compared() -> None:
    """The p99 of exit-pagefault under xen-pv left two of six gates of a thing with itself open."""
    assert [row.quantity for row in judged(events(9, 9), events(9, 9), 1).rows] == [
        "p50 instructions"
    ]


def test_one_boot_is_no_exact_count_however_its_rounds_agree() -> None:
    """The next boot of VirtualBox read the disk with 0.8 % more."""
    sides = (counted(instructions) for instructions in (107_055, 107_887))
    once = [replace(of, items=tuple(first_boot(i) for i in of.items)) for of in sides]
    got = judged(*once, 0.5)
    assert [row.verdict for row in got.rows] == [Verdict.TOO_FEW]
    assert got.status == NOT_COMPARED


def test_counts_of_few_equal_groups_are_taken_for_nearly_exact() -> None:
    """Two boots agree by chance where a unit goes many ways; the next ones are 0.2 % away."""

    def seldom(instructions: float) -> Result:
        made = counted(instructions, noise=10)
        (one,) = made.items
        few = tuple(replace(pair, equal=(None, 0.04)) for pair in one.pairs)
        return replace(made, items=(replace(one, pairs=few),))

    (row,) = judged(seldom(10_000), seldom(10_022), 1).rows
    assert (row.verdict, row.says) == (Verdict.SAME, "to 0.5 %")
    (row,) = judged(seldom(10_000), seldom(10_200), 1).rows
    assert (row.verdict, row.p) == (Verdict.REGRESSION, None)
    (row,) = judged(counted(10_000), counted(10_022), 1).rows
    assert row.verdict is Verdict.WITHIN


def test_counts_that_do_not_repeat_are_tested_like_times() -> None:
    (row,) = judged(counted(10_000, noise=100), counted(10_150, noise=100), 1).rows
    assert row.verdict in (Verdict.UNDECIDED, Verdict.SAME)
    assert row.p is not None
