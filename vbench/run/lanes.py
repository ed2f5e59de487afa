"""Hosts that count instructions, measured side by side: a thread and a session for each.

A count is the same under any load, so as many machines are up as this one has CPUs and memory for.
One that fails ends its own lane. Ctrl-C ends all: their machines are killed, and each thread tidies
up after itself.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from vbench.contract.registry import probed
from vbench.errors import ConnectionLost, Interrupted, StoreError, VbenchError
from vbench.model import Availability
from vbench.run.estimate import in_lanes
from vbench.run.failures import Failure
from vbench.run.options import say
from vbench.run.progress import Progress
from vbench.run.schedule import Task
from vbench.run.series import Series
from vbench.run.session import Session
from vbench.testbed import MACHINES_MAX, MEMORY_MIB, TestbedHost

Walk = Callable[[Session, Sequence[Task]], None]

_LOOK_EVERY_S = 0.2


def at_once() -> int:
    """How many lanes this machine has CPUs and memory for, one at least. A lane is one busy thread
    and a testbed of at most MACHINES_MAX machines."""
    known = Path("/proc/meminfo").read_text(encoding="ascii")
    found = re.search(r"^MemAvailable: +(\d+) kB", known, re.MULTILINE)
    available_mib = int(found[1]) >> 10 if found else 0
    fit = available_mib // (MACHINES_MAX * MEMORY_MIB)
    return max(1, min(len(os.sched_getaffinity(0)), fit))


def side_by_side(session: Session, tasks: Sequence[Task], walk: Walk, progress: Progress) -> None:
    """Measure `tasks` by `walk`, those of each host in a lane, in the order of `in_lanes`.

    Raises StoreError, of whichever lane had it first, and KeyboardInterrupt; no lane is left then.
    """
    lanes = _Lanes(session, tasks, walk, progress)
    session.phases.pause()
    try:
        lanes.start()
        lanes.wait()
    except BaseException:  # Ctrl-C
        lanes.cut_off()
        raise
    finally:
        session.phases.enter("other")
    if lanes.errors:
        raise lanes.errors[0]


class _Lanes:
    def __init__(
        self, session: Session, tasks: Sequence[Task], walk: Walk, progress: Progress
    ) -> None:
        self.errors: list[BaseException] = []
        self._session, self._walk, self._progress = session, walk, progress
        self._waiting = deque(in_lanes(tasks))
        self._running: list[Session] = []
        self._count = min(at_once(), len(self._waiting))
        # Not by Thread.join, which takes a thread to have ended when Ctrl-C interrupts it.
        self._threads: list[tuple[threading.Thread, threading.Event]] = []

    def start(self) -> None:
        for _ in range(self._count):
            end = threading.Event()
            thread = threading.Thread(target=self._work, args=(end,))
            self._threads.append((thread, end))  # first: Ctrl-C may come while it starts
            thread.start()

    def _work(self, end: threading.Event) -> None:
        try:
            self._lanes()
        finally:
            end.set()

    def _lanes(self) -> None:
        """One after the other. The thread outlives what it starts, which ends with it."""
        while not self.errors:
            try:
                tasks = self._waiting.popleft()
            except IndexError:
                return
            self._measure(tasks)

    def _measure(self, tasks: Sequence[Task]) -> None:
        lane = self._session.lane(tasks[0].series.host)
        self._running.append(lane)
        try:
            # a machine ends with the thread that started it: this one outlives the lane
            with ThreadPoolExecutor(1) as beside, lane:
                try:
                    host = tasks[0].series.host
                    began = time.monotonic()
                    self._progress.comes_up(host)
                    possible = _possible(lane, tasks, self._progress, beside)
                    self._progress.is_up(host)
                    took_s = round(time.monotonic() - began, 2)
                    labels = sorted({task.series.label for task in tasks})
                    lane.book.note("up", lane=labels, took_s=took_s)
                    self._walk(lane, possible)
                except BaseException as error:
                    self._failed(lane, tasks[0], error)
        except BaseException as error:  # of its end, which hides none before it
            self._failed(lane, tasks[0], error)
        self._progress.is_over(tasks[0].series.host)
        with self._session.book.lock:
            self._session.phases.add(lane.phases)

    def _failed(self, lane: Session, first: Task, error: BaseException) -> None:
        if not isinstance(error, VbenchError) or isinstance(error, StoreError):
            self.errors.append(error)  # for the main thread
        elif not lane.stopped.is_set():  # else it was cut off
            series = first.series
            where = Failure(series.label, series.variant.text, "", first.boot, error)
            self._session.failures.add(where)  # of this lane alone

    def _alive(self) -> bool:
        return not all(
            end.wait(_LOOK_EVERY_S) or thread not in threading.enumerate()  # it never started
            for thread, end in self._threads
        )

    def wait(self) -> None:
        """Until all lanes have ended; the others are cut off where one could keep nothing."""
        while self._alive():
            if self.errors:
                self.cut_off()

    def cut_off(self) -> None:
        """End all lanes: whatever they wait for fails."""
        while True:
            try:
                self._waiting.clear()
                for lane in self._running:
                    lane.stopped.set()
                    for host in lane.hosts:
                        if isinstance(host, TestbedHost):
                            host.interrupt()
                if not self._alive():
                    return
            except KeyboardInterrupt:
                say("vbench: it is ending already; what was measured is being kept")


def _possible(
    lane: Session, tasks: Sequence[Task], progress: Progress, beside: ThreadPoolExecutor
) -> list[Task]:
    """Those of series that can run, as their host says now that it comes up."""
    unable = set()
    for series in {task.series.label: task.series for task in tasks}.values():
        why = _why_not(series, beside)
        if lane.stopped.is_set():
            raise Interrupted
        if why is not None:
            unable.add(series.label)
            over = [task for task in tasks if task.series is series]
            lane.book.cannot(series, over, why)
            progress.say(f"vbench: {series.label} cannot run: {why.reason}")
            for task in over:
                progress.skip(task)
    return [task for task in tasks if task.series.label not in unable]


def _why_not(series: Series, beside: ThreadPoolExecutor) -> Availability | None:
    """As its host says. A host that is lost meanwhile has not said it: it comes up once more."""
    if series.probed:
        return None
    try:
        try:
            found = _asked(series, beside)
        except ConnectionLost:
            series.host.close()
            found = _asked(series, beside)
    except VbenchError as error:
        found = Availability(False, error.what, error.remedy)
    return None if found.ok else found


def _asked(series: Series, beside: ThreadPoolExecutor) -> Availability:
    """A hypervisor may have a machine of its own there: it comes up beside that of native."""
    # remembered: without them nothing of a run could be kept
    facts = beside.submit(series.host.facts)
    try:
        found = probed(series.variant.backend, series.host, series.variant.options)
        if found.ok:
            facts.result()
        return found
    finally:
        wait((facts,))
