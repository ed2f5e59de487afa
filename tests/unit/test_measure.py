"""Pairs, their flags, and faults in mid-round, on targets whose every second is made up."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from fake_targets import Bench, FakeHost

from vbench.contract.guest import Endpoint
from vbench.errors import ClientRefused, GuestLost, WorkloadError, WorkloadTimeout
from vbench.measure import execution, parsers
from vbench.measure.engine import Sizes
from vbench.measure.plan import GUEST, NATIVE, Plan
from vbench.model import Output, Pair, Reading, TimeBase


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
        bench(boot, plan=Plan(target_s=1e-3, rounds=2))
        return [line.split(":")[0] for line in bench.log if ": " in line][2:]

    assert sides(0) == [NATIVE, GUEST, GUEST, NATIVE]
    assert sides(1) == [GUEST, NATIVE, NATIVE, GUEST]


def test_without_native() -> None:
    bench = Bench(native=None)
    bench()
    assert {pair.native_s for pair in bench.pairs} == {None}
    assert bench.sizes.native == 0
    assert not any(line.startswith(NATIVE) for line in bench.log)


def test_what_native_can_no_longer_do_costs_the_ratio_and_not_the_guests_figures() -> None:
    bench = Bench()
    bench(0)
    bench.native.answer = lambda _: Output(77, "", "hpet is taken")
    bench(1)
    assert [pair.native_s is None for pair in bench.pairs] == [False, False, True, True]
    (note,) = bench.outcome.notes
    assert note.startswith("not measured natively: ")


def test_halves_of_the_scratch_disk_never_overlap_and_change_sides() -> None:
    bench = Bench()
    regions: dict[str, list[tuple[int, int]]] = {}

    def command(units: int, endpoint: Endpoint) -> str:
        regions.setdefault(endpoint.address, []).append(
            (endpoint.scratch_offset_mib, endpoint.scratch_size_mib)
        )
        return f"spin {units}"

    bench.guest.endpoint = Endpoint("/dev/vda", 0, 256, "guest", 5201, 1)
    bench.native.endpoint = Endpoint("/scratch", 0, 256, "native", 5201, 1)
    bench.guest.cost_s *= 300  # one more step of calibration than native
    bench.measure(plan=Plan(rounds=4))(command, read=parsers.probe)
    ours, theirs = (regions[side][-4:] for side in ("guest", "native"))  # without calibration
    assert ours == [(0, 128), (128, 128)] * 2
    assert theirs == [(128, 128), (0, 128)] * 2


def test_quantiles_of_both_sides() -> None:
    bench = Bench()
    bench.measure()(
        lambda units, _: f"spin {units}",
        read=lambda text: Reading(parsers.probe(text).elapsed_s, {"p50": 1e-6}),
    )
    assert bench.pairs[0].quantiles == {"p50": (1e-6, 1e-6)}


def test_absolute() -> None:
    bench = Bench()
    bench.measure(3).absolute(4.5)
    assert bench.pairs == bench.outcome.pairs == [Pair(None, 4.5, 3)]


def test_the_budget_ends_an_item_and_says_so() -> None:
    bench = Bench()
    bench(plan=Plan(target_s=1e-3, budget_s=0.0, rounds=3))
    assert len(bench.pairs) == 1
    assert bench.outcome.flags == {"budget"}


def test_a_server_runs_on_the_target_and_the_client_beside_it() -> None:
    bench = Bench()
    bench.measure()(
        lambda units, endpoint: f"connect {endpoint.address} {units}",
        read=parsers.probe,
        server=lambda endpoint: f"serve {endpoint.port}",
    )
    assert bench.log[:6] == [
        f"native: {execution.startable('serve')}",
        "native serves serve 5201",
        f"native: {execution.LISTENING}",
        f"guest: {execution.startable('serve')}",
        "guest serves serve 5201",
        f"guest: {execution.LISTENING}",
    ]
    assert bench.log[-2:] == ["guest served", "native served"]
    assert [line for line in bench.log if "connect" in line] == [
        line for line in bench.log if line.startswith("client: ")
    ]


REFUSED = json.dumps({"end": {}, "error": "unable to receive control message"})


def test_a_client_that_comes_too_early_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """iperf3's server opens its socket anew after each client."""
    monkeypatch.setattr(execution, "_NEXT_CLIENT_S", 0.0)

    def streams(refused: Iterator[bool]) -> Bench:
        bench = Bench()

        def answer(command: str) -> Output:
            if next(refused, False):
                return Output(0, REFUSED, "")
            mib = int(command.rsplit(maxsplit=1)[-1])
            ends = {"seconds": mib * 1e-6, "bytes": mib << 20}
            return Output(0, json.dumps({"end": {"sum_sent": ends, "sum_received": ends}}), "")

        bench.client.answer = answer
        bench.measure()(
            lambda units, _: f"c {units}", read=parsers.iperf3, server=lambda _: "iperf3"
        )
        return bench

    assert len(streams(itertools.cycle([True, True, False])).pairs) == 2
    with pytest.raises(ClientRefused, match="iperf3: unable to receive control message") as told:
        streams(itertools.repeat(True))
    assert told.value.evidence.startswith("c ")


@pytest.mark.parametrize(
    ("answered", "status", "what", "log"),
    [
        (execution.startable("serve"), 127, "the image has no program serve", 1),
        (execution.startable("serve"), 1, "another program listens on port 5201", 1),
        (execution.LISTENING, 1, "the workload's server does not listen on port 5201", 4),
    ],
)
def test_a_server_that_does_not_come_up_has_a_reason_and_is_ended(
    answered: str, status: int, what: str, log: int
) -> None:
    bench = Bench()
    spin = bench.native.spin
    bench.native.answer = lambda command: (
        Output(status, "", "") if command == answered else spin(command)
    )
    with pytest.raises(WorkloadError, match=what) as raised:
        bench.measure()(
            lambda units, _: f"connect {units}", read=parsers.probe, server=lambda _: "serve 5201"
        )
    assert raised.value.evidence == "serve 5201"
    assert len(bench.log) == log  # what was started was ended, and no client ran
    assert log == 1 or bench.log[-1] == "native served"


def test_a_server_without_a_network() -> None:
    with pytest.raises(WorkloadError, match="needs a network"):
        Bench(clients={}).measure()(
            lambda units, _: f"c {units}", read=parsers.probe, server=lambda _: "s"
        )


# ------------------------------------------------------------------ clocks


@pytest.fixture
def host_clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The host's monotonic clock as the measuring room sees it: a list with its one reading."""
    now = [1000.0]
    monkeypatch.setattr(execution, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


@pytest.mark.parametrize(
    ("claimed_s", "lasted_s", "flagged"),
    [
        (1.0, 1.05, False),
        (1.0, 0.999, False),
        (1.0, 0.95, True),  # more time inside than passed around it
        (10.0, 9.8, True),
        (1.0, 3.9, False),  # starting a program in translated code
        (0.3, 2.9, False),  # it prepares for long: a second of its clock lasts one
        (0.3, 60.0, False),
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

        def answer(command: str, claims: float = claims, takes: float = takes) -> Output:
            host_clock[0] += 1.02 if command == "sleep 1" else takes
            return Output(0, json.dumps({"elapsed_ns": round(claims * 1e9)}), "")

        target.answer = answer
    bench.sizes = Sizes(1, 1)
    bench(plan=Plan(rounds=1))
    assert bench.pairs[0].flags == (("clock",) if flagged else ())


@pytest.mark.parametrize(
    ("speed", "late_s", "flagged"),
    [
        (1.0, [0.02], False),
        (0.4, [0.02, 0.02, 0.02], True),  # a second of its clock lasts 2.5 s
        (1.5, [0.02, 0.02, 0.02], True),
        (1.0, [0.8, 0.7, 0.1], False),  # a busy machine wakes it late, twice
        (1.0, [0.0], False),
    ],
)
def test_a_suspected_clock_times_a_second(
    host_clock: list[float], speed: float, late_s: list[float], flagged: bool
) -> None:
    """A program that prepares for 5 s and works for 0.5 s, both by the guest's clock."""
    bench = Bench()
    lates = iter(late_s)

    def answer(command: str) -> Output:
        if command == "sleep 1":
            host_clock[0] += 1.0 / speed + next(lates)
            return Output(0, "", "")
        host_clock[0] += 5.5 / speed
        return Output(0, '{"elapsed_ns": 500000000}', "")

    bench.guest.answer = answer
    bench.sizes = Sizes(1, 1)
    bench(native=None, plan=Plan(rounds=1))
    assert bench.pairs[0].flags == (("clock",) if flagged else ())
    assert not list(lates)  # asked no more often than it must


def test_a_clock_flag_stays_with_its_pair(host_clock: list[float]) -> None:
    bench = Bench()
    takes = iter([1.0, 1.0, 0.5, 1.0, 1.0])  # two small runs, then three rounds: the first is wrong

    def answer(_: str) -> Output:
        host_clock[0] += next(takes)
        return Output(0, '{"elapsed_ns": 1000000000}', "")

    bench.guest.answer = answer
    bench.sizes = Sizes(1, 1)
    bench(native=None, plan=Plan(rounds=3))
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
    bench = Bench(plan=Plan(target_s=1e-3, rounds=3))
    target = bench.guest if side == GUEST else bench.native
    bench.sizes = Sizes(500, 1000)
    runs = itertools.count()
    good = 3 if side == GUEST else 1  # small runs in the guest, then a round

    def answer(command: str) -> Output:
        return target.spin(command) if next(runs) < good else Output(0, said, "")

    target.answer = answer
    with pytest.raises(WorkloadError) as caught:
        bench()
    assert "spin" in caught.value.evidence
    assert len(bench.outcome.pairs) == len(bench.pairs) == 1


@pytest.mark.parametrize("error", [WorkloadTimeout("late"), GuestLost("gone"), KeyboardInterrupt()])
def test_an_end_in_mid_round_keeps_earlier_pairs(error: BaseException) -> None:
    bench = Bench(plan=Plan(target_s=1e-3, rounds=3))
    bench.sizes = Sizes(500, 1000)
    runs = itertools.count()

    def answer(command: str) -> Output:
        if next(runs) == 4:  # two small runs, two rounds, then this
            raise error
        return bench.guest.spin(command)

    bench.guest.answer = answer
    with pytest.raises(type(error)):
        bench()
    assert len(bench.outcome.pairs) == len(bench.pairs) == 2


def test_each_pair_is_told_at_once() -> None:
    bench = Bench(plan=Plan(target_s=1e-3, rounds=3))
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
