"""Files that a user names: what has no end, or no sane one, is refused and not read."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from vbench import image
from vbench.errors import ImageError, UnreadableError, UsageError, VbenchError
from vbench.hypervisors.libvirt import tuning
from vbench.image import kernel
from vbench.results import loading
from vbench.results.journal import JOURNAL_NAME, Journal
from vbench.system.files import read_file

READERS: dict[str, tuple[Callable[[Path], object], type[VbenchError]]] = {
    "domain.xml": (lambda path: tuning.of_file(str(path)), UsageError),
    "a.json": (lambda path: loading.load_all([path]), UnreadableError),
    JOURNAL_NAME: (lambda path: loading.load_all([path]), UnreadableError),
    "vmlinuz": (lambda path: image.source_of(str(path), None), UsageError),
    "module.ko": (kernel.read, ImageError),
    "images": (lambda path: image.import_images(path, ()), ImageError),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", ["device", "FIFO", "socket", "directory"])
def test_only_regular_files_are_read(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / name
    if kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    read, error = READERS[name]
    with pytest.raises(error) as caught:
        read(path)
    assert caught.value.remedy
    told = f"it is a {kind}, not a regular file" in str(caught.value)
    assert told or name == "vmlinuz" or kind == "directory"


@pytest.mark.parametrize("name", ["domain.xml", "a.json", JOURNAL_NAME, "module.ko"])
def test_a_file_of_a_senseless_size_is_not_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.touch()
    os.truncate(path, 1 << 40)
    read, error = READERS[name]
    with pytest.raises(error, match="it has 1048576 MiB, and the most is"):
        read(path)


def test_a_run_does_not_continue_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / JOURNAL_NAME)
    with pytest.raises(VbenchError, match="it is a FIFO"):
        Journal(tmp_path)


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100)
    assert read_file(tmp_path / "file", 100) == b"x" * 100
    with pytest.raises(OSError, match="most"):
        read_file(tmp_path / "file", 99)
