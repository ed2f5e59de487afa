"""What the image build reads out of ELF files: sections, needed libraries, symbols, module info.

Little-endian 64-bit files only, which is all that an amd64 image holds. Nothing is executed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

DT_NEEDED = 1
NT_XEN_PHYS32_ENTRY = 18  # the entry point for PVH boot
SHT_NOTE = 7
SHN_UNDEF = 0


class ElfError(ValueError):
    """The bytes are no ELF file that this module reads."""


@dataclass(frozen=True)
class Symbol:
    """A dynamic symbol. `version` is empty where the library has none."""

    name: str
    version: str
    defined: bool


class Elf:
    """An ELF file in memory. Raises ElfError if it is none."""

    def __init__(self, data: bytes) -> None:
        if data[:6] != b"\x7fELF\x02\x01":
            raise ElfError("not a 64-bit little-endian ELF file")
        self._data = data
        (table,) = struct.unpack_from("<Q", data, 0x28)
        entry_size, count, names_index = struct.unpack_from("<HHH", data, 0x3A)
        try:
            # name, type, flags, address, offset, size, link, info, align, entry size
            headers = [
                struct.unpack_from("<IIQQQQIIQQ", data, table + index * entry_size)
                for index in range(count)
            ]
            names = self._bytes(headers[names_index])
        except (struct.error, IndexError) as error:
            raise ElfError("truncated ELF file") from error
        self._headers = {_string(names, header[0]): header for header in headers}

    def _bytes(self, header: tuple[int, ...]) -> bytes:
        return self._data[header[4] : header[4] + header[5]]

    def section(self, name: str) -> bytes:
        """The content of a section, empty if there is none of that name."""
        header = self._headers.get(name)
        return self._bytes(header) if header else b""

    def needed(self) -> list[str]:
        """Names of the libraries that this file needs (DT_NEEDED)."""
        strings = self.section(".dynstr")
        return [
            _string(strings, value)
            for tag, value in struct.iter_unpack("<qQ", self.section(".dynamic"))
            if tag == DT_NEEDED
        ]

    def symbols(self) -> list[Symbol]:
        """The dynamic symbols, each with the version it is bound to."""
        strings = self.section(".dynstr")
        versions = self._versions(strings)
        indexes = [index for (index,) in struct.iter_unpack("<H", self.section(".gnu.version"))]
        symbols = []
        for number, (name, _, _, section, _, _) in enumerate(
            struct.iter_unpack("<IBBHQQ", self.section(".dynsym"))
        ):
            version = indexes[number] & 0x7FFF if indexes else 0  # the top bit means "hidden"
            symbols.append(
                Symbol(_string(strings, name), versions.get(version, ""), section != SHN_UNDEF)
            )
        return symbols

    def _versions(self, strings: bytes) -> dict[int, str]:
        """Version index -> name, from what this file requires of others (.gnu.version_r)."""
        requires = self.section(".gnu.version_r")
        versions = {}
        offset = 0
        while offset < len(requires):
            _, count, _, first, following = struct.unpack_from("<HHIII", requires, offset)
            auxiliary = offset + first
            for _ in range(count):
                _, _, index, name, step = struct.unpack_from("<IHHII", requires, auxiliary)
                versions[index] = _string(strings, name)
                auxiliary += step
            if not following:
                break
            offset += following
        return versions

    def modinfo(self) -> Iterator[tuple[str, str]]:
        """The `key=value` pairs of a kernel module."""
        for pair in self.section(".modinfo").split(b"\0"):
            if pair:
                key, _, value = pair.decode(errors="replace").partition("=")
                yield key, value

    def has_pvh_entry(self) -> bool:
        """Whether QEMU's -kernel can boot this kernel directly (CONFIG_PVH)."""
        for header in self._headers.values():
            if header[1] != SHT_NOTE:
                continue
            notes, offset = self._bytes(header), 0
            while offset + 12 <= len(notes):
                name_size, content_size, kind = struct.unpack_from("<III", notes, offset)
                offset += 12
                if kind == NT_XEN_PHYS32_ENTRY and notes[offset : offset + 4] == b"Xen\0":
                    return True
                offset += (name_size + 3 & ~3) + (content_size + 3 & ~3)
        return False


def _string(table: bytes, offset: int) -> str:
    return table[offset : table.index(b"\0", offset)].decode()
