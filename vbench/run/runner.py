"""`vbench run`: from what the user asked for, through the loop, to a report."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import sys
from pathlib import Path

from vbench import report
from vbench.contract.workload import Workload
from vbench.errors import INTERRUPTED_STATUS, StoreError, UsageError, VbenchError
from vbench.results.journal import JOURNAL_NAME, write_atomic
from vbench.results.recovery import Recovered
from vbench.run import lanes, pairing, resuming
from vbench.run.lock import machines, measuring_alone
from vbench.run.loop import measure_all
from vbench.run.opening import Asked, check, load_workloads, open_session, say_problems
from vbench.run.options import RunOptions, say
from vbench.run.progress import Progress
from vbench.run.schedule import Task, check_names, schedule
from vbench.run.session import Session
from vbench.system.interrupts import terminated_as_interrupted


def run(options: RunOptions) -> int:
    """Measure, write JSON and report; returns the exit status. Raises VbenchError before the
    first guest, never after."""
    asked, workloads = _checked(options)
    with terminated_as_interrupted(), contextlib.ExitStack() as stack:
        stack.enter_context(measuring_alone(machines(options.hosts, asked.variants), say))
        existed = options.out is not None and options.out.is_dir()
        out = new_directory(options.out)
        stack.callback(_remove_if_empty, out, keep=existed, parent=options.out is None)
        options = dataclasses.replace(options, out=out)
        session = stack.enter_context(open_session(options, asked, lanes=True))
        tasks = _tasks(session, options, workloads)
        session.book.note("run", **resuming.head(session, options, workloads))
        return _measure(session, tasks, options)


def resume(directory: Path) -> int:
    """Continue the run that was measured into `directory`; as `run`."""
    directory = directory.absolute()
    before = resuming.read(directory)
    if _complete(before, directory):
        return 0
    options = resuming.options_of(before, directory)
    asked, workloads = _checked(options)
    with terminated_as_interrupted(), contextlib.ExitStack() as stack:
        stack.enter_context(measuring_alone(machines(options.hosts, asked.variants), say))
        before = resuming.read(directory)
        if _complete(before, directory):  # another process has continued it
            return 0
        session = stack.enter_context(open_session(options, asked, lanes=True))
        tasks = _tasks(session, options, workloads)
        resuming.must_be_same(before, session, resuming.head(session, options, workloads))
        done = resuming.done(before, tasks)
        anew = resuming.measured_anew(before, done)
        session.book.resume(before, done, {each.info.name: each.info for each in workloads})
        say(f"vbench: {len(done)} of {len(tasks)} measurements are kept")
        for line in anew:
            say(f"vbench: {line}")
        left = [task for task in tasks if task.key not in done]
        return _measure(session, left, options)


def _complete(run: Recovered, directory: Path) -> bool:
    """Whether there is nothing to continue, which is said."""
    complete = run.stopped == "" and not run.unavailable and not run.failed()
    if complete:
        say(f"vbench: {directory} is complete; there is nothing to continue")
    return complete


def _checked(options: RunOptions) -> tuple[Asked, list[Workload]]:
    """What was asked for. Whatever of it is wrong is found before anything is made."""
    asked = check(options)
    workloads = load_workloads(options, asked.registry)
    check_names(options.workloads, (workload.info for workload in workloads))
    return asked, workloads


def _tasks(session: Session, options: RunOptions, workloads: list[Workload]) -> list[Task]:
    tasks = schedule(session.series, workloads, options.workloads, session.plan, session.seed)
    session.book.planned = len(tasks)
    return tasks


def _measure(session: Session, tasks: list[Task], options: RunOptions) -> int:
    """All of it that can be measured, and what there is to say at the end."""
    out = options.out
    assert out is not None  # noqa: S101 - it was made
    say(f"vbench: measuring {', '.join(session.book.series)} -> {out}")
    status, why = 0, ""
    try:
        fixed = options.plan().fixed_boots
        progress = Progress(sys.stderr, tasks, lanes=lanes.at_once(), fixed_boots=fixed)
        measure_all(session, tasks, progress, lambda: _report_so_far(session, out))
    except KeyboardInterrupt:
        status, why = INTERRUPTED_STATUS, "it was interrupted"
    except StoreError as error:
        status, why = 1, f"results could not be kept: {error.what}"
        say(f"vbench: {error}")
    session.broker.drop()
    lost = "; ".join(session.lost.values())
    for cause in session.failures.new():
        say(f"vbench: failed: {cause}")
    try:
        session.book.stop(why or lost)
        session.close()
    except VbenchError as error:
        status = status or 1
        say(f"vbench: {error}")
    if session.failures:
        status = status or 1
        say("\n".join(["vbench: failed:", *(f"  {line}" for line in session.failures.summary())]))
    say(f"vbench: {session.phases.describe()}")
    say_problems(session.registry)
    if status == INTERRUPTED_STATUS or lost:
        cause = "a connection was lost" if lost else "interrupted"
        say(f"vbench: {cause}; `vbench run --resume {out}` measures the rest")
    if not _report(session, out) or why:
        return status
    if options.ab:
        return _compared(session, options, out) or status
    print(f"\n{report.summary(session.book.results())}")
    return status


def _compared(session: Session, options: RunOptions, out: Path) -> int:
    """Say and keep what B is against A; the exit status of that."""
    comparison = pairing.compared(session, options)
    text = f"{pairing.legend(session)}\n\n{comparison.render()}"
    print(f"\n{text}", end="")
    try:
        write_atomic(out / "comparison.txt", text)
    except StoreError as error:
        say(f"vbench: {error}")
        return 1
    return comparison.status


def _report_so_far(session: Session, out: Path) -> None:
    """The report of what was measured until now. A fault in it ends no run: the last report will
    say what it is."""
    with contextlib.suppress(Exception):
        report.write(session.book.results(), out / "report.md")


def _report(session: Session, out: Path) -> bool:
    """The report of whatever there is, if there is anything."""
    results = session.book.results()
    if not results:
        return False
    try:
        report.write(results, out / "report.md")
    except StoreError as error:
        say(f"vbench: {error}")
        return False
    say(f"vbench: {out / 'report.md'}")
    return True


def new_directory(wanted: Path | None) -> Path:
    """The directory for results, made now: an existing one with results is never overwritten. Its
    path is absolute: a workload may change the current folder."""
    if wanted is None:
        stamp = datetime.datetime.now().astimezone().strftime("%Y-%m-%dT%H%M%S")
        wanted = Path("vbench-results") / stamp
    try:
        wanted.mkdir(parents=True, exist_ok=True)
        if any(wanted.iterdir()):
            raise UsageError(f"{wanted} is not empty", remedy="name a new folder with --out")
        probe = wanted / ".writable"
        probe.touch()
        probe.unlink()
    except FileExistsError:
        raise UsageError(f"{wanted} is a file", remedy="name a folder with --out") from None
    except OSError as error:
        raise UsageError(
            f"{wanted} is not writable: {error.strerror}", remedy="name another folder with --out"
        ) from error
    return wanted.absolute()


def _remove_if_empty(directory: Path, *, keep: bool, parent: bool) -> None:
    """Leave nothing behind for a run that never measured anything; `keep`: a folder that the
    user made stays; `parent`: the folder above it is of runs alone, and goes when it is empty."""
    journal = directory / JOURNAL_NAME
    with contextlib.suppress(OSError):
        if journal.exists() and journal.stat().st_size == 0:
            journal.unlink()
        if not keep:
            directory.rmdir()
        if parent:
            directory.parent.rmdir()
