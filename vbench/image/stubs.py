"""Stand-ins for libraries that a program needs to start but that no measurement uses.

Debian's QEMU, which the testbed adds to the image, links drivers for InfiniBand and persistent
memory. redis can tell systemd that it is up, and its allocator has an interface for C++. A stub
exports the names that the programs import; a program that calls one gets an error message and ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vbench.image import tools
from vbench.image.elf import Elf

STUBBED = frozenset(
    {"libibverbs.so.1", "libpmem.so.1", "librdmacm.so.1", "libstdc++.so.6", "libsystemd.so.0"}
)

# Without a C library, so that a stub fits whichever the image holds.
SOURCE = """\
static long call(long number, long first, const void *second, long third)
{{
    long result;
    __asm__ volatile("syscall" : "=a"(result)
                     : "a"(number), "D"(first), "S"(second), "d"(third)
                     : "rcx", "r11", "memory");
    return result;
}}
__attribute__((noreturn)) static void stub(void)
{{
    static const char text[] = "{library} is a stub in this image\\n";
    call(1, 2, text, sizeof text - 1); /* write */
    for (;;)
        call(231, 127, 0, 0); /* exit_group */
}}
"""


def write(library: str, original: Elf, users: Iterable[Elf], target: Path) -> None:
    """Compile the stub of `library`: the names that `users` import and `original` defines."""
    offered = {symbol.name for symbol in original.symbols() if symbol.defined}
    wanted: dict[str, set[str]] = {}  # version -> names
    for user in users:
        for symbol in user.symbols():
            if not symbol.defined and symbol.name in offered:
                wanted.setdefault(symbol.version, set()).add(symbol.name)
    source = [SOURCE.format(library=library)]
    source += [
        f'void {name}(void) __attribute__((alias("stub")));'
        for name in sorted(set().union(*wanted.values()))
    ]
    # The loader complains on every start if a library lacks the versions it was linked against.
    versions = [
        f"{version} {{ global: {'; '.join(sorted(names))}; }};"
        for version, names in sorted(wanted.items())
        if version
    ]
    version_script = target.with_suffix(".map")
    version_script.write_text("\n".join(versions), encoding="utf-8")
    tools.run(
        [
            *("cc", "-x", "c", "-O2", "-fPIC", "-shared", "-nostdlib", "-o", str(target), "-"),
            *("-Wl,--build-id=none", "-Wl,-s", f"-Wl,-soname,{library}"),
            *([f"-Wl,--version-script={version_script}"] if versions else []),
        ],
        stdin="\n".join([*source, ""]).encode(),
    )
    version_script.unlink()
