"""Calibration, and what is counted per unit of work: counters and exits."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import pytest
from fake_targets import Bench

from vbench.errors import HostError, Unsupported, WorkloadError
from vbench.measure import parsers
from vbench.measure.engine import NativeCount, Sizes
from vbench.measure.plan import Plan
from vbench.model import TAKEN_OFF, Output, Reading, TimeBase
from vbench.records import UsageScope
from vbench.workloads.bench_memory import bench_memory_pagefault


@pytest.mark.parametrize("base", TimeBase)
def test_a_later_boot_throws_a_whole_sample_away_and_looks_at_the_start_again(
    base: TimeBase,
) -> None:
    bench = Bench()
    bench.guest.host.time_base = base
    bench(0)
    before = len(bench.log)
    bench(1)
    runs = [line for line in bench.log[before:] if ": " in line]
    assert runs[:2] == ["guest: spin 500", "guest: spin 62"]
    assert sorted(runs[2:]) == ["guest: spin 500"] * 2 + ["native: spin 1000"] * 2
    assert bench.pairs[-1].boot == 1
    assert len(bench.outcome.pairs) == 4


def test_native_is_warmed_up_again_for_an_exact_count() -> None:
    bench = Bench()
    bench.guest.host.time_base = TimeBase.INSTRUCTIONS
    bench(0)  # its native sample was lost
    before = len(bench.log)
    bench(1, native_count=NativeCount())
    runs = [line for line in bench.log[before:] if ": " in line]
    assert runs[:2] == ["native: spin 1000", "guest: spin 500"]


def guest_units(bench: Bench) -> list[int]:
    return [int(line.split()[-1]) for line in bench.log if line.startswith("guest: spin")]


def test_an_amount_that_cannot_vary_is_run_once_before_and_then_an_eighth_of_it() -> None:
    bench = Bench(plan=Plan(rounds=1))
    bench.measure()(
        lambda n, _: f"spin {n}", read=parsers.probe, initial_units=1000, max_units=1000
    )
    assert guest_units(bench) == [1000, 125, 1000]


@pytest.mark.parametrize("unread", ["by the guest", "by the report"])
def test_where_no_counter_is_read_nothing_is_run_to_take_its_start_off(unread: str) -> None:
    """An execution that told nothing: of User-mode Linux 0.2 s of each sample, and 3 s of some."""
    bench = Bench(plan=Plan(rounds=1))
    if unread == "by the guest":
        bench.guest.usage = dict  # type: ignore[method-assign,assignment] # as it has none

    def read(text: str) -> Reading:  # what the program counted itself stays
        return replace(parsers.probe(text), counters={"tsc_ticks": 1000.0})

    bench.measure(usage=unread == "by the guest")(
        lambda n, _: f"spin {n}", read=read, initial_units=1000, max_units=1000
    )
    assert guest_units(bench) == [1000, 1000]
    assert bench.pairs[0].counters == {"tsc_ticks": 1.0}


@pytest.mark.parametrize("slower", [1, 10, 300])
def test_a_guest_begins_with_a_part_of_natives_sample(slower: int) -> None:
    bench = Bench(plan=Plan(target_s=0.1, rounds=1))
    bench.guest.cost_s = bench.native.cost_s * slower
    bench()
    native = bench.sizes.native
    begin, *steps, part, sample = guest_units(bench)
    assert begin == native // 32
    assert sample == pytest.approx(native / slower, rel=0.01)
    assert steps  # a first start looks like slow work: it is not the last, however long it took
    assert max([begin, *steps]) >= sample  # the last step is the warm-up
    assert part == sample // 8


def test_a_sample_has_no_fewer_units_than_it_needs() -> None:
    """A stream that is no longer than a buffer measures the buffer."""
    bench = Bench(plan=Plan(target_s=1e-3, rounds=1))
    bench.measure()(lambda n, _: f"spin {n}", read=parsers.probe, min_units=10_000)
    assert bench.sizes == Sizes(10_000, 10_000)
    assert [guest_units(bench)[at] for at in (0, -1)] == [10_000] * 2


def test_what_is_long_at_its_least_is_not_begun_twice() -> None:
    """A page fault of User-mode Linux: 4 s of calibration that told nothing."""
    bench = Bench(plan=Plan(target_s=1e-3, rounds=1))

    def run(cost_s: float) -> list[int]:
        bench.log.clear()
        bench.guest.cost_s, bench.sizes.guest = cost_s, 0
        bench.measure()(lambda n, _: f"spin {n}", read=parsers.probe, min_units=800)
        return guest_units(bench)

    assert run(4e-6) == [800, 800, 100, 800]  # a first start may be three of these four samples
    assert run(8e-6) == [800, 100, 800]


@pytest.mark.parametrize("buffer_s", [0.01, 1e9])
def test_what_is_too_short_is_lengthened_and_refused_where_that_does_not_help(
    buffer_s: float,
) -> None:
    def read(text: str) -> Reading:
        made = parsers.probe(text)
        return replace(made, too_short="in a buffer" if made.elapsed_s < buffer_s else "")

    bench = Bench(plan=Plan(target_s=1e-3, rounds=1), native=None)

    def measure() -> None:
        bench.measure()(lambda n, _: f"spin {n}", read=read, max_units=1_000_000)

    if buffer_s > 1:
        with pytest.raises(WorkloadError, match="too short: in a buffer"):
            measure()
        assert not bench.pairs
    else:
        measure()
        assert bench.sizes.guest * bench.guest.cost_s >= buffer_s


def test_a_sample_that_a_busy_machine_made_too_short_is_taken_again_and_longer() -> None:
    bench = Bench(plan=Plan(target_s=1e-3, rounds=2), native=None)
    shortest_s = [0.0]

    def read(text: str) -> Reading:
        made = parsers.probe(text)
        return replace(made, too_short="in a buffer" if made.elapsed_s < shortest_s[0] else "")

    def busier(*_: object) -> None:  # from the second round on
        shortest_s[0] = 1.5 * bench.sizes.guest * bench.guest.cost_s

    bench.measure(on_pair=busier)(lambda n, _: f"spin {n}", read=read)
    first, second = (pair.guest_s for pair in bench.outcome.pairs)
    assert first == second == bench.guest.cost_s
    sizes = [int(line.split()[-1]) for line in bench.log if line.startswith("guest: spin")]
    assert sizes[-1] == 2 * sizes[-2]


def test_fixed_units_are_run_once_and_nothing_before() -> None:
    bench = Bench()
    bench.measure()(lambda n, _: f"speed {n}", read=parsers.probe, fixed_units=3)
    assert [line for line in bench.log if ": " in line] == ["native: speed 3", "guest: speed 3"]
    (pair,) = bench.pairs
    assert (pair.native_s, pair.guest_s) == (1e-6, 2e-6)
    assert pair.counters == {}


@pytest.mark.parametrize(("base", "eighth"), [(TimeBase.WALL, 600), (TimeBase.INSTRUCTIONS, 1500)])
def test_a_sample_of_page_faults_dwarfs_those_of_the_program_itself(
    base: TimeBase, eighth: int
) -> None:
    """Where a fault is slow the probe refused: 445 pages touched, but 544 minor faults. A count has
    200 groups of 60 faults."""
    bench = Bench()
    bench.guest.host.time_base = base
    bench.guest.cost_s = 100e-6
    bench_memory_pagefault(bench.measure())
    faults = [int(line.split()[-1]) for line in bench.log if line.startswith("guest: vbench")]
    assert min(faults) == eighth >= 6 * (544 - 445)


@pytest.mark.parametrize(
    "bounds",
    [
        {"initial_units": 0},
        {"min_units": 0},
        {"max_units": -1},
        {"min_units": 9, "max_units": 8},
        {"fixed_units": -5},
    ],
)
def test_bounds_that_allow_no_work_are_refused(bounds: dict[str, int]) -> None:
    """Seconds per unit of a negative amount of work are negative: they were measured."""
    bench = Bench()
    with pytest.raises(WorkloadError, match="no work can be done in"):
        bench.measure()(lambda n, _: f"spin {n}", read=parsers.probe, **bounds)
    assert bench.log == []


def test_native_that_is_an_exact_count_is_sampled_once() -> None:
    """For all boots and all variants; the command is told of each."""
    known = NativeCount()
    bench, other = Bench(), Bench(plan=Plan(rounds=1))
    for each in (bench, other):
        each.guest.host.time_base = TimeBase.INSTRUCTIONS
        each.sizes = bench.sizes
    bench(0, native_count=known)
    bench(1, native_count=known)
    other(0, native_count=known)
    assert sum(line == "native: spin 1000" for line in bench.log) == 2  # the last step, the sample
    assert not [line for line in other.log if line.startswith("native")]
    assert [pair.native_s for pair in (*bench.pairs, *other.pairs)] == [1e-6] * 5
    assert bench.outcome.commands == other.outcome.commands
    assert other.outcome.flags == {"native_once"}


def test_native_that_cannot_do_it_is_not_known() -> None:
    bench, known = Bench(), NativeCount()
    bench.guest.host.time_base = TimeBase.INSTRUCTIONS

    def refuse(_: str) -> Output:
        raise Unsupported("no such instruction")

    bench.native.answer = refuse
    bench(0, native_count=known)
    assert known == NativeCount()
    assert [pair.native_s for pair in bench.pairs] == [None] * 2
    assert bench.outcome.flags == set()


def test_what_was_done_counts_and_not_what_was_asked_for() -> None:
    """A program may round up to whole groups, or send another number of bytes."""
    bench = Bench(plan=Plan(target_s=0.1, rounds=1))
    done: list[int] = []

    def answer(command: str) -> Output:
        units = -(-int(command.rsplit(maxsplit=1)[-1]) // 60) * 60
        done.append(units)
        return Output(0, json.dumps({"elapsed_ns": units * 1000, "units": units}), "")

    bench.guest.answer = bench.native.answer = answer
    bench(counters=lambda _: {"exits": 2 * sum(done)})
    (pair,) = bench.pairs
    assert (pair.native_s, pair.guest_s) == (pytest.approx(1e-6), pytest.approx(1e-6))
    assert bench.sizes.native == pytest.approx(100_000, rel=0.01)
    assert pair.counters["exits"] == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("base", "guest_s"), [(TimeBase.WALL, 2.5e-6), (TimeBase.INSTRUCTIONS, 2e-6)]
)
def test_a_sample_is_the_mean_on_the_wall_clock_and_the_median_where_instructions_are_counted(
    base: TimeBase, guest_s: float
) -> None:
    bench = Bench(plan=Plan(rounds=1))
    bench.guest.host.time_base = base
    text = '{"elapsed_ns": 2500000, "units": 1000, "p50_ns": 2000, "mean_ns": 2500, "equal": 0.875}'
    bench.guest.answer = bench.native.answer = lambda _: Output(0, text, "")
    bench()
    (pair,) = bench.pairs
    assert (pair.native_s, pair.guest_s) == (pytest.approx(guest_s), pytest.approx(guest_s))
    assert pair.quantiles["mean"] == (pytest.approx(2.5e-6), pytest.approx(2.5e-6))
    assert pair.equal == (0.875, 0.875)


def test_a_zero_while_calibrating_only_asks_for_more() -> None:
    """A program that counts milliseconds: its first small step may take none."""
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
        counted = bench.pairs[-1].counters
        assert counted["exits"] == pytest.approx(2.0)
        # what was taken off is told, so that a reader can tell whether the rest drowns in it
        assert counted["exits" + TAKEN_OFF] * bench.sizes.guest >= start


def test_a_sample_no_larger_than_the_first_run_counts_as_a_whole() -> None:
    bench, exits = Bench(), itertools.count(0, 100)
    bench.measure(counters=lambda _: {"exits": next(exits)})(
        lambda units, _: f"spin {units}", read=parsers.probe, max_units=1
    )
    assert bench.pairs[0].counters["exits"] == 100


@pytest.mark.parametrize("scope", UsageScope)
def test_a_clients_cpu_time_is_no_cost_of_the_guest(scope: UsageScope) -> None:
    """Where usage is that of all the host, as Xen's dom0 tells it."""
    bench = Bench()
    bench.guest.capabilities = dataclasses.replace(bench.guest.capabilities, usage=scope)
    bench.measure()(
        lambda units, _: f"spin {units}", read=parsers.probe, server=lambda endpoint: "serve"
    )
    assert ("host_cpu_s" in bench.pairs[0].counters) is (scope is UsageScope.GUEST)


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

    bench(histogram=histogram, plan=Plan(target_s=1e-3, exits=False))
    assert bench.outcome.exits == {}
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
