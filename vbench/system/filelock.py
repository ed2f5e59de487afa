"""A lock file that one process at a time holds. Standard library only."""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_PAUSE_S = 0.1  # between two tries


@contextmanager
def locked(
    path: str,
    *,
    mode: int,
    timeout_s: float,
    on_wait: Callable[[str], None],
    holder: str = "",
    go_on: Callable[[], object] = bool,
) -> Iterator[int]:
    """Hold `path` exclusively while the context lasts; yields its descriptor.

    The lock lives as long as that descriptor in any process that inherited it. `holder` is
    written into the file for those who wait: `on_wait` is called once with what the present
    holder has written, and `go_on` again and again: what it raises ends the waiting. Raises
    OSError if `path` cannot be opened or is no regular file, TimeoutError with the holder's text
    if it is not free within `timeout_s`.
    """
    fd = _open(path, mode)
    try:
        _acquire(fd, timeout_s, on_wait, go_on)
        os.ftruncate(fd, 0)
        os.pwrite(fd, holder.encode(), 0)
        yield fd
        os.ftruncate(fd, 0)
    finally:
        os.close(fd)


def _acquire(
    fd: int, timeout_s: float, on_wait: Callable[[str], None], go_on: Callable[[], object]
) -> None:
    deadline = time.monotonic() + timeout_s
    waiting = False
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            holder = os.pread(fd, 4096, 0).decode(errors="replace").strip()
            if time.monotonic() >= deadline:
                raise TimeoutError(holder) from None
        if not waiting:
            on_wait(holder)
            waiting = True
        go_on()
        time.sleep(_PAUSE_S)


def _open(path: str, mode: int) -> int:
    """The file, made on first use. In a folder that all may write to, another user may have put
    a link there: it is not followed."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        # Without O_CREAT first: in a sticky directory the kernel refuses O_CREAT on the file of
        # another user (sysctl fs.protected_regular).
        fd = os.open(path, flags)
    except FileNotFoundError:
        try:
            fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:  # made meanwhile
            fd = os.open(path, flags)
        else:
            os.fchmod(fd, mode)  # past the umask
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(0, "it is no regular file", path)
    return fd
