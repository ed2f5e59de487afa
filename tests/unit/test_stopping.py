"""Boots follow the interval: those that decide nothing are not made."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from sample_results import item
from shell_runs import Runs, bench, spin

from vbench.errors import UsageError
from vbench.measure.plan import Plan
from vbench.model import Item, Pair, Statistic, TimeBase
from vbench.results import loading, recovery, stats
from vbench.results.journal import JOURNAL_NAME, Journal
from vbench.run import runner
from vbench.run.options import RunOptions


def settled(one: Item, precision: float | None = None) -> bool:
    return stats.settled(one, 5, precision)


def boots(*logs: float, **changes: Any) -> Item:
    """An item with one pair a boot: guest / native is exp of `logs`."""
    return item("cpu-a", [Pair(1.0, math.exp(log), n) for n, log in enumerate(logs)], **changes)


def test_three_boots_at_least() -> None:
    assert not settled(boots(3.0, 3.0))
    assert settled(boots(3.0, 3.0, 3.0))


def test_a_word_that_is_decided_ends_it_whatever_the_width() -> None:
    wide = boots(3.0, 2.9, 3.1)  # high, and 45 % to either side
    assert settled(wide)
    assert not settled(wide, precision=0.05)  # asked for


def test_a_narrow_interval_ends_it_whatever_the_word() -> None:
    near_two = math.log(2)
    narrow = boots(near_two, near_two + 0.004, near_two - 0.004)
    (value,) = filter(None, [stats.overhead_of(narrow)])
    assert stats.word(value) == "between"
    assert settled(narrow)
    aside = near_two - 0.05
    assert not settled(boots(aside, aside + 0.04, aside - 0.04))
    assert settled(narrow, precision=0.02)
    assert not settled(narrow, precision=0.001)


def test_what_would_not_be_decided_by_all_boots_is_given_up() -> None:
    """Unless the user asked for a precision."""
    near_two = math.log(2)
    hopeless = boots(near_two, near_two + 0.2, near_two - 0.2)
    assert settled(hopeless)
    assert not settled(hopeless, precision=0.05)


def test_what_ends_it_is_wider_than_what_is_shown() -> None:
    """The shown interval just decides; looking at each boot asks for more."""
    spread = 0.02
    mean = math.log(1.10) + 1.2 * 4.303 * spread / math.sqrt(3)
    just = boots(mean - spread, mean, mean + spread)
    (value,) = filter(None, [stats.overhead_of(just)])
    assert stats.word(value) == "medium"
    assert not settled(just)


@pytest.mark.parametrize(
    ("category", "flag", "ends"),
    [("syscall", "kernel_differs", True), ("cpu", "kernel_differs", False),
     ("disk", "not_direct", True), ("disk", "nested", False)],
)  # fmt: skip
def test_what_gets_no_word_ends_after_three(category: str, flag: str, ends: bool) -> None:
    aside = math.log(2) - 0.05
    one = replace(boots(aside, aside + 0.04, aside - 0.04), category=category, flags=(flag,))
    assert settled(one) is ends
    assert not settled(one, precision=0.02)
    assert not settled(replace(one, pairs=one.pairs[:2]))


def test_counts_and_durations() -> None:
    counted = boots(3.0, 3.0, 3.0, time_base=TimeBase.INSTRUCTIONS)
    assert not settled(counted)  # their two boots are the plan's
    alone = replace(boots(1.0, 1.5, 2.0), statistic=Statistic.ABSOLUTE)
    assert settled(alone)
    assert not settled(alone, precision=0.02)


def varying(name: str, *, spread: float) -> str:
    """A workload whose guest takes `spread` more or less from boot to boot, around 1.5 as much."""
    return bench(
        name,
        f"guest = round(4.5e8 * (1 + {spread} * (measure.boot % 2)))\n"
        '    measure(lambda n, e: "echo \'{\\"elapsed_ns\\": %d}\'" % (guest if e.scratch == '
        "'/dev/null' else 300000000), read=parsers.probe)",
    )


def made(run: Runs) -> dict[str, int]:
    """Boots by item."""
    return {
        one.workload: len({pair.boot for pair in one.pairs})
        for result in loading.load_all([run.out])
        for one in result.items
    }


def test_a_boot_without_a_task_is_not_made(run: Runs) -> None:
    assert run(spin("cpu_a") + spin("cpu_b"), boots=None) == 0
    assert made(run) == {"cpu-a": 3, "cpu-b": 3}
    assert len(run.guests.made) == 3
    (result,) = loading.load_all([run.out])
    assert (result.planned, result.done) == (10, 10)
    assert not result.partial


def test_only_what_is_undecided_is_measured_on(run: Runs) -> None:
    assert run(spin("cpu_a") + varying("cpu_wide", spread=0.25), boots=None) == 0
    assert made(run) == {"cpu-a": 3, "cpu-wide": 5}
    enough = [each for each in Journal.read(run.out) if each["event"] == "enough"]
    assert [(each["workload"], each["boot"]) for each in enough] == [("cpu-a", 3), ("cpu-a", 4)]
    assert "| ±, % |" in (run.out / "report.md").read_text()


def test_the_users_number_of_boots_is_made(run: Runs) -> None:
    assert run(spin("cpu_a"), boots=4) == 0
    assert made(run) == {"cpu-a": 4}


def test_a_precision_is_reached_or_ten_boots_are_made(run: Runs) -> None:
    text = spin("cpu_a") + varying("cpu_b", spread=0.1)
    assert run(text, boots=None, precision=0.05, rounds=1) == 0
    found = made(run)
    assert found["cpu-a"] == 3
    assert 3 < found["cpu-b"] <= 10


def test_what_was_enough_is_so_when_the_run_is_continued(
    run: Runs, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(spin("cpu_a") + varying("cpu_wide", spread=0.25), boots=None, seed=1) == 0
    journal = run.out / JOURNAL_NAME
    lines = journal.read_text().splitlines(keepends=True)
    last = max(n for n, line in enumerate(lines) if json.loads(line)["event"] == "begin")
    journal.write_text("".join(lines[: last + 1]))  # killed in the last boot of cpu-wide
    kept = recovery.read(journal)
    assert ("local-shell", "cpu-a", 3) in kept.ended()
    assert kept.results["local-shell"].partial
    assert runner.resume(run.out) == 0
    assert made(run) == {"cpu-a": 3, "cpu-wide": 5}
    assert "8 of 10 measurements are kept" in capfd.readouterr().err


def test_a_precision_makes_another_plan() -> None:
    assert RunOptions().plan() == Plan()
    precise = RunOptions(precision=0.02).plan()
    assert (precise.boots, precise.precision) == (10, 0.02)
    with pytest.raises(UsageError):
        RunOptions(boots=0, precision=0.02).plan()
