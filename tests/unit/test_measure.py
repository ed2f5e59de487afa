"""Calibration, pairs and flags, on targets whose every second is made up."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbench import measure as rooms
from vbench import reading
from vbench.errors import GuestLost, HostError, WorkloadError, WorkloadTimeout
from vbench.measure import Measure, Outcome, Sizes
from vbench.model import Output, Pair, Reading, TimeBase
from vbench.plan import GUEST, NATIVE, Plan, enough
from vbench.target import Place

# ------------------------------------------------------------------ Measure


class FakeHost:
    """A host without the files that tell of disturbance, on any time base."""

    def __init__(self, time_base: TimeBase = TimeBase.WALL) -> None:
        self.time_base = time_base

    def read(self, path: str) -> str:
        del path
        return ""


class FakeMachine:
    whole_host = False

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.cpu_s = 0.0

    def pause(self) -> None:
        self.log.append("pause")

    def resume(self) -> None:
        self.log.append("resume")

    def usage(self) -> Mapping[str, float]:
        self.cpu_s += 1.0
        return {"host_cpu_s": self.cpu_s, "vcpu_wait_s": 0.0}


class FakeTarget:
    """Runs `N` of a command line ending in N at `cost_s` each, in no time at all."""

    def __init__(self, name: str, cost_s: float, log: list[str]) -> None:
        self.name = name
        self.cost_s = cost_s
        self.log = log
        self.place = Place("/dev/scratch", 0, 256, "10.0.0.1", 5201, 1)
        self.host = FakeHost()
        self.machine = FakeMachine(log)
        self.places: list[tuple[int, int]] = []
        self.answer: Callable[[str], Output] = self.spin

    def spin(self, command: str) -> Output:
        if command == rooms._LISTENING:
            return Output(0, "", "")
        units = int(command.rsplit(maxsplit=1)[-1])
        return Output(0, json.dumps({"elapsed_ns": round(units * self.cost_s * 1e9)}), "")

    def run(self, command: str, *, timeout_s: float) -> Output:
        self.log.append(f"{self.name}: {command}")
        return self.answer(command)

    @contextlib.contextmanager
    def server(self, command: str) -> Iterator[None]:
        self.log.append(f"{self.name} serves {command}")
        yield
        self.log.append(f"{self.name} served")


class Bench:
    """A Measure between two fakes, and all that it said."""

    def __init__(self, **changes: Any) -> None:
        self.log: list[str] = []
        # milliseconds only: claims of more, made in no time, would be flagged as a wrong clock
        self.guest = FakeTarget(GUEST, 2e-6, self.log)
        self.native = FakeTarget(NATIVE, 1e-6, self.log)
        self.client = FakeTarget("client", 1e-6, self.log)
        self.pairs: list[Pair] = []
        self.outcome = Outcome()
        self.sizes = Sizes()
        self.phases: list[str] = []
        self.changes = changes

    def measure(self, boot: int = 0, **changes: Any) -> Measure:
        arguments: dict[str, Any] = {
            "guest": self.guest,
            "native": self.native,
            "clients": {NATIVE: self.client, GUEST: self.client},
            "boot": boot,
            "plan": Plan(target_s=1e-3),
            "sizes": self.sizes,
            "outcome": self.outcome,
            "on_pair": self.pairs.append,
            "counters": lambda _: {},
            "phase": self.phases.append,
        }
        return Measure(**{**arguments, **self.changes, **changes})

    def __call__(self, boot: int = 0, **changes: Any) -> None:
        self.measure(boot, **changes)(lambda units, _: f"spin {units}", read=reading.probe)


def test_pairs_are_seconds_per_unit() -> None:
    bench = Bench()
    bench()
    assert [(pair.native_s, pair.guest_s) for pair in bench.pairs] == [
        (pytest.approx(1e-6), pytest.approx(2e-6))
    ] * 2
    assert bench.pairs == bench.outcome.pairs
    assert (bench.sizes.native, bench.sizes.guest) == (1000, 500)
    assert bench.phases == ["calibrating", "measuring"]
    assert bench.outcome.commands == {"native": "spin 1000", "guest": "spin 500"}


def test_the_guest_is_paused_while_native_runs() -> None:
    bench = Bench()
    bench()
    for at, line in enumerate(bench.log):
        if line.startswith(NATIVE):
            assert (bench.log[at - 1], bench.log[at + 1]) == ("pause", "resume")
        elif line.startswith(GUEST):
            assert bench.log[:at].count("pause") == bench.log[:at].count("resume")


def test_the_guest_goes_on_after_a_native_failure() -> None:
    bench = Bench()
    bench.native.answer = lambda _: Output(1, "", "no such program")
    with pytest.raises(WorkloadError, match="no such program"):
        bench()
    assert bench.log[-1] == "resume"


def test_rounds_alternate_and_boots_begin_differently() -> None:
    def sides(boot: int) -> list[str]:
        bench = Bench()
        bench.sizes = Sizes(500, 1000)
        bench(boot, plan=Plan(target_s=1e-3, min_rounds=2, max_rounds=2))
        return [line.split(":")[0] for line in bench.log if ": " in line][2:]

    assert sides(0) == [NATIVE, GUEST, GUEST, NATIVE]
    assert sides(1) == [GUEST, NATIVE, NATIVE, GUEST]


def test_later_boots_keep_the_sizes_and_warm_up() -> None:
    bench = Bench()
    bench(0)
    before = len(bench.log)
    bench(1)
    runs = [line for line in bench.log[before:] if ": " in line]
    assert runs[:2] == ["native: spin 250", "guest: spin 125"]
    assert bench.pairs[-1].boot == 1
    assert len(bench.outcome.pairs) == 4


def test_without_native() -> None:
    bench = Bench(native=None)
    bench()
    assert {pair.native_s for pair in bench.pairs} == {None}
    assert bench.sizes.native == 0
    assert not any(line.startswith(NATIVE) for line in bench.log)


def test_halves_of_the_scratch_disk_never_overlap_and_change_sides() -> None:
    bench = Bench()
    regions: dict[str, list[tuple[int, int]]] = {}

    def command(units: int, place: Place) -> str:
        regions.setdefault(place.address, []).append(
            (place.scratch_offset_mib, place.scratch_size_mib)
        )
        return f"spin {units}"

    bench.sizes = Sizes(500, 1000)
    bench.guest.place = Place("/dev/vda", 0, 256, "guest", 5201, 1)
    bench.native.place = Place("/scratch", 0, 256, "native", 5201, 1)
    bench.measure(plan=Plan(min_rounds=4, max_rounds=4))(command, read=reading.probe)
    assert set(regions["guest"]) == {(0, 128), (128, 128)}
    for ours, theirs in zip(regions["guest"], regions["native"], strict=True):
        assert ours != theirs


@pytest.mark.parametrize("boots", [1, 2])  # the second compares with its warm-up
def test_counters_are_per_unit_without_the_programs_start(boots: int) -> None:
    bench = Bench()

    def counters(_: object) -> Mapping[str, int]:
        """A start of the program exits 100 times, and a unit twice."""
        done = [int(line.split()[-1]) for line in bench.log if line.startswith("guest")]
        return {"exits": 100 * len(done) + 2 * sum(done)}

    for boot in range(boots):
        bench(boot, counters=counters)
    assert bench.pairs[-1].counters["exits"] == pytest.approx(2.0)


def test_a_sample_no_larger_than_the_first_run_counts_as_a_whole() -> None:
    bench, exits = Bench(), itertools.count(0, 100)
    bench.measure(counters=lambda _: {"exits": next(exits)})(
        lambda units, _: f"spin {units}", read=reading.probe, most=1
    )
    assert bench.pairs[0].counters["exits"] == 100


@pytest.mark.parametrize("whole_host", [False, True])
def test_a_clients_cpu_time_is_no_cost_of_the_guest(whole_host: bool) -> None:
    """Where usage is that of all the host, as Xen's dom0 tells it."""
    bench = Bench()
    bench.guest.machine.whole_host = whole_host
    bench.measure()(
        lambda units, _: f"spin {units}", read=reading.probe, server=lambda place: "serve"
    )
    assert ("host_cpu_s" in bench.pairs[0].counters) is not whole_host


def guest_units(bench: Bench) -> list[int]:
    return [int(line.split()[-1]) for line in bench.log if line.startswith("guest: spin")]


def test_a_fixed_amount_is_run_once_before_and_then_a_quarter_of_it() -> None:
    bench = Bench(plan=Plan(min_rounds=1, max_rounds=1))
    bench.measure()(lambda n, _: f"spin {n}", read=reading.probe, first=1000, most=1000)
    assert guest_units(bench) == [1000, 250, 1000]


@pytest.mark.parametrize("slower", [1, 10, 300])
def test_a_guest_begins_with_a_part_of_natives_sample(slower: int) -> None:
    """Few steps; and the run whose counts are taken off is smaller than the sample."""
    bench = Bench(plan=Plan(target_s=0.1, min_rounds=1, max_rounds=1))
    bench.guest.cost_s = bench.native.cost_s * slower
    bench()
    native = bench.sizes.native
    first, begin, step, sample = guest_units(bench)
    assert (first, begin) == (1, native // 32)
    assert sample == pytest.approx(native / slower, rel=0.01)
    assert step == (sample // 4 if slower == 300 else sample)


def test_quantiles_of_both_sides() -> None:
    bench = Bench()
    bench.measure()(
        lambda units, _: f"spin {units}",
        read=lambda text: Reading(reading.probe(text).elapsed_s, {"p50": 1e-6}),
    )
    assert bench.pairs[0].quantiles == {"p50": (1e-6, 1e-6)}


def test_fixed_time_takes_one_pair_and_no_calibration() -> None:
    bench = Bench()
    bench.measure()(lambda _, __: "speed 1", read=reading.probe, fixed_time=True)
    assert [line for line in bench.log if ": " in line] == ["native: speed 1", "guest: speed 1"]
    (pair,) = bench.pairs
    assert (pair.native_s, pair.guest_s) == (1e-6, 2e-6)


def test_absolute() -> None:
    bench = Bench()
    bench.measure(3).absolute(4.5)
    assert bench.pairs == bench.outcome.pairs == [Pair(None, 4.5, 3)]


def test_the_budget_ends_an_item_and_says_so() -> None:
    bench = Bench()
    bench(plan=Plan(target_s=1e-3, budget_s=0.0, min_rounds=3))
    assert len(bench.pairs) == 1
    assert bench.outcome.flags == {"budget"}


def test_a_server_runs_on_the_target_and_the_client_beside_it() -> None:
    bench = Bench()
    bench.measure()(
        lambda units, place: f"connect {place.address} {units}",
        read=reading.probe,
        server=lambda place: f"serve {place.port}",
    )
    assert bench.log[:4] == [
        "native serves serve 5201",
        f"native: {rooms._LISTENING}",
        "guest serves serve 5201",
        f"guest: {rooms._LISTENING}",
    ]
    assert bench.log[-2:] == ["guest served", "native served"]
    assert [line for line in bench.log if "connect" in line] == [
        line for line in bench.log if line.startswith("client: ")
    ]


def test_a_server_without_a_network() -> None:
    with pytest.raises(WorkloadError, match="needs a network"):
        Bench(clients={}).measure()(
            lambda units, _: f"c {units}", read=reading.probe, server=lambda _: "s"
        )


# ------------------------------------------------------------------ clocks


@pytest.fixture
def host_clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The host's monotonic clock as the measuring room sees it: a list with its one reading."""
    now = [1000.0]
    monkeypatch.setattr(rooms, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


@pytest.mark.parametrize(
    ("claimed_s", "lasted_s", "flagged"),
    [
        (1.0, 1.05, False),
        (1.0, 0.999, False),
        (1.0, 0.95, True),  # more time inside than passed around it
        (10.0, 9.8, True),
        (1.0, 3.9, False),  # starting a program in translated code
        (1.0, 4.1, True),  # the guest's clock runs slow
        (0.5, 0.495, False),
    ],
)
@pytest.mark.parametrize("side", [GUEST, NATIVE])
def test_wrong_clocks_are_flagged(
    host_clock: list[float], side: str, claimed_s: float, lasted_s: float, flagged: bool
) -> None:
    bench = Bench()
    lasts = {GUEST: (1.0, 1.0), NATIVE: (1.0, 1.0), side: (claimed_s, lasted_s)}
    for target in (bench.guest, bench.native):
        claims, takes = lasts[target.name]

        def answer(_: str, claims: float = claims, takes: float = takes) -> Output:
            host_clock[0] += takes
            return Output(0, json.dumps({"elapsed_ns": round(claims * 1e9)}), "")

        target.answer = answer
    bench.sizes = Sizes(1, 1)
    bench(plan=Plan(min_rounds=1, max_rounds=1))
    assert bench.pairs[0].flags == (("clock",) if flagged else ())


def test_a_clock_flag_stays_with_its_pair(host_clock: list[float]) -> None:
    bench = Bench()
    takes = iter([1.0, 0.5, 1.0, 1.0])  # warm-up, then three rounds: the first is wrong

    def answer(_: str) -> Output:
        host_clock[0] += next(takes)
        return Output(0, '{"elapsed_ns": 1000000000}', "")

    bench.guest.answer = answer
    bench.sizes = Sizes(1, 1)
    bench(native=None, plan=Plan(min_rounds=3, max_rounds=3))
    assert [pair.flags for pair in bench.pairs] == [("clock",), (), ()]


def test_instructions_have_no_wall_clock() -> None:
    bench = Bench()
    bench.guest.host = FakeHost(TimeBase.INSTRUCTIONS)
    bench.guest.cost_s = 3600.0
    bench.sizes = Sizes(1, 1)
    bench()
    assert bench.pairs[0].flags == ()


# ------------------------------------------------------------------ faults


@pytest.mark.parametrize(
    "said",
    [
        "",
        "nonsense",
        '{"elapsed_ns": -1}',
        '{"elapsed_ns": 0}',
        '{"elapsed_ns": NaN}',
        '{"elapsed_ns": Infinity}',
        '{"elapsed_ns": "12"}',
    ],
)
@pytest.mark.parametrize("side", [GUEST, NATIVE])
def test_nonsense_fails_and_keeps_the_pairs_before(side: str, said: str) -> None:
    bench = Bench(plan=Plan(target_s=1e-3, min_rounds=3))
    target = bench.guest if side == GUEST else bench.native
    bench.sizes = Sizes(500, 1000)
    runs = itertools.count()

    def answer(command: str) -> Output:
        return target.spin(command) if next(runs) < 2 else Output(0, said, "")

    target.answer = answer
    with pytest.raises(WorkloadError) as caught:
        bench()
    assert "spin" in caught.value.evidence
    assert len(bench.outcome.pairs) == len(bench.pairs) == 1


def test_a_zero_while_calibrating_only_asks_for_more() -> None:
    """fio counts milliseconds: its first small step may take none."""
    bench = Bench()
    bench.native.answer = lambda command: Output(
        0, json.dumps({"elapsed_ns": int(command.split()[1]) * 1000 // 1_000_000 * 1_000_000}), ""
    )
    bench(plan=Plan(target_s=0.5, max_rounds=2))
    assert bench.pairs[-1].native_s == pytest.approx(1e-6, rel=0.01)


@pytest.mark.parametrize("error", [WorkloadTimeout("late"), GuestLost("gone"), KeyboardInterrupt()])
def test_an_end_in_mid_round_keeps_earlier_pairs(error: BaseException) -> None:
    bench = Bench(plan=Plan(target_s=1e-3, min_rounds=3))
    bench.sizes = Sizes(500, 1000)
    runs = itertools.count()

    def answer(command: str) -> Output:
        if next(runs) == 3:  # warm-up, two rounds, then this
            raise error
        return bench.guest.spin(command)

    bench.guest.answer = answer
    with pytest.raises(type(error)):
        bench()
    assert len(bench.outcome.pairs) == len(bench.pairs) == 2


def test_each_pair_is_told_at_once() -> None:
    bench = Bench(plan=Plan(target_s=1e-3, min_rounds=3))
    bench(on_pair=lambda _: bench.log.append("journal"))
    order = [line.split(":")[0] for line in bench.log if "ause" not in line and line != "resume"]
    rounds = order[order.index("journal") - 2 :]
    assert rounds[2::3] == ["journal"] * 3
    assert {tuple(sorted(rounds[at : at + 2])) for at in (0, 3, 6)} == {(GUEST, NATIVE)}


def test_a_journal_that_cannot_be_written_stops_the_item() -> None:
    bench = Bench()

    def full(_: Pair) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        bench(on_pair=full)
    assert len(bench.outcome.pairs) == 1


@given(st.lists(st.floats(1e-12, 1e6), min_size=1, max_size=8), st.integers(1, 8))
def test_rounds_stay_within_the_plan(ratios: list[float], least: int) -> None:
    plan = Plan(min_rounds=least, max_rounds=max(least, 5))
    pairs: list[Pair] = []
    for ratio in itertools.chain(ratios, itertools.repeat(1.0)):
        if enough(pairs, plan):
            break
        pairs.append(Pair(1.0, ratio, 0))
    assert plan.min_rounds <= len(pairs) <= plan.max_rounds
    if len(pairs) < plan.max_rounds and len(pairs) > 1:
        logs = [math.log(pair.guest_s) for pair in pairs]
        assert max(logs) - min(logs) <= plan.spread


# ------------------------------------------------------------------ exits


def test_exits_are_the_difference_of_two_amounts_of_work() -> None:
    """Starting the program exits 100 times here, which is not the work's doing."""
    bench, seen = Bench(), {"HLT": 0}

    @contextlib.contextmanager
    def census(_: object) -> Iterator[Callable[[], Mapping[str, int]]]:
        def look() -> Mapping[str, int]:
            seen["HLT"] = sum(
                100 + 3 * int(command.split()[-1])
                for command in bench.log[begun:]
                if "guest" in command
            )
            return dict(seen)

        begun = len(bench.log)
        yield look

    bench(census=census)
    assert bench.outcome.exits == {"HLT": pytest.approx(3.0)}


def test_a_count_that_fails_costs_no_pair() -> None:
    @contextlib.contextmanager
    def census(_: object) -> Iterator[Callable[[], Mapping[str, int]]]:
        raise HostError("the tracer is taken")
        yield dict

    bench = Bench(census=census)
    bench()
    assert bench.pairs
    assert bench.outcome.exits == {}
    assert bench.outcome.notes == {"exits were not counted: the tracer is taken"}
