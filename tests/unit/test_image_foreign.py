"""Programs of another release in an image, with a module for its kernel."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path
from typing import Any

import pytest

from vbench.errors import ImageError
from vbench.hypervisors.virtualbox.host import LAYER
from vbench.image import debian, foreign
from vbench.image.foreign import Foreign, header_packages, lay_out
from vbench.model import ImageFiles

BASE = ImageFiles(
    digest="",
    kernel="",
    initramfs="",
    root="",
    kernel_release="6.1.0-56-amd64",
    versions={"linux-image-6.1.0-56-amd64": "6.1.192-2"},
)
OTHER = Foreign(
    suite="sid",
    packages=("some",),
    folder="usr/lib/some",
    files=("Prog*", "parts/*"),
    root="opt/some",
    commands=("Program",),
    module_source="usr/src/some-*",
    modules=("somedrv",),
)


def test_the_headers_are_those_of_the_images_kernel() -> None:
    assert header_packages(BASE) == [
        "linux-headers-6.1.0-56-amd64=6.1.192-2",
        "linux-headers-6.1.0-56-common=6.1.192-2",
        "linux-kbuild-6.1=6.1.192-2",
    ]


@pytest.mark.parametrize("release", ["6.18.1", "6.1.0-99-amd64", ""])
def test_a_kernel_that_is_not_debians_has_none(release: str) -> None:
    with pytest.raises(ImageError, match="is not Debian's"):
        header_packages(dataclasses.replace(BASE, kernel_release=release))


def library(path: Path, needs: Path | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [
            *("cc", "-shared", "-nostdlib", "-x", "c", "/dev/null", f"-Wl,-soname,{path.name}"),
            *("-o", path),
            *(("-Wl,--no-as-needed", "-x", "none", needs) if needs else ()),
        ],
        check=True,
    )


def test_libraries_of_libraries_come_along_and_nothing_else(tmp_path: Path) -> None:
    packages, own = tmp_path / "packages", tmp_path / "own"
    system, folder = packages / "usr/lib/x86_64-linux-gnu", packages / "usr/lib/some"
    for name in ("ld-linux-x86-64.so.2", "libgcc_s.so.1", "libdeep.so.1", "libunused.so.1"):
        library(system / name)
    library(system / "libc.so.6")
    library(system / "libnear.so.1", system / "libdeep.so.1")
    library(folder / "Program", system / "libnear.so.1")
    library(folder / "other")
    (folder / "parts").mkdir()
    (folder / "parts/text").write_text("no ELF file")
    lay_out(OTHER, packages, own)
    found = {path.name for path in (own / "usr/lib").rglob("*") if path.is_file()}
    assert found == {
        *("ld-linux-x86-64.so.2", "libgcc_s.so.1", "libnear.so.1", "libdeep.so.1"),
        *("Program", "text"),
    }
    assert (own / "lib64/ld-linux-x86-64.so.2").exists()
    (system / "libdeep.so.1").unlink()
    with pytest.raises(ImageError, match="libdeep"):
        lay_out(OTHER, packages, tmp_path / "again")


def test_an_archive_without_the_headers_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unpack(wanted: object, tree: Path, *_: object, alone: bool = False, **__: object) -> Any:
        if alone:
            raise ImageError("mmdebstrap failed with exit status 25", evidence="E: Version")
        return {"some": "1"}

    monkeypatch.setattr(debian, "unpack", unpack)
    monkeypatch.setattr(foreign, "lay_out", lambda *_: None)
    (tmp_path / "root/usr/bin").mkdir(parents=True)
    (tmp_path / "work").mkdir()
    with pytest.raises(ImageError, match="headers of the image's kernel") as caught:
        foreign.add(OTHER, tmp_path / "root", BASE, tmp_path / "work", ())
    assert "vbench image remove" in caught.value.remedy


def test_virtualbox_is_taken_without_what_draws_windows() -> None:
    assert LAYER.addition.foreign is not None
    assert not any("Qt" in each or "SDL" in each for each in LAYER.addition.foreign.files)
