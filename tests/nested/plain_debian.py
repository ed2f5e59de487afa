"""A plain Debian with systemd and its own kernel, in an emulated machine whose CPU has AMD-V.

vbench is installed there as a user does it, with an image that was imported. Nothing of the testbed
takes part: no counted instructions, and guests are launched by the local path.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.integration.conftest import until
from tests.integration.ssh_server import free_port, key_pair
from vbench import image
from vbench.image import debian
from vbench.system.packages import PACKAGES, Need
from vbench.testbed import EXPORTED

_ROOT = Path(__file__).parents[2]
_SYSTEM = (
    *("linux-image-amd64", "systemd-sysv", "dbus", "udev", "openssh-server", "virtinst"),
    *(each.name for each in PACKAGES if each.need in (Need.GUESTS, Need.HERE)),
)
_NETWORK = "[Match]\nType=ether\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\n"
# What a user types. The programs of a virtual environment, as if it were active.
_INSTALL = """
set -eu
python3 -m venv /opt/vbench
/opt/vbench/bin/pip install --quiet /src
/opt/vbench/bin/vbench image import /src/images
/opt/vbench/bin/vbench setup --libvirt
"""
# As the testbed's CPU (docs/architecture.md): what QEMU emulates of AMD-V. Two of them, for
# without counted instructions a machine of one has lost its timer.
_CPU = "qemu64,+svm,+npt,+rdtscp"
_BOOT_S = 300


@dataclass(frozen=True)
class Machine:
    """The emulated machine: commands run there as root."""

    port: int
    key: Path

    def run(self, command: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        options = (
            *("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"),
            *("ConnectTimeout=20", "BatchMode=yes"),
        )
        argv = ["ssh", "-F", "none", "-i", str(self.key), "-p", str(self.port)]
        for option in options:
            argv += ["-o", option]
        return subprocess.run(
            [*argv, "root@127.0.0.1", f"PATH=/opt/vbench/bin:$PATH; {command}"],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            stdin=subprocess.DEVNULL,
        )


def make_disk(folder: Path) -> None:
    """Its disk, kernel, initramfs, and the key that logs in."""
    root, disk = folder / "root", folder / "disk"
    _make_root(root, key_pair(folder / "key"))
    _install(root)
    for name in ("vmlinuz", "initrd.img"):
        shutil.copy(root / name, folder)
    with disk.open("wb") as file:
        file.truncate(6 << 30)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", root, disk], check=True, timeout=300)
    shutil.rmtree(root)


@contextmanager
def booted(folder: Path) -> Iterator[Machine]:
    """The machine of `make_disk`, while the context lasts."""
    log = folder / "console"
    made = Machine(free_port(), folder / "key")
    qemu = subprocess.Popen(
        [
            *("qemu-system-x86_64", "-nodefaults", "-display", "none", "-no-reboot"),
            *("-accel", "tcg,thread=multi", "-cpu", _CPU, "-smp", "2", "-m", "3072"),
            *("-kernel", folder / "vmlinuz", "-initrd", folder / "initrd.img"),
            *("-append", "root=/dev/vda rw console=ttyS0 mitigations=off"),
            *("-serial", f"file:{log}"),
            *("-drive", f"file={folder / 'disk'},format=raw,if=virtio,cache=unsafe"),
            *("-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{made.port}-:22"),
            *("-device", "virtio-net-pci,netdev=net"),
        ],
        stdin=subprocess.DEVNULL,
    )
    try:
        assert until(lambda: _answers(made), _BOOT_S), log.read_text(errors="replace")[-3000:]
        yield made
    finally:
        qemu.kill()
        qemu.wait()


def _answers(machine: Machine) -> bool:
    time.sleep(1)
    return machine.run("systemctl is-active ssh", 60).returncode == 0


def _chroot(root: Path, script: str) -> None:
    """Run a script as root of `root`, with this machine's network and ways to reach packages."""
    ways = ("PIP_INDEX_URL", "PIP_PROXY", "https_proxy", "http_proxy")
    variables = {name: os.environ[name] for name in ways if name in os.environ}
    variables |= {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "PIP_CERT": "/src/ca"}
    enter = (
        'cd "$1"; mount -t proc proc proc; mount --rbind /dev dev; mount -t tmpfs tmpfs tmp; '
        'exec chroot . sh -c "$2"'
    )
    subprocess.run(
        ["unshare", "--mount", "sh", "-euc", enter, "enter", str(root), script],
        env=variables,
        check=True,
        timeout=900,
    )


def _make_root(root: Path, key: str) -> None:
    """A Debian with a kernel of its own, systemd, sshd, and what `vbench setup` installs."""
    options = root.with_name("apt.conf")
    options.write_text(debian.host_apt_options())
    sources = [
        f"deb [signed-by={debian.KEYRING}] {source} main" for source in debian.sources(debian.SUITE)
    ]
    subprocess.run(
        [
            *("mmdebstrap", "--quiet", "--mode=root", "--variant=apt", "--format=directory"),
            *(f"--aptopt={options}", f"--include={','.join(_SYSTEM)}"),
            *(debian.SUITE, str(root), *sources),
        ],
        check=True,
        timeout=900,
    )
    (root / "etc/systemd/network/wired.network").write_text(_NETWORK)
    (root / "etc/hostname").write_text("plain\n")
    (root / "etc/fstab").write_text("/dev/vda / ext4 defaults 0 1\n")
    (root / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
    (root / "root/.ssh/authorized_keys").write_text(key)
    _chroot(root, "systemctl enable systemd-networkd ssh")


def _install(root: Path) -> None:
    """vbench from its sources, an image, and libvirt: no step of it is done in the emulated
    machine, where it would take many minutes."""
    source = root / "src"
    subprocess.run(["git", "clone", "-q", "--no-hardlinks", _ROOT, source], check=True)
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", source / "ca")
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    shutil.copy("/etc/hosts", root / "etc/hosts")
    image.export_images(source / "images", EXPORTED, lambda _: None)
    _chroot(root, _INSTALL)
    shutil.rmtree(source)
