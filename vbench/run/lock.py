"""One measuring vbench on a machine at a time: two would measure each other."""

from __future__ import annotations

import fcntl
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vbench.errors import UnavailableError

# Known to all users, holds nothing secret. $VBENCH_LOCK names another file, for runs of which
# one knows that they may overlap (vbench's own tests of faults, which judge no figures).
LOCK = "/var/tmp/vbench-run.lock"  # noqa: S108


@contextmanager
def measuring_alone(say: Callable[[str], None]) -> Iterator[None]:
    """Hold the machine-wide lock; waits for another run and says which one it is.

    Raises UnavailableError where the lock file cannot be opened.
    """
    path = os.environ.get("VBENCH_LOCK", LOCK)
    try:
        fd = _open(path)
    except OSError as error:
        raise UnavailableError(
            f"cannot open {path}: {error.strerror}", remedy=f"make {path} writable for you"
        ) from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = os.pread(fd, 4096, 0).decode(errors="replace").strip()
            say(f"vbench: waiting for another run to end: {other}")
            fcntl.flock(fd, fcntl.LOCK_EX)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"pid {os.getpid()}: {shlex.join(sys.argv)} in {os.getcwd()}\n".encode(), 0)
        yield
        os.ftruncate(fd, 0)
    finally:
        os.close(fd)


def _open(path: str) -> int:
    """The file, made on first use so that every user can lock it."""
    try:
        # Without O_CREAT first: in a sticky directory the kernel refuses O_CREAT on the file of
        # another user (sysctl fs.protected_regular).
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        os.fchmod(fd, 0o666)  # past the umask
        return fd
