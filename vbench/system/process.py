"""Child processes run to their end, within bounds. Standard library only."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vbench.model import Output

# The kernel sends KILL to the child when the *thread* that forked it ends, so whoever starts a
# tied process must be the main thread or outlive it (prctl(2), PR_SET_PDEATHSIG).
TIED = ("setpriv", "--pdeathsig", "KILL", "--")
# A command that floods its output is a fault, not a reason to fill our memory.
OUTPUT_LIMIT_BYTES = 32 << 20
# What coreutils' and busybox' `timeout -s KILL` end with: the program or `timeout` was killed.
KILLED_STATUSES = (124, 137, 143)

# Between two looks at a child, in seconds; doubled each time, as subprocess does it.
_PAUSE_MIN_S, _PAUSE_MAX_S = 0.0005, 0.02
# Between two questions whether to go on.
_ASK_EVERY_S = 0.2


@dataclass(frozen=True)
class Completed:
    """How a command ended: `status` is negative for a signal, as subprocess has it."""

    status: int
    stdout: bytes
    stderr: bytes

    def text(self) -> Output:
        """The same as text: what is no UTF-8 is replaced."""
        return Output(
            self.status,
            self.stdout.decode("utf-8", "replace"),
            self.stderr.decode("utf-8", "replace"),
        )


def run(
    argv: Sequence[str],
    *,
    timeout_s: float,
    stdin: bytes | BinaryIO = b"",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
    limit_bytes: int = OUTPUT_LIMIT_BYTES,
    tied: bool = True,
    go_on: Callable[[], object] = bool,
) -> Completed:
    """Run `argv` to its end, in a process group of its own, and leave nothing of it behind.

    `stdin`: bytes, or a file that the child reads itself.
    `tied`: it dies with us, SIGKILL included; a missing program is then setpriv's to report, with
    status 127. `go_on` is called again and again meanwhile; what it raises ends the child. Raises
    OSError if it cannot start, TimeoutError when `timeout_s` has passed, BufferError when both
    outputs exceed `limit_bytes`.
    """
    child = subprocess.Popen(
        [*(TIED if tied else ()), *argv],
        stdin=subprocess.PIPE if isinstance(stdin, bytes) else stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        cwd=cwd,
        pass_fds=tuple(pass_fds),
        start_new_session=True,  # Ctrl-C reaches us, and we end all of it
    )
    deadline = time.monotonic() + timeout_s
    try:
        stdout, stderr = _communicate(
            child, stdin if isinstance(stdin, bytes) else b"", deadline, limit_bytes, go_on
        )
        status = wait(child, max(0.0, deadline - time.monotonic()))
        if status is None:
            raise TimeoutError(f"did not end within {timeout_s:g} s")
    finally:
        end_group(child)
    return Completed(status, stdout, stderr)


def _communicate(
    child: subprocess.Popen[bytes],
    stdin: bytes,
    deadline: float,
    limit_bytes: int,
    go_on: Callable[[], object],
) -> tuple[bytes, bytes]:
    """As Popen.communicate, but bounded. It waits for the end of both streams, not of `child`."""
    assert child.stdout and child.stderr  # noqa: S101, PT018 - PIPE was asked for
    kept = {child.stdout: bytearray(), child.stderr: bytearray()}
    unsent = memoryview(stdin)
    with selectors.DefaultSelector() as selector:
        for stream in kept:
            selector.register(stream, selectors.EVENT_READ)
        if child.stdin:
            os.set_blocking(child.stdin.fileno(), False)
            selector.register(child.stdin, selectors.EVENT_WRITE)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("did not end in time")
            go_on()
            for key, _ in selector.select(min(left, _ASK_EVERY_S)):
                if child.stdin and key.fileobj is child.stdin:
                    try:
                        unsent = unsent[os.write(key.fd, unsent[:65536]) :]
                    except BrokenPipeError:  # it does not read
                        unsent = memoryview(b"")
                    if not unsent:
                        selector.unregister(child.stdin)
                        child.stdin.close()
                    continue
                piece = os.read(key.fd, 1 << 20)
                if not piece:
                    selector.unregister(key.fileobj)
                kept[key.fileobj] += piece  # type: ignore[index]
                if sum(map(len, kept.values())) > limit_bytes:
                    raise BufferError(f"wrote more than {limit_bytes >> 20} MiB")
    return bytes(kept[child.stdout]), bytes(kept[child.stderr])


def wait(child: subprocess.Popen[bytes], timeout_s: float) -> int | None:
    """The exit status of `child` as subprocess has it, None if it runs on after `timeout_s`.

    The child stays a zombie: until it is reaped its process group cannot become another's. Asked
    again and again, not by a pidfd: Pythons built on old systems (uv's, conda's) know none, and
    some sandboxes refuse it.
    """
    if child.returncode is not None:
        return child.returncode
    deadline = time.monotonic() + timeout_s
    pause_s = _PAUSE_MIN_S
    while True:
        try:
            ended = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # another thread is reaping it
            return child.wait()
        if ended is not None:
            break
        left = deadline - time.monotonic()
        if left <= 0:
            return None
        time.sleep(min(pause_s, left))
        pause_s = min(2 * pause_s, _PAUSE_MAX_S)
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def kill_group(child: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the child and all that it started, then reap it. Safe to repeat."""
    if child.returncode is None:
        with suppress(ProcessLookupError):  # another thread has just reaped it
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def end_group(child: subprocess.Popen[bytes]) -> None:
    """As `kill_group`, and close our ends of its pipes."""
    kill_group(child)
    for stream in (child.stdin, child.stdout, child.stderr):
        if stream is not None:
            with suppress(BrokenPipeError):
                stream.close()
