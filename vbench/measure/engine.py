"""How a workload is measured on one boot: calibration, pairs, budget, flags. No pytest here.

Rounds are taken natively and in the guest, so that a pair shares the same seconds. `Measure` is
what a workload function is given.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass

from vbench.contract.guest import Guest, Target
from vbench.errors import ConnectionLost, HostError, Unsupported, WorkloadError
from vbench.guest.native import Native
from vbench.measure.execution import Command, Execution, Server, client_of, serving
from vbench.measure.interference import IdleMonitor, InterferenceMonitor
from vbench.measure.parsers import Reader
from vbench.measure.plan import GUEST, NATIVE, calibrate, order
from vbench.measure.recorder import Recorder, duration, phase_s
from vbench.model import TAKEN_OFF, Pair, Reading, TimeBase
from vbench.records import UsageScope

ExitHistogram = AbstractContextManager[Callable[[], Mapping[str, int]]]

_LENGTHENED = 4  # times that a sample is taken, each twice as long, before it is too short
_GUEST_BEGINS = 32  # calibration of a guest begins with this part of native's sample
# The least work that takes so many samples at first is a sample without what a first start adds.
_COLD_MAX = 5.0
# What is counted of a whole sample and of this part of it differs by the work alone: starting the
# program and SSH are in both.
_PART = 8


@dataclass
class Sizes:
    """Calibrated units of work per side, kept for the later boots of the same series."""

    guest: int = 0
    native: int = 0


@dataclass
class NativeCount:
    """What native takes where that is an exact count: the same beside every guest, so that one
    sample does for all boots and variants of a host."""

    reading: Reading | None = None
    line: str = ""  # the command


@dataclass(frozen=True)
class Counted:
    """A run in the guest and by how much the guest's counters grew around it."""

    reading: Reading
    grown: Mapping[str, float]

    def per_unit(self, start: Counted) -> dict[str, float]:
        """Counts per unit of work, without what starting the program and SSH cause: these are in
        `start` as well, a smaller run. Where it is not much smaller, they cannot be told apart."""
        done = self.reading.units
        less = start.reading.units <= done / 2
        units = done - (start.reading.units if less else 0)
        counts = {key: n / done for key, n in self.reading.counters.items()}
        for key, n in self.grown.items():
            taken_off = start.grown.get(key, 0.0) if less else 0.0
            # a little below 0 at times: dropped, the mean of the others would be too large
            counts[key] = (n - taken_off) / units
            if less:
                counts[key + TAKEN_OFF] = taken_off / units
        return counts


_NO_START = Counted(Reading(0.0), {})


class Measure:
    """The `measure` that a workload function calls, once."""

    def __init__(
        self,
        *,
        guest: Guest,
        native: Native | None,
        clients: Mapping[str, Native],
        recorder: Recorder,
        sizes: Sizes,
        counters: Callable[[Guest], Mapping[str, int]],
        histogram: Callable[[Guest], ExitHistogram | None] = lambda guest: None,
        monitor: InterferenceMonitor | None = None,
        native_count: NativeCount | None = None,
        native_warm: bool = True,
        usage: bool = True,
    ) -> None:
        """`native` None: no native counterpart; `clients` run the clients of network workloads,
        by side. With `native_count` native is sampled only if that has no sample yet. Not
        `native_warm`: native was not run since this run began or was continued. Not `usage`:
        what a sample makes the guest's counters grow by is told by nobody."""
        self.guest = guest
        self.boot = recorder.boot
        self.plan = recorder.plan
        self.outcome = recorder.outcome
        self._recorder = recorder
        self._native_count = native_count or NativeCount()
        self._keeps_native = native_count is not None
        self._native_warm = native_warm
        self._usage = usage
        self._targets: dict[str, Target] = {GUEST: guest}
        if native is not None and self._native_count.reading is None:
            self._targets = {NATIVE: native, GUEST: guest}
        self.clients = clients
        self._sizes = sizes
        self._counters = counters
        self._exit_histogram = histogram
        self._monitor = monitor or InterferenceMonitor(guest.host)
        self._idle = IdleMonitor(guest.host)
        self.round = 0

    def __call__(
        self,
        command: Command,
        *,
        read: Reader,
        initial_units: int = 1,
        min_units: int = 1,
        max_units: int = 1 << 40,
        fixed_units: int = 0,
        server: Server | None = None,
    ) -> None:
        """Measure `command(units, endpoint)`, a shell command of fixed work, on guest and native.

        `read` turns its standard output into the seconds that the program itself measured (or a
        Reading with quantiles); `initial_units` is the first calibration step, `min_units` and
        `max_units` bound the units of a sample. With `fixed_units` the command does that much and
        nothing else, and a boot's first execution is its only one: nothing is calibrated, warmed
        up or counted. With `server`, that command runs on the target and `command` becomes its
        client beside it. Raises WorkloadError, Unsupported, GuestLost.
        """
        if not (initial_units >= 1 and 1 <= min_units <= max_units and fixed_units >= 0):
            raise WorkloadError(
                f"no work can be done in initial_units={initial_units}, min_units={min_units}, "
                f"max_units={max_units}, fixed_units={fixed_units}",
                remedy="units are whole numbers from 1, and min_units is no more than max_units",
            )
        with ExitStack() as stack:
            runs = {}
            for side, target in self._targets.items():
                client = client_of(side, self.clients, server)
                stack.enter_context(serving(target, server))
                runs[side] = Execution(
                    side,
                    target,
                    command,
                    read,
                    guest=self.guest,
                    timeout_s=self.plan.command_timeout_s,
                    client=client,
                )
            if fixed_units:
                self._sizes.guest = self._sizes.native = fixed_units
                self._recorder.phase("measuring")
                self._recorder.record(self._pair(runs))
            else:
                self._measure(runs, initial_units, min_units, max_units)

    def _measure(
        self, runs: dict[str, Execution], initial_units: int, min_units: int, max_units: int
    ) -> None:
        began = time.monotonic()
        self._recorder.phase("calibrating")
        for side in tuple(runs):
            try:
                self._warm_up(runs[side], side, max(initial_units, min_units), min_units, max_units)
            except Unsupported as error:
                if side == GUEST:
                    raise
                self._without_native(runs, error)
        start = _NO_START  # a guest without counters needs no run that says what starting takes
        if self._look():
            start = self._counted(runs[GUEST], max(1, self._sizes.guest // _PART))
        self._recorder.phase("measuring")
        for taken in range(self.plan.rounds):
            if taken and time.monotonic() - began > self.plan.budget_s:
                self.outcome.flags.add("budget")
                break
            self._recorder.record(self._pair(runs, start))
        if self.plan.exits and not self.outcome.exits:
            try:
                self._count_exits(runs[GUEST])
            except (HostError, ConnectionLost) as error:
                self.outcome.notes.add(f"exits were not counted: {error.what}")

    def _take(self, run: Execution, side: str, units: int) -> Reading:
        # Guest and native halves of the scratch disk change sides from round to round, and where
        # a boot has one round: not in step with who goes first.
        even = (self.round + self.boot // 2) % 2 == 0
        try:
            return run.take(units, first_half=even == (side == GUEST))
        finally:
            self.outcome.commands[side] = run.line

    def _without_native(self, runs: dict[str, Execution], error: Unsupported) -> None:
        del runs[NATIVE]
        self.outcome.notes.add(f"not measured natively: {error.what}")

    def _count_exits(self, run: Execution) -> None:
        """Exits by reason per unit of work, once per series: counting takes time, so its rounds
        are not timed."""
        histogram = self._exit_histogram(self.guest)
        if histogram is None:
            return
        whole = self._sizes.guest
        part = whole // _PART
        counts: list[Mapping[str, int]] = []
        done: list[float] = []
        with histogram as look:
            # What a program leaves to be tidied up after its end falls to the next, so the first
            # has one before it as well.
            for amount in (part, part, whole):
                done.append(self._take(run, GUEST, amount).units if amount else 0)
                counts.append(look())
        start, middle, end = counts
        for name in end:
            grew = end[name] - middle.get(name, 0)
            base = middle.get(name, 0) - start.get(name, 0) if part else 0
            self.outcome.exits[name] = (grew - base) / (done[2] - done[1])

    def phase_s(self, operation: str, phase: str) -> float:
        """Seconds of a phase of this guest's life. Raises Unsupported where nobody timed it."""
        return phase_s(self.guest, operation, phase)

    def absolute(self, seconds: float) -> None:
        """Record a duration that was measured elsewhere and has no native counterpart. Raises
        WorkloadError for one that is no duration."""
        self._recorder.record(Pair(None, duration(seconds, "workload"), self.boot))

    def _warm_up(
        self, run: Execution, side: str, initial_units: int, min_units: int, max_units: int
    ) -> None:
        """Calibrate once per series; a later boot begins with a sample that is thrown away. A
        whole one reads and translates the program, and backs all memory that a sample uses: so
        does the last step of calibration."""
        known: int = getattr(self._sizes, side)
        if not known:
            known = self._fit(run, side, initial_units, min_units, max_units)
            setattr(self._sizes, side, known)
        elif side == GUEST or self._keeps_native or not self._native_warm:
            # native is warm from the boots before; only an exact count tells a second run from a
            # third
            self._take(run, side, known)

    def _fit(
        self, run: Execution, side: str, initial_units: int, min_units: int, max_units: int
    ) -> int:
        if initial_units >= max_units:
            self._take(run, side, max_units)
            return max_units
        # A guest can take long for what native does in a sample, but not for a part of it.
        begin = self._sizes.native // _GUEST_BEGINS if side == GUEST else 0
        steps = calibrate(max(initial_units, begin), self.plan.target_s, max_units, min_units)
        units = next(steps)
        refused, cold = False, self._wall
        try:
            while True:
                reading = self._take(run, side, units)
                seconds = reading.elapsed_s * units / reading.units
                long = units <= min_units and seconds > _COLD_MAX * self.plan.target_s
                if cold and seconds >= self.plan.target_s / 2 and not long:
                    # a first start reads its files and looks like slow work: it is not the last
                    cold = False
                    continue
                cold = False
                if reading.too_short:  # more is needed, however long it took
                    refused, seconds = True, min(seconds, self.plan.target_s / 4)
                units = steps.send(seconds)
        except StopIteration as stop:
            # where steps were too short, only the last one is known to be long enough
            return units if refused else int(stop.value)

    @property
    def counts(self) -> bool:
        """Whether a sample is instructions, and no time."""
        return not self._wall

    @property
    def _wall(self) -> bool:
        return self.guest.host.time_base is TimeBase.WALL

    def _counted(self, run: Execution, units: int) -> Counted:
        """A run in the guest, and by how much its counters grew."""
        was = self._look()
        reading = self._take(run, GUEST, units)
        now = self._look()
        # to a nanosecond: differences of floats are never quite 0
        grown = {key: round(now[key] - was[key], 9) for key in was if key in now}
        return Counted(reading, grown)

    def _look(self) -> dict[str, float]:
        if not self._usage:
            return {}
        counters = {**self.guest.usage(), **self._counters(self.guest)}
        if self.guest.capabilities.usage is UsageScope.HOST and GUEST in self.clients:
            counters.pop("host_cpu_s", None)  # the client runs there too: no cost of the guest
        return counters

    def _pair(self, runs: dict[str, Execution], start: Counted | None = None) -> Pair:
        """One round. Without `start`, whose counts are taken off, nothing is counted."""
        readings: dict[str, Reading] = {}
        counters: dict[str, float] = {}
        before, idle_before = self._monitor.sample(), self._idle.sample()
        for side in order(self.round, self.boot):
            if side not in runs or (side == NATIVE and self._native_count.reading):
                continue
            counted = side == GUEST and start is not None
            try:
                taken = self._long_enough(runs[side], side, counted=counted)
            except Unsupported as error:  # by now: an earlier boot had it
                if side == GUEST:
                    raise
                self._without_native(runs, error)
                continue
            readings[side] = taken.reading
            if counted and start is not None:
                counters = taken.per_unit(start)
        self.round += 1
        measured_s = sum(reading.elapsed_s for reading in readings.values())
        flags = {
            *self._monitor.flags_since(before),
            *self._idle.flags_since(idle_before, measured_s),
        }
        for run in runs.values():
            flags |= run.flags()
        native, guest = self._native_reading(readings.get(NATIVE)), readings[GUEST]
        return Pair(
            native_s=self._sample(NATIVE, native) if native else None,
            guest_s=self._sample(GUEST, guest),
            boot=self.boot,
            flags=tuple(sorted(flags)),
            counters=counters,
            quantiles={
                name: (native.quantiles.get(name) if native else None, value)
                for name, value in guest.quantiles.items()
            },
            equal=None if guest.equal is None else (native.equal if native else None, guest.equal),
        )

    def _native_reading(self, taken: Reading | None) -> Reading | None:
        """What was `taken`, or what is known of native."""
        if not self._keeps_native:
            return taken
        kept, commands = self._native_count, self.outcome.commands
        if kept.reading is None and taken is not None:
            kept.reading, kept.line = taken, commands[NATIVE]
        if kept.reading is not None:
            self.outcome.flags.add("native_once")
            commands[NATIVE] = kept.line
        return kept.reading

    def _long_enough(self, run: Execution, side: str, *, counted: bool) -> Counted:
        """A sample of the calibrated size. One that proves too short, as on a machine that became
        busier since, is taken again at twice the size, some times."""
        for _ in range(_LENGTHENED):
            units: int = getattr(self._sizes, side)
            if counted:
                taken = self._counted(run, units)
            else:
                taken = Counted(self._take(run, side, units), {})
            if not taken.reading.too_short:
                break
            setattr(self._sizes, side, 2 * units)
        return taken

    def _sample(self, side: str, reading: Reading) -> float:
        """Seconds per unit of work. Where instructions are counted, the median of groups of units
        is the same in every boot and under every load; the mean holds what interrupts add."""
        if reading.elapsed_s == 0 or reading.too_short:
            raise WorkloadError(
                f"a sample is too short: {reading.too_short or 'the workload says it took 0 s'}",
                evidence=self.outcome.commands[side],
                remedy="give it more units of work (min_units)",
            )
        mean = reading.elapsed_s / reading.units
        return mean if self._wall else reading.quantiles.get("p50", mean)
