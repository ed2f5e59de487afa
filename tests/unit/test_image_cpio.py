"""The archive writer, read back by another program and by a small reader of our own."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from vbench.image import cpio


def read(data: bytes) -> dict[str, tuple[list[int], bytes]]:
    """Name -> (the thirteen header fields, content), up to the trailer."""
    entries: dict[str, tuple[list[int], bytes]] = {}
    offset = 0
    while True:
        assert data[offset : offset + 6] == b"070701"
        fields = [int(data[offset + 6 + 8 * i : offset + 14 + 8 * i], 16) for i in range(13)]
        size, name_size = fields[6], fields[11]
        name = data[offset + 110 : offset + 110 + name_size - 1].decode()
        offset += 110 + name_size + (-(110 + name_size) % 4)
        if name == cpio.TRAILER:
            return entries
        entries[name] = (fields, data[offset : offset + size])
        offset += size + (-size % 4)


ENTRIES = [
    cpio.file("etc/passwd", b"root\n"),
    cpio.directory("etc", 0o700),
    cpio.Entry("dev", stat.S_IFDIR | 0o755),
    cpio.Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
    cpio.Entry("bin", stat.S_IFLNK | 0o777, b"usr/bin"),
]


def test_entries_come_back_with_modes_devices_and_content() -> None:
    entries = read(cpio.archive(ENTRIES))

    assert list(entries) == ["bin", "dev", "dev/console", "etc", "etc/passwd"]
    assert entries["etc/passwd"][1] == b"root\n"
    assert entries["etc/passwd"][0][1] == stat.S_IFREG | 0o644
    assert entries["dev/console"][0][9:11] == [5, 1]
    assert entries["bin"][1] == b"usr/bin"


def test_same_entries_in_any_order_give_same_bytes() -> None:
    assert cpio.archive(ENTRIES) == cpio.archive(reversed(ENTRIES))


def test_owner_and_time_are_zero_and_inodes_differ() -> None:
    fields = [fields for fields, _ in read(cpio.archive(ENTRIES)).values()]

    assert {(f[2], f[3], f[5]) for f in fields} == {(0, 0, 0)}
    assert len({f[0] for f in fields}) == len(fields)


def test_archives_can_follow_each_other() -> None:
    first = cpio.archive(ENTRIES)

    assert len(first) % cpio.BLOCK_BYTES == 0
    assert list(read((first + cpio.archive([cpio.file("a", b"")]))[len(first) :])) == ["a"]


@pytest.mark.skipif(not shutil.which("cpio"), reason="needs cpio")
def test_cpio_program_lists_it() -> None:
    done = subprocess.run(
        ["cpio", "-tv", "--quiet"], input=cpio.archive(ENTRIES), capture_output=True, check=True
    )

    lines = done.stdout.decode().splitlines()
    assert [line.split()[0] for line in lines] == [
        "lrwxrwxrwx",
        "drwxr-xr-x",
        "crw-------",
        "drwx------",
        "-rw-r--r--",
    ]
    assert lines[0].endswith("bin -> usr/bin")


def test_tree_takes_files_directories_and_symlinks(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(mode=0o755)
    (tmp_path / "a/f").write_bytes(b"x")
    (tmp_path / "a/f").chmod(0o755)
    (tmp_path / "link").symlink_to("a/f")

    entries = read(cpio.archive(cpio.tree(tmp_path)))

    assert list(entries) == [".", "a", "a/f", "link"]
    assert entries["a/f"][0][1] == stat.S_IFREG | 0o755
    assert entries["link"][1] == b"a/f"


def test_tree_refuses_a_socket_or_fifo(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")

    with pytest.raises(ValueError, match="neither a file"):
        cpio.tree(tmp_path)
