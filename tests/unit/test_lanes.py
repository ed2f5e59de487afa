"""Hosts that count instructions are measured side by side."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from shell_backend import ShellBackend, ShellOptions
from test_schedule import workload

from vbench.contract.registry import Registry, Variant
from vbench.errors import ConnectionLost, HostError, Interrupted, StoreError
from vbench.hosts.local import LocalHost
from vbench.image import cache, tools
from vbench.measure.plan import Plan
from vbench.model import Availability, ImageFiles, TimeBase
from vbench.results import recovery
from vbench.results.history import SCHEMA_VERSION
from vbench.results.journal import JOURNAL_NAME
from vbench.run import lanes
from vbench.run.book import Book
from vbench.run.lanes import side_by_side
from vbench.run.progress import Progress
from vbench.run.schedule import Task
from vbench.run.series import Series
from vbench.run.session import Session
from vbench.system.filelock import locked
from vbench.system.interrupts import terminated_as_interrupted
from vbench.testbed import TestbedHost

DEADLINE_S = 20.0


class CountingHost(LocalHost):
    name = "testbed"
    time_base = TimeBase.INSTRUCTIONS

    def __init__(self) -> None:
        super().__init__()
        self.closed = 0

    def close(self) -> None:
        self.closed += 1
        super().close()


class Run:
    """Two hosts with a variant each, and two tasks of each."""

    def __init__(self, image: ImageFiles, out: Any, *backends: ShellBackend) -> None:
        self.hosts = [CountingHost() for _ in backends]
        self.series = [
            Series(host, Variant(backend.name, backend, ShellOptions()), probed=False)
            for host, backend in zip(self.hosts, backends, strict=True)
        ]
        registry = Registry()
        self.book = Book(self.series, image=image.digest, out=out)
        head = {"schema_version": SCHEMA_VERSION, "started": self.book.started}
        self.book.note("run", **head, seed=7, options={}, same={})
        self.session = Session(registry=registry, book=self.book, image=image, plan=Plan())
        self.tasks = [
            Task(each, workload(name), 0) for each in self.series for name in ("cpu-a", "cpu-b")
        ]
        self.book.planned = len(self.tasks)
        self.said = io.StringIO()

    def __call__(self, walk: Callable[[Session, Sequence[Task]], None]) -> None:
        with self.session:
            side_by_side(self.session, self.tasks, walk, Progress(self.said, self.tasks))


@pytest.fixture
def two(image: ImageFiles, out: Any, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(lanes, "at_once", lambda: 2)
    return Run(image, out, ShellBackend("one"), ShellBackend("two"))


def test_lanes_run_at_once_each_with_its_host(two: Run) -> None:
    met = threading.Barrier(2)
    walked = {}

    def walk(lane: Session, tasks: Sequence[Task]) -> None:
        met.wait(DEADLINE_S)
        walked[lane.hosts] = [task.key for task in tasks]

    two(walk)
    assert walked == {
        (host,): [(series.label, name, 0) for name in ("cpu-a", "cpu-b")]
        for host, series in zip(two.hosts, two.series, strict=True)
    }
    assert all(host.closed for host in two.hosts)


def test_one_after_the_other_where_there_is_no_room(
    two: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "at_once", lambda: 1)
    busy = threading.Lock()

    def walk(lane: Session, tasks: Sequence[Task]) -> None:
        assert busy.acquire(blocking=False)
        time.sleep(0.05)
        busy.release()

    two(walk)
    assert all(host.closed for host in two.hosts)


def test_there_are_no_more_lanes_than_cpus() -> None:
    assert 1 <= lanes.at_once() <= len(os.sched_getaffinity(0))


def test_what_a_lane_learns_of_its_host_it_learns_beside_its_probe(
    image: ImageFiles, out: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hypervisor's machine and the one of native come up at once; what began either goes on for
    as long as the lane, for they end with it."""
    met, threads = threading.Barrier(2), []

    class Slow(ShellBackend):
        def probe(self, host: Any, options: Any) -> Availability:
            met.wait(DEADLINE_S)
            return super().probe(host, options)

    run = Run(image, out, Slow("one"))
    known = run.hosts[0].facts

    def facts() -> Any:
        threads.append(threading.current_thread())
        met.wait(DEADLINE_S)
        return known()

    monkeypatch.setattr(run.hosts[0], "facts", facts)
    seen = []
    run(lambda lane, tasks: seen.append((len(tasks), threads[0].is_alive())))
    assert seen == [(2, True)]
    assert not threads[0].is_alive()


@pytest.mark.parametrize("lost", [1, 2])
def test_a_host_that_is_lost_while_it_is_asked_comes_up_once_more(
    image: ImageFiles, out: Any, lost: int
) -> None:
    """A report had no KVM, because a connection had ended while its testbed came up."""
    left = [ConnectionLost("gone")] * lost

    class Lost(ShellBackend):
        def probe(self, host: Any, options: Any) -> Availability:
            if left:
                raise left.pop()
            return super().probe(host, options)

    run = Run(image, out, Lost("one"))
    seen = []
    run(lambda lane, tasks: seen.append(len(tasks)))
    assert seen == [2 if lost == 1 else 0]
    assert ("cannot run: gone" in run.said.getvalue()) == (lost == 2)


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_lanes(two: Run, signal_number: int) -> None:
    waiting = threading.Barrier(3)
    ended = []

    def walk(lane: Session, tasks: Sequence[Task]) -> None:
        waiting.wait(DEADLINE_S)
        if lane.stopped.wait(DEADLINE_S):
            ended.append(lane)
        raise Interrupted

    def send() -> None:
        waiting.wait(DEADLINE_S)
        os.kill(os.getpid(), signal_number)

    sender = threading.Thread(target=send)
    sender.start()
    with terminated_as_interrupted(), pytest.raises(KeyboardInterrupt):
        two(walk)
    sender.join()
    assert len(ended) == 2
    assert all(host.closed for host in two.hosts)


def test_a_signal_while_a_lane_begins_ends_it(two: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C comes before the main thread knows that the lane's thread runs."""
    start = threading.Thread.start
    begun = threading.Event()
    ended = []

    def walk(lane: Session, tasks: Sequence[Task]) -> None:
        begun.set()
        if lane.stopped.wait(DEADLINE_S):
            time.sleep(0.5)  # it ends what it started
            ended.append(lane)
        raise Interrupted

    def interrupted(thread: threading.Thread) -> None:
        monkeypatch.undo()
        start(thread)
        assert begun.wait(DEADLINE_S)
        raise Interrupted

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(Interrupted):
        two(walk)
    assert len(ended) == 1


def test_results_that_cannot_be_kept_end_all_lanes(two: Run) -> None:
    def walk(lane: Session, tasks: Sequence[Task]) -> None:
        if tasks[0].series is two.series[0]:
            raise StoreError("the disk is full")
        assert lane.stopped.wait(DEADLINE_S)
        raise Interrupted

    with pytest.raises(StoreError, match="the disk is full"):
        two(walk)


def test_a_lane_that_fails_ends_alone(two: Run) -> None:
    def walk(lane: Session, tasks: Sequence[Task]) -> None:
        if tasks[0].series is two.series[0]:
            raise HostError("its memory is full")
        time.sleep(0.5)
        assert not lane.stopped.is_set()

    two(walk)
    assert two.session.failures.summary() == ["testbed-one boot 1: its memory is full"]


def test_what_cannot_run_there_is_over_when_its_host_comes_up(
    image: ImageFiles, out: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(ShellBackend):
        def probe(self, host: Any, options: Any) -> Availability:
            raise HostError("no memory for it", remedy="buy some")

    monkeypatch.setattr(lanes, "at_once", lambda: 2)
    run = Run(image, out, ShellBackend("one"), Broken("two"))
    seen = []
    run(lambda lane, tasks: seen.append([task.key[:2] for task in tasks]))
    assert sorted(map(len, seen)) == [0, 2]
    assert "testbed-two cannot run: no memory for it" in run.said.getvalue()
    kept = recovery.read(out / JOURNAL_NAME)
    assert kept.ended() == {("testbed-two", name, 0) for name in ("cpu-a", "cpu-b")}
    entry = ("two", "paravirtualization", "no memory for it", "buy some")
    assert kept.unavailable == {"testbed-two": entry}
    assert run.book.result(run.series[0]).unavailable == (entry,)
    assert run.book.result(run.series[0]).done == 2


def test_an_error_at_its_end_hides_none_of_the_whole_run(two: Run) -> None:
    """A lane could keep nothing, and then its host could not be closed either."""

    def broken() -> None:
        raise HostError("a setting could not be switched back")

    two.hosts[0].close = broken  # type: ignore[method-assign]
    seen = []

    def walk(lane: Session, tasks: Sequence[Task]) -> None:
        if tasks[0].series is two.series[0]:
            raise StoreError("the disk is full")
        seen.append(lane.stopped.wait(2.0))

    with pytest.raises(StoreError, match="the disk is full"):
        side_by_side(two.session, two.tasks, walk, Progress(two.said, two.tasks))
    assert seen == [True]


def test_what_is_cut_off_is_no_failure(two: Run) -> None:
    """Its machine was killed: what else cannot be ended in it says nothing."""

    def broken() -> None:
        raise HostError("the testbed is gone")

    two.hosts[1].close = broken  # type: ignore[method-assign]

    def walk(lane: Session, tasks: Sequence[Task]) -> None:
        if tasks[0].series is two.series[0]:
            raise StoreError("the disk is full")
        lane.broker.current = SimpleNamespace(close=broken)  # type: ignore[assignment]
        lane.broker._owner = (tasks[0].series, 0)
        lane.stopped.wait(DEADLINE_S)
        raise Interrupted

    with pytest.raises(StoreError, match="the disk is full"):
        side_by_side(two.session, two.tasks, walk, Progress(two.said, two.tasks))
    assert two.session.failures.summary() == []


def test_a_journal_tells_what_could_not_run_beside_a_series_that_began_before(
    image: ImageFiles, out: Any
) -> None:
    run = Run(image, out, ShellBackend("one"), ShellBackend("two"))
    run.book.state(run.tasks[0])
    run.book.cannot(run.series[1], run.tasks[2:], Availability(False, "no memory", "buy some"))
    (kept,) = recovery.read(out / JOURNAL_NAME).results.values()
    assert kept.unavailable == run.book.result(run.series[0]).unavailable != ()


@pytest.mark.parametrize("what", ["builds an image", "waits for another's build"])
def test_a_signal_ends_a_lane_that_has_no_image_yet(
    image: ImageFiles, out: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setenv("VBENCH_CACHE", str(tmp_path / "cache"))
    begun = threading.Event()

    def build(*_: object) -> dict[str, Any]:
        begun.set()
        tools.run(["sleep", str(10 * DEADLINE_S)])
        return {}

    class Booting(ShellBackend):
        def probe(self, host: Any, options: Any) -> Availability:
            host.run(["true"], timeout_s=1)
            return Availability(True)

    def ensure() -> ImageFiles:
        cache.get("key", build, lambda _: begun.set())
        return image

    run = Run(image, out, Booting("one"))
    host = TestbedHost(ensure, TimeBase.INSTRUCTIONS)
    run.session.book.series = {
        each.label: dataclasses.replace(each, host=host) for each in run.series
    }
    run.tasks = [dataclasses.replace(task, series=run.session.series[0]) for task in run.tasks]
    sent = []

    def send() -> None:
        begun.wait(DEADLINE_S)
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    with contextlib.ExitStack() as stack:
        if what != "builds an image":
            folder = tmp_path / "cache" / "images"
            folder.mkdir(parents=True)
            lock = locked(str(folder / ".lock"), mode=0o600, timeout_s=1, on_wait=lambda _: None)
            stack.enter_context(lock)
        sender = threading.Thread(target=send)
        sender.start()
        with terminated_as_interrupted(), pytest.raises(KeyboardInterrupt):
            run(lambda lane, tasks: None)
        took_s = time.monotonic() - sent[0]
    sender.join()
    assert took_s < 5
    assert run.session.failures.summary() == []
    assert not list((tmp_path / "cache" / "images").glob(f"{cache.BUILDING}*"))


def test_a_second_ctrl_c_is_answered(two: Run, capfd: pytest.CaptureFixture[str]) -> None:
    waiting = threading.Barrier(3)

    def walk(lane: Session, tasks: Sequence[Task]) -> None:
        waiting.wait(DEADLINE_S)
        lane.stopped.wait(DEADLINE_S)
        time.sleep(1.5)  # what it started takes its time to end
        raise Interrupted

    def send() -> None:
        waiting.wait(DEADLINE_S)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.6)

    sender = threading.Thread(target=send)
    sender.start()
    with terminated_as_interrupted(), pytest.raises(KeyboardInterrupt):
        two(walk)
    sender.join()
    assert "it is ending already" in capfd.readouterr().err
