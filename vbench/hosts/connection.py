"""What a host at the other end of an SSH connection is reached by, whichever client keeps it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import BinaryIO, Protocol

from vbench.contract.host import Stream
from vbench.model import Output


class RunningCommand(Protocol):
    """The three streams of a command at the other end, as they come."""

    def has_output(self, timeout_s: float) -> bool:
        """Whether `read` would return at once, within `timeout_s`."""

    def read(self, limit: int = 65536) -> bytes:
        """The next piece of standard output, b"" at its end."""

    def read_error(self) -> bytes:
        """The next piece of standard error, b"" at its end."""

    def write(self, data: bytes) -> None:
        """To standard input. Raises OSError if the command or the connection has ended."""

    def end_input(self) -> None:
        """The end of standard input. Safe to repeat."""

    def status(self, timeout_s: float = 0.0) -> int | None:
        """Its exit status, None if it still runs after `timeout_s`, -1 if it was killed by a
        signal or the connection is gone."""

    def close(self) -> None:
        """Give up its streams. Safe to repeat."""


class Connection(Protocol):
    """A kept connection on which shell commands run side by side."""

    name: str  # in messages: who did not answer

    def run(self, command: str, *, timeout_s: float, stdin: bytes = b"") -> Output:
        """Run a shell command to its end.

        One deadline covers the whole command. Raises WorkloadTimeout when it passes,
        WorkloadError when the output exceeds OUTPUT_LIMIT_BYTES, ConnectionLost when the
        connection dies without an exit status, HostError if commands cannot be run there.
        """

    def upload(self, command: str, source: BinaryIO, *, timeout_s: float) -> Output:
        """As `run`, with the content of the file `source` as standard input."""

    def start(self, command: str) -> RunningCommand:
        """A command that goes on while others run. Raises WorkloadTimeout, ConnectionLost,
        HostError."""

    def interact(self, terminal: str, command: str) -> int:
        """`command` on our own terminal, which is raw meanwhile; returns its exit status."""

    def forward(self, address: str, port: int, timeout_s: float) -> Stream:
        """A TCP connection made from the other end. Raises ConnectionLost, HostError."""

    @property
    def alive(self) -> bool: ...

    def ended(self, timeout_s: float) -> bool:
        """Whether the connection is dead, or dies within `timeout_s`."""

    def close(self) -> None: ...


def read_line(command: RunningCommand, timeout_s: float) -> bytes:
    """The next line of standard output; what there is of it at the end or after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    line = b""
    while not line.endswith(b"\n") and command.has_output(deadline - time.monotonic()):
        piece = command.read(1)
        if not piece:
            break
        line += piece
    return line


def relay(command: RunningCommand, status_timeout_s: float) -> int | None:
    """Carry our standard input, output and error to and from `command`, byte for byte and as they
    come; its status, within `status_timeout_s` of the end of its outputs.

    Raises BrokenPipeError when nobody reads our standard output any more.
    """
    # Left behind where it waits for input that nobody types: the command is over by then.
    threading.Thread(target=_feed, args=(command,), daemon=True).start()
    errors = threading.Thread(target=_copy_errors, args=(command.read_error,), daemon=True)
    errors.start()
    while piece := command.read():
        write_all(1, piece)
    errors.join()
    return command.status(status_timeout_s)


def _feed(command: RunningCommand) -> None:
    try:
        while piece := os.read(0, 65536):
            command.write(piece)
    except (OSError, EOFError):
        pass  # our input is closed, or the command has ended without reading all
    finally:
        command.end_input()


def _copy_errors(read: Callable[[], bytes]) -> None:
    try:
        while piece := read():
            write_all(2, piece)
    except OSError:
        while read():  # nobody reads them, but the command must not block
            pass


def write_all(descriptor: int, data: bytes) -> None:
    unsent = memoryview(data)
    while unsent:
        unsent = unsent[os.write(descriptor, unsent) :]
