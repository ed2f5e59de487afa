"""A base of several runs: what lies between runs of a machine is known, and counted in."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path

from sample_results import LOCAL, TESTBED, item, launch, pairs, result
from shell_runs import Main

from vbench.model import Pair, Result
from vbench.results import store
from vbench.results.compare import Comparison, Verdict, compare

APART = 0.04  # of runs; boots of one lie much closer


def run(number: int, *, slower: float = 1.0, names: str = "ab", seed: int = 0) -> Result:
    rng = random.Random(f"{seed} {number}")  # noqa: S311
    items = [
        item(
            name,
            pairs(2 * slower * math.exp(rng.gauss(0, APART)), spread=0.004, seed=f"{seed}{number}"),
        )
        for name in names
    ]
    return result(*items, started=f"2026-01-{number + 1:02}T00:00:00Z")


def against(new: Result, *bases: Result) -> Comparison:
    *earlier, base = bases
    return compare([base], [new], 5, earlier=[[each] for each in earlier])


def test_what_lies_between_runs_raises_no_alarm() -> None:
    alone = several = found = 0
    for seed in range(20):
        runs = [run(number, seed=seed) for number in range(7)]
        alone += bool(against(runs[6], runs[5]).regressions)
        several += bool(against(runs[6], *runs[:6]).regressions)
        found += bool(against(run(6, seed=seed, slower=1.5), *runs[:6]).regressions)
    assert alone >= 5, "one run knows nothing of it"
    assert several <= 2  # 5 % are to be expected; more than 2 of 20 has p = 0.08
    assert found == 20


def test_the_change_is_students_over_means_of_runs() -> None:
    got = against(run(6), *(run(number) for number in range(6)))
    assert {(r.change.unit, r.change.units, r.change.df > 4) for r in got.rows if r.change} == {
        ("run", (6, 1), True)
    }
    assert not got.not_compared
    assert "BASE has 6 runs" in got.render()
    assert "Spread of runs" in got.render()


def test_what_only_an_earlier_run_has_is_not_missing() -> None:
    got = against(run(2), run(0, names="abc"), run(1))
    assert {row.workload for row in got.rows} == {"a", "b"}
    assert got.status == 0


def test_an_earlier_run_under_other_settings_is_left_out_and_named() -> None:
    old = replace(run(0), launches=tuple(launch("tcg", 0, versions={"qemu": "6.2"}) for _ in "a"))
    got = against(run(2), old, run(1))
    assert all(row.change and row.change.unit == "boot" for row in got.rows)
    assert any("1 earlier run left out" in each and "6.2" in each for each in got.warnings)
    elsewhere = replace(run(0), host=replace(LOCAL, facts={**LOCAL.facts, "kernel": "5.10"}))
    assert any("kernel" in each for each in against(run(2), elsewhere, run(1)).warnings)


def test_a_copy_of_a_run_is_no_repetition() -> None:
    got = against(run(2), run(1), run(1), run(1))
    assert all(row.change and row.change.unit == "boot" for row in got.rows)


def test_counts_that_repeat_are_compared_with_the_newest_run() -> None:
    def counted(count: int, day: int) -> Result:
        common: dict[str, object] = {
            "host": TESTBED.identity, "host_kind": TESTBED.kind, "time_base": TESTBED.time_base,
        }  # fmt: skip
        of = item("a", (Pair(None, count / 1e9, 0), Pair(None, count / 1e9, 1)), **common)
        return result(of, host=TESTBED, started=f"2026-01-{day:02}T00:00:00Z")

    (row,) = against(counted(1000, 3), counted(900, 1), counted(1000, 2)).rows
    assert (row.verdict, row.note) == (Verdict.SAME, "to 0.1 %")


def test_the_newest_is_the_base_however_they_are_named(main: Main, tmp_path: Path) -> None:
    def kept(made: Result, name: str) -> Path:
        path = tmp_path / name
        path.mkdir()
        (path / "tcg.json").write_bytes(store.dumps(store.document(made)))
        return path

    bases = [kept(run(i), f"run{9 - i}") for i in range(5)]
    (tmp_path / "run5" / "tcg.json").write_bytes(store.dumps(store.document(run(4, names="abc"))))
    limit = ("--fail-above", "10")
    status, out, _ = main("compare", *bases, kept(run(6, slower=1.5), "slow"), *limit)
    assert status == 1, out
    status, out, _ = main("compare", *bases, kept(run(6), "new"), *limit)
    assert status == 4, out
    assert "not in NEW" in out
    status, _, _ = main("compare", *bases, tmp_path / "new", *limit, "--allow-missing")
    assert status == 0
    status, _, err = main("compare", *bases, bases[0])
    assert (status, "one of BASE" in err) == (2, True)


def test_two_runs_do_not_tell_how_far_apart_runs_are() -> None:
    got = against(run(2), run(0), run(1))
    assert all(row.change and row.change.unit == "boot" for row in got.rows)
