"""A QEMU that is not installed: how it is started, and how it is carried to another machine.

One that lies in the root of a system, ROOT/usr/bin/qemu-system-x86_64, and finds a dynamic loader
there (packages of another release that were unpacked beside each other) runs with that loader, that
root's libraries, QEMU's modules and firmware. Any other is started as it is.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path

from vbench.errors import HostError
from vbench.hypervisors.qemu.kvm import FIRMWARE
from vbench.image.rootfs import LIBRARIES, LOADER
from vbench.system.facts import Reader, qemu_version, shell

# $1 program, $2 empty: the installed one, as it is. Says what belongs to it, one a line.
_LOOK = f"""
p=$(readlink -f "$(command -v "$1")") && [ -f "$p" ] || exit 127
echo "digest=$(sha256sum "$p" | cut -d ' ' -f 1)"
root=${{p%/usr/bin/*}}
[ -n "$2" ] && [ "$root" != "$p" ] && [ -n "$root" ] || exit 0
libraries=
for d in {LIBRARIES} lib/x86_64-linux-gnu usr/lib64 lib64; do
  [ -d "$root/$d" ] && libraries=$libraries${{libraries:+:}}$root/$d
  l=$(readlink -f "$root/$d/{LOADER}")
  # a link may lead out of the root
  [ -f "$l" ] && [ "${{l#"$root"/}}" != "$l" ] && loader=${{loader:-$l}}
done
[ -n "$loader" ] || exit 0
echo "path=$p"
echo "loader=$loader"
echo "libraries=$libraries"
for d in {LIBRARIES}/qemu usr/lib64/qemu usr/lib/qemu; do
  [ -d "$root/$d" ] && echo "modules=$root/$d" && break
done
for d in usr/share/qemu usr/share/seabios; do
  [ -d "$root/$d" ] && echo "data=$root/$d"
done
exit 0
"""
_LOADED = re.compile(r"^\s*(?:\S+ => )?(/.+) \(0x[0-9a-f]+\)$", re.MULTILINE)
_MISSING = re.compile(r"^\s*(\S+) => not found", re.MULTILINE)


@dataclass(frozen=True)
class Binary:
    """A QEMU on a host. `command` starts it; `version` is empty if it does not run, and `why`
    says why. `digest` is the SHA-256 of the program's file. `modules`: where its own are."""

    command: tuple[str, ...]
    path: str
    version: str
    digest: str
    why: str = ""
    modules: str = ""


def look(host: Reader, path: str, *, own: bool) -> Binary:
    """The QEMU `path` on `host`; `own`: it may lie in a root of its own."""
    asked = shell(host, _LOOK, path, "own" if own else "", timeout_s=30)
    if asked.status != 0:
        return Binary((path,), path, "", "", why="there is no such program")
    found: dict[str, list[str]] = {}
    for line in asked.stdout.splitlines():
        key, _, value = line.partition("=")
        found.setdefault(key, []).append(value)
    modules = "".join(found.get("modules", []))
    command: tuple[str, ...] = (path,)
    if "loader" in found:
        variables = ("env", f"QEMU_MODULE_DIR={modules}") if modules else ()
        loader = (*found["loader"], "--library-path", *found["libraries"])
        data = (word for folder in found.get("data", []) for word in ("-L", folder))
        command = (*variables, *loader, *found["path"], *data)
    version = qemu_version(host, *command)
    why = ""
    if not version:
        tried = shell(host, '"$@" --version', *command)
        why = (tried.stderr.strip() or "it does not say its version").splitlines()[-1]
    return Binary(command, path, version, "".join(found["digest"]), why, modules)


def pack(host: Reader, path: str) -> bytes:
    """The QEMU `path` of this machine, with all that it loads, as a packed archive of a root.

    Raises HostError.
    """
    binary = look(host, path, own=True)
    if not binary.version:
        raise HostError(f"{path} is no QEMU that runs here: {binary.why}")
    files = {f"usr/bin/{Path(path).name}": Path(path)}
    for library in _libraries(host, binary):
        files[f"{LIBRARIES}/{Path(library).name}"] = Path(library)
    for module in sorted(_modules(binary).glob("accel-*.so")):
        files[f"{LIBRARIES}/qemu/{module.name}"] = module
    folders = shell(host, '"$@" -L help', *binary.command).stdout.splitlines()
    for name in FIRMWARE:
        there = (file for folder in folders if (file := Path(folder, name)).is_file())
        if (firmware := next(there, None)) is not None:
            files[f"usr/share/qemu/{name}"] = firmware
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", dereference=True) as writer:
        for name, file in files.items():
            writer.add(file, name)
    return gzip.compress(archive.getvalue(), compresslevel=6)


def _libraries(host: Reader, binary: Binary) -> list[str]:
    """Paths of the libraries that it loads, its loader included. Raises HostError."""
    words = list(binary.command)
    if "--library-path" in words:
        at = words.index("--library-path")
        list_them = [*words[: at + 2], "--list", words[at + 2]]
    else:
        list_them = ["ldd", binary.path]
    asked = shell(host, '"$@"', *list_them)
    if asked.status != 0 or (missing := _MISSING.findall(asked.stdout)):
        lost = f" {', '.join(missing)}" if asked.status == 0 else ""
        raise HostError(
            f"the libraries of {binary.path} cannot be found{lost}", evidence=asked.stderr
        )
    return _LOADED.findall(asked.stdout)


def _modules(binary: Binary) -> Path:
    """The folder with its modules; one that is absent has none."""
    if binary.modules:
        return Path(binary.modules)
    prefix = Path(binary.path).resolve().parents[1]
    folders = (prefix / LIBRARIES.removeprefix("usr/") / "qemu", prefix / "lib64/qemu")
    return next((folder for folder in folders if folder.is_dir()), prefix / "lib/qemu")
