"""What a run says while it goes on: one live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
import os
import re

import pytest
from sample_results import item, pairs
from test_schedule import workload

from vbench.errors import Unsupported, WorkloadError
from vbench.run import progress
from vbench.run.progress import Progress
from vbench.run.schedule import Task
from vbench.run.series import Series


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def tasks(series: Series, *names: str, boots: int = 1) -> list[Task]:
    return [Task(series, workload(name), boot) for boot in range(boots) for name in names]


def shown(text: str) -> str:
    """What stands on the last line of a terminal."""
    return text.rsplit("\n", maxsplit=1)[-1].rsplit("\r\x1b[K", maxsplit=1)[-1]


ONE = item("cpu-a", pairs(1.5))


def test_plain_lines(series: Series) -> None:
    stream, clock = io.StringIO(), Clock()
    planned = tasks(series, "cpu-a", boots=10)
    made = Progress(stream, planned, clock)
    for task in planned[:2]:
        made.begin(task)
        clock.now += 15
        made.end(task, ONE, None, 5.0)
    first, second = stream.getvalue().splitlines()
    assert re.match(r"\[ 1/10\] \d:\d\d left local-shell boot 1  cpu-a: x1\.", first)
    assert re.match(r"\[ 2/10\] \d:\d\d left local-shell boot 2  cpu-a: x1\.", second)
    assert first.endswith(" so far")  # its figure is over all boots up to this one
    assert "\x1b" not in stream.getvalue()


def test_each_line_is_out_at_once(series: Series) -> None:
    flushed: list[str] = []
    stream = io.StringIO()
    stream.flush = lambda: flushed.append(stream.getvalue())  # type: ignore[method-assign]
    (task,) = tasks(series, "cpu-a")
    made = Progress(stream, [task])
    made.begin(task)
    made.end(task, ONE, None, 0.0)
    assert flushed[-1] == stream.getvalue() != ""


def test_outcomes(series: Series) -> None:
    stream = io.StringIO()
    planned = tasks(series, "boot-command", "a", "b")
    made = Progress(stream, planned)
    made.end(planned[0], item("boot-command", pairs(5.0, None)), None, 0.0)
    # it has figures of earlier boots, and this one failed
    made.end(planned[1], ONE, WorkloadError("a command\nended: 7"), 0.0)
    made.end(planned[2], ONE, Unsupported("no RDRAND"), 0.0)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0].endswith("boot-command: measured")
    assert lines[1].endswith("a: failed: a command ended: 7")
    assert lines[2].endswith("b: unsupported: no RDRAND")
    assert "0:00 left" in lines[2]


def test_one_error_of_many_workloads_is_one_line(series: Series) -> None:
    lost = WorkloadError("the guest did not come up")
    for stream in (io.StringIO(), Terminal()):
        planned = tasks(series, "a", "b", "c")
        made = Progress(stream, planned)
        for task in planned:
            made.end(task, ONE, lost, 0.0)
        assert stream.getvalue().count("a: failed: the guest did not come up\n") == 1
        assert "b: failed: the guest did not come up\n" not in stream.getvalue()


def test_a_terminal_shows_one_line(series: Series, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "44")
    stream = Terminal()
    planned = tasks(series, "cpu-primes-with-a-long-name", "b", "c")
    made = Progress(stream, planned)
    made.begin(planned[0])
    assert shown(stream.getvalue()) == "[0/3] local-shell boot 1  cpu-primes-with-a"
    made.end(planned[0], ONE, None, 0.0)
    assert "\n" not in stream.getvalue()
    made.end(planned[1], ONE, WorkloadError("why"), 0.0)
    assert stream.getvalue().endswith("b: failed: why\n")  # a failure stays on the screen
    made.end(planned[2], ONE, None, 0.0)
    assert shown(stream.getvalue()[:-1]).startswith("[3/3] 0:00 left local-shell boot 1  c: x1")
    assert stream.getvalue().count("\n") == 2  # so does the end


def test_a_terminal_that_is_gone_ends_nothing(series: Series) -> None:
    class Gone(Terminal):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    (task,) = tasks(series, "a")
    made = Progress(Gone(), [task])
    made.begin(task)
    made.end(task, ONE, None, 0.0)
    made.say("x")


def test_no_width_at_all(series: Series, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress.shutil, "get_terminal_size", lambda: os.terminal_size((80, 24)))
    (task,) = tasks(series, "a")
    Progress(Terminal(), []).begin(task)  # nothing expected, nothing done: no division
