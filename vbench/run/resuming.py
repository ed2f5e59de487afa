"""A run that is continued: what must be the same, and what is left to do."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import vbench
from vbench.contract.workload import Workload
from vbench.errors import UnreadableError, UsageError
from vbench.model import TimeBase
from vbench.results import identity, recovery
from vbench.results.history import SCHEMA_VERSION
from vbench.results.journal import JOURNAL_NAME
from vbench.results.reading import run_of
from vbench.results.typed import from_json
from vbench.run.options import RunOptions
from vbench.run.schedule import Task
from vbench.run.session import Session


def head(session: Session, options: RunOptions, workloads: Sequence[Workload]) -> dict[str, Any]:
    """What a run is, as the first record of its journal says it."""
    plans = {"plan": options.plan(), "plan where instructions are counted": options.counting_plan()}
    return {
        "schema_version": SCHEMA_VERSION,
        "started": session.book.started,
        "seed": session.seed,
        "options": options.record(),
        # each of these must be the same when the run is continued
        "same": {
            "version of vbench": vbench.__version__,
            "image": session.book.image,
            "series": ", ".join(series.label for series in session.series),
            **{
                f"{name}: {field}": str(value)
                for name, plan in plans.items()
                for field, value in dataclasses.asdict(plan).items()
            },
            **{f"workload {each.info.name}": each.info.definition for each in workloads},
        },
    }


def read(directory: Path) -> recovery.Recovered:
    """The run that was measured into `directory`. Raises UsageError where there is none, and
    UnreadableError for a damaged journal."""
    path = directory / JOURNAL_NAME
    if not path.is_file():
        raise UsageError(
            f"{directory} holds no run that can be continued: there is no {JOURNAL_NAME}",
            remedy="name the folder of an interrupted `vbench run`",
        )
    return recovery.read(path)


def options_of(run: recovery.Recovered, directory: Path) -> RunOptions:
    """What the run was asked for. Raises UnreadableError where that is damaged."""
    try:
        # options of another version are passed over: who continues the run is told of the version
        options: RunOptions = from_json(run.head["options"], RunOptions, "options")
    except ValueError as error:
        what = f"{directory / JOURNAL_NAME} is damaged"
        raise UnreadableError(what, evidence=f"line 1: {error}", remedy="measure anew") from error
    return dataclasses.replace(options, out=directory, seed=run.head["seed"])


def must_be_same(run: recovery.Recovered, session: Session, now: Mapping[str, Any]) -> None:
    """Raises UsageError that names what differs from when the run began."""
    differing = identity.differing(run.head["same"], now["same"])
    hosts = {series.label: series.host for series in session.series}
    for label, record in run.series.items():
        if label in hosts:
            before = identity.machine(run_of(record, (), ()).host)
            differing += identity.differing(before, identity.machine(hosts[label].facts()))
            if hosts[label].time_base is TimeBase.INSTRUCTIONS:
                hosts[label].close()  # it is measured later, and takes nothing from the others
    if differing:
        raise UsageError(
            "the run cannot be continued, because this is not the same any more: "
            + ", ".join(dict.fromkeys(differing)),
            remedy="measure anew, in another folder",
        )


def done(run: recovery.Recovered, tasks: Sequence[Task]) -> set[tuple[str, str, int]]:
    """The tasks of the boots that are complete: all that was planned for them is over, and nothing
    of it failed. A guest that cannot be relaunched has one boot, which is complete with the last
    task. What could not run is tried again."""
    one_boot = {
        label
        for label, launch in run.launches
        if launch.capabilities is not None and not launch.capabilities.relaunchable
    }

    def boot(label: str, number: int) -> tuple[str, int]:
        return (label, 0 if label in one_boot else number)

    ended = {key for key in run.ended() if key[0] not in run.unavailable} - run.failed()
    broken = {boot(task.series.label, task.boot) for task in tasks if task.key not in ended}
    return {key for key in ended if boot(*key[::2]) not in broken}


def measured_anew(run: recovery.Recovered, done: Set[tuple[str, str, int]]) -> list[str]:
    """A sentence for each series that could not run, and for each boot that was begun and is not
    complete, or of which something failed."""
    begun = Counter((label, boot) for label, workload, boot in run.tasks.keys() - done)
    why = {(label, boot): "had failures" for label, _, boot in run.failed()}
    return [
        f"{label} could not run, and is tried again: {reason}"
        for label, (_, _, reason, _) in sorted(run.unavailable.items())
    ] + [
        f"boot {boot + 1} of {label} {why.get((label, boot), 'was not complete')}: "
        f"what it measured of {count} workload{'s' * (count > 1)} is measured anew; "
        f"the old samples stay in {JOURNAL_NAME}"
        for (label, boot), count in sorted(begun.items())
    ]
