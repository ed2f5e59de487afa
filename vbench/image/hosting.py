"""An image whose guest can start guests itself: the same kernel and root, and QEMU added.

    initramfs = the base image's archive + an archive of what that lacks

so whoever boots it finds the base image's own programs, bit for bit, in its root.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from vbench.image import cpio, debian, rootfs, tools
from vbench.model import ImageFiles

# program -> Debian package it comes from
PROGRAMS = {"qemu-system-x86_64": "qemu-system-x86", "ip": "iproute2"}
PACKAGES = sorted(PROGRAMS.values())

# What the x86 machine types load: the BIOS (also behind -kernel), PVH's and multiboot's loaders
# (Xen is a multiboot kernel). Network cards are given no ROM.
FIRMWARE = {
    "usr/share/seabios": ("bios-256k.bin",),
    "usr/share/qemu": ("kvmvapic.bin", "pvh.bin", "multiboot_dma.bin", "linuxboot_dma.bin"),
}


def build(work: Path, base: ImageFiles, keep_open: tuple[int, ...]) -> dict[str, str]:
    """Build into the empty directory `work`: vmlinux, initramfs, root/ (only what is added).

    Returns the versions of the packages used. Raises ImageError.
    """
    for tool in ("mmdebstrap", "cc"):
        tools.require(tool)
    packages, scratch, root = work / "packages", work / "scratch", work / "root"
    for folder in (scratch, root):
        folder.mkdir()
    versions = debian.unpack(PACKAGES, packages, scratch, keep_open)
    _assemble(packages, root, Path(base.root))
    for folder in (packages, scratch):
        shutil.rmtree(folder)
    try:
        os.link(base.kernel, work / "vmlinux")
    except OSError:  # a file system without hard links
        shutil.copyfile(base.kernel, work / "vmlinux")
    added = cpio.archive(cpio.tree(root))
    (work / "initramfs").write_bytes(Path(base.initramfs).read_bytes() + added)
    return versions


def _assemble(packages: Path, root: Path, base: Path) -> None:
    for folder in ("usr/bin", rootfs.LIBRARIES, *FIRMWARE):
        (root / folder).mkdir(parents=True)
    for program in PROGRAMS:
        rootfs.add_program(packages, root, program)
    rootfs.add_libraries(packages, root, list(PROGRAMS), base)
    for folder, names in FIRMWARE.items():
        for name in names:
            shutil.copy(packages / folder / name, root / folder / name)
    rootfs.set_modes(root)
