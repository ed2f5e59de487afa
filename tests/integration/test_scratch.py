"""The scratch disk of this machine: is its direct I/O direct, on the file systems at hand?"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vbench.errors import Unsupported
from vbench.hosts.disk import DiskPath, disk_path
from vbench.hosts.local import LocalHost
from vbench.hypervisors.qemu import truth


@contextmanager
def host_in(folder: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHost]:
    """This machine with a filled scratch disk in `folder`."""
    monkeypatch.setenv("VBENCH_TMP", str(folder))
    host = LocalHost()
    try:
        host.fill_scratch()
        yield host
    finally:
        host.close()


def test_a_disk_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = subprocess.run(
        ["stat", "-f", "-c", "%T", "/var/tmp"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.strip()
    if kind == "tmpfs" or not any(each.exists() for each in Path("/sys/block").glob("*/device")):
        pytest.skip("this machine has no disk that it can see")
    with host_in("/var/tmp", monkeypatch) as host:
        path = disk_path(host)
        assert path.problem == ""
        assert "unknown" not in (path.device, path.file_system)
        assert disk_path(host) is path


def test_memory_is_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        host_in("/dev/shm", monkeypatch) as host,
        pytest.raises(Unsupported, match="on tmpfs, which is memory: set VBENCH_TMP"),
    ):
        disk_path(host)


@pytest.fixture
def through_page_cache(tmp_path: Path) -> Iterator[Path]:
    """A file system on a file that its loop device reads through the page cache."""
    if os.geteuid() != 0 or not shutil.which("mkfs.ext4") or not Path("/dev/loop-control").exists():
        pytest.skip("needs root, mkfs.ext4 and loop devices")
    file, folder = tmp_path / "file", tmp_path / "mounted"
    folder.mkdir()
    subprocess.run(["truncate", "-s", "400M", file], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", file], check=True)
    subprocess.run(["mount", "-o", "loop", file, folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_direct_io_that_ends_in_the_page_cache_is_named(
    through_page_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with host_in(through_page_cache, monkeypatch) as host:
        path = disk_path(host)
    assert path == DiskPath(path.device, "ext4", path.problem)
    assert "did not reach a device" in path.problem


@pytest.fixture
def without_direct_io(tmp_path: Path) -> Iterator[Path]:
    """ramfs refuses it, as tmpfs did before Linux 6.6."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount ramfs")
    subprocess.run(["mount", "-t", "ramfs", "ramfs", tmp_path], check=True)
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def test_a_file_system_without_direct_io_is_named_with_a_remedy(
    without_direct_io: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VBENCH_TMP", str(without_direct_io))
    host = LocalHost()
    try:
        available = truth.direct(host)
    finally:
        host.close()
    assert not available.ok
    assert "direct I/O: Invalid argument" in available.reason
    assert "VBENCH_TMP" in available.remedy
