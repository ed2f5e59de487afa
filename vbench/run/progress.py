"""How far a run is: one line rewritten on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import TextIO

from vbench.errors import Unsupported, VbenchError
from vbench.model import Item
from vbench.results import stats
from vbench.run.schedule import Task

# What takes a time of its own on each host.
_BOOTING, _FIRST, _LATER = "booting", "first boot", "later boots"


class Estimate:
    """How long the rest takes: what is left of each kind, by the mean that kind took so far.

    Kinds are a host's boots, its workloads on their first boot (which calibrates), and on later
    ones. A host that was not measured yet may be ten times as slow, so it is not guessed at.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._left: Counter[tuple[str, str]] = Counter()
        self._took: dict[tuple[str, str], list[float]] = defaultdict(list)
        self._tasks_of = Counter(task.guest for task in tasks)
        self._to_boot = set(self._tasks_of)
        for task in tasks:
            self._left[_kind(task)] += 1
        for label, boot, options in self._to_boot:
            host = next(t.series.host.name for t in tasks if t.guest == (label, boot, options))
            self._left[host, _BOOTING] += 1

    def took(self, task: Task, booting_s: float, rest_s: float) -> None:
        """`task` is done."""
        kind = _kind(task)
        self._left[kind] -= 1
        self._tasks_of[task.guest] -= 1
        self._took[kind].append(rest_s)
        boot = (task.series.host.name, _BOOTING)
        if task.guest in self._to_boot:
            self._to_boot.discard(task.guest)
            self._left[boot] -= 1
            self._took[boot].append(booting_s)

    def skip(self, task: Task) -> None:
        """`task` is not measured; a boot that has no other is not made."""
        self._left[_kind(task)] -= 1
        self._tasks_of[task.guest] -= 1
        if task.guest in self._to_boot and not self._tasks_of[task.guest]:
            self._to_boot.discard(task.guest)
            self._left[task.series.host.name, _BOOTING] -= 1

    def left(self) -> tuple[float, bool]:
        """Seconds, and whether that is all: False where a kind is left of which nothing is
        known."""
        seconds, complete = 0.0, True
        for (host, kind), count in self._left.items():
            took = self._took.get((host, kind)) or (
                self._took.get((host, _FIRST)) if kind == _LATER else None
            )
            if took:
                seconds += count * sum(took) / len(took)
            elif count:
                complete = False
        return seconds, complete


def _kind(task: Task) -> tuple[str, str]:
    return (task.series.host.name, _LATER if task.boot else _FIRST)


class Progress:
    """Says what is measured, what came out, and when it will be over."""

    def __init__(
        self, stream: TextIO, tasks: Sequence[Task], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._expected = len(tasks)
        self._estimate = Estimate(tasks)
        self._clock = clock
        self._began = clock()
        self._done = 0
        self._last_error: VbenchError | None = None

    def begin(self, task: Task) -> None:
        """`task` comes next."""
        self._began = self._clock()
        if self._live:
            self._show(f"{self._head()} {_where(task)} ...")

    def end(self, task: Task, item: Item, error: VbenchError | None, booting_s: float) -> None:
        """What came of it; `booting_s` of its time went into launching and ending guests."""
        self._done += 1
        self._estimate.took(task, booting_s, max(0.0, self._clock() - self._began - booting_s))
        # of a boot that is lost the first says it
        repeated = error is not None and error is self._last_error
        self._last_error = error
        line = f"{self._head()} {_where(task)}: {_outcome(item, error)}"
        if self._live and (error is None or isinstance(error, Unsupported) or repeated):
            self._show(line)
        elif not repeated:
            self._write(f"\r\x1b[K{line}\n" if self._live else f"{line}\n")  # whole: it stays
        if self._live and self._done == self._expected:
            self._write("\n")

    def skip(self, task: Task) -> None:
        """`task` is not measured: the boots before it decide."""
        self._done += 1
        self._estimate.skip(task)
        if self._live and self._done == self._expected:
            self._write("\n")

    def say(self, text: str) -> None:
        """Lines that stay."""
        self._write(f"\r\x1b[K{text}\n" if self._live else f"{text}\n")

    def _head(self) -> str:
        head = f"[{self._done:>{len(str(self._expected))}}/{self._expected}]"
        if self._done:
            seconds, complete = self._estimate.left()
            minutes, rest = divmod(round(seconds), 60)
            if complete or seconds:
                head += f" {'' if complete else 'more than '}{minutes}:{rest:02d} left"
        return head

    def _show(self, line: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        self._write(f"\r\x1b[K{line[:width]}")

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:  # nobody reads it any more: a terminal that was closed
            return


def _where(task: Task) -> str:
    return f"{task.series.label} boot {task.boot + 1}  {task.workload.info.name}"


def _outcome(item: Item, error: VbenchError | None) -> str:
    """What this boot brought. A figure is over all boots up to this one, which it says."""
    if error is not None:
        kind = "unsupported" if isinstance(error, Unsupported) else "failed"
        return " ".join(f"{kind}: {error.what}".split())  # one line
    overhead = stats.overhead_of(item)
    return f"x{overhead.ratio:.2f} so far" if overhead is not None else "measured"
