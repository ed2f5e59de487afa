"""The cache: complete images or nothing, whatever happens to a builder."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_images import KEY, Builder, make

from vbench import image
from vbench.errors import ImageError
from vbench.image import cache


@pytest.fixture(autouse=True)
def folder(images_folder: Path) -> Path:
    return images_folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".lock"}


def test_second_opening_builds_nothing(folder: Path) -> None:
    builder = Builder()

    assert builder.get() == builder.get() == folder / KEY
    assert builder.builds == 1
    assert names(folder) == {KEY}


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def swap_byte(path: Path) -> None:
    path.write_bytes(b"X" + path.read_bytes()[1:])


@pytest.mark.parametrize(
    ("victim", "harm"),
    [
        ("vmlinux", swap_byte),
        ("vmlinux", Path.unlink),
        ("vmlinuz", append),
        ("vmlinuz", Path.unlink),
        ("initramfs", truncate),
        ("root/bin/sh", append),
        ("root/bin/sh", lambda path: path.chmod(0o4755)),
        ("root/link", Path.unlink),
        ("manifest.json", truncate),
        ("manifest.json", lambda path: path.write_text("[]")),
        ("manifest.json", Path.unlink),
    ],
)
def test_damage_is_noticed_reported_and_mended(
    folder: Path, victim: str, harm: Callable[[Path], object]
) -> None:
    builder = Builder()
    path = builder.get()
    harm(path / victim)
    assert not image.installed()[0].ok

    builder.get()

    assert builder.builds == 2
    assert "damaged" in builder.said[0]
    assert image.installed()[0].ok
    assert names(folder) == {KEY}


@pytest.mark.parametrize("failure", [ImageError("no mirror"), KeyboardInterrupt(), SystemExit(3)])
def test_failed_or_interrupted_build_leaves_nothing(folder: Path, failure: BaseException) -> None:
    def fail(work: Path, lock: int) -> dict[str, Any]:
        make(work, lock)
        raise failure

    with pytest.raises(type(failure)):
        Builder(fail).get()

    assert names(folder) == set()
    assert Builder().get() == folder / KEY


def test_failed_rebuild_of_a_damaged_image_does_not_hide_the_damage(folder: Path) -> None:
    path = Builder().get()
    truncate(path / "vmlinux")

    with pytest.raises(ImageError):
        Builder(lambda _work, _lock: (_ for _ in ()).throw(ImageError("no mirror"))).get()

    assert not image.installed()[0].ok


@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.ENOSPC, "make room"), (errno.EACCES, "VBENCH_CACHE")]
)
def test_full_or_forbidden_disk_is_an_image_error(folder: Path, number: int, remedy: str) -> None:
    def fail(_work: Path, _lock: int) -> dict[str, Any]:
        raise OSError(number, os.strerror(number))

    with pytest.raises(ImageError) as caught:
        Builder(fail).get()

    assert os.strerror(number) in caught.value.evidence
    assert remedy in caught.value.remedy
    assert names(folder) == set()


CHILD = """
import sys, time
from vbench.image import cache
def build(work, lock):
    (work / "half").write_text("x")
    print("building", flush=True)
    time.sleep(60)
cache.get("k" * 64, build, print)
"""


def start_child() -> subprocess.Popen[str]:
    child = subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "building\n"
    return child


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_leaves_nothing(folder: Path, number: signal.Signals) -> None:
    with start_child() as child:
        child.send_signal(number)
        assert child.wait(10) != 0

    assert names(folder) == set()


def test_killed_builder_is_cleaned_up_after_by_the_next(folder: Path) -> None:
    with start_child() as child:
        child.kill()
        child.wait(10)
    assert any(name.startswith(".building-") for name in names(folder))

    Builder().get()

    assert names(folder) == {KEY}


def test_second_builder_waits_for_the_first_and_says_so(folder: Path) -> None:
    started, go_on = threading.Event(), threading.Event()

    def slow(work: Path, lock: int) -> dict[str, Any]:
        started.set()
        assert go_on.wait(10)
        return make(work, lock)

    first, second = Builder(slow), Builder()
    threads = [threading.Thread(target=first.get), threading.Thread(target=second.get)]
    threads[0].start()
    assert started.wait(10)
    threads[1].start()
    deadline = time.monotonic() + 10
    while not second.said and time.monotonic() < deadline:
        time.sleep(0.01)
    assert second.said == ["waiting for another process that builds an image"]
    go_on.set()
    for thread in threads:
        thread.join(10)

    assert (first.builds, second.builds) == (1, 0)


def test_lock_is_held_for_a_builders_children(folder: Path) -> None:
    """A killed builder's tools may still write for a moment: nobody may clean up under them."""
    child = None

    def leave_a_child(work: Path, lock: int) -> dict[str, Any]:
        nonlocal child
        child = subprocess.Popen(["sleep", "60"], pass_fds=[lock])
        return make(work, lock)

    Builder(leave_a_child).get()
    assert child is not None
    said: list[str] = []
    waiter = threading.Thread(target=cache.get, args=("x" * 64, make, said.append))
    waiter.start()
    deadline = time.monotonic() + 10
    while not said and time.monotonic() < deadline:
        time.sleep(0.01)
    assert said
    child.kill()
    child.wait(10)
    waiter.join(10)
    assert not waiter.is_alive()


def test_read_only_cache_can_be_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Builder().get()

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EROFS, "read-only")

    monkeypatch.setattr(os, "utime", refuse)
    monkeypatch.setattr(os, "open", refuse)

    assert Builder().get() == folder / KEY


def test_manifest_holds_sizes_and_digests(folder: Path) -> None:
    manifest = json.loads((Builder().get() / "manifest.json").read_text())

    assert manifest["content"]["vmlinux"]["bytes"] == 6
    assert len(manifest["content"]["root"]["sha256"]) == 64


def test_missing_tool_is_named_with_its_package(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")

    with pytest.raises(ImageError, match="mmdebstrap") as caught:
        image.ensure()
    assert "vbench setup" in caught.value.remedy
