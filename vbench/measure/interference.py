"""Was this round disturbed? Steal time, CPU pressure, throttling and idle time of a host."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from vbench.contract.host import Host
from vbench.errors import ConnectionLost, HostError
from vbench.model import TimeBase
from vbench.system.cgroups import stat_files

# Shares of the round's wall time above which its pair is flagged. A guest and our own SSH client
# on two busy cores alone cause a few per cent of pressure; a tenth is somebody else, or a
# workload of two processes on one.
STEAL_SHARE = 0.01
# Of /proc/stat: a difference of two readings is too large by less than that.
_STEAL_RESOLUTION_S = 0.01
PRESSURE_SHARE = 0.10
# On the instruction base an idle machine's clock goes on by the wall. /proc/uptime counts
# hundredths of a second, so two readings of two figures are wrong by 0.02 s at most.
IDLE_SHARE = 0.01
_IDLE_RESOLUTION_S = 0.02


PRESSURE = "cpu-pressure"


@dataclass(frozen=True)
class InterferenceSample:
    """Monotonic counters of a host at one moment, in seconds; None where it has no such file."""

    at_s: float
    steal_s: float | None
    pressure_s: float | None
    throttled: float | None  # periods


@dataclass(frozen=True)
class IdleSample:
    """What a host of one CPU has been up and idle for, in seconds of its clock."""

    uptime_s: float
    idle_s: float


class IdleMonitor:
    """Whether a host whose clock counts instructions was idle while a program measured itself."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._active = host.time_base is TimeBase.INSTRUCTIONS and host.sees_idle

    def sample(self) -> IdleSample | None:
        words = _text(self._host, "/proc/uptime").split() if self._active else []
        return IdleSample(float(words[0]), float(words[1])) if len(words) == 2 else None

    def flags_since(self, before: IdleSample | None, measured_s: float) -> tuple[str, ...]:
        """ "idle" if of `measured_s`, which programs measured since `before`, some was idle: what
        is more than all the time outside of their loops."""
        now = self.sample()
        if before is None or now is None:
            return ()
        outside_s = now.uptime_s - before.uptime_s - measured_s
        idle_s = now.idle_s - before.idle_s - outside_s
        return ("idle",) if idle_s > IDLE_SHARE * measured_s + _IDLE_RESOLUTION_S else ()


class InterferenceMonitor:
    """Looks at a host before and after a round. On an instruction base nothing disturbs."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._active = host.time_base is TimeBase.WALL
        self._throttle_files: list[str] | None = None  # unknown until the first sample

    def sample(self) -> InterferenceSample | None:
        if not self._active:
            return None
        steal = self._number("/proc/stat", r"^cpu (?: \d+){7} (\d+)", 100)
        pressure = self._number("/proc/pressure/cpu", r"^some .*total=(\d+)", 1e6)
        return InterferenceSample(time.monotonic(), steal, pressure, self._throttled())

    def _throttled(self) -> float | None:
        """How often the own control group and those above it were held back so far."""
        if self._throttle_files is None:
            texts = (
                _text(self._host, "/proc/self/cgroup"),
                _text(self._host, "/proc/self/mountinfo"),
            )
            self._throttle_files = stat_files(*texts)
        counts = {
            path: self._number(path, r"^nr_throttled (\d+)", 1) for path in self._throttle_files
        }
        # a group without the CPU controller has no such line
        self._throttle_files = [path for path, count in counts.items() if count is not None]
        found = [count for count in counts.values() if count is not None]
        return sum(found) if found else None

    def flags_since(self, before: InterferenceSample | None) -> tuple[str, ...]:
        """Flags for the time since `before`: "steal", "cpu-pressure", "throttled"."""
        now = self.sample()
        if before is None or now is None:
            return ()
        lasted_s = max(now.at_s - before.at_s, 1e-3)
        flags = []
        stolen_s = _grew(before.steal_s, now.steal_s) - _STEAL_RESOLUTION_S
        if stolen_s > STEAL_SHARE * lasted_s:
            flags.append("steal")
        if _grew(before.pressure_s, now.pressure_s) > PRESSURE_SHARE * lasted_s:
            flags.append(PRESSURE)
        if _grew(before.throttled, now.throttled) > 0:
            flags.append("throttled")
        return tuple(flags)

    def _number(self, path: str, pattern: str, per_second: float) -> float | None:
        match = re.search(pattern, _text(self._host, path), re.MULTILINE)
        return int(match[1]) / per_second if match else None


def _text(host: Host, path: str) -> str:
    try:
        return host.read(path)
    except (HostError, ConnectionLost):
        # No PSI or no control groups in this kernel; or whoever uses the host next is told that it
        # is gone, and a finished pair is kept.
        return ""


def _grew(before: float | None, now: float | None) -> float:
    return 0.0 if before is None or now is None else now - before
