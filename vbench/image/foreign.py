"""Programs of another Debian release for an image, in a root of their own, since they need that
release's C library; and the kernel modules that belong to them, compiled for the image's kernel.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from vbench.contract.layer import Foreign
from vbench.errors import ImageError
from vbench.image import debian, rootfs, tools
from vbench.image.elf import Elf, ElfError
from vbench.model import ImageFiles

_HEADERS = "usr/src/linux-headers-"


def add(
    foreign: Foreign, root: Path, base: ImageFiles, work: Path, keep_open: tuple[int, ...]
) -> dict[str, str]:
    """Put it into `root`, which is laid over the root of the image `base`. `work` is an empty
    directory for temporary files. Returns the versions of its packages. Raises ImageError."""
    packages, headers = work / "packages", work / "headers"
    scratches = [work / "scratch", work / "scratch2"]
    for scratch in scratches:
        scratch.mkdir()
    versions = debian.unpack(
        foreign.packages, packages, scratches[0], keep_open, suite=foreign.suite
    )
    own = root / foreign.root
    lay_out(foreign, packages, own)
    for command in foreign.commands:
        wrapper = root / "usr/bin" / command
        program = f"/{foreign.folder}/{command}"
        wrapper.write_text(
            f'#!/bin/sh\nexec chroot /{foreign.root} {shlex.quote(program)} "$@"\n',
            encoding="utf-8",
        )
        wrapper.chmod(0o755)
    try:
        versions |= debian.unpack(
            header_packages(base), headers, scratches[1], keep_open, alone=True
        )
    except ImageError as error:
        raise ImageError(
            f"the headers of the image's kernel {base.kernel_release} cannot be had: {error.what}",
            evidence=error.evidence,
            remedy=error.remedy
            or "probably the archive has a newer kernel: `vbench image remove` this image, then "
            "it is built anew",
        ) from error
    for module in _compile(foreign, packages, headers, base.kernel_release, keep_open):
        shutil.copy(module, own / module.name)
    return {name: version for name, version in versions.items() if name in _recorded(foreign, base)}


def header_packages(base: ImageFiles) -> list[str]:
    """What a module for the kernel of `base` is compiled with, in the version of that kernel."""
    release = base.kernel_release
    version = base.versions.get(f"linux-image-{release}", "")
    upstream, _, flavour = release.rpartition("-")  # 6.1.0-56, amd64
    names = [
        f"linux-headers-{release}",
        f"linux-headers-{upstream}-common",
        f"linux-kbuild-{'.'.join(upstream.split('.')[:2])}",
    ]
    if not flavour or not version:
        raise ImageError(f"the kernel {release} is not Debian's, so its headers are not known")
    return [f"{name}={version}" for name in names]


def _recorded(foreign: Foreign, base: ImageFiles) -> Iterable[str]:
    return (*foreign.packages, f"linux-headers-{base.kernel_release}")


def lay_out(foreign: Foreign, packages: Path, own: Path) -> None:
    """Make the root `own` of the unpacked `packages`: the files, and all libraries that they need.

    Raises ImageError.
    """
    libraries = (packages / foreign.folder, packages / rootfs.LIBRARIES)
    for folder in ("etc", "usr/bin", "usr/lib64", rootfs.LIBRARIES, "var"):
        (own / folder).mkdir(parents=True)
    for name in ("dev", "proc", "sys", "tmp", "run"):
        (own / name).mkdir()
    for name, target in rootfs.LINKS.items():
        (own / name).symlink_to(target)
    (own / "etc/passwd").write_text(rootfs.ETC["passwd"], encoding="utf-8")
    wanted = [rootfs.LOADER, *rootfs.LOADED_AT_RUN_TIME]
    for pattern in foreign.files:
        for path in sorted((packages / foreign.folder).glob(pattern)):
            copy = own / path.relative_to(packages)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
            wanted += _needed(path)
    done: set[str] = set()
    while todo := [name for name in wanted if name not in done]:
        done.add(todo[0])
        if (own / foreign.folder / todo[0]).exists():
            continue
        path = _library(todo[0], libraries)
        shutil.copy(path, own / rootfs.LIBRARIES / todo[0])
        wanted += _needed(path)


def _library(name: str, folders: Sequence[Path]) -> Path:
    for folder in folders:
        if (folder / name).exists():
            return folder / name
    raise ImageError(f"the library {name} is in none of the unpacked packages")


def _needed(path: Path) -> list[str]:
    try:
        return Elf(path.read_bytes()).needed()
    except ElfError:
        return []


def _compile(
    foreign: Foreign, packages: Path, headers: Path, release: str, keep_open: tuple[int, ...]
) -> list[Path]:
    """The modules' files. Raises ImageError with the compiler's words."""
    tools.require("make")
    source = next(packages.glob(foreign.module_source), None)
    if source is None:
        raise ImageError(f"no {foreign.module_source} is in the unpacked packages")
    tree = headers / f"{_HEADERS}{release}"
    makefile = tree / "Makefile"
    # It names the other headers by where they are installed.
    text = makefile.read_text(encoding="utf-8").replace("/usr/src/", f"{headers}/usr/src/")
    makefile.write_text(text, encoding="utf-8")
    tools.run(
        [
            *("make", "-C", str(tree), f"-j{os.cpu_count() or 1}", "CC=cc"),
            *(f"M={source}", f"KERNELRELEASE={release}", "modules"),
        ],
        keep_open=keep_open,
    )
    built = []
    for name in foreign.modules:
        if (module := next(source.rglob(f"{name}.ko"), None)) is None:
            raise ImageError(f"make built no {name}.ko of {source.name}")
        tools.run(["strip", "--strip-debug", str(module)])
        built.append(module)
    return built
