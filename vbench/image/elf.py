"""What the image build reads out of ELF files. Nothing is executed."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection, GNUVerSymSection
from elftools.elf.sections import NoteSection, SymbolTableSection

NT_XEN_PHYS32_ENTRY = "18"  # <xen/elfnote.h>: the entry point for PVH boot


class ElfError(ValueError):
    """The bytes are no ELF file."""


@dataclass(frozen=True)
class Symbol:
    """A dynamic symbol. `version` is empty where the library has none."""

    name: str
    version: str
    defined: bool


class Elf:
    """An ELF file in memory. Raises ElfError if it is none."""

    def __init__(self, data: bytes) -> None:
        try:
            self._file = ELFFile(io.BytesIO(data))
            self._sections = {section.name: section for section in self._file.iter_sections()}
        except (ELFError, AttributeError, UnicodeDecodeError) as error:
            raise ElfError(f"not an ELF file, or a truncated one: {error}") from error

    def needed(self) -> list[str]:
        """Names of the libraries that this file needs (DT_NEEDED)."""
        dynamic = self._sections.get(".dynamic")
        if not isinstance(dynamic, DynamicSection):
            return []
        # pyelftools names a tag's string after its kind, at run time.
        return [tag.needed for tag in dynamic.iter_tags("DT_NEEDED")]  # type: ignore[attr-defined]

    def symbols(self) -> Iterator[Symbol]:
        """The dynamic symbols, each with the version that this file requires of others."""
        symbols = self._sections.get(".dynsym")
        versions = self._sections.get(".gnu.version")
        if not isinstance(symbols, SymbolTableSection):
            return
        required = self._required_versions()
        for number, symbol in enumerate(symbols.iter_symbols()):
            version = ""
            if isinstance(versions, GNUVerSymSection):
                index = versions.get_symbol(number)["ndx"]
                # The top bit means "hidden"; the indexes of unversioned symbols are words here.
                version = required.get(index & 0x7FFF, "") if isinstance(index, int) else ""
            yield Symbol(symbol.name, version, symbol["st_shndx"] != "SHN_UNDEF")

    def _required_versions(self) -> dict[int, str]:
        """Version index -> name, from what this file requires of others."""
        required = self._sections.get(".gnu.version_r")
        if not isinstance(required, GNUVerNeedSection):
            return {}
        return {
            auxiliary["vna_other"]: auxiliary.name
            for _, auxiliaries in required.iter_versions()
            for auxiliary in auxiliaries
        }

    def modinfo(self) -> Iterator[tuple[str, str]]:
        """The `key=value` pairs of a kernel module."""
        section = self._sections.get(".modinfo")
        for pair in section.data().split(b"\0") if section else ():
            if pair:
                key, _, value = pair.decode(errors="replace").partition("=")
                yield key, value

    def has_pvh_entry(self) -> bool:
        """Whether QEMU's -kernel can boot this kernel directly (CONFIG_PVH)."""
        return any(
            note["n_name"] == "Xen" and str(note["n_type"]) == NT_XEN_PHYS32_ENTRY
            for section in self._sections.values()
            if isinstance(section, NoteSection)
            for note in section.iter_notes()
        )
