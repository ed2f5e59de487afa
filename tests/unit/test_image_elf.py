"""The ELF reader, on files made here and by the compiler; stubs of libraries."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from vbench.image import stubs
from vbench.image.elf import Elf, ElfError

needs_cc = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")


def make_elf(**sections: bytes) -> bytes:
    """An ELF file with these sections (`note` and `modinfo` stand for .note and .modinfo)."""
    named = {"": b"", **{f".{name}": data for name, data in sections.items()}}
    names = b"".join(name.encode() + b"\0" for name in [*named, ".shstrtab"])
    named[".shstrtab"] = names
    header_size, content, headers = 64, b"", b""
    for name, data in named.items():
        kind = 7 if name == ".note" else 1
        start = 0 if not name else names.index(name.encode() + b"\0")
        headers += struct.pack(
            "<IIQQQQIIQQ", start, kind, 0, 0, header_size + len(content), len(data), 0, 0, 1, 0
        )
        content += data
    header = bytearray(header_size)
    header[:6] = b"\x7fELF\x02\x01"
    struct.pack_into("<Q", header, 0x28, header_size + len(content))
    struct.pack_into("<HHH", header, 0x3A, 64, len(named), len(named) - 1)
    return bytes(header) + content + headers


PVH_NOTE = struct.pack("<III", 4, 4, 18) + b"Xen\0" + bytes(4)
OTHER_NOTE = struct.pack("<III", 4, 5, 1) + b"GNU\0" + bytes(8)


def test_module_info_is_read() -> None:
    elf = Elf(make_elf(modinfo=b"alias=pci:v1\0depends=a,b\0\0name=x\0"))

    assert list(elf.modinfo()) == [("alias", "pci:v1"), ("depends", "a,b"), ("name", "x")]


def test_pvh_entry_is_found_among_other_notes() -> None:
    assert Elf(make_elf(note=OTHER_NOTE + PVH_NOTE)).has_pvh_entry()
    assert not Elf(make_elf(note=OTHER_NOTE)).has_pvh_entry()
    assert not Elf(make_elf(modinfo=PVH_NOTE)).has_pvh_entry()


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"#!/bin/sh\n"])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ElfError):
        Elf(data)


def test_truncated_file_is_refused() -> None:
    with pytest.raises(ElfError, match="truncated"):
        Elf(make_elf(modinfo=b"name=x\0")[:-70])


@needs_cc
def test_needed_libraries_and_symbols_of_a_compiled_program(tmp_path: Path) -> None:
    program = compile_c(tmp_path, 'int main(void) { return puts("x"); }', "program")

    elf = Elf(program.read_bytes())

    assert elf.needed() == ["libc.so.6"]
    puts = next(symbol for symbol in elf.symbols() if symbol.name == "puts")
    assert puts.version.startswith("GLIBC_")
    assert not puts.defined


@needs_cc
@pytest.mark.parametrize("versioned", [True, False])
def test_program_runs_with_a_stub_until_it_calls_it(tmp_path: Path, versioned: bool) -> None:
    (tmp_path / "map").write_text("LARGE_1.0 { global: large_one; large_two; local: *; };\n")
    library = compile_c(
        tmp_path,
        "int large_one(void) { return 1; } int large_two(void) { return 2; }",
        "liblarge.so.1",
        *("-shared", "-fPIC", "-Wl,-soname,liblarge.so.1"),
        *([f"-Wl,--version-script={tmp_path}/map"] if versioned else []),
    )
    program = compile_c(
        tmp_path,
        "int large_one(void); int main(int n, char **a) { return n > 1 ? large_one() : 0; }",
        "program",
        *("-Wl,-z,now", str(library)),
    )
    stub = tmp_path / "stub/liblarge.so.1"
    stub.parent.mkdir()

    stubs.write(stub.name, Elf(library.read_bytes()), [Elf(program.read_bytes())], stub)

    assert [file.name for file in stub.parent.iterdir()] == [stub.name]
    exported = {symbol.name for symbol in Elf(stub.read_bytes()).symbols() if symbol.defined}
    assert "large_one" in exported
    assert "large_two" not in exported
    environment = {"LD_LIBRARY_PATH": str(stub.parent)}
    untouched = subprocess.run([program], env=environment, capture_output=True, check=False)
    assert (untouched.returncode, untouched.stderr) == (0, b"")
    called = subprocess.run([program, "x"], env=environment, capture_output=True, check=False)
    assert called.returncode == 127
    assert called.stderr == b"liblarge.so.1 is a stub in this image\n"


def compile_c(folder: Path, source: str, name: str, *options: str) -> Path:
    target = folder / name
    subprocess.run(
        ["cc", "-w", "-x", "c", "-", "-x", "none", "-o", str(target), *options],
        input=("#include <stdio.h>\n" + source).encode(),
        check=True,
    )
    return target
