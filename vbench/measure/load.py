"""Several guests under load at once: what they say of it, and what their host spent meanwhile."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from vbench.contract.guest import USAGE, Guest, Target
from vbench.contract.host import Host
from vbench.errors import ConnectionLost, HostError, WorkloadError
from vbench.guest.target import succeed
from vbench.records import UsageScope

_TIMEOUT_S = 60.0
_READ_S = 20.0
_TICKS = 100  # of /proc/stat and /proc/uptime in a second: USER_HZ
_UPTIME = re.compile(r"\A(\d+\.\d+) ")
# /proc/stat, proc(5): user nice system idle iowait irq softirq steal, of all CPUs
_IDLE = re.compile(r"^cpu " + r" \d+" * 3 + r" (\d+) (\d+) \d+ \d+ (\d+)", re.MULTILINE)
_ONE_CPU = re.compile(r"^cpu\d", re.MULTILINE)
_AVAILABLE = re.compile(r"^MemAvailable: +(\d+) kB", re.MULTILINE)
_PSS = re.compile(r"^Pss: +(\d+) kB", re.MULTILINE)
# Of the time that all answer, the first and the last part are left out of a host's busy share:
# not all have begun yet, and some have ended.
_EDGE = 0.15
# Requests, of 20 ms each: after 40 of them guests were busy for 14 % of a CPU in place of 18.
_CALIBRATION = 100


@dataclass(frozen=True)
class Requests:
    """`count` requests, one each `period_s` whether the last was done or not, each of `events`
    times all primes below 2,000: see workloads/probe_load.c."""

    count: int
    period_s: float
    events: int

    @property
    def command(self) -> str:
        return f"vbench-probe requests {self.count} {round(self.period_s * 1e6)} {self.events}"


@dataclass(frozen=True)
class Loaded:
    """What came of it. Seconds from when a request was due until it was done, by the clock of who
    did it; shares of all CPUs of the host: all that was busy, and what none of the guests was."""

    responses_s: tuple[float, ...]  # of all, in ascending order
    missed: float  # share of requests that were done after the next one was due
    busy: float
    foreign: float | None  # None: not known
    each: float | None  # what one kept busy on average, as a share of one CPU; None: not known

    def quantile(self, share: float) -> float:
        """The smallest response that `share` of all do not exceed."""
        return self.responses_s[max(0, -int(-share * len(self.responses_s) // 1) - 1)]


def events_of(target: Target, seconds: float) -> int:
    """How many events take so many seconds of CPU time on `target`. Raises as `succeed`."""
    events = 20
    said = json.loads(succeed(target, f"vbench-probe requests 20 1 {events}", timeout_s=_TIMEOUT_S))
    event_s: float = said["cpu_ns"] / 1e9 / said["units"] / events
    if event_s <= 0:
        raise WorkloadError("a request took no CPU time")
    return max(1, round(seconds / event_s))


def events_for(host: Host, guest: Guest, share: float, period_s: float) -> int:
    """Events of a request with which a guest keeps its hypervisor's process busy for `share` of one
    CPU, when one is due in each period. What a guest costs beside them, such as its timer, is in
    that share. Where nobody knows what the process spends, it is the guest's own CPU time. Raises
    as `succeed`."""
    most = events_of(guest, share * period_s)
    busy = [
        under_load(host, [guest], Requests(_CALIBRATION, period_s, events), [guest]).each
        for events in (1, most)
    ]
    if busy[0] is None or busy[1] is None or busy[1] <= busy[0]:
        return most
    return max(1, round(1 + (most - 1) * (share - busy[0]) / (busy[1] - busy[0])))


def under_load(
    host: Host, targets: Sequence[Target], requests: Requests, guests: Sequence[Guest]
) -> Loaded:
    """All `targets` serve requests at once. `guests` are those of them whose CPU time is told by
    their hypervisor. Raises as `succeed`."""
    lasts_s = requests.count * requests.period_s
    with ThreadPoolExecutor(len(targets)) as pool:
        running = [
            pool.submit(succeed, target, requests.command, timeout_s=_TIMEOUT_S)
            for target in targets
        ]
        sleep(host, lasts_s * _EDGE)
        before = CpuTime.of(host, guests)
        sleep(host, lasts_s * (1 - 2 * _EDGE))
        spent = CpuTime.of(host, guests).since(before)
        said = [json.loads(each.result()) for each in running]
    if not guests:
        shares = sum(each["cpu_ns"] / each["elapsed_ns"] for each in said)
        spent = replace(spent, ours_s=shares * spent.wall_s)
    responses_s = tuple(sorted(us / 1e6 for each in said for us in each["response_us"]))
    missed = sum(each > requests.period_s for each in responses_s)
    each = None if spent.ours_s is None else spent.ours_s / spent.wall_s / len(targets)
    return Loaded(responses_s, missed / len(responses_s), spent.busy, spent.foreign, each)


@dataclass(frozen=True)
class CpuTime:
    """Seconds of a host: those that passed; of all its CPUs: all, those that were busy, and those
    that guests of ours spent, if all of them know. Stolen ones are left out of CPUs' seconds."""

    wall_s: float
    all_s: float
    busy_s: float
    ours_s: float | None

    @classmethod
    def of(cls, host: Host, guests: Sequence[Guest]) -> CpuTime:
        """So far. Raises HostError."""
        wall_s, all_s, busy_s = _spent(host)
        return cls(wall_s, all_s, busy_s, _used(guests))

    def since(self, before: CpuTime) -> CpuTime:
        """What was spent from then on."""
        ours_s = (
            None if self.ours_s is None or before.ours_s is None else self.ours_s - before.ours_s
        )
        return CpuTime(
            max(self.wall_s - before.wall_s, 1 / _TICKS),
            max(self.all_s - before.all_s, 1 / _TICKS),
            self.busy_s - before.busy_s,
            ours_s,
        )

    @property
    def busy(self) -> float:
        """As a share. All figures are rounded to a hundredth of a second."""
        return min(1.0, max(0.0, self.busy_s / self.all_s))

    @property
    def foreign(self) -> float | None:
        """What was busy and not ours, as a share; None: not known."""
        return None if self.ours_s is None else max(0.0, self.busy_s - self.ours_s) / self.all_s


def pss_mib(guest: Guest) -> float | None:
    """Memory of the process that runs it: its own, and its share of what it has in common with
    others (PSS). None where it is no process of its host, or may not be asked."""
    pid = getattr(guest.machine, "pid", None)  # what drives it knows no such process else
    if pid is None:
        return None
    found = _PSS.search(_read(guest.host, f"/proc/{pid}/smaps_rollup"))
    return int(found[1]) / 1024 if found else None


def available_mib(host: Host) -> float | None:
    """What the host's kernel could give without swapping."""
    found = _AVAILABLE.search(_read(host, "/proc/meminfo"))
    return int(found[1]) / 1024 if found else None


def _spent(host: Host) -> tuple[float, float, float]:
    """Seconds that the host is up, all CPU seconds of it, and the busy ones; stolen ones are
    neither.

    Busy is what was not idle. The kernel times idle CPUs to the nanosecond (`get_idle_time` in
    fs/proc/stat.c), and charges busy ones at each tick to whoever runs just then
    (CONFIG_TICK_CPU_ACCOUNTING). By its user and system time a load whose period is a multiple of
    the tick's, as ours is, would be next to nothing or twice as much.
    """
    files = ["cat", "/proc/uptime", "/proc/stat"]
    text = host.run(files, timeout_s=_READ_S).stdout
    up, found = _UPTIME.match(text), _IDLE.search(text)
    if up is None or found is None:
        raise HostError(f"{host.name} does not say what its CPUs do", evidence=" ".join(files))
    idle_s, waiting_s, stolen_s = (int(n) / _TICKS for n in found.groups())
    all_s = len(_ONE_CPU.findall(text)) * float(up[1]) - stolen_s
    return float(up[1]), all_s, all_s - idle_s - waiting_s


def _used(guests: Sequence[Guest]) -> float | None:
    """CPU seconds that all of them spent; None where one of them does not know, or knows what its
    host spends."""
    if any(guest.capabilities.usage is not UsageScope.GUEST for guest in guests):
        return None
    spent = [guest.usage().get(USAGE[0]) for guest in guests]
    known = [each for each in spent if each is not None]
    return sum(known) if len(known) == len(spent) else None


def _read(host: Host, path: str) -> str:
    try:
        return host.read(path)
    except (HostError, ConnectionLost):
        return ""


def sleep(host: Host, seconds: float) -> None:
    """Let seconds of the host's clock pass."""
    until = host.clock() + seconds
    while (left := until - host.clock()) > 0:
        time.sleep(left)
