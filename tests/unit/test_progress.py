"""What a run says while it goes on: one live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
import os
from types import SimpleNamespace

import pytest
from sample_results import item, pairs

from vbench.model import Status
from vbench.results import stats
from vbench.run import progress
from vbench.run.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def shown(text: str) -> str:
    """What stands on the last line of a terminal."""
    return text.rsplit("\n", maxsplit=1)[-1].rsplit("\r\x1b[K", maxsplit=1)[-1]


def test_plain_lines(clock: list[float]) -> None:
    stream = io.StringIO()
    made = Progress(stream)
    made.expect(10)
    one = item("cpu-primes", pairs(1.5))
    for number in range(2):
        made.begin(f"local-tcg boot {number + 1}", one.workload)
        clock[0] += 15
        made.end(one, stats.overhead(one.pairs))
    first, second = stream.getvalue().splitlines()
    assert first.startswith("[ 1/10] 2:15 left local-tcg boot 1  cpu-primes: x1.")
    assert second.startswith("[ 2/10] 2:00 left local-tcg boot 2  cpu-primes: x1.")
    assert "\x1b" not in stream.getvalue()


def test_each_line_is_out_at_once(clock: list[float]) -> None:
    flushed: list[str] = []
    stream = io.StringIO()
    stream.flush = lambda: flushed.append(stream.getvalue())  # type: ignore[method-assign]
    made = Progress(stream)
    made.expect(1)
    made.begin("x", "y")
    made.end(item("y", pairs(1.0)), None)
    assert flushed[-1] == stream.getvalue() != ""


def test_outcomes(clock: list[float]) -> None:
    stream = io.StringIO()
    made = Progress(stream)
    made.expect(3)
    made.end(item("boot-command", pairs(5.0, None)), None)
    made.end(item("a", status=Status.FAILED, reason="boot 1: a command\nended: 7"), None)
    made.end(item("b", status=Status.UNSUPPORTED, reason="no RDRAND"), None)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0].endswith("boot-command: measured")
    assert lines[1].endswith("a: failed: boot 1: a command ended: 7")
    assert lines[2].endswith("b: unsupported: no RDRAND")
    assert "0:00 left" in lines[2]


def test_a_terminal_shows_one_line(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    stream = Terminal()
    made = Progress(stream)
    made.expect(3)
    made.begin("local-tcg boot 1", "cpu-primes-with-a-long-name")
    assert shown(stream.getvalue()) == "[0/3] local-tcg boot 1  cpu-primes-with"
    made.end(item("a", pairs(1.0)), None)
    assert "\n" not in stream.getvalue()
    made.end(item("b", status=Status.FAILED, reason="why"), None)
    assert stream.getvalue().endswith("b: failed: why\n")  # a failure stays on the screen
    made.end(item("c", pairs(1.0)), None)
    assert stream.getvalue().endswith("  c: me\n")  # so does the end
    assert stream.getvalue().count("\n") == 2


def test_no_width_at_all(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress.shutil, "get_terminal_size", lambda: os.terminal_size((80, 24)))
    made = Progress(Terminal())
    made.begin("x", "y")  # nothing expected, nothing done: no division
    made.end(item("y", pairs(1.0)), None)
