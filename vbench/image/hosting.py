"""Images whose guests can start guests themselves: the same kernel and root, and more added.

    initramfs = the base image's archive + an archive of what that lacks

so whoever boots it finds the base image's own programs, bit for bit, in its root.
"""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vbench.image import cpio, debian, rootfs, tools
from vbench.image import foreign as other
from vbench.image.foreign import Foreign
from vbench.model import ImageFiles


@dataclass(frozen=True)
class Addition:
    """What is added to the base image."""

    name: str
    programs: Mapping[str, str]  # program -> Debian package it comes from
    folders: Mapping[str, tuple[str, ...]]  # folder of the packages -> files of it, () for all
    packages: tuple[str, ...] = ()  # for `folders`
    private: str = ""  # folder of programs that are not on Debian's PATH: they get a link there
    empty: tuple[str, ...] = ()  # folders that its programs expect
    boot: str = ""  # a gzipped file of the packages, put unpacked beside the root as `boot`
    foreign: Foreign | None = None  # what comes of another release

    @property
    def all_packages(self) -> list[str]:
        return sorted({*self.programs.values(), *self.packages})


# What the x86 machine types load: the BIOS (also behind -kernel), PVH's and multiboot's loaders
# (Xen is a multiboot kernel). Network cards are given no ROM.
_BIOS = ("bios-256k.bin", "bios-microvm.bin")
_ROMS = ("kvmvapic.bin", "pvh.bin", "multiboot_dma.bin", "linuxboot_dma.bin")
FIRMWARE = (*_BIOS, *_ROMS)

QEMU = Addition(
    "QEMU",
    programs={"qemu-system-x86_64": "qemu-system-x86", "ip": "iproute2"},
    folders={
        "usr/lib/x86_64-linux-gnu/qemu": ("accel-tcg-x86_64.so",),  # TCG is a module
        "usr/share/seabios": _BIOS,
        "usr/share/qemu": _ROMS,
    },
)

# What starts the image from a boot medium: see medium.py.
LOADER = Addition(
    "ISOLINUX",
    programs={},
    folders={
        "usr/lib/ISOLINUX": ("isolinux.bin",),
        "usr/lib/syslinux/modules/bios": ("ldlinux.c32",),
    },
    packages=("isolinux", "syslinux-common"),
)

_XEN_TOOLS = "xen-utils-4.17"
XEN = Addition(
    "Xen",
    programs={
        **dict.fromkeys(
            (
                "xl",
                "oxenstored",
                "xen-init-dom0",
                "xenconsoled",
                "xenconsole",
                "xentrace",
                "xenctx",
            ),
            _XEN_TOOLS,
        ),
        **dict.fromkeys(
            [
                *("xenstore-read", "xenstore-write", "xenstore-list", "xenstore-ls"),
                *("xenstore-exists", "xenstore-rm", "xenstore-chmod"),
            ],
            "xenstore-utils",
        ),
        # Xen's scripts for disks and network cards use arrays, and a lock.
        "bash": "bash",
        "flock": "util-linux",
        "ip": "iproute2",
    },
    folders={"etc/xen/scripts": (), "etc/xen": ("oxenstored.conf", "xl.conf")},
    packages=("xen-hypervisor-4.17-amd64", "xen-utils-common"),
    private="usr/lib/xen-4.17/bin",
    empty=("var/log/xen", "var/lib/xen"),
    boot="boot/xen-4.17-amd64.gz",
)

# Debian has VirtualBox in unstable's contrib alone. Of it: what runs a machine without a window.
VIRTUALBOX = Addition(
    "VirtualBox",
    programs={},
    folders={},
    foreign=Foreign(
        suite="sid",
        packages=("virtualbox", "virtualbox-dkms"),
        folder="usr/lib/virtualbox",
        files=(
            *("VBoxHeadless", "VBoxHeadless.so", "VBoxManage", "VBoxSVC"),
            *("VBoxRT.so", "VBoxXPCOM*.so", "VBoxVMM.so", "VBoxDD*.so", "*.r0", "components/*"),
        ),
        root="opt/virtualbox",
        commands=("VBoxManage", "VBoxHeadless"),
        module_source="usr/src/virtualbox-*",
        module="vboxdrv",
    ),
)


def build(
    work: Path, base: ImageFiles, addition: Addition, keep_open: tuple[int, ...]
) -> dict[str, str]:
    """Build into the empty directory `work`: vmlinux, initramfs, root/ (only what is added; the
    hypervisor, if there is one, as root/boot/hypervisor).

    Returns the versions of the packages used. Raises ImageError.
    """
    for tool in ("mmdebstrap", "cc"):
        tools.require(tool)
    packages, scratch, root = work / "packages", work / "scratch", work / "root"
    for folder in (packages, scratch, root):
        folder.mkdir()
    versions: dict[str, str] = {}
    if addition.all_packages:
        versions |= debian.unpack(addition.all_packages, packages, scratch, keep_open)
    _assemble(packages, root, Path(base.root), addition)
    if addition.foreign:
        with tempfile.TemporaryDirectory(dir=work) as temporary:
            versions |= other.add(addition.foreign, root, base, Path(temporary), keep_open)
        rootfs.set_modes(root)
    added = cpio.archive(cpio.tree(root))
    if addition.boot:  # for whoever boots it, not for its guest
        (root / "boot").mkdir()
        with gzip.open(packages / addition.boot) as packed:
            (root / "boot/hypervisor").write_bytes(packed.read())
        rootfs.set_modes(root)
    for folder in (packages, scratch):
        shutil.rmtree(folder)
    try:
        os.link(base.kernel, work / "vmlinux")
    except OSError:  # a file system without hard links
        shutil.copyfile(base.kernel, work / "vmlinux")
    (work / "initramfs").write_bytes(Path(base.initramfs).read_bytes() + added)
    return versions


def _assemble(packages: Path, root: Path, base: Path, addition: Addition) -> None:
    for folder in ("usr/bin", rootfs.LIBRARIES, *addition.folders, *addition.empty):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for program in addition.programs:
        own = Path(addition.private, program)
        if addition.private and (packages / own).exists():
            (root / own).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(packages / own, root / own)
            (root / "usr/bin" / program).symlink_to(os.path.relpath(own, "usr/bin"))
        else:
            rootfs.add_program(packages, root, program)
    rootfs.add_libraries(packages, root, list(addition.programs), base)
    for folder, names in addition.folders.items():
        for name in names or sorted(os.listdir(packages / folder)):
            shutil.copy(packages / folder / name, root / folder / name)
    rootfs.set_modes(root)
