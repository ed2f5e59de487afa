"""The loop of a run: host by host, boot by boot, series by series, workload by workload.

The order is that of `schedule`. A task that would decide nothing is passed over; a boot without a
task is not made. Whatever happens to one task, the next is measured; after each boot what failed is
said, and the report is written anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

from vbench.run.progress import Progress
from vbench.run.schedule import Task
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
    host = ""
    for (series, _), of_boot in groupby(tasks, lambda task: (task.series, task.boot)):
        if series.host.name != host:
            host = series.host.name
            if series.host.timeout_scale > 1:
                progress.say(f"vbench: {host} comes up, which takes a minute or two")
        for task in of_boot:
            if session.enough(task):
                session.book.enough(task)
                progress.skip(task)
            else:
                measure_one(session, task, progress)
        for cause in session.failures.new():
            progress.say(f"vbench: failed: {cause}")
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
        session.registry.call("vbench_item_finished", item=item, out=session.book.out)
    progress.end(task, item, error, session.phases.seconds()["booting"] - booting_s)
