"""A guest asked question after question, by a client that connects anew where it went on.

In the guest runs `vbench-probe live`: see workloads/probe_life.c. The client is a thread here, and
reaches the guest through a port of its host, over SSH where that is another machine.
"""

from __future__ import annotations

import contextlib
import struct
import threading
import time
from dataclasses import dataclass

from vbench.contract.host import Host, Stream
from vbench.errors import GuestError, VbenchError

_ASK, _WALK = b"r", b"m"
# The probe's `struct answer`, and the `struct tick` in it, on a machine of the same byte order.
_ANSWER = struct.Struct("=8Q")
_PAGE = 4096
_PAUSE_S = 0.001
_LOOK_S = 0.01  # so often it looks whether the guest has moved
_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Answer:
    """What the guest said, and when it came by our clock, in seconds."""

    at_s: float
    token: int
    intact_mib: float  # memory that still holds the token, where it was looked at
    stale_mib: float  # memory that does not hold what was written to it last
    walked: bool
    ticks: int  # one each millisecond of the guest's clock
    monotonic_s: float
    real_s: float
    touched_mib: float

    @classmethod
    def of(cls, data: bytes, at_s: float) -> Answer:
        token, intact, stale, walk_ns, ticks, monotonic_ns, real_ns, pages = _ANSWER.unpack(data)
        mib = _PAGE / 2**20
        return cls(
            at_s,
            token,
            intact * mib,
            stale * mib,
            walk_ns > 0,
            ticks,
            monotonic_ns / 1e9,
            real_ns / 1e9,
            pages * mib,
        )


@dataclass(frozen=True)
class Asked:
    """What was heard since it was asked last: the first and the last answer, and how long a
    question waited at most for its answer, an open one and a new connection included."""

    first: Answer
    last: Answer
    wait_s: float

    @property
    def elapsed_s(self) -> float:
        return self.last.at_s - self.first.at_s

    @property
    def lost_s(self) -> float:
        """By how much the guest's monotonic clock fell behind ours; 0 where it was ahead."""
        return max(0.0, self.elapsed_s - (self.last.monotonic_s - self.first.monotonic_s))

    @property
    def lost_real_s(self) -> float:
        return max(0.0, self.elapsed_s - (self.last.real_s - self.first.real_s))

    @property
    def ticks(self) -> int:
        return self.last.ticks - self.first.ticks

    @property
    def touched_mib_s(self) -> float:
        touched = self.last.touched_mib - self.first.touched_mib
        return touched / self.elapsed_s if self.elapsed_s > 0 else 0.0


class Client:
    """A context manager. The guest listens behind a port of its host's loopback."""

    def __init__(self, host: Host, port: int) -> None:
        """Raises HostError, ConnectionLost, GuestError."""
        self._changed = threading.Condition()
        self._ended, self._wanted, self._why = False, False, ""
        self._next: tuple[Host, int] | None = None
        self._stream = _connected(host, port)
        self._first = self._last = self._heard()
        self._wait_s, self._asked_s = 0.0, self._last.at_s
        self._thread = threading.Thread(target=self._ask_on, daemon=True)
        self._thread.start()

    def moved(self, host: Host, port: int | None) -> None:
        """The guest goes on at another host: the open question is asked anew there."""
        assert port is not None  # noqa: S101 - it was reached by one
        self._next = (host, port)

    def asked(self) -> Asked:
        """Raises GuestError where the client has lost the guest."""
        with self._changed:
            self._must_have_it()
            wait_s = max(self._wait_s, time.monotonic() - self._asked_s)
            asked = Asked(self._first, self._last, wait_s)
            self._first, self._wait_s = self._last, 0.0
            return asked

    def walked(self) -> Answer:
        """An answer of the guest after it looked at all of its memory. Raises GuestError."""
        with self._changed:
            self._wanted = True
            self._changed.wait_for(lambda: self._why or not self._wanted, _TIMEOUT_S)
            self._must_have_it()
            if self._wanted:
                raise GuestError(f"no answer from the guest within {_TIMEOUT_S:g} s")
            return self._last

    def _must_have_it(self) -> None:
        if self._why:
            raise GuestError(f"the guest's client has lost it: {self._why}")

    def _ask_on(self) -> None:
        try:
            while not self._ended:
                self._question()
                time.sleep(_PAUSE_S)
        except (OSError, EOFError, VbenchError) as error:
            with self._changed:
                self._why = str(error) or type(error).__name__
                self._changed.notify_all()

    def _question(self) -> None:
        with self._changed:
            self._asked_s = time.monotonic()
        try:
            self._stream.send(_WALK if self._wanted else _ASK)
            answer = self._heard()
        except _Moved:
            self._stream.close()
            there, self._next = self._next, None
            assert there is not None  # noqa: S101 - it moved there
            self._stream = _connected(*there)
            answer = self._heard()
        with self._changed:
            self._last = answer
            self._wait_s = max(self._wait_s, answer.at_s - self._asked_s)
            self._asked_s = answer.at_s
            self._wanted = self._wanted and not answer.walked
            self._changed.notify_all()

    def _heard(self) -> Answer:
        """The next answer. Raises _Moved, OSError, EOFError."""
        data, deadline = b"", time.monotonic() + _TIMEOUT_S
        while len(data) < _ANSWER.size:
            if self._next is not None:
                raise _Moved
            if self._ended or time.monotonic() > deadline:
                raise EOFError(f"no answer within {_TIMEOUT_S:g} s")
            with contextlib.suppress(TimeoutError):
                piece = self._stream.recv(_ANSWER.size - len(data))
                if not piece:
                    raise EOFError("its connection ended")
                data += piece
        return Answer.of(data, time.monotonic())

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Safe to repeat."""
        self._ended = True
        self._thread.join()
        self._stream.close()


class _Moved(Exception):
    """The guest is at another host."""


def _connected(host: Host, port: int) -> Stream:
    stream = host.connect("127.0.0.1", port, _TIMEOUT_S)
    stream.settimeout(_LOOK_S)
    return stream
