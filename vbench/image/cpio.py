"""A newc cpio archive, the same bytes for the same entries: the format of a Linux initramfs.

The kernel unpacks several archives one after the other, so a small one with the keys of a
run can follow the image's own: `initramfs + archive(entries)`.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# The kernel wants every archive to start at a multiple of 4; whole disk sectors are customary.
BLOCK_BYTES = 512
TRAILER = "TRAILER!!!"


@dataclass(frozen=True)
class Entry:
    """A file, directory, symlink or device; owned by root, dated 1970.

    `mode` holds type and permission bits as in st_mode; `data` the content of a file or the
    target of a symlink; `device` the major and minor number of a device.
    """

    name: str  # relative: "etc/passwd"
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def file(name: str, data: bytes, mode: int = 0o644) -> Entry:
    """A regular file."""
    return Entry(name, stat.S_IFREG | mode, data)


def directory(name: str, mode: int = 0o755) -> Entry:
    """A directory. The kernel creates no missing parents: list each of them."""
    return Entry(name, stat.S_IFDIR | mode)


def tree(root: Path) -> list[Entry]:
    """`root` itself and all below it: files, directories, symlinks (others raise ValueError)."""
    entries = []
    for path in (root, *root.rglob("*")):
        name, mode = path.relative_to(root).as_posix(), path.lstat().st_mode
        if stat.S_ISLNK(mode):
            entries.append(Entry(name, stat.S_IFLNK | 0o777, path.readlink().as_posix().encode()))
        elif stat.S_ISDIR(mode):
            entries.append(Entry(name, mode))
        elif stat.S_ISREG(mode):
            entries.append(Entry(name, mode, path.read_bytes()))
        else:
            raise ValueError(f"{path} is neither a file, a directory nor a symlink")
    return entries


def archive(entries: Iterable[Entry]) -> bytes:
    """The archive of `entries`, sorted by name so that directories precede what they hold."""
    parts = []
    for inode, entry in enumerate(sorted(entries, key=lambda entry: entry.name), start=1):
        parts.append(_record(entry, inode))
    parts.append(_record(Entry(TRAILER, 0), 0))
    return _pad(b"".join(parts), BLOCK_BYTES)


def _record(entry: Entry, inode: int) -> bytes:
    name = entry.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (
        *(inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0),  # uid, gid, mtime: 0
        *(*entry.device, len(name), 0),  # no checksum
    )
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _pad(header + name, 4) + _pad(entry.data, 4)


def _pad(data: bytes, multiple: int) -> bytes:
    return data + bytes(-len(data) % multiple)
