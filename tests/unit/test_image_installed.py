"""What the cache holds, where it is, and what decides that an image is built anew."""

from __future__ import annotations

import ast
import errno
import os
import pwd
import time
from dataclasses import replace
from pathlib import Path

import pytest
from small_images import KEY, Builder

from vbench import image
from vbench.errors import ImageError
from vbench.image import build
from vbench.system import packages
from vbench.system.recipe import RECIPE


def test_installed_images_are_described_and_removed_by_prefix(images_folder: Path) -> None:
    Builder().get()

    (found,) = image.installed()
    assert (found.key, found.digest, found.kernel_release) == (KEY, "d" * 64, "6.1")
    assert found.ok
    assert found.name == found.digest
    assert found.digest[:12] in image.table([found])
    assert replace(found, digest="").name == KEY
    assert found.size_bytes > 10
    with pytest.raises(ImageError, match="no image"):
        image.remove("")
    with pytest.raises(ImageError, match="no image"):
        image.remove("kd")
    assert image.remove("ddd") == [found]
    assert image.installed() == []
    assert [path.name for path in images_folder.iterdir()] == [".lock"]


def test_images_that_were_not_used_for_long_are_removed(images_folder: Path) -> None:
    path = Builder().get()
    assert image.remove_unused(30) == []
    long_ago = time.time() - 31 * 86400
    os.utime(path / "manifest.json", (long_ago, long_ago))
    (gone,) = image.remove_unused(30)
    assert gone.key == KEY
    assert image.installed() == []


def test_a_read_only_cache_is_listed_and_not_changed(
    images_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Builder().get()

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", refuse)
    assert [each.ok for each in image.installed()] == [True]
    with pytest.raises(ImageError, match="cannot be written") as caught:
        image.remove(KEY[:5])
    assert "VBENCH_CACHE" in caught.value.remedy
    assert [each.ok for each in image.installed()] == [True]


@pytest.mark.skipif(os.geteuid() != 0, reason="takes another user's identity")
def test_a_cache_that_may_not_be_read_is_one_sentence(
    images_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Builder().get()
    key = packages.debian_key()  # the other user may not read the sources either
    monkeypatch.setattr(packages, "debian_key", lambda: key)
    images_folder.parent.chmod(0o700)
    os.seteuid(54321)
    try:
        with pytest.raises(ImageError, match="cannot be read") as listed:
            image.installed()
        with pytest.raises(ImageError, match="cannot be read"):
            Builder().get()
        there = packages.image_cached()
    finally:
        os.seteuid(0)
    assert "VBENCH_CACHE" in listed.value.remedy
    assert not there


def test_a_cache_that_is_a_file_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("VBENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(ImageError, match="cannot be read"):
        image.installed()
    with pytest.raises(ImageError, match="cannot be written"):
        image.ensure(progress=lambda _: None)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"VBENCH_CACHE": "/c", "XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/c"),
        ({"VBENCH_CACHE": "", "XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/vbench"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/h"}, "/h/.cache/vbench"),
        ({"HOME": "/with a blank"}, "/with a blank/.cache/vbench"),
        ({"HOME": ""}, "/of the passwd entry/.cache/vbench"),
        ({}, "/of the passwd entry/.cache/vbench"),
    ],
)
def test_cache_directory_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str
) -> None:
    entry = pwd.struct_passwd(("u", "x", 1, 1, "", "/of the passwd entry", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: entry)
    for name in ("VBENCH_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert image.cache_dir() == Path(expected)


def test_a_user_without_home_and_passwd_entry_is_asked_for_a_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown(number: int) -> pwd.struct_passwd:
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("VBENCH_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ImageError, match="no folder") as caught:
        image.installed()
    assert "VBENCH_CACHE" in caught.value.remedy


def test_the_recipe_is_all_that_the_build_imports() -> None:
    """Else an image could stay as it was after the code that makes it changed."""
    todo, used = ["build"], {"tools"}  # tools only runs programs
    recipe = {path.stem for path in RECIPE if path.suffix == ".py"}
    while todo:
        name = todo.pop()
        used.add(name)
        for node in ast.walk(ast.parse((build.HERE / f"{name}.py").read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "vbench.image":
                todo += [one.name for one in node.names if one.name not in used]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                "vbench.image."
            ):
                one = str(node.module).rpartition(".")[2]
                todo += [one] if one not in used else []
    assert used - {"tools"} == recipe
    assert {build.INIT, *build.PROBE} < set(RECIPE)
