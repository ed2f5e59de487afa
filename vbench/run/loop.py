"""The loop of a run: host by host, boot by boot, series by series, workload by workload.

The order is that of `schedule`. A task that would decide nothing is passed over; a boot without a
task is not made. Whatever happens to one task, the next is measured; after each boot what failed is
said, and the report is written anew. What is counted needs no quiet machine: its hosts are measured
side by side, in lanes (`lanes.py`), and nothing that is timed meanwhile.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from itertools import groupby

from vbench.errors import Interrupted
from vbench.results.stats import MIN_BOOTS
from vbench.run import lanes
from vbench.run.progress import Progress
from vbench.run.schedule import Task, counts
from vbench.run.session import Session


def measure_all(
    session: Session,
    tasks: Sequence[Task],
    progress: Progress,
    report: Callable[[], object],
) -> None:
    """Measure `tasks`; `report` is called after each boot of a series.

    Raises StoreError where nothing more can be kept, and KeyboardInterrupt; what was measured
    until then is on disk.
    """

    def walk(lane: Session, of_lane: Sequence[Task]) -> None:
        measure_in_turn(lane, of_lane, progress, report)

    for stage in _stages(tasks):
        host = stage[0].series.host
        if host.timeout_scale > 1:
            progress.say(f"vbench: {host.name} comes up, which takes a minute or two")
        if counts(stage[0].series):
            session.broker.drop()  # a guest that is idle takes memory
            lanes.side_by_side(session, stage, walk, progress)
        else:
            walk(session, stage)


def _stages(tasks: Sequence[Task]) -> list[list[Task]]:
    """Those of one host at a time, or of all hosts that have its name."""
    return [list(of) for _, of in groupby(tasks, lambda task: task.series.host.name)]


def measure_in_turn(
    session: Session, tasks: Sequence[Task], progress: Progress, report: Callable[[], object]
) -> None:
    """One after the other. Raises as `measure_all`."""
    for _, of_boot in groupby(tasks, lambda task: (task.series, task.boot)):
        measured = False
        for task in of_boot:
            if session.stopped.is_set():
                raise Interrupted
            if task.series.host in session.gone:
                progress.skip(task)  # it is measured when the run is continued
            elif session.enough(task):
                session.book.enough(task)
                progress.skip(task)
            else:
                measure_one(session, task, progress)
                measured = True
        with session.book.lock:  # one lane at a time
            for cause in session.failures.new():
                progress.say(f"vbench: failed: {cause}")
            if measured:
                report()


def measure_one(session: Session, task: Task, progress: Progress) -> None:
    """Measure `task`, write its series' file and tell observers. Raises as `measure_all`."""
    progress.begin(task)
    booting_s = session.phases.seconds()["booting"]
    try:
        error = session.measure(task, task.workload.function)
    finally:  # also on Ctrl-C: what was measured is kept
        session.book.write(task.series)
    item = session.book.item(task)
    if session.book.out is not None:
        with session.book.lock:  # observers need not know of lanes
            session.registry.call("vbench_item_finished", item=item, out=session.book.out)
    following = dataclasses.replace(task, boot=task.boot + 1)
    if following.boot >= MIN_BOOTS:
        progress.decides(task, enough=session.enough(following))
    progress.end(task, item, error, session.phases.seconds()["booting"] - booting_s)
