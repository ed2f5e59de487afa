"""Images as one file: what goes out comes in, and nothing else does."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import platform
import stat
import tarfile
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from vbench import image
from vbench.contract.layer import Addition
from vbench.errors import ImageError
from vbench.image import build, cache, hosting, transfer
from vbench.model import ImageFiles
from vbench.system.recipe import debian_key
from vbench.testbed import EXPORTED


def small_debian(work: Path, *_: object) -> build.Built:
    (work / "vmlinux").write_bytes(b"kernel" * 1000)
    (work / "vmlinuz").write_bytes(b"packed")
    (work / "initramfs").write_bytes(b"base")
    (work / "root/bin").mkdir(parents=True)
    (work / "root/bin/sh").write_bytes(b"shell")
    (work / "root/bin/sh").chmod(0o755)
    (work / "root/tmp").mkdir()
    (work / "root/tmp").chmod(0o1777)
    (work / "root/absolute").symlink_to("/proc/self/fd")
    return build.Built("6.1", {"fio": "3.33"}, "cc 12", [])


def small_hosting(work: Path, base: ImageFiles, addition: Addition, _: object) -> dict[str, str]:
    os.link(base.kernel, work / "vmlinux")
    (work / "initramfs").write_bytes(b"base" + addition.name.encode())
    (work / "root").mkdir()
    return {}


@pytest.fixture
def exported(tmp_path: Path, images_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with four small images; the cache is empty again."""
    monkeypatch.setattr(build, "build_debian", small_debian)
    monkeypatch.setattr(hosting, "build", small_hosting)
    target = tmp_path / "images.tar.gz"
    image.export_images(target, EXPORTED, lambda _: None)
    monkeypatch.setenv("VBENCH_CACHE", str(tmp_path / "other machine"))
    monkeypatch.setattr(build, "build_debian", lambda *_: pytest.fail("it is built here"))
    monkeypatch.setattr(hosting, "build", lambda *_: pytest.fail("it is built here"))
    return target


def tree(folder: Path) -> dict[str, tuple[str, bytes]]:
    """Modes and contents below `folder`, but for the locks."""
    found = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        if path.name == ".lock":
            continue
        content = os.fsencode(path.readlink()) if stat.S_ISLNK(mode) else b""
        found[str(path.relative_to(folder))] = (
            stat.filemode(mode),
            path.read_bytes() if stat.S_ISREG(mode) else content,
        )
    return found


def test_what_was_exported_is_there_after_the_import(exported: Path, images_folder: Path) -> None:
    files = image.import_images(exported, EXPORTED)
    assert tree(cache.directory() / "images") == tree(images_folder)
    assert image.ensure() == files
    assert image.ensure_hosting(files, EXPORTED[1]).initramfs
    assert [each.ok for each in image.installed()] == [True] * 4


def test_each_byte_of_kernel_and_base_is_stored_once(exported: Path) -> None:
    with tarfile.open(exported) as tar:
        sizes = {name: tar.getmember(name).size for name in tar.getnames()}
    assert sorted(size for name, size in sizes.items() if name.endswith("vmlinux")) == [
        0,
        0,
        0,
        6000,
    ]
    assert sorted(size for name, size in sizes.items() if name.endswith("initramfs")) == [
        3,
        4,
        4,
        8,
    ]


def test_a_file_that_is_there_is_not_overwritten(exported: Path, images_folder: Path) -> None:
    before = exported.read_bytes()
    image.import_images(exported, EXPORTED)
    with pytest.raises(ImageError, match="cannot be written"):
        image.export_images(exported, EXPORTED, lambda _: None)
    assert exported.read_bytes() == before


def test_an_export_that_fails_leaves_no_file(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image.import_images(exported, EXPORTED)
    monkeypatch.setattr(tarfile.TarFile, "add", lambda *_, **__: (_ for _ in ()).throw(OSError(28)))
    with pytest.raises(ImageError, match="cannot be written"):
        image.export_images(tmp_path / "new", EXPORTED, lambda _: None)
    assert not (tmp_path / "new").exists()


def rewritten(
    exported: Path, change: Callable[[tarfile.TarInfo, bytes], tuple[tarfile.TarInfo, bytes]]
) -> Path:
    """The file again, each member passed through `change`."""
    target = exported.with_name("rewritten")
    with tarfile.open(exported) as old, tarfile.open(target, "w:gz") as new:
        for member in old:
            content = old.extractfile(member) if member.isreg() else None
            changed, data = change(member, content.read() if content else b"")
            changed.size = len(data)
            new.addfile(changed, io.BytesIO(data))
    return target


def with_index(exported: Path, **changes: Any) -> Path:
    def change(member: tarfile.TarInfo, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
        if member.name == transfer.INDEX:
            data = json.dumps({**json.loads(data), **changes}).encode()
        return member, data

    return rewritten(exported, change)


def refused(source: Path) -> ImageError:
    """The error of the import, which leaves the cache as it was."""
    folder = cache.directory() / "images"
    before = tree(folder)
    with pytest.raises(ImageError) as caught:
        image.import_images(source, EXPORTED)
    assert tree(folder) == before
    assert "\n" not in caught.value.what
    return caught.value


@pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.6, 0.95])
def test_a_truncated_file_is_refused(exported: Path, part: float) -> None:
    data = exported.read_bytes()
    exported.write_bytes(data[: int(part * len(data))])
    assert "damaged" in refused(exported).what


@pytest.mark.parametrize("packed", [True, False])
def test_bytes_overwritten_anywhere_are_damage(exported: Path, packed: bool) -> None:
    """In the compressed file, and in the archive in it, where no checksum of gzip helps."""
    whole = exported.read_bytes() if packed else gzip.decompress(exported.read_bytes())
    junk = cycle((b"\0" * 8, b"\xff" * 8, b"a/b/c/d/"))
    for at in range(0, len(whole), max(1, len(whole) // 90)):
        data = whole[:at] + next(junk) + whole[at + 8 :]
        exported.write_bytes(data if packed else gzip.compress(data, 1))
        try:
            image.import_images(exported, EXPORTED)  # it may lie where nothing is said
        except ImageError as error:
            assert "damaged" in error.what or "another version" in error.what, at  # noqa: PT017


def test_a_name_without_its_folder_is_damage(exported: Path) -> None:
    def change(member: tarfile.TarInfo, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
        member.name = member.name.replace("root/bin/sh", "rXot/bin/sh")
        return member, data

    assert "damaged" in refused(rewritten(exported, change)).what


def test_an_archive_that_ends_early_is_damage(exported: Path) -> None:
    with tarfile.open(exported) as tar:
        second = tar.getmembers()[1].offset
    data = gzip.decompress(exported.read_bytes())[:second] + bytes(1024)
    exported.write_bytes(gzip.compress(data))
    assert "damaged" in refused(exported).what


def test_a_flipped_bit_anywhere_in_the_contents_is_refused(exported: Path) -> None:
    def flip(name: str) -> Path:
        def change(member: tarfile.TarInfo, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
            if member.name.endswith(name) and data:
                data = bytes([data[0] ^ 1]) + data[1:]
            return member, data

        return rewritten(exported, change)

    for name in ("vmlinux", "vmlinuz", "initramfs", "root/bin/sh", "manifest.json"):
        assert "damaged" in refused(flip(name)).what, name


def test_the_digest_is_checked_against_the_files(exported: Path) -> None:
    """A manifest that was changed along with its files still has the old digest."""

    def change(member: tarfile.TarInfo, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
        if member.name.endswith("vmlinuz"):
            data = b"forged"
        elif member.name.startswith(debian_key()) and member.name.endswith("manifest.json"):
            manifest = json.loads(data)
            manifest["content"]["vmlinuz"]["sha256"] = hashlib.sha256(b"forged").hexdigest()
            data = json.dumps(manifest).encode()
        return member, data

    error = refused(rewritten(exported, change))
    assert "digest" in error.evidence


@pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped", "{key}/../escaped", "other/x"])
def test_names_outside_of_the_images_are_refused(exported: Path, name: str) -> None:
    def change(member: tarfile.TarInfo, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
        if member.name.endswith("vmlinuz"):
            member.name = name.format(key=debian_key())
        return member, data

    error = refused(rewritten(exported, change))
    assert "damaged" in error.what
    assert "holds the name" in error.evidence


def test_nothing_is_written_through_a_link(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()

    def change(member: tarfile.TarInfo, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
        if member.name.endswith("root/bin"):
            member.type, member.linkname = tarfile.SYMTYPE, str(tmp_path / "outside")
        return member, data

    assert "holds the name" in refused(rewritten(exported, change)).evidence
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"machine": "aarch64"}, "holds images for aarch64"),
        ({"format": 2}, "another version"),
        ({"images": [{"key": "k" * 64, "extends": ""}]}, "another version"),
        ({"images": []}, "another version"),
        ({"images": 5}, "damaged"),
    ],
)
def test_another_machines_or_versions_file_is_refused(
    exported: Path, changes: dict[str, Any], what: str
) -> None:
    assert what in refused(with_index(exported, **changes)).what


def test_another_recipe_of_the_testbed_is_another_version(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "hosting_key", lambda *_: "other")
    assert "another version" in refused(exported).what


def test_another_machine_cannot_import(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert "aarch64" in refused(exported).what


def test_no_file_and_other_files(exported: Path, tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path / "absent").what
    (tmp_path / "text").write_text("hello\n" * 100)
    assert "damaged" in refused(tmp_path / "text").what
    with tarfile.open(tmp_path / "tar", "w:gz") as tar:
        tar.add(tmp_path / "text", "text")
    assert "damaged" in refused(tmp_path / "tar").what
