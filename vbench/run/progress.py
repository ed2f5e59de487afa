"""How far a run is: one line rewritten on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import time
from typing import TextIO

from vbench.model import Item, Status
from vbench.results.stats import Overhead


class Progress:
    """Says what is measured, what came out, and when it will be over."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._began = time.monotonic()
        self._expected = 0
        self._done = 0
        self._where = ""

    def expect(self, items: int) -> None:
        self._expected = items

    def begin(self, where: str, workload: str) -> None:
        """`where` is series and boot."""
        self._where = where
        if self._live:
            self._show(f"{self._head()} {where}  {workload} ...")

    def end(self, item: Item, overhead: Overhead | None) -> None:
        self._done += 1
        if item.status is Status.OK and overhead is not None:
            said = f"x{overhead.ratio:.2f}"
        elif item.status is Status.OK:
            said = "measured"
        else:
            said = " ".join(f"{item.status}: {item.reason}".split())  # one line
        line = f"{self._head()} {self._where}  {item.workload}: {said}"
        if self._live:
            if item.status is Status.FAILED:
                self._stream.write(f"\r\x1b[K{line}\n")  # whole: it stays
            else:
                self._show(line)
        else:
            self._stream.write(line + "\n")
        if self._live and self._done == self._expected:
            self._stream.write("\n")
        self._stream.flush()

    def _head(self) -> str:
        left = self._expected - self._done
        head = f"[{self._done:>{len(str(self._expected))}}/{self._expected}]"
        if self._done:
            each_s = (time.monotonic() - self._began) / self._done
            minutes, seconds = divmod(round(left * each_s), 60)
            head += f" {minutes}:{seconds:02d} left"
        return head

    def _show(self, line: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        self._stream.write(f"\r\x1b[K{line[:width]}")
        self._stream.flush()
