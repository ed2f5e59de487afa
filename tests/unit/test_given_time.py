"""Deadlines of an emulated machine: starved it is waited for, stopped it is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from vbench.errors import LaunchTimeout
from vbench.hosts.given_time import GivenTime

SPIN = "while True: pass"


@contextmanager
def spinning(*prefix: str) -> Iterator[int]:
    """The pid of a process that wants all of one CPU, the first that we may use."""
    cpu = str(min(os.sched_getaffinity(0)))
    argv = ["taskset", "-c", cpu, *prefix, sys.executable, "-S", "-c", SPIN]
    process = subprocess.Popen(argv)
    try:
        time.sleep(0.3)  # until it spins
        yield process.pid
    finally:
        process.kill()
        process.wait()


def given_share(pid: int, seconds: float) -> float:
    """What passed on the clock, of what passed on the wall."""
    clock = GivenTime(pid, [pid])
    began, wall = clock(), time.monotonic()
    time.sleep(seconds)
    return (clock() - began) / (time.monotonic() - wall)


def test_a_starved_process_is_given_less_than_the_wall() -> None:
    with spinning(), spinning("nice", "-n", "10") as starved:  # a tenth of the CPU at most
        assert given_share(starved, 1.0) < 0.5


def test_a_stopped_process_waits_for_no_cpu() -> None:
    with spinning() as pid:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.1)
        assert 0.95 < given_share(pid, 0.5) <= 1.05


def test_a_process_that_has_ended_waits_for_no_cpu() -> None:
    with spinning() as pid:
        clock = GivenTime(pid, [pid])
        clock()
    began = clock()
    time.sleep(0.2)
    assert 0.19 < clock() - began < 1


def test_a_starved_machine_is_waited_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given half of the wall's time."""
    now, waits = 0.0, list[float]()

    def wait(seconds: float) -> str:
        nonlocal now
        waits.append(seconds)
        now += seconds
        if len(waits) == ready_at:
            return "ready"
        raise LaunchTimeout("late", evidence="its console")

    monkeypatch.setattr(GivenTime, "__call__", lambda _: now / 2)
    clock, ready_at = GivenTime(0, []), 3
    assert clock.within(80.0, wait) == "ready"
    assert waits == [80.0, 40.0, 20.0]
    ready_at = 0
    with pytest.raises(LaunchTimeout, match="80 s in which a CPU") as told:
        clock.within(80.0, wait)
    assert told.value.evidence == "its console"
