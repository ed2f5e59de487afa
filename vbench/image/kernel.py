"""The guest's kernel: an uncompressed vmlinux, and the few modules that the guests need."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from vbench.errors import ImageError
from vbench.image import cpio, tools
from vbench.image.elf import Elf, ElfError
from vbench.system.files import KERNEL_MOST_BYTES, open_file, read_file

# By what they are for; what these need comes along. Names as modprobe takes them.
MODULES = (
    *("virtio_pci", "virtio_mmio", "virtio_blk", "virtio_net", "virtio_console"),
    *("ata_piix", "ata_generic", "ahci", "sd_mod", "nvme", "e1000"),
    *("pvpanic_pci", "pvpanic_mmio"),
    *("xen_blkfront", "xen_netfront"),
    # for guests that are hosts themselves
    *("kvm", "kvm_amd", "kvm_intel", "vhost_net", "tun", "bridge", "veth", "brd", "loop"),
    *("xen_evtchn", "xen_gntdev", "xen_gntalloc", "xen_privcmd", "xenfs"),
    *("xen_blkback", "xen_netback"),
    *("msr", "ext4", "crc32c_generic", "crc32c_intel"),
)

GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Source:
    """Where a kernel comes from: its file, and the folder with its modules (None: it has none)."""

    image: Path
    modules: Path | None

    def digest(self) -> str:
        """Over the kernel's bytes and the modules' names, sizes and times (hashing all of a
        distribution's modules would take seconds)."""
        total = hashlib.sha256(read(self.image))
        for path in sorted(_module_files(self.modules)):
            status = path.stat()
            total.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
        return total.hexdigest()


def host_kernel() -> Source:
    """The kernel that runs this machine. Raises ImageError if its files are not here."""
    release = os.uname().release
    modules = Path("/lib/modules", release)
    for image in (Path("/boot", f"vmlinuz-{release}"), modules / "vmlinuz"):
        if image.exists():
            return Source(image, modules if modules.is_dir() else None)
    raise ImageError(
        f"the file of this machine's running kernel, {release}, is not here",
        evidence=f"neither /boot/vmlinuz-{release} nor {modules}/vmlinuz exists",
        remedy="name a kernel file (bzImage or vmlinux) instead of `host`, or use `debian`",
    )


def is_kernel(path: Path) -> bool:
    """Whether a file begins as a vmlinux or a bzImage does. Raises ImageError if it cannot be
    read."""
    try:
        with open_file(path) as file:
            head = file.read(0x206)
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}") from error
    return head.startswith(b"\x7fELF") or head[0x202:0x206] == b"HdrS"


def extract_vmlinux(image: bytes, name: str) -> bytes:
    """The uncompressed kernel inside a bzImage; a vmlinux is returned as it is.

    `name` is for messages. Raises ImageError if it is neither, is compressed in a way that
    cannot be undone here, or lacks the PVH entry point through which it is booted.
    """
    vmlinux = image if image.startswith(b"\x7fELF") else _decompress(_payload(image, name), name)
    try:
        pvh = Elf(vmlinux).has_pvh_entry()
    except ElfError as error:
        raise ImageError(f"{name} holds no usable kernel", evidence=str(error)) from error
    if not pvh:
        raise ImageError(
            f"the kernel in {name} has no PVH entry point, so QEMU cannot start its vmlinux",
            remedy="use a kernel built with CONFIG_PVH=y (Debian's and Ubuntu's are)",
        )
    return vmlinux


def release(vmlinux: bytes) -> str:
    """What `uname -r` says under this kernel. Raises ImageError."""
    found = re.search(rb"Linux version (\S+) \(", vmlinux)
    if found is None:
        raise ImageError("the kernel does not say which version it is")
    return found[1].decode()


def pack_modules(folder: Path | None, release: str) -> tuple[list[cpio.Entry], list[str]]:
    """Archive entries with the wanted modules and modprobe's indexes; the names not found.

    A name not found may be built into the kernel. Raises ImageError.
    """
    files = {_module_name(path): path for path in sorted(_module_files(folder))}
    contents: dict[str, bytes] = {}
    depends: dict[str, list[str]] = {}
    aliases: list[str] = []
    todo = [name for name in MODULES if name in files]
    while todo:
        name = todo.pop()
        if name in contents or name not in files:
            continue
        contents[name] = _read_module(files[name])
        depends[name] = []
        for key, value in Elf(contents[name]).modinfo():
            if key == "depends":
                depends[name] = [one.replace("-", "_") for one in value.split(",") if one]
            elif key == "alias":
                aliases.append(f"alias {value} {name}")
        todo += depends[name]
    top = f"usr/lib/modules/{release}"
    entries = [cpio.directory("usr/lib/modules"), cpio.directory(top)]
    entries += [cpio.file(f"{top}/{name}.ko", content) for name, content in contents.items()]
    indexes = {
        "modules.dep": [_dep_line(name, depends) for name in sorted(contents)],
        "modules.alias": sorted(aliases),
        "modules.symbols": [],
    }
    for name, lines in indexes.items():
        entries.append(cpio.file(f"{top}/{name}", "".join(f"{line}\n" for line in lines).encode()))
    builtin = folder / "modules.builtin" if folder else None
    if builtin and builtin.exists():
        entries.append(cpio.file(f"{top}/modules.builtin", read(builtin)))
    return entries, sorted(set(MODULES) - set(contents))


def _dep_line(name: str, depends: dict[str, list[str]]) -> str:
    """`module: all that it needs`, what must be loaded first standing last."""
    ordered: list[str] = []

    def visit(one: str) -> None:
        for dependency in depends.get(one, []):
            if dependency not in ordered:
                visit(dependency)
        ordered.append(one)

    visit(name)
    return f"{name}.ko:" + "".join(f" {one}.ko" for one in reversed(ordered[:-1]))


def _module_files(folder: Path | None) -> Iterable[Path]:
    return (folder / "kernel").rglob("*.ko*") if folder else ()


def _module_name(path: Path) -> str:
    return path.name.partition(".ko")[0].replace("-", "_")


def _read_module(path: Path) -> bytes:
    data = read(path)
    return data if data.startswith(b"\x7fELF") else _decompress(data, str(path))


def read(path: Path) -> bytes:
    """A kernel's or module's file. Raises ImageError."""
    try:
        return read_file(path, KERNEL_MOST_BYTES)
    except OSError as error:
        raise ImageError(
            f"{path} cannot be read",
            evidence=str(error),
            remedy=f"make a copy that you can read: sudo install -m 644 {path} ."
            if isinstance(error, PermissionError)
            else "give a regular file, or a folder of such",
        ) from error


def _payload(image: bytes, name: str) -> bytes:
    """The compressed kernel inside a bzImage (the kernel's Documentation/arch/x86/boot.rst)."""
    if image[0x202:0x206] != b"HdrS" or struct.unpack_from("<H", image, 0x206)[0] < 0x208:
        raise ImageError(
            f"{name} is neither a bzImage nor a vmlinux",
            evidence=f"it begins with {image[:8]!r}",
        )
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    payload = image[start : start + length]
    # The kernel's build appends the unpacked size, except where the format holds it itself.
    return payload if payload.startswith(GZIP) else payload[:-4]


_COMPRESSIONS: tuple[tuple[bytes, Callable[[bytes], bytes]], ...] = (
    (b"\xfd7zXZ\x00", lambda data: lzma.decompress(data, lzma.FORMAT_XZ)),
    (b"\x5d\x00\x00", lambda data: lzma.decompress(data, lzma.FORMAT_ALONE)),
    (GZIP, gzip.decompress),
    (b"BZh", bz2.decompress),
    (b"\x28\xb5\x2f\xfd", lambda data: tools.run(["zstd", "-dc"], stdin=data)),
    (b"\x02\x21\x4c\x18", lambda data: tools.run(["lz4", "-dc"], stdin=data)),
)


def _decompress(data: bytes, name: str) -> bytes:
    for magic, decompress in _COMPRESSIONS:
        if data.startswith(magic):
            try:
                return decompress(data)
            except (lzma.LZMAError, zlib.error, OSError, EOFError) as error:
                raise ImageError(f"{name} is damaged", evidence=str(error)) from error
    raise ImageError(
        f"{name} is compressed in a way that cannot be undone here",
        evidence=f"it begins with {data[:8].hex(' ')}",
        remedy="give an uncompressed vmlinux",
    )
