"""The image as a whole: built from nothing, booted under TCG, entered natively."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.integration.ssh_server import free_port
from vbench import image
from vbench.hosts.keys import KeyPair
from vbench.hosts.ssh import SshConnection
from vbench.image import cpio
from vbench.model import ImageFiles

pytestmark = [
    pytest.mark.tcg,
    pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="needs QEMU"),
]

READY = re.compile(r"VBENCH-READY userspace=\d+\.\d\d ready=\d+\.\d\d")
BOOT_LIMIT_S = 60.0


@dataclass
class Machine:
    """A QEMU process; its console's lines up to the one of readiness or failure."""

    process: subprocess.Popen[bytes]
    lines: list[str] = field(default_factory=list)

    def wait_for_verdict(self) -> str:
        assert self.process.stdout is not None
        watchdog = threading.Timer(BOOT_LIMIT_S, self.process.kill)
        watchdog.start()
        try:
            for raw in self.process.stdout:
                self.lines.append(raw.decode(errors="replace").rstrip("\r\n"))
                if self.lines[-1].startswith(("VBENCH-READY", "VBENCH-FAILED")):
                    return self.lines[-1]
        finally:
            watchdog.cancel()
        raise AssertionError("no verdict on the console:\n" + "\n".join(self.lines[-30:]))


@contextmanager
def boot(
    files: ImageFiles, folder: Path, extra: bytes, cmdline: str = "", *options: str
) -> Iterator[Machine]:
    """The image with the archive `extra` behind its own."""
    initrd = folder / "initrd"
    initrd.write_bytes(Path(files.initramfs).read_bytes() + extra)
    process = subprocess.Popen(
        [
            *("qemu-system-x86_64", "-accel", "tcg", "-M", "pc", "-cpu", "max", "-m", "512"),
            *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
            *("-serial", "stdio", "-kernel", files.kernel, "-initrd", str(initrd)),
            *("-append", f"console=ttyS0 net.ifnames=0 {cmdline}", *options),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        yield Machine(process)
    finally:
        process.kill()
        process.communicate()


def key_entries(host: KeyPair, user: KeyPair) -> list[cpio.Entry]:
    return [
        cpio.directory("etc/dropbear", 0o700),
        cpio.file("etc/dropbear/dropbear_ed25519_host_key", host.dropbear_private(), 0o600),
        cpio.file("etc/seed", bytes(32), 0o600),
        cpio.directory("root/.ssh", 0o700),
        cpio.file("root/.ssh/authorized_keys", user.authorized_line.encode(), 0o600),
    ]


@pytest.mark.parametrize("nic", ["virtio-net-pci", "e1000"])
def test_boots_answers_over_ssh_and_powers_off(files: ImageFiles, tmp_path: Path, nic: str) -> None:
    host, user, port = KeyPair.generate(), KeyPair.generate(), free_port()
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1 << 20))
    with boot(
        files,
        tmp_path,
        cpio.archive(key_entries(host, user)),
        "quiet vbench.eth0=10.0.2.15/24 vbench.hostname=guest vbench.modules=brd,tun",
        *("-netdev", f"user,id=n,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22"),
        *("-device", f"{nic},netdev=n", "-drive", f"file={disk},if=ide,format=raw"),
        *("-device", "pvpanic"),
    ) as machine:
        assert READY.fullmatch(machine.wait_for_verdict())
        stream = socket.create_connection(("127.0.0.1", port), 10)
        ssh = SshConnection.open(
            stream, name="guest", user="root", key=user, host_key=host, timeout_s=10
        )
        try:
            facts = "hostname; uname -r; ls /sys/block; lsmod; cat /proc/1/comm; stat -c %a /tmp"
            seen = ssh.run(facts, timeout_s=20).stdout.split()
            assert {"guest", files.kernel_release, "sda", "brd", "tun", "init"} <= set(seen)
            assert "pvpanic_mmio" in seen
            assert "1777" in seen
            probe = ssh.run("vbench-probe getppid 1000", timeout_s=20)
            assert json.loads(probe.stdout)["units"] == 1000
            for command in ("iperf3 --version", "openssl version"):
                found = ssh.run(command, timeout_s=30)
                assert (found.status, found.stderr) == (0, ""), command
            ssh.run("poweroff -f &", timeout_s=20)
        finally:
            ssh.close()
        assert machine.process.wait(20) == 0


def test_verdict_is_one_whole_line_among_kernel_messages(files: ImageFiles, tmp_path: Path) -> None:
    hook = b"#!/bin/sh\nwhile :; do echo vbench-flood >/dev/kmsg; done &\nusleep 300000\n"
    entries = [
        *key_entries(KeyPair.generate(), KeyPair.generate()),
        cpio.file("flood", hook, 0o755),
    ]
    with boot(
        files,
        tmp_path,
        cpio.archive(entries),
        "loglevel=8 printk.devkmsg=on vbench.run=/flood",
    ) as machine:
        assert READY.fullmatch(machine.wait_for_verdict())
        assert sum("vbench-flood" in line for line in machine.lines) > 1


@pytest.mark.parametrize(
    ("cmdline", "reason"),
    [
        ("", "no SSH host key"),
        ("vbench.eth0=10.0.2.15/24", "no network device eth0"),
        ("vbench.modules=absent", "module absent cannot be loaded"),
    ],
)
def test_failure_is_said_on_the_console(
    files: ImageFiles, tmp_path: Path, cmdline: str, reason: str
) -> None:
    with boot(files, tmp_path, b"", cmdline) as machine:
        verdict = machine.wait_for_verdict()

    assert verdict.startswith("VBENCH-FAILED")
    assert reason in verdict


def test_root_runs_natively_without_privilege(files: ImageFiles) -> None:
    enter = ["unshare", "--user", "--map-root-user", "chroot", files.root]
    if subprocess.run([*enter, "/bin/true"], capture_output=True, check=False).returncode:
        pytest.skip("no user namespaces here")
    done = subprocess.run(
        [*enter, "/usr/bin/vbench-probe", "spin", "10000"], capture_output=True, check=True
    )

    assert json.loads(done.stdout)["units"] == 10000
    for folder in ("proc", "sys", "dev/shm", "tmp", "run", "scratch"):
        assert list((Path(files.root) / folder).iterdir()) == []


def test_two_builds_from_nothing_are_byte_identical(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []
    for name in ("first", "second"):
        monkeypatch.setenv("VBENCH_CACHE", str(tmp_path / name))
        built.append(image.ensure())

    first, second = built
    assert first.versions == second.versions
    assert first.digest == second.digest
    for attribute in ("kernel", "initramfs"):
        left, right = (Path(getattr(one, attribute)).read_bytes() for one in built)
        assert left == right
    shutil.rmtree(tmp_path)


def test_another_kernel_shares_the_root(
    files: ImageFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = Path(files.kernel).parent
    copy = tmp_path / "images" / base.name
    shutil.copytree(base, copy, symlinks=True)
    monkeypatch.setenv("VBENCH_CACHE", str(tmp_path))

    other = image.ensure(files.kernel)

    assert other.kernel_release == files.kernel_release
    assert other.versions == files.versions
    assert other.digest != files.digest  # no modules in it
    assert {found.kernel for found in image.installed()} == {"debian", files.kernel}
    names = [
        {path.relative_to(one.root) for path in Path(one.root).rglob("*")} for one in (other, files)
    ]
    assert names[0] == names[1]
