"""How long the rest of a run takes.

The plan is known: which tasks are left, which guests they need, which hosts are measured side by
side. What each of these takes is guessed at first, and learned from what the run has taken so far.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Hashable, Iterator, Sequence

from vbench.contract.host import Host
from vbench.model import WorkloadInfo
from vbench.results.stats import MIN_BOOTS
from vbench.run.schedule import Task, counts

# Seconds that the first boot of a workload of a category takes, without booting: medians of a
# default run (benchmarks/eta.py prints those of a journal) on two cores of an AMD EPYC, November
# 2026. Only their proportions matter once a part of a run is over.
_WALL_S = {"cpu": 2.1, "memory": 3.2, "syscall": 1.6, "disk": 1.4, "network": 2.5, "exit": 0.6,
           "interrupt": 1.2, "app": 3.8, "boot": 0.05}  # fmt: skip
_COUNTED_S = {"cpu": 3.0, "memory": 6.0, "syscall": 4.5, "disk": 12.0, "network": 14.0,
              "exit": 2.3, "app": 10.0, "boot": 0.05}  # fmt: skip
_OTHER_S = 3.0
_LATER, _COUNTED_LATER = 0.65, 0.3  # a later boot does not calibrate, nor count exits
_SCENARIO_S = {"provisioning": 6.0, "snapshot": 9.0, "migration": 19.0}
_SCENARIO_OTHER_S = 120.0
_COUNTED = 5.0  # a scenario in the testbed, so many times
_BOOT_S, _COUNTED_BOOT_S = 5.0, 24.0
_OWN_GUEST = 2.0  # one with options, mostly that it boots through the firmware
_HOST_S = 28.0  # until a testbed is up
# Which share of the tasks that may decide nothing is measured, and as if it was seen so often.
_MEASURED_SHARE, _SEEN = 0.12, 10
_AGAIN_SHARE = 0.6  # of those whose item needed the boot before
# What was taken so far counts against what is expected by this many seconds of expectation, at
# each level: of all hosts of a name, its series, and of the same task on another boot.
_DOUBT_S = 8.0
_DOUBT_OF_ITEM = 0.15  # a share of what is expected of it
_FORGOTTEN_S = 300.0  # after so long it counts for a third
# What takes more than so many times what is likely tells less of others: a boot that had to wait is
# no measure of them.
_USUAL = 2.0

_Keys = tuple[Hashable, ...]


class _Ratios:
    """What things took against what was expected of them, from the whole down to one thing: what
    little is known of a thing leans on what is known of those around it. What was long ago counts
    less, for a machine may be busier now."""

    def __init__(self) -> None:
        # seconds that it took, seconds that were expected, and when it was added to
        self._known: dict[_Keys, tuple[float, float, float]] = {}

    def add(self, keys: _Keys, took_s: float, expected_s: float, now_s: float) -> None:
        """`keys` name a thing from the widest that it belongs to down to itself."""
        likely_s = expected_s * self.of(keys, expected_s, now_s)
        usual = min(1.0, _USUAL * likely_s / took_s) if took_s else 1.0
        for depth in range(1, len(keys) + 1):
            took, expected = self._at(keys[:depth], now_s)
            weight = usual if depth < len(keys) else 1.0
            known = took + weight * took_s, expected + weight * expected_s, now_s
            self._known[keys[:depth]] = known

    def of(self, keys: _Keys, expected_s: float, now_s: float) -> float:
        """How many times as long as expected it takes."""
        ratio = 1.0
        for depth in range(1, len(keys) + 1):
            doubt_s = _DOUBT_S if depth < len(keys) else _DOUBT_OF_ITEM * expected_s
            took, expected = self._at(keys[:depth], now_s)
            ratio = (took + doubt_s * ratio) / (expected + doubt_s)
        return ratio

    def _at(self, keys: _Keys, now_s: float) -> tuple[float, float]:
        took, expected, added_s = self._known.get(keys, (0.0, 0.0, now_s))
        weight = math.exp((added_s - now_s) / _FORGOTTEN_S)
        return took * weight, expected * weight


class Estimate:
    """What is left of a run. Hosts where instructions are counted are measured side by side, so
    many as `lanes` at once, in the order of `in_lanes`. `fixed_boots`: all boots are made."""

    def __init__(self, tasks: Sequence[Task], lanes: int = 1, *, fixed_boots: bool = False) -> None:
        self._left = {task.key: task for task in tasks}
        self._boots_left = {task.guest: task for task in reversed(tasks)}
        self._lanes = lanes
        counted = [task for task in tasks if counts(task.series)]
        self._waiting = [lane[0].series.host for lane in in_lanes(counted)]
        self._running: list[Host] = []
        self._down = set(self._waiting)  # hosts that did not come up yet
        self._tasks, self._boots, self._hosts = _Ratios(), _Ratios(), _Ratios()
        self._may_decide_nothing = MIN_BOOTS if not fixed_boots else sys.maxsize
        self._late: list[bool] = []  # whether a task that might decide nothing was measured
        self._sure: set[tuple[str, str, int]] = set()  # of those, which are measured
        self._began: dict[Host, float] = {}  # when what is going on there began

    def comes_up(self, host: Host, now_s: float) -> None:
        """A lane begins."""
        self._began[host] = now_s
        if host in self._waiting:
            self._waiting.remove(host)
            self._running.append(host)

    def is_up(self, host: Host, now_s: float) -> None:
        """Its machine answers."""
        self._down.discard(host)
        self._hosts.add((host.name,), now_s - self._began[host], _HOST_S, now_s)
        self._began[host] = now_s

    def took(self, task: Task, booting_s: float, rest_s: float, now_s: float) -> None:
        """`task` is done."""
        self._left.pop(task.key, None)
        if task.boot >= self._may_decide_nothing:
            self._late.append(True)
        if task.workload.info.scenario:  # its launches are a part of it
            booting_s, rest_s = 0.0, booting_s + rest_s
        self._tasks.add(_names(task), rest_s, expected_s(task), now_s)
        if self._boots_left.pop(task.guest, None) is not None and not task.workload.info.scenario:
            self._boots.add(_boot_names(task), booting_s, _boot_s(task), now_s)
        self._began[task.series.host] = now_s

    def decides(self, task: Task, *, enough: bool) -> None:
        """After `task` it is known whether its item has `enough` boots or is measured again."""
        if not enough:
            self._sure.add((*task.key[:2], task.boot + 1))
            return
        for other in list(self._left.values()):
            if other.key[:2] == task.key[:2] and other.boot > task.boot:
                self.skip(other)

    def skip(self, task: Task) -> None:
        """`task` is not measured; a boot that has no other is not made."""
        if self._left.pop(task.key, None) is None:
            return
        if task.boot >= self._may_decide_nothing:
            self._late.append(False)
        if not any(other.guest == task.guest for other in self._left.values()):
            self._boots_left.pop(task.guest, None)

    def over(self, host: Host) -> None:
        """Its lane has ended, whatever it did not measure."""
        self._down.discard(host)
        self._left = {k: task for k, task in self._left.items() if task.series.host is not host}
        boots = self._boots_left.items()
        self._boots_left = {k: task for k, task in boots if task.series.host is not host}

    def left(self, now_s: float) -> float:
        """Seconds until all is measured."""
        in_turn, by_lane = 0.0, dict.fromkeys((*self._running, *self._waiting), 0.0)
        for host in self._down:
            by_lane[host] += _HOST_S * self._hosts.of((host.name,), _HOST_S, now_s)
        for seconds, task in self._costs(now_s):
            if counts(task.series):
                by_lane[task.series.host] += seconds
            else:
                in_turn += seconds
        busy = [max(0.0, by_lane[host] - (now_s - self._began[host])) for host in self._running]
        busy += [0.0] * (self._lanes - len(busy))
        for host in self._waiting:
            busy.sort()
            busy[0] += by_lane[host]
        return in_turn + max(busy)

    def _costs(self, now_s: float) -> Iterator[tuple[float, Task]]:
        made = (sum(self._late) + _SEEN * _MEASURED_SHARE) / (len(self._late) + _SEEN)
        none: dict[Hashable, float] = {}  # of a guest's tasks is measured: how likely that is
        for task in self._left.values():
            takes_s = expected_s(task)
            share = self._share(task, made)
            # the figures of a variant vary alike: one that needs a boot is seldom alone
            none[task.guest] = min(none.get(task.guest, 1.0) * math.sqrt(1.0 - share), 1.0 - share)
            yield share * takes_s * self._tasks.of(_names(task), takes_s, now_s), task
        for guest, task in self._boots_left.items():
            if not task.workload.info.scenario:
                takes_s = _boot_s(task)
                ratio = self._boots.of(_boot_names(task), takes_s, now_s)
                yield (1.0 - none[guest]) * takes_s * ratio, task

    def _share(self, task: Task, made: float) -> float:
        """How likely it is measured, where of those that may decide nothing `made` are."""
        if task.boot < self._may_decide_nothing or task.key in self._sure:
            return 1.0
        again = any((*task.key[:2], boot) in self._sure for boot in range(task.boot))
        return max(made, _AGAIN_SHARE) if again else made


def in_lanes(tasks: Sequence[Task]) -> list[list[Task]]:
    """The tasks of each host, in the order in which hosts are measured: what a first table needs,
    then what takes longest."""
    lanes: dict[Host, list[Task]] = {}
    for task in tasks:
        lanes.setdefault(task.series.host, []).append(task)

    def rank(lane: Sequence[Task]) -> tuple[bool, float]:
        parts = (task.series.part for task in lane)
        guests = {task.guest: task for task in lane if not task.workload.info.scenario}
        takes_s = sum(map(expected_s, lane)) + sum(map(_boot_s, guests.values()))
        return not any(part is not None and part.quick for part in parts), -takes_s

    return sorted(lanes.values(), key=rank)


def expected_s(task: Task) -> float:
    """What `task` takes on the reference machine, without booting: seconds."""
    info, counted = task.workload.info, counts(task.series)
    if info.scenario:
        return _SCENARIO_S.get(info.category, _SCENARIO_OTHER_S) * (_COUNTED if counted else 1)
    table = _COUNTED_S if counted else _WALL_S
    later = _COUNTED_LATER if counted else _LATER
    return table.get(info.category, _OTHER_S) * (later if task.boot else 1.0)


def _boot_s(task: Task) -> float:
    info: WorkloadInfo = task.workload.info
    own = _OWN_GUEST if info.options else 1.0
    return own * (_COUNTED_BOOT_S if counts(task.series) else _BOOT_S)


def _names(task: Task) -> _Keys:
    return (*_place(task), task.workload.info.category, task.workload.info.name)


def _boot_names(task: Task) -> _Keys:
    return (*_place(task), task.workload.info.options)


def _place(task: Task) -> _Keys:
    return (task.series.host.name, task.series.label)
