"""The image's root tree: a few programs out of unpacked Debian packages, and what they need."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from vbench.errors import ImageError
from vbench.image import stubs, tools
from vbench.image.elf import Elf

# program -> Debian package it comes from
PROGRAMS = {
    "ab": "apache2-utils",
    "busybox": "busybox-static",
    "dropbear": "dropbear-bin",
    "iperf3": "iperf3",
    "mkfs.ext4": "e2fsprogs",
    "nginx": "nginx",
    "openssl": "openssl",
    "redis-benchmark": "redis-tools",
    "redis-server": "redis-server",
    "setpriv": "util-linux",
    "sqlite3": "sqlite3",
    "taskset": "util-linux",
    "tcc": "tcc",
    "unshare": "util-linux",
    "zstd": "zstd",
}

# Loaded by name at run time, so no ELF header tells of them: threads that are cancelled.
LOADED_AT_RUN_TIME = ("libgcc_s.so.1",)

LIBRARIES = "usr/lib/x86_64-linux-gnu"  # where Debian's loader looks without any ld.so.cache
LOADER = "ld-linux-x86-64.so.2"

MOUNT_POINTS = ("dev", "dev/shm", "proc", "run", "scratch", "sys", "tmp")
LINKS = {
    "bin": "usr/bin",
    "sbin": "usr/bin",
    "lib": "usr/lib",
    "lib64": "usr/lib64",
    "usr/sbin": "bin",
    f"usr/lib64/{LOADER}": f"../lib/x86_64-linux-gnu/{LOADER}",
    "var/run": "../run",
    "var/tmp": "../tmp",
}
ETC = {
    "passwd": "root:*:0:0:root:/root:/bin/sh\nnobody:*:65534:65534:nobody:/:/bin/false\n",
    "group": "root:x:0:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1 localhost\n",
    "shells": "/bin/sh\n",  # dropbear lets nobody in whose shell is not listed
    "inittab": "::ctrlaltdel:/bin/poweroff -f\n",  # otherwise init only reaps orphans
}


def assemble(packages: Path, root: Path, init: Path, probe_sources: Sequence[Path]) -> None:
    """Make `root` from the unpacked `packages`, our init script and our probe.

    Modes are set here, not by the umask; owners are left to the archive. Raises ImageError.
    """
    for folder in ("etc", "root", "usr/bin", "usr/lib64", LIBRARIES, "var", *MOUNT_POINTS):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name, target in LINKS.items():
        (root / name).symlink_to(target)
    for name, text in ETC.items():
        (root / "etc" / name).write_text(text, encoding="utf-8")
    for program in PROGRAMS:
        add_program(packages, root, program)
    add_libraries(packages, root, list(PROGRAMS))
    _copy(init, root / "init")
    compile_probe(probe_sources, root / "usr/bin/vbench-probe")
    _add_applets(root)
    set_modes(root)


_PROGRAM_FOLDERS = ("usr/bin", "bin", "usr/sbin", "sbin")
_LIBRARY_FOLDERS = (LIBRARIES, "lib/x86_64-linux-gnu")


def _find(packages: Path, name: str, folders: tuple[str, ...]) -> Path:
    for folder in folders:
        path = packages / folder / name
        if path.exists():
            return path
    raise ImageError(
        f"{name} is in none of the unpacked Debian packages",
        evidence=f"looked in {', '.join(folders)}",
        remedy="a package of another release? This recipe is for Debian 12 (bookworm)",
    )


def _copy(source: Path, target: Path) -> None:
    """Content and permissions; a symlink is followed."""
    shutil.copy(source, target)


def add_program(packages: Path, root: Path, program: str) -> None:
    """Copy a program out of the unpacked packages. Raises ImageError if it is in none."""
    _copy(_find(packages, program, _PROGRAM_FOLDERS), root / "usr/bin" / program)


def add_libraries(
    packages: Path, root: Path, programs: list[str], base: Path | None = None
) -> None:
    """Copy every library that `programs` in `root` need, directly or through others; stub some.

    What lies in the finished root tree `base` is not copied, as `root` will be laid over it;
    stubs are written anew, for they have only the names that their own users import.
    """
    users = [Elf((root / "usr/bin" / name).read_bytes()) for name in programs]
    wanted = {name for program in users for name in program.needed()}
    if base is None:
        wanted |= {LOADER, *LOADED_AT_RUN_TIME}
    else:
        users += [Elf((base / "usr/bin" / name).read_bytes()) for name in PROGRAMS]
    stubbed: set[str] = set()
    done: set[str] = set()
    while todo := sorted(wanted - done):
        name = todo[0]
        done.add(name)
        if name in stubs.STUBBED:
            stubbed.add(name)
            continue
        if base is not None and (base / LIBRARIES / name).exists():
            continue
        original = _find(packages, name, _LIBRARY_FOLDERS)
        _copy(original, root / LIBRARIES / name)
        users.append(Elf(original.read_bytes()))
        wanted.update(users[-1].needed())
    for name in sorted(stubbed):
        original = _find(packages, name, _LIBRARY_FOLDERS)
        stubs.write(name, Elf(original.read_bytes()), users, root / LIBRARIES / name)


def compile_probe(sources: Sequence[Path], target: Path) -> None:
    """Compile the probe. Raises ImageError with the compiler's words."""
    # Static: the same instructions natively and in the guest, whatever libraries are there.
    warnings = ("-Wall", "-Wextra", "-Werror")
    tools.run(
        [
            *("cc", "-std=gnu11", "-O2", "-static", *warnings, "-Wl,--build-id=none", "-s"),
            *("-o", str(target)),
            *(str(source) for source in sources if source.suffix == ".c"),
        ]
    )


def _add_applets(root: Path) -> None:
    """A symlink for each busybox command that no real program provides."""
    busybox = root / "usr/bin/busybox"
    busybox.chmod(0o755)
    for applet in tools.run([str(busybox), "--list"]).decode().split():
        link = root / "usr/bin" / applet
        if not link.exists():
            link.symlink_to("busybox")


def set_modes(root: Path) -> None:
    """Modes that do not depend on our umask."""
    for path in [root, *root.rglob("*")]:
        if path.is_symlink():
            continue
        executable = path.is_dir() or path.stat().st_mode & 0o100 or path.name == "init"
        path.chmod(0o755 if executable else 0o644)
    for name, mode in (("root", 0o700), ("tmp", 0o1777)):
        if (root / name).exists():
            (root / name).chmod(mode)
