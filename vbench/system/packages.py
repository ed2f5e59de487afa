"""`vbench setup`: install what the system lacks. Standard library only.

`python3 -m vbench.system [--dry-run] [--test]` works on a bare clone, before any virtual
environment exists. Where there is no apt it prints what to install, by the names of that system.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

LISTS = Path("/var/lib/apt/lists")
LOCK_TIMEOUT_S = 120  # another apt, such as unattended-upgrades after boot, may hold the lock
CANNOT = 3  # exit status: this host cannot do what was asked

# Tried in this order; apt-get is ours to run, the others only to be named.
INSTALL = {
    "apt-get": "apt-get install --no-install-recommends",
    "dnf": "dnf install",
    "pacman": "pacman -S",
    "zypper": "zypper install",
    "apk": "apk add",
}
NOWHERE = "not packaged there"


@dataclass(frozen=True)
class Package:
    """What vbench needs of a system.

    `sign` is how its presence shows where dpkg cannot be asked: a command, or a path.
    `elsewhere` has the names that differ from Debian's, NOWHERE where a system lacks it.
    """

    name: str
    reason: str
    sign: str
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    test: bool = False


PACKAGES = (
    Package(
        "qemu-system-x86",
        "runs every guest",
        "qemu-system-x86_64",
        {
            "dnf": "qemu-system-x86-core",
            "pacman": "qemu-system-x86",
            "zypper": "qemu-x86",
            "apk": "qemu-system-x86_64",
        },
    ),
    Package(
        "python3-venv",
        "vbench's own Python packages stay apart from the system's",
        "python3",
        {"dnf": "python3", "pacman": "python", "zypper": "python311", "apk": "python3"},
    ),
    Package(
        "mmdebstrap",
        "fetches and checks the image's packages without root",
        "mmdebstrap",
        {"pacman": NOWHERE, "zypper": NOWHERE, "apk": NOWHERE},
    ),
    Package("apt", "fetches the image's packages", "apt-get", {"zypper": NOWHERE}),
    Package("gpgv", "checks their signatures", "gpgv", {"dnf": "gnupg2", "pacman": "gnupg"}),
    Package(
        "debian-archive-keyring",
        "the keys of those signatures",
        "/usr/share/keyrings/debian-archive-keyring.gpg",
        {"dnf": "debian-keyring", "zypper": NOWHERE},
    ),
    Package(
        "ca-certificates",
        "https to package archives",
        "/etc/ssl/certs",
    ),
    Package("gcc", "compiles vbench's probe for the image", "cc"),
    Package(
        "libc6-dev",
        "the probe is linked statically",
        "/usr/include/stdio.h",
        {
            "dnf": "glibc-static",
            "pacman": "glibc",
            "zypper": "glibc-devel-static",
            "apk": "musl-dev",
        },
    ),
    Package("lz4", "unpacks kernels", "lz4"),
    Package("zstd", "unpacks kernels and packages", "zstd"),
    Package("util-linux", "namespaces, and guests that end with vbench", "setpriv"),
    Package(
        "iproute2",
        "the network that is measured",
        "ip",
        {"dnf": "iproute"},
    ),
    Package(
        "openssh-client",
        "hosts reached by --host ssh://",
        "ssh",
        {"dnf": "openssh-clients", "pacman": "openssh", "zypper": "openssh-clients"},
    ),
    Package(
        "openssh-server",
        "the tests' remote host",
        "/usr/sbin/sshd",
        {"pacman": "openssh"},
        test=True,
    ),
    Package(
        "qemu-user",
        "the tests' oldest processor",
        "qemu-x86_64",
        {"dnf": "qemu-user", "zypper": "qemu-linux-user", "apk": "qemu-x86_64"},
        test=True,
    ),
    Package("git", "the tests look at the repository's own files", "git", test=True),
)


def missing(wanted: Iterable[Package]) -> list[Package]:
    """Those of `wanted` that are not installed, asked of dpkg or else by their signs."""
    wanted = list(wanted)
    if not shutil.which("dpkg-query"):
        return [package for package in wanted if not _shows(package.sign)]
    # Exit status 1 only says that dpkg has never heard of some of them.
    known = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Abbrev}\n", *(p.name for p in wanted)],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    installed = {line.split()[0] for line in known.splitlines() if line.split()[1:] == ["ii"]}
    return [package for package in wanted if package.name not in installed]


def _shows(sign: str) -> bool:
    if sign.startswith("/"):
        return os.path.exists(sign)
    return shutil.which(sign, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is not None


def manager() -> str:
    """The package manager here, "" if it is none that we know."""
    return next((name for name in INSTALL if shutil.which(name)), "")


def by_hand(lacking: Sequence[Package], name: str) -> str:
    """What a user of package manager `name` has to do, as text."""
    if not name:
        return "No known package manager here: install what these Debian packages hold."
    names = {package.name: package.elsewhere.get(name, package.name) for package in lacking}
    there = dict.fromkeys(n for n in names.values() if n != NOWHERE)  # each once, in order
    absent = [debian for debian, n in names.items() if n == NOWHERE]
    lines = []
    if there:
        lines += ["Install it with:", f"  sudo {INSTALL[name]} {' '.join(there)}"]
    if absent:
        lines.append(
            f"{name} has no package for {', '.join(absent)}: take them from Debian, or build the "
            "image on a Debian machine and copy ~/.cache/vbench from there."
        )
    return "\n".join(lines)


def privilege() -> list[str] | None:
    """What to put before a command to run it as root; None if there is no way."""
    if os.geteuid() == 0:
        return []
    if not shutil.which("sudo"):
        return None
    return ["sudo"] if sys.stdin.isatty() else ["sudo", "-n"]  # -n: fail rather than hang


def apt(*words: str) -> list[str]:
    """An apt-get command that asks no questions."""
    return [
        *("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-y", "-q"),
        *("-o", f"DPkg::Lock::Timeout={LOCK_TIMEOUT_S}"),
        *words,
    ]


def install(names: Sequence[str], prefix: Sequence[str]) -> bool:
    """Install by apt-get. The lists are fetched if there are none, or if they prove stale."""
    wanted = [*prefix, *apt("install", "--no-install-recommends", *names)]
    update = [*prefix, *apt("update")]
    fresh = not any(LISTS.glob("*_Packages*"))
    if fresh and not _run(update):
        return False
    return _run(wanted) or (not fresh and _run(update) and _run(wanted))


def _run(argv: Sequence[str]) -> bool:
    print(f"+ {shlex.join(argv)}", flush=True)
    return subprocess.run(argv, check=False).returncode == 0


def main(argv: Sequence[str] | None = None) -> int:
    """0: all is there now; 1: apt-get failed; 2: usage; 3: it has to be done by hand."""
    parser = argparse.ArgumentParser(
        prog="vbench setup", description="Install what the system lacks for vbench."
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    parser.add_argument("--test", action="store_true", help="also what vbench's own tests need")
    options = parser.parse_args(argv)

    lacking = missing(p for p in PACKAGES if options.test or not p.test)
    if not lacking:
        print("vbench setup: nothing to do, all system packages are installed")
        return 0
    print(f"vbench setup: {len(lacking)} missing")
    for package in lacking:
        print(f"  {package.name:<24} {package.reason}")

    name = manager()
    if name != "apt-get":
        print(by_hand(lacking, name))
        return CANNOT
    names = [package.name for package in lacking]
    prefix = privilege()
    command = shlex.join(apt("install", "--no-install-recommends", *names))
    if prefix is None:
        print(f"Neither root nor sudo here. As root, run:\n  {command}")
        return CANNOT
    if options.dry_run:
        print(f"would run:\n  {' '.join([*prefix, command])}")
        return 0
    if install(names, prefix):
        print("vbench setup: done")
        return 0
    print(f"vbench setup: apt-get failed, see above. As root, try:\n  {command}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
