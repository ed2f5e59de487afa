"""Building an image: from Debian packages to a kernel, an initramfs and a root tree.

Needs no privilege, touches nothing outside its working directory, and gives the same bytes
for the same package versions (and the same C compiler).
"""

from __future__ import annotations

import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vbench.errors import ImageError
from vbench.image import cpio, debian, kernel, rootfs, tools

HERE = Path(__file__).parent
INIT = HERE / "init"
PROBE = tuple(sorted((HERE.parent / "workloads").glob("probe*.[ch]")))

KERNEL_PACKAGE = "linux-image-amd64"  # the generic kernel: the cloud flavour has no e1000
PACKAGES = sorted({KERNEL_PACKAGE, *rootfs.PROGRAMS.values()})


@dataclass(frozen=True)
class Built:
    """What a build can say about the image that it made."""

    kernel_release: str
    versions: dict[str, str]  # Debian package -> version, all that were unpacked
    compiler: str  # of the probe and the stubs
    absent_modules: list[str]  # wanted, but neither here nor needed: perhaps built in


def build_debian(work: Path, keep_open: tuple[int, ...], progress: Callable[[str], None]) -> Built:
    """Build the image with Debian's kernel into `work`: vmlinux, vmlinuz, initramfs, root/.

    `work` is an empty directory. Raises ImageError; whoever calls removes `work` then.
    """
    for tool in ("mmdebstrap", "cc"):
        tools.require(tool)
    packages, scratch, root = work / "packages", work / "scratch", work / "root"
    for folder in (scratch, root):
        folder.mkdir()
    progress("downloading and unpacking Debian packages")
    versions = debian.unpack(PACKAGES, packages, scratch, keep_open)
    progress("assembling the root tree")
    rootfs.assemble(packages, root, INIT, PROBE)
    source = _packaged_kernel(packages)
    built = _finish(work, source, versions)
    for folder in (packages, scratch):
        shutil.rmtree(folder)
    return built


def build_with_kernel(
    work: Path, source: kernel.Source, base: Path, versions: dict[str, str]
) -> Built:
    """Build an image with another kernel on the root tree `base` of a finished image."""
    shutil.copytree(base, work / "root", symlinks=True)
    return _finish(work, source, versions)


def _packaged_kernel(packages: Path) -> kernel.Source:
    images = sorted((packages / "boot").glob("vmlinuz-*"))
    if len(images) != 1:
        raise ImageError(f"expected one kernel among the packages, found {len(images)}")
    release = images[0].name.removeprefix("vmlinuz-")
    return kernel.Source(images[0], packages / "lib/modules" / release)


def _finish(work: Path, source: kernel.Source, versions: dict[str, str]) -> Built:
    image = kernel.read(source.image)
    vmlinux = kernel.extract_vmlinux(image, str(source.image))
    release = kernel.release(vmlinux)
    modules, absent = kernel.pack_modules(source.modules, release)
    # The kernel opens it for the first process before any filesystem is mounted.
    console = cpio.Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    (work / "vmlinux").write_bytes(vmlinux)
    if image != vmlinux:
        (work / "vmlinuz").write_bytes(image)
    (work / "initramfs").write_bytes(cpio.archive([*cpio.tree(work / "root"), console, *modules]))
    compiler = tools.run(["cc", "--version"]).decode().partition("\n")[0]
    return Built(release, versions, compiler, absent)
