"""How long the rest of a run takes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from vbench.results.stats import MIN_BOOTS
from vbench.run.schedule import Task, counts

# Until a run has shown it: how much of its first boot, which calibrates, a task takes on a later
# one, and which share of the tasks that may decide nothing is measured.
_LATER_SHARE = 0.7
_MEASURED_SHARE = 0.2


class Estimate:
    """What is left, by what was measured so far: a task takes what it took on other boots, or what
    others of its host do. A host that was not measured yet may be ten times as slow, so it is not
    guessed at.

    Hosts in lanes are measured side by side, so many as `lanes` at once.
    """

    def __init__(self, tasks: Sequence[Task], lanes: int = 1) -> None:
        self._left = {task.key: task for task in tasks}
        self._boots_left = {task.guest: task for task in reversed(tasks)}
        self._lanes = lanes
        # seconds: of a task by series, workload and whether it was the first boot, of a boot by
        # series and options; and of all of a host
        self._took: dict[tuple[object, ...], list[float]] = defaultdict(list)
        self._late: list[bool] = []  # whether a task that might decide nothing was measured

    def took(self, task: Task, booting_s: float, rest_s: float) -> None:
        """`task` is done."""
        self._left.pop(task.key, None)
        if task.boot >= MIN_BOOTS:
            self._late.append(True)
        label, workload, boot = task.key
        for key in ((label, workload), (task.series.host.name,)):
            self._took[(*key, boot == 0)].append(rest_s)
        if self._boots_left.pop(task.guest, None) is not None:
            for key in ((label, task.workload.info.options), (task.series.host.name,)):
                self._took[("boot", *key)].append(booting_s)

    def skip(self, task: Task) -> None:
        """`task` is not measured; a boot that has no other is not made."""
        self._left.pop(task.key, None)
        self._late.append(False)
        if not any(other.guest == task.guest for other in self._left.values()):
            self._boots_left.pop(task.guest, None)

    def left(self) -> tuple[float, bool]:
        """Seconds, and whether that is all: False where something is left of which nothing is
        known."""
        complete = True
        in_turn, by_lane = 0.0, dict[object, float]()
        for seconds, task in self._costs():
            complete = complete and seconds is not None
            if counts(task.series):
                host = task.series.host
                by_lane[host] = by_lane.get(host, 0.0) + (seconds or 0.0)
            else:
                in_turn += seconds or 0.0
        beside = max(sum(by_lane.values()) / self._lanes, max(by_lane.values(), default=0.0))
        return in_turn + beside, complete

    def _costs(self) -> Iterable[tuple[float | None, Task]]:
        measured = (sum(self._late) + 2 * _MEASURED_SHARE) / (len(self._late) + 2)
        for task in self._left.values():
            seconds = self._of_task(task)
            if task.boot >= MIN_BOOTS and seconds is not None:
                seconds *= measured
            yield seconds, task
        tasks_of = Counter(task.guest for task in self._left.values())
        for guest, task in self._boots_left.items():
            seconds = self._of_boot(task)
            if task.boot >= MIN_BOOTS and seconds is not None:  # if any of its tasks is measured
                seconds *= 1 - (1 - measured) ** tasks_of[guest]
            yield seconds, task

    def _of_task(self, task: Task) -> float | None:
        label, workload, boot = task.key
        for key in ((label, workload), (task.series.host.name,)):
            same, other = (self._took.get((*key, first)) for first in (boot == 0, boot != 0))
            if same:
                return _mean(same)
            if other:
                return _mean(other) * (_LATER_SHARE if boot else 1 / _LATER_SHARE)
        return None

    def _of_boot(self, task: Task) -> float | None:
        own = self._took.get(("boot", task.series.label, task.workload.info.options))
        known = own or self._took.get(("boot", task.series.host.name))
        return _mean(known) if known else None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
