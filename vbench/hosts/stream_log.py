"""What a started process writes to standard error, collected while it runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_TICK_S = 1.0  # so often a deadline is looked at, whose clock may be slower than ours
# A workload that floods the console must not fill our memory; the tail is the evidence.
LOG_LIMIT_BYTES = 1 << 20


class StreamLog:
    """Text collected from a blocking reader by a thread, with a way to wait for a line."""

    def __init__(
        self, read: Callable[[], bytes], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`read` blocks for the next piece and returns b"" at the end; deadlines are kept by
        `clock`."""
        self._clock = clock
        self._data = bytearray()
        self._scanned = 0
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._pump, args=(read,), daemon=True)
        self._thread.start()

    def _pump(self, read: Callable[[], bytes]) -> None:
        while True:
            try:
                piece = read()
            except (OSError, ValueError):
                piece = b""
            with self._changed:
                if piece:
                    self._data += piece
                    excess = len(self._data) - LOG_LIMIT_BYTES
                    if excess > 0:
                        del self._data[:excess]
                        self._scanned = max(0, self._scanned - excess)
                else:
                    self._ended = True
                self._changed.notify_all()
            if not piece:
                return

    def text(self) -> str:
        """All that is kept, carriage returns removed."""
        with self._changed:
            return self._data.decode(errors="replace").replace("\r", "")

    def wait_for(self, wanted: Callable[[str], bool], timeout_s: float) -> str | None:
        """The first complete line not looked at before that is `wanted`; None at the deadline
        or at the end of the stream."""
        deadline = self._clock() + timeout_s
        with self._changed:
            while True:
                while (end := self._data.find(b"\n", self._scanned)) >= 0:
                    line = self._data[self._scanned : end].decode(errors="replace").strip("\r")
                    self._scanned = end + 1
                    if wanted(line):
                        return line
                left = deadline - self._clock()
                if self._ended or left <= 0:
                    return None
                self._changed.wait(min(left, _TICK_S))

    def finish(self, timeout_s: float) -> None:
        """Wait up to `timeout_s` for the end of the stream, so that the log is whole."""
        self._thread.join(timeout_s)
