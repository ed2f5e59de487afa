"""How far a run is: one line rewritten on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Sequence
from typing import TextIO

from vbench.contract.host import Host
from vbench.errors import Unsupported, VbenchError
from vbench.model import Item
from vbench.results import stats
from vbench.run.estimate import Estimate
from vbench.run.schedule import Task


class Progress:
    """Says what is measured, what came out, and when it will be over."""

    def __init__(
        self,
        stream: TextIO,
        tasks: Sequence[Task],
        clock: Callable[[], float] = time.monotonic,
        *,
        lanes: int = 1,
        fixed_boots: bool = False,
    ) -> None:
        """`lanes`: how many hosts that count instructions are measured at once; `fixed_boots`: the
        user said how many boots."""
        self._stream = stream
        self._live = stream.isatty()
        self._expected = len(tasks)
        self._estimate = Estimate(tasks, lanes, fixed_boots=fixed_boots)
        self._clock = clock
        self._lock = threading.RLock()  # of lanes
        self._began: dict[tuple[str, str, int], float] = {}
        self._done = 0
        self._last_error: VbenchError | None = None

    def begin(self, task: Task) -> None:
        """`task` comes next."""
        with self._lock:
            self._began[task.key] = self._clock()
            if self._live:
                self._show(f"{self._head()} {_where(task)} ...")

    def end(self, task: Task, item: Item, error: VbenchError | None, booting_s: float) -> None:
        """What came of it; `booting_s` of its time went into launching and ending guests."""
        with self._lock:
            self._end(task, item, error, booting_s)

    def _end(self, task: Task, item: Item, error: VbenchError | None, booting_s: float) -> None:
        self._done += 1
        now = self._clock()
        rest_s = now - self._began.pop(task.key, now) - booting_s
        self._estimate.took(task, booting_s, max(0.0, rest_s), now)
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

    def decides(self, task: Task, *, enough: bool) -> None:
        """With `task` it is known whether its item has `enough` boots."""
        with self._lock:
            self._estimate.decides(task, enough=enough)

    def skip(self, task: Task) -> None:
        """`task` is not measured: the boots before it decide."""
        with self._lock:
            self._done += 1
            self._estimate.skip(task)
            if self._live and self._done == self._expected:
                self._write("\n")

    def comes_up(self, host: Host) -> None:
        """A host where instructions are counted is booted; others may be measured meanwhile."""
        with self._lock:
            self._estimate.comes_up(host, self._clock())

    def is_up(self, host: Host) -> None:
        with self._lock:
            self._estimate.is_up(host, self._clock())

    def is_over(self, host: Host) -> None:
        """Its lane has ended, maybe because it failed."""
        with self._lock:
            self._estimate.over(host)

    def say(self, text: str) -> None:
        """Lines that stay."""
        with self._lock:
            self._write(f"\r\x1b[K{text}\n" if self._live else f"{text}\n")

    def _head(self) -> str:
        head = f"[{self._done:>{len(str(self._expected))}}/{self._expected}]"
        if self._done:
            minutes, rest = divmod(round(self._estimate.left(self._clock())), 60)
            head += f" {minutes}:{rest:02d} left"
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
