"""Calibration, and what is counted per unit of work: counters and exits."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping

import pytest
from fake_targets import Bench

from vbench.errors import HostError
from vbench.measure import parsers
from vbench.measure.plan import Plan
from vbench.model import Output, TimeBase


@pytest.mark.parametrize(
    ("base", "small_runs"),
    [
        (TimeBase.WALL, ["guest: spin 125"] * 2),
        (TimeBase.INSTRUCTIONS, ["native: spin 250", "guest: spin 125"]),
    ],
)
def test_a_later_boot_warms_its_guest_and_what_is_counted_looks_at_the_start_again(
    base: TimeBase, small_runs: list[str]
) -> None:
    bench = Bench()
    bench.guest.host.time_base = base
    bench(0)
    before = len(bench.log)
    bench(1)
    runs = [line for line in bench.log[before:] if ": " in line]
    assert runs[:2] == small_runs
    assert sorted(runs[2:]) == ["guest: spin 500"] * 2 + ["native: spin 1000"] * 2
    assert bench.pairs[-1].boot == 1
    assert len(bench.outcome.pairs) == 4


def guest_units(bench: Bench) -> list[int]:
    return [int(line.split()[-1]) for line in bench.log if line.startswith("guest: spin")]


def test_a_fixed_amount_is_run_once_before_and_then_a_quarter_of_it() -> None:
    bench = Bench(plan=Plan(rounds=1))
    bench.measure()(
        lambda n, _: f"spin {n}", read=parsers.probe, initial_units=1000, max_units=1000
    )
    assert guest_units(bench) == [1000, 250, 1000]


@pytest.mark.parametrize("slower", [1, 10, 300])
def test_a_guest_begins_with_a_part_of_natives_sample(slower: int) -> None:
    """Few steps; and the run whose counts are taken off is smaller than the sample."""
    bench = Bench(plan=Plan(target_s=0.1, rounds=1))
    bench.guest.cost_s = bench.native.cost_s * slower
    bench()
    native = bench.sizes.native
    first, begin, step, sample = guest_units(bench)
    assert (first, begin) == (1, native // 32)
    assert sample == pytest.approx(native / slower, rel=0.01)
    assert step == (sample // 4 if slower == 300 else sample)


def test_fixed_time_takes_one_pair_and_no_calibration() -> None:
    bench = Bench()
    bench.measure()(lambda _, __: "speed 1", read=parsers.probe, fixed_time=True)
    assert [line for line in bench.log if ": " in line] == ["native: speed 1", "guest: speed 1"]
    (pair,) = bench.pairs
    assert (pair.native_s, pair.guest_s) == (1e-6, 2e-6)


def test_a_zero_while_calibrating_only_asks_for_more() -> None:
    """fio counts milliseconds: its first small step may take none."""
    bench = Bench()
    bench.native.answer = lambda command: Output(
        0, json.dumps({"elapsed_ns": int(command.split()[1]) * 1000 // 1_000_000 * 1_000_000}), ""
    )
    bench(plan=Plan(target_s=0.5, rounds=2))
    assert bench.pairs[-1].native_s == pytest.approx(1e-6, rel=0.01)


# ------------------------------------------------------------------ counters


def test_counters_are_per_unit_without_the_programs_start() -> None:
    """A start of the program exits 100 times on the first boot, 300 on the next; a unit twice."""
    bench = Bench()
    for boot, start in enumerate([100, 300]):

        def counters(_: object, start: int = start) -> Mapping[str, int]:
            done = [int(line.split()[-1]) for line in bench.log if line.startswith("guest")]
            return {"exits": start * len(done) + 2 * sum(done)}

        bench(boot, counters=counters)
        assert bench.pairs[-1].counters["exits"] == pytest.approx(2.0)


def test_a_sample_no_larger_than_the_first_run_counts_as_a_whole() -> None:
    bench, exits = Bench(), itertools.count(0, 100)
    bench.measure(counters=lambda _: {"exits": next(exits)})(
        lambda units, _: f"spin {units}", read=parsers.probe, max_units=1
    )
    assert bench.pairs[0].counters["exits"] == 100


@pytest.mark.parametrize("whole_host", [False, True])
def test_a_clients_cpu_time_is_no_cost_of_the_guest(whole_host: bool) -> None:
    """Where usage is that of all the host, as Xen's dom0 tells it."""
    bench = Bench()
    bench.guest.machine.whole_host = whole_host
    bench.measure()(
        lambda units, _: f"spin {units}", read=parsers.probe, server=lambda endpoint: "serve"
    )
    assert ("host_cpu_s" in bench.pairs[0].counters) is not whole_host


# ------------------------------------------------------------------ exits


def test_exits_are_the_difference_of_two_amounts_of_work() -> None:
    """Starting the program exits 100 times here, which is not the work's doing."""
    bench, seen = Bench(), {"HLT": 0}

    @contextlib.contextmanager
    def histogram(_: object) -> Iterator[Callable[[], Mapping[str, int]]]:
        def look() -> Mapping[str, int]:
            seen["HLT"] = sum(
                100 + 3 * int(command.split()[-1])
                for command in bench.log[begun:]
                if "guest" in command
            )
            return dict(seen)

        begun = len(bench.log)
        yield look

    bench(histogram=histogram)
    assert bench.outcome.exits == {"HLT": pytest.approx(3.0)}


def test_a_count_that_fails_costs_no_pair() -> None:
    @contextlib.contextmanager
    def histogram(_: object) -> Iterator[Callable[[], Mapping[str, int]]]:
        raise HostError("the tracer is taken")
        yield dict

    bench = Bench(histogram=histogram)
    bench()
    assert bench.pairs
    assert bench.outcome.exits == {}
    assert bench.outcome.notes == {"exits were not counted: the tracer is taken"}
