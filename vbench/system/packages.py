"""`vbench setup`: install what the system lacks. Standard library only.

`python3 -m vbench.system [--dry-run] [--libvirt] [--fleet] [--test]` works on a bare clone, before
any virtual environment exists. Where there is no apt it prints what to install, by the names of
that system.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from vbench.system.folders import cache_folder
from vbench.system.recipe import debian_key

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
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
IMPORT = (
    "Without them this machine cannot build an image, but it can use one: "
    "`vbench image export FILE` on a Debian machine, `vbench image import FILE` here."
)


class Need(Enum):
    """Where, or for what, a package is needed."""

    GUESTS = "on each host that launches guests"
    HERE = "on the machine that vbench runs on"
    IMAGE = "to build an image, unless one was imported"
    OPTION = "for an option only"
    LIBVIRT = "for the libvirt backends, with --libvirt"
    FLEET = "to measure many hosts, with --fleet"
    TEST = "for vbench's own tests"


@dataclass(frozen=True)
class Package:
    """What vbench needs of a system, by its name in Debian.

    `tools` are what vbench uses of it: commands, or absolute paths. `elsewhere` has the names
    that differ from Debian's, NOWHERE where a system lacks it. Where the running Python has the
    `module` (as those of uv and conda do), the package is not needed.
    """

    name: str
    reason: str
    tools: tuple[str, ...]
    need: Need
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    module: str = ""


PACKAGES = (
    Package(
        "qemu-system-x86",
        "runs every guest",
        ("qemu-system-x86_64",),
        Need.GUESTS,
        {
            "dnf": "qemu-system-x86-core",
            "pacman": "qemu-system-x86",
            "zypper": "qemu-x86",
            "apk": "qemu-system-x86_64",
        },
    ),
    Package(
        "util-linux",
        "namespaces, pinning, and guests that end with vbench",
        ("setpriv", "unshare", "nsenter", "taskset"),
        Need.GUESTS,
    ),
    Package(
        "mount",
        "mounts what native needs in its root",
        ("mount",),
        Need.GUESTS,
        {"dnf": "util-linux", "pacman": "util-linux", "zypper": "util-linux"},
    ),
    Package("iproute2", "the network that is measured", ("ip",), Need.GUESTS, {"dnf": "iproute"}),
    Package(
        "python3-venv",
        "vbench's own Python packages stay apart from the system's",
        ("python3",),
        Need.HERE,
        {"dnf": "python3", "pacman": "python", "zypper": "python311", "apk": "python3"},
        module="ensurepip",
    ),
    Package(
        "mmdebstrap",
        "fetches and checks the image's packages without root",
        ("mmdebstrap",),
        Need.IMAGE,
        {"pacman": NOWHERE, "zypper": NOWHERE, "apk": NOWHERE},
    ),
    Package("apt", "fetches the image's packages", ("apt-get",), Need.IMAGE, {"zypper": NOWHERE}),
    Package(
        "gpgv",
        "checks their signatures",
        ("gpgv",),
        Need.IMAGE,
        {"dnf": "gnupg2", "pacman": "gnupg"},
    ),
    Package(
        "debian-archive-keyring",
        "the keys of those signatures",
        (KEYRING,),
        Need.IMAGE,
        {"dnf": "debian-keyring", "zypper": NOWHERE},
    ),
    Package("ca-certificates", "https to package archives", ("/etc/ssl/certs",), Need.IMAGE),
    Package("gcc", "compiles vbench's probe for the image", ("cc",), Need.IMAGE),
    Package(
        "libc6-dev",
        "the probe is linked statically",
        ("/usr/include/stdio.h",),
        Need.IMAGE,
        {
            "dnf": "glibc-static",
            "pacman": "glibc",
            "zypper": "glibc-devel-static",
            "apk": "musl-dev",
        },
    ),
    Package("lz4", "unpacks a kernel that --kernel names", ("lz4",), Need.OPTION),
    Package("zstd", "unpacks a kernel that --kernel names", ("zstd",), Need.OPTION),
    Package(
        "openssh-client",
        "hosts reached by --host ssh://",
        ("ssh",),
        Need.OPTION,
        {"dnf": "openssh-clients", "pacman": "openssh", "zypper": "openssh-clients"},
    ),
    Package(
        "user-mode-linux",
        "guests of the uml backend",
        ("linux.uml",),
        Need.OPTION,
        {"dnf": NOWHERE, "pacman": NOWHERE, "zypper": NOWHERE, "apk": NOWHERE},
    ),
    Package("make", "compiles VirtualBox's module for the testbed", ("make",), Need.OPTION),
    Package(
        "libvirt-daemon-system",
        "libvirt's daemon, as the system has it",
        ("/usr/sbin/libvirtd",),
        Need.LIBVIRT,
        {"dnf": "libvirt-daemon-qemu", "pacman": "libvirt", "zypper": "libvirt-daemon-qemu"}
        | {"apk": "libvirt-daemon"},
    ),
    Package(
        "libvirt-daemon-driver-qemu",
        "libvirt's driver for QEMU",
        ("qemu-system-x86_64",),
        Need.LIBVIRT,
        {"dnf": "libvirt-daemon-driver-qemu", "pacman": "libvirt"} | {"apk": "libvirt-daemon"},
    ),
    Package(
        "libvirt-clients",
        "virsh, by which libvirt is driven",
        ("virsh", "virt-host-validate"),
        Need.LIBVIRT,
        {"dnf": "libvirt-client", "pacman": "libvirt", "zypper": "libvirt-client"}
        | {"apk": "libvirt-client"},
    ),
    Package(
        "ansible-core",
        "measures the hosts of an inventory",
        ("ansible-playbook",),
        Need.FLEET,
        {"zypper": "ansible"},
    ),
    Package(
        "virtinst",
        "virt-install, whose domains the tests take over",
        ("virt-install",),
        Need.TEST,
        {"dnf": "virt-install", "pacman": "virt-install", "zypper": "virt-install"}
        | {"apk": "virt-install"},
    ),
    Package("tcsh", "a login shell unlike sh, for the tests' remote host", ("tcsh",), Need.TEST),
    Package(
        "openssh-server",
        "the tests' remote host",
        ("/usr/sbin/sshd",),
        Need.TEST,
        {"pacman": "openssh"},
    ),
    Package(
        "qemu-user",
        "the tests' oldest processor",
        ("qemu-x86_64",),
        Need.TEST,
        {"dnf": "qemu-user", "zypper": "qemu-linux-user", "apk": "qemu-x86_64"},
    ),
    Package("git", "the tests look at the repository's own files", ("git",), Need.TEST),
)


def package_of(tool: str) -> str:
    """The package that a command comes from; the command's own name if it is in none."""
    return next((package.name for package in PACKAGES if tool in package.tools), tool)


def image_cached() -> bool:
    """Whether the cache holds the image that would be built otherwise."""
    folder = cache_folder()
    # os.path and not Path: a cache that this user may not read holds nothing for them.
    return folder is not None and os.path.exists(folder / "images" / debian_key() / "manifest.json")


def needed_here(*, test: bool = False, libvirt: bool = False, fleet: bool = False) -> list[Package]:
    """What this machine needs; `libvirt`: for the libvirt backends, too; `fleet`: to measure many
    hosts; `test`: for vbench's own tests, which are of those as well."""
    left_out = {
        *(() if test else (Need.TEST,)),
        *(() if test or libvirt else (Need.LIBVIRT,)),
        *(() if test or fleet else (Need.FLEET,)),
        *((Need.IMAGE,) if image_cached() else ()),
    }
    return [package for package in PACKAGES if package.need not in left_out]


def missing(wanted: Iterable[Package]) -> list[Package]:
    """Those of `wanted` that are not installed, asked of dpkg or else by their tools."""
    wanted = [p for p in wanted if not (p.module and importlib.util.find_spec(p.module))]
    if not shutil.which("dpkg-query"):
        return [package for package in wanted if not all(map(_is_there, package.tools))]
    # Exit status 1 only says that dpkg has never heard of some of them.
    known = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Abbrev}\n", *(p.name for p in wanted)],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    ).stdout
    installed = {line.split()[0] for line in known.splitlines() if line.split()[1:] == ["ii"]}
    return [package for package in wanted if package.name not in installed]


def _is_there(tool: str) -> bool:
    if tool.startswith("/"):
        return os.path.exists(tool)
    return shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is not None


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
        lines.append(f"{name} has no package for {', '.join(absent)}.")
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


def setup(
    *, dry_run: bool = False, test: bool = False, libvirt: bool = False, fleet: bool = False
) -> int:
    """Install what is missing; the exit status.

    0: all is there now, or what is missing is needed to build images or for an option only;
    1: apt-get failed; 3: something has to be installed by hand first.
    """
    lacking = missing(needed_here(test=test, libvirt=libvirt, fleet=fleet))
    if not lacking:
        print("vbench setup: nothing to do, all system packages are installed")
        return 0
    print(f"vbench setup: {len(lacking)} missing")
    for package in lacking:
        print(f"  {package.name:<24} {package.reason}")

    name = manager()
    if name != "apt-get":
        print(by_hand(lacking, name))
        return _without(lacking)
    names = [package.name for package in lacking]
    prefix = privilege()
    command = shlex.join(apt("install", "--no-install-recommends", *names))
    if prefix is None:
        print(f"Neither root nor sudo here. As root, run:\n  {command}")
        return _without(lacking)
    if dry_run:
        print(f"would run:\n  {' '.join([*prefix, command])}")
        return 0
    if install(names, prefix):
        print("vbench setup: done")
        return 0
    print(f"vbench setup: apt-get failed, see above. As root, try:\n  {command}", file=sys.stderr)
    return 1


def _without(lacking: Sequence[Package]) -> int:
    """The exit status where `lacking` cannot be installed by us."""
    needs = {package.need for package in lacking}
    if Need.IMAGE in needs:
        print(IMPORT)
    return 0 if needs <= {Need.IMAGE, Need.OPTION} else CANNOT


def main() -> int:
    """`python3 -m vbench.system`; the exit status, 2 for usage."""
    parser = argparse.ArgumentParser(
        prog="vbench setup", description="Install what the system lacks for vbench."
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be installed")
    parser.add_argument("--libvirt", action="store_true", help="also what its backends need")
    parser.add_argument("--fleet", action="store_true", help="also what many hosts need: Ansible")
    parser.add_argument("--test", action="store_true", help="also what the tests need")
    return setup(**vars(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
