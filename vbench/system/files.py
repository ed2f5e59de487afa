"""Files that a user names: only what has an end is read. Standard library only."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

# More than any that was seen: XML has some KiB, the journal of a long run 100 MiB, and a vmlinux
# with its debug information 1 GiB.
XML_MOST_BYTES, RESULT_MOST_BYTES, KERNEL_MOST_BYTES = 1 << 24, 1 << 30, 1 << 32
_KINDS = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a directory"}


def open_file(path: Path) -> BinaryIO:
    """A file to read. Raises OSError, also for a device or a FIFO."""
    kind = stat.S_IFMT(path.stat().st_mode)
    if kind != stat.S_IFREG:  # to open one may wait, or do something
        why = f"it is {_KINDS.get(kind, 'a device')}, not a regular file"
        raise OSError(errno.EINVAL, why, str(path))
    return path.open("rb")


def read_file(path: Path, most_bytes: int) -> bytes:
    """What a file has as it is opened. Raises OSError as `open_file`, and for one of more than
    `most_bytes`."""
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most_bytes:
            why = f"it has {size >> 20} MiB, and the most is {most_bytes >> 20}"
            raise OSError(errno.EFBIG, why, str(path))
        return file.read(size)
