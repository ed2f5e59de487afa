"""Images whose guests can start guests themselves: the same kernel and root, and more added.

    initramfs = the base image's archive + an archive of what that lacks

so whoever boots it finds the base image's own programs, bit for bit, in its root.
"""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
from pathlib import Path

from vbench.contract.layer import Addition
from vbench.image import cpio, debian, foreign, rootfs, tools
from vbench.model import ImageFiles


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
            versions |= foreign.add(addition.foreign, root, base, Path(temporary), keep_open)
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
