"""A boot medium of the image: an ISO 9660 file that a BIOS starts, for hypervisors that load no
kernel themselves. Pure: bytes of what comes before kernel and initramfs, and of what comes after.

    head | kernel | initramfs | isolinux.cfg, keys

Head and tail are small and belong to one launch; kernel and initramfs are the image's own files,
which are copied between them on the host. The boot loader is ISOLINUX.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from vbench.contract.layer import Addition

# ECMA-119 (ISO 9660): logical sectors of 2048 bytes, the first 16 are for the system.
SECTOR = 2048
_VOLUME, _BOOT_RECORD, _TERMINATOR, _PATHS_LOW, _PATHS_HIGH, _ROOT, _CATALOG, _FILES = range(16, 24)
# What a boot loader of 4 sectors of 512 bytes needs to find the rest of itself.
_BOOT_SECTORS = 4
_INFO_AT, _SUM_FROM = 8, 64  # of the boot information table: the syslinux documentation


LOADER = Addition(
    "ISOLINUX",
    programs={},
    folders={
        "usr/lib/ISOLINUX": ("isolinux.bin",),
        "usr/lib/syslinux/modules/bios": ("ldlinux.c32",),
    },
    packages=("isolinux", "syslinux-common"),
)


@dataclass(frozen=True)
class Medium:
    """The two parts that are written around the image's own files."""

    head: bytes
    tail: bytes


def padding(size: int) -> int:
    """Bytes from the end of a file to the next sector."""
    return -size % SECTOR


def medium(
    loader: bytes,
    core: bytes,
    kernel_size: int,
    initramfs_size: int,
    append: Sequence[str],
    archive: bytes,
) -> Medium:
    """`loader` and `core` are ISOLINUX's isolinux.bin and ldlinux.c32, `append` is the kernel's
    command line, `archive` a cpio archive that the kernel unpacks after the initramfs."""
    settings = (
        "DEFAULT vbench\nPROMPT 0\nTIMEOUT 1\nLABEL vbench\n  KERNEL /vmlinuz\n"
        f"  INITRD /initrd,/keys\n  APPEND {' '.join(append)}\n"
    ).encode()
    sizes = {
        "ISOLINUX.BIN": len(loader),
        "LDLINUX.C32": len(core),
        "VMLINUZ": kernel_size,
        "INITRD": initramfs_size,
        "ISOLINUX.CFG": len(settings),
        "KEYS": len(archive),
    }
    places: dict[str, int] = {}
    sector = _FILES
    for name, size in sizes.items():
        places[name] = sector
        sector += (size + padding(size)) // SECTOR
    head = bytes(16 * SECTOR) + b"".join(
        (
            _volume(sector),
            _boot_record(),
            _sector(b"\xffCD001\x01"),
            _sector(struct.pack("<BBIH", 1, 0, _ROOT, 1) + b"\0\0"),
            _sector(struct.pack(">BBIH", 1, 0, _ROOT, 1) + b"\0\0"),
            _directory(places, sizes),
            _catalog(places["ISOLINUX.BIN"]),
            _padded(_with_boot_information(loader, places["ISOLINUX.BIN"])),
            _padded(core),
        )
    )
    return Medium(head, _padded(settings) + _padded(archive))


def _padded(data: bytes) -> bytes:
    return data + bytes(padding(len(data)))


def _sector(data: bytes) -> bytes:
    return data.ljust(SECTOR, b"\0")


def _both(format: str, value: int) -> bytes:
    """A number in both byte orders, as ISO 9660 has most of them."""
    return struct.pack(f"<{format}", value) + struct.pack(f">{format}", value)


def _record(name: bytes, sector: int, size: int, *, folder: bool = False) -> bytes:
    """A directory record (ECMA-119, 9.1); the date is unknown."""
    body = (
        b"\0" + _both("I", sector) + _both("I", size) + bytes(7)
        + struct.pack("BBB", 2 if folder else 0, 0, 0) + _both("H", 1)
        + struct.pack("B", len(name)) + name
    )  # fmt: skip
    body += bytes((len(body) + 1) % 2)
    return struct.pack("B", len(body) + 1) + body


def _volume(sectors: int) -> bytes:
    """The primary volume descriptor (ECMA-119, 8.4)."""
    return _sector(
        b"\x01CD001\x01\0" + b" " * 32 + b"VBENCH".ljust(32) + bytes(8) + _both("I", sectors)
        + bytes(32) + _both("H", 1) + _both("H", 1) + _both("H", SECTOR) + _both("I", 10)
        + struct.pack("<II", _PATHS_LOW, 0) + struct.pack(">II", _PATHS_HIGH, 0)
        + _record(b"\0", _ROOT, SECTOR, folder=True) + b" " * (128 * 4 + 37 * 3)
        + (b"0" * 16 + b"\0") * 4 + b"\x01\0"
    )  # fmt: skip


def _boot_record() -> bytes:
    """Where the boot catalog is (El Torito, figure 7)."""
    return _sector(
        b"\0CD001\x01" + b"EL TORITO SPECIFICATION".ljust(64, b"\0") + struct.pack("<I", _CATALOG)
    )


def _catalog(loader: int) -> bytes:
    """Validation entry and initial entry: no emulation (El Torito, figures 2 and 3)."""
    validation = bytearray(struct.pack("<BBH24sHBB", 1, 0, 0, b"vbench", 0, 0x55, 0xAA))
    total = sum(struct.unpack("<16H", bytes(validation)))
    struct.pack_into("<H", validation, 28, -total & 0xFFFF)
    initial = struct.pack("<BBHBBHI", 0x88, 0, 0, 0, 0, _BOOT_SECTORS, loader)
    return _sector(bytes(validation) + initial)


def _directory(places: dict[str, int], sizes: dict[str, int]) -> bytes:
    records = [
        _record(b"\0", _ROOT, SECTOR, folder=True),
        _record(b"\1", _ROOT, SECTOR, folder=True),
    ]
    for name in sorted(places):
        full = f"{name};1" if "." in name else f"{name}.;1"
        records.append(_record(full.encode(), places[name], sizes[name]))
    return _sector(b"".join(records))


def _with_boot_information(loader: bytes, sector: int) -> bytes:
    """ISOLINUX with the table by which it finds itself on the medium."""
    words = loader[_SUM_FROM:] + bytes(-len(loader[_SUM_FROM:]) % 4)
    total = sum(struct.unpack(f"<{len(words) // 4}I", words)) & 0xFFFFFFFF
    table = struct.pack("<IIII", _VOLUME, sector, len(loader), total)
    return loader[:_INFO_AT] + table + loader[_INFO_AT + len(table) :]
