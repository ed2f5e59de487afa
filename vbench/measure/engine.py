"""How a workload is measured on one boot: calibration, pairs, budget, flags. No pytest here.

Rounds are taken natively and in the guest, so that a pair shares the same seconds. `Measure` is
what a workload function is given.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field

from vbench.errors import ConnectionLost, HostError, Unsupported, WorkloadError
from vbench.guest.launch import Guest
from vbench.guest.native import Native
from vbench.guest.target import NATIVE_PORT, Endpoint, Target, succeed
from vbench.measure.interference import InterferenceMonitor
from vbench.measure.parsers import Reader, checked
from vbench.measure.plan import GUEST, NATIVE, Plan, calibrate, order
from vbench.model import Pair, Reading, TimeBase

Command = Callable[[int, Endpoint], str]
Server = Callable[[Endpoint], str]
ExitHistogram = AbstractContextManager[Callable[[], Mapping[str, int]]]

# A clock is called wrong when a program claims more time than passed around it (1 %, 10 ms), or
# less than half of it beside 2 s for starting a program in translated code.
_CLOCK_FAST, _CLOCK_FAST_S = 1.01, 0.01
_CLOCK_SLOW, _CLOCK_SLOW_S = 2.0, 2.0
_GUEST_BEGINS = 32  # calibration of a guest begins with this part of native's sample
_HISTOGRAM_PART = 8  # exits are counted over a sample's work and over an eighth of it


@dataclass
class Sizes:
    """Calibrated units of work per side, kept for the later boots of the same series; and the
    units of a small run in the guest with what it counted, mostly the program's start."""

    guest: int = 0
    native: int = 0
    start: tuple[int, Mapping[str, float]] = (0, {})


@dataclass
class Outcome:
    """What one item brought, filled while it runs, so that an abort loses nothing."""

    pairs: list[Pair] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)
    commands: dict[str, str] = field(default_factory=dict)
    notes: set[str] = field(default_factory=set)  # what was lost on the way, in words
    exits: dict[str, float] = field(default_factory=dict)  # by reason, per unit of work


class Measure:
    """The `measure` that a workload function calls, once."""

    def __init__(
        self,
        *,
        guest: Guest,
        native: Native | None,
        clients: Mapping[str, Native],
        boot: int,
        plan: Plan,
        sizes: Sizes,
        outcome: Outcome,
        on_pair: Callable[[Pair], None],
        counters: Callable[[Guest], Mapping[str, int]],
        phase: Callable[[str], None],
        histogram: Callable[[Guest], ExitHistogram | None] = lambda guest: None,
        monitor: InterferenceMonitor | None = None,
    ) -> None:
        """`native` None: no native counterpart; `clients` run the clients of network workloads,
        by side; `on_pair` is called at once for each pair (the journal); `phase` names what
        comes."""
        self.guest = guest
        self.boot = boot
        self._targets: dict[str, Target] = {GUEST: guest}
        if native is not None:
            self._targets = {NATIVE: native, GUEST: guest}
        self.clients = clients
        self.plan = plan
        self._sizes = sizes
        self.outcome = outcome
        self._on_pair = on_pair
        self._counters = counters
        self._exit_histogram = histogram
        self._phase = phase
        self._monitor = monitor or InterferenceMonitor(guest.host)
        self.round = 0

    def __call__(
        self,
        command: Command,
        *,
        read: Reader,
        initial_units: int = 1,
        max_units: int = 1 << 40,
        server: Server | None = None,
        fixed_time: bool = False,
    ) -> None:
        """Measure `command(units, endpoint)`, a shell command of fixed work, on guest and native.

        `read` turns its standard output into the seconds that the program itself measured (or a
        Reading with quantiles); `initial_units` is the first calibration step, `max_units` an
        upper bound of units in one sample. With `server`, that command runs on the target and
        `command` becomes its client beside it. `fixed_time`: the program runs for a time of its
        own and says seconds per unit; then there is nothing to calibrate, and one pair a boot
        has to do. Raises WorkloadError, Unsupported, GuestLost.
        """
        with ExitStack() as stack:
            runs = {
                side: stack.enter_context(_runner(self, side, target, command, read, server))
                for side, target in self._targets.items()
            }
            self._measure(runs, initial_units, max_units, fixed_time)

    def _measure(
        self, runs: dict[str, _Runner], initial_units: int, max_units: int, fixed_time: bool
    ) -> None:
        began = time.monotonic()
        plan = self.plan
        if fixed_time:
            plan = dataclasses.replace(plan, rounds=1)
            self._sizes.guest = self._sizes.native = 1
            runs_to_fit: Mapping[str, _Runner] = {}
        else:
            runs_to_fit = runs
        self._phase("calibrating")
        for side in tuple(runs_to_fit):
            try:
                self._warm_up(runs[side], side, initial_units, max_units)
            except Unsupported as error:
                if side == GUEST:
                    raise
                self._without_native(runs, error)
        self._phase("measuring")
        pairs: list[Pair] = []
        while len(pairs) < plan.rounds:
            if pairs and time.monotonic() - began > plan.budget_s:
                self.outcome.flags.add("budget")
                break
            pair = self._pair(runs, counted=not fixed_time)
            pairs.append(pair)
            self.outcome.pairs.append(pair)
            self._on_pair(pair)
        if not fixed_time and not self.outcome.exits:
            try:
                self._count_exits(runs[GUEST])
            except (HostError, ConnectionLost) as error:
                self.outcome.notes.add(f"exits were not counted: {error.what}")

    def _without_native(self, runs: dict[str, _Runner], error: Unsupported) -> None:
        del runs[NATIVE]
        self.outcome.notes.add(f"not measured natively: {error.what}")

    def _count_exits(self, run: _Runner) -> None:
        """Exits by reason per unit of work, once per series: counting takes time, so its rounds
        are not timed. Two amounts of work, whose difference holds nothing of starting a program
        and of SSH."""
        histogram = self._exit_histogram(self.guest)
        if histogram is None:
            return
        self._phase("measuring")
        units = self._sizes.guest
        part = units // _HISTOGRAM_PART
        counts: list[Mapping[str, int]] = []
        with histogram as look:
            # What a program leaves to be tidied up after its end falls to the next, so the first
            # has one before it as well.
            for amount in (part, part, units):
                if amount:
                    run.take(amount)
                counts.append(look())
        start, middle, end = counts
        for name in end:
            grew = end[name] - middle.get(name, 0)
            base = middle.get(name, 0) - start.get(name, 0) if part else 0
            self.outcome.exits[name] = (grew - base) / (units - part)

    def absolute(self, seconds: float) -> None:
        """Record a duration that was measured elsewhere and has no native counterpart."""
        pair = Pair(None, seconds, self.boot)
        self.outcome.pairs.append(pair)
        self._on_pair(pair)

    def _warm_up(self, run: _Runner, side: str, initial_units: int, max_units: int) -> None:
        known: int = getattr(self._sizes, side)
        part = max(1, known // 4)
        if not known:
            # A guest can take long for what native does in a sample, but not for a part of it.
            begin = self._sizes.native // _GUEST_BEGINS if side == GUEST else 0
            setattr(
                self._sizes,
                side,
                self._fit(run, side, initial_units, max(initial_units, begin), max_units),
            )
        elif self.guest.host.time_base is TimeBase.INSTRUCTIONS:
            run.take(part)  # natively, too: only a count tells a second run from a first
        elif side == GUEST:
            run.take(part)  # this guest's first: it reads the program and translates it
            # The machine is faster or slower than it was at the first boot. A count is the same.
            self._take_first(run, side, part)

    def _take_first(self, run: _Runner, side: str, units: int) -> Reading:
        """A small run. What it counts in the guest is taken off a sample's counts."""
        if side == NATIVE:
            return run.take(units)
        reading, counted = self._counted(run, units)
        self._sizes.start = (units, counted)
        return reading

    def _counted(self, run: _Runner, units: int) -> tuple[Reading, dict[str, float]]:
        """A run in the guest, and by how much its counters grew."""
        was = self._look()
        reading = run.take(units)
        now = self._look()
        # to a nanosecond: differences of floats are never quite 0
        return reading, {key: round(now[key] - was[key], 9) for key in was if key in now}

    def _look(self) -> dict[str, float]:
        seen = {**self.guest.machine.usage(), **self._counters(self.guest)}
        if self.guest.machine.whole_host and GUEST in self.clients:
            seen.pop("host_cpu_s", None)  # the client runs there too, and is no cost of the guest
        return seen

    def _per_unit(self, counted: Mapping[str, float], units: int) -> dict[str, float]:
        """Counts per unit of work, without what starting the program and SSH cause. Where the
        sample is not much larger than the run to compare with, that cannot be told apart."""
        least, start = self._sizes.start if self._sizes.start[0] <= units / 2 else (0, {})
        # a little below 0 at times: dropped, the mean of the others would be too large
        return {key: (n - start.get(key, 0.0)) / (units - least) for key, n in counted.items()}

    def _fit(self, run: _Runner, side: str, initial_units: int, begin: int, max_units: int) -> int:
        run.take(initial_units)  # a first start reads its files and would look like slow work
        if initial_units == max_units:
            self._take_first(run, side, max(1, max_units // 4))
            return max_units
        steps = calibrate(begin, self.plan.target_s, max_units)
        units = next(steps)
        try:
            units = steps.send(self._take_first(run, side, units).elapsed_s)
            while True:
                units = steps.send(run.take(units).elapsed_s)
        except StopIteration as stop:
            fitting = int(stop.value)
        if side == GUEST and self._sizes.start[0] > fitting // 2 > 1:  # too large to compare with
            self._take_first(run, side, fitting // 4)
        return fitting

    def _pair(self, runs: dict[str, _Runner], *, counted: bool) -> Pair:
        """One round. Without `counted`, how much work was done is not known: no counters."""
        readings: dict[str, Reading] = {}
        counters: dict[str, float] = {}
        before = self._monitor.sample()
        for side in order(self.round, self.boot):
            if side not in runs:
                continue
            units: int = getattr(self._sizes, side)
            if side == GUEST:
                readings[side], grown = self._counted(runs[side], units)
                if counted:
                    counters = self._per_unit(grown, units)
                    said = readings[side].counters
                    counters |= {key: value / units for key, value in said.items()}
            else:
                try:
                    readings[side] = runs[side].take(units)
                except Unsupported as error:  # by now: an earlier boot had it
                    self._without_native(runs, error)
        self.round += 1
        flags = set(self._monitor.flags_since(before))
        for run in runs.values():
            flags |= run.flags
        for side, reading in readings.items():
            if reading.elapsed_s == 0:
                raise WorkloadError(
                    "the workload says it took 0 s",
                    evidence=self.outcome.commands[side],
                )
        native = readings.get(NATIVE)
        guest = readings[GUEST]
        return Pair(
            native_s=native.elapsed_s / self._sizes.native if native else None,
            guest_s=guest.elapsed_s / self._sizes.guest,
            boot=self.boot,
            flags=tuple(sorted(flags)),
            counters=counters,
            quantiles={
                name: (native.quantiles.get(name) if native else None, value)
                for name, value in guest.quantiles.items()
            },
        )


class _Runner:
    """One side of an item: runs the command there and reads what it says."""

    def __init__(
        self, measure: Measure, side: str, target: Target, command: Command, read: Reader
    ) -> None:
        self._measure = measure
        self._side = side
        self._target = target
        self._runs_on: Target = target
        self._command = command
        self._read = read
        self.flags: set[str] = set()  # of the last run

    def become_client(self, client: Native) -> None:
        self._runs_on = client

    def take(self, units: int) -> Reading:
        """Run `units` of work once. The guest is paused while native runs."""
        self.flags = set()
        command = self._command(units, self._endpoint())
        self._measure.outcome.commands[self._side] = command
        machine = self._measure.guest.machine
        began = time.monotonic()
        if self._side == NATIVE:
            machine.pause()
            try:
                text = self._run(command)
            finally:
                machine.resume()
        else:
            text = self._run(command)
        lasted_s = time.monotonic() - began
        reading = checked(self._read, text, command)
        if self._measure.guest.host.time_base is TimeBase.WALL:
            self._check_clock(reading.elapsed_s, lasted_s)
        return reading

    def _run(self, command: str) -> str:
        return succeed(self._runs_on, command, timeout_s=self._measure.plan.command_timeout_s)

    def _endpoint(self) -> Endpoint:
        """Guest and native halves of the scratch disk change sides from round to round."""
        endpoint = self._target.endpoint
        half = endpoint.scratch_size_mib // 2
        # They change also where a boot has one round, and not in step with who goes first.
        even = (self._measure.round + self._measure.boot // 2) % 2 == 0
        first_half = even == (self._side == GUEST)
        return dataclasses.replace(
            endpoint, scratch_offset_mib=0 if first_half else half, scratch_size_mib=half
        )

    def _check_clock(self, claimed_s: float, lasted_s: float) -> None:
        if (
            claimed_s > lasted_s * _CLOCK_FAST + _CLOCK_FAST_S
            or lasted_s > claimed_s * _CLOCK_SLOW + _CLOCK_SLOW_S
        ):
            self.flags.add("clock")


@contextmanager
def _runner(
    measure: Measure,
    side: str,
    target: Target,
    command: Command,
    read: Reader,
    server: Server | None,
) -> Iterator[_Runner]:
    """A runner, with the workload's server running on its target for as long."""
    runner = _Runner(measure, side, target, command, read)
    if server is None:
        yield runner
        return
    if side not in measure.clients:
        raise WorkloadError("this workload needs a network, and this host has none")
    runner.become_client(measure.clients[side])
    with target.server(server(target.endpoint)):
        succeed(target, _LISTENING, timeout_s=30)
        yield runner


# Until somebody listens on NATIVE_PORT: the state column of proc(5) net/tcp says 0A.
_LISTENING = (
    f"until cat /proc/net/tcp /proc/net/tcp6 | grep -q ':{NATIVE_PORT:04X} [0-9A-F:]* 0A'; "
    "do sleep 0.05; done"
)
