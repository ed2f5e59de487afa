"""A host over SSH, for real: an sshd of our own on a port of its own, with keys of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.conftest import until
from tests.integration.ssh_server import SSHD, Server, ssh_program, ssh_server
from vbench import image
from vbench.errors import ConnectionLost, GuestLost, HostTimeout, UsageError
from vbench.hosts.remote import SshHost
from vbench.plugins.tcg_virtio import BACKEND
from vbench.system.facts import LocalReader, address, machine_id

pytestmark = [
    pytest.mark.tcg,
    pytest.mark.skipif(SSHD is None, reason="openssh-server is not installed"),
]


@dataclass(frozen=True)
class Remote:
    server: Server
    environment: dict[str, str]  # in which `ssh` knows it

    @property
    def address(self) -> str:
        return self.server.address

    @property
    def root(self) -> Path:
        return self.server.root

    def left(self) -> list[str]:
        return self.server.left()


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    root = tmp_path_factory.mktemp("remote")
    with ssh_server(root) as server:
        path = ssh_program(root, server.config)
        yield Remote(server, {"PATH": path, "VBENCH_LOCK": str(root / "lock")})


@pytest.fixture
def host(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> Iterator[SshHost]:
    """Every test that uses it also proves that nothing was left behind on the other side."""
    for name, value in remote.environment.items():
        monkeypatch.setenv(name, value)
    each = SshHost(remote.address)
    yield each
    each.close()
    assert until(lambda: not remote.left(), 3), remote.left()


def gone(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def test_commands(host: SshHost) -> None:
    done = host.run(["sh", "-c", 'cat; echo "$1" >&2; exit 7', "sh", "a 'b'"], timeout_s=10,
                    stdin=b"x" * 200_000)  # fmt: skip
    assert (done.status, len(done.stdout), done.stderr) == (7, 200_000, "a 'b'\n")


def test_a_late_command_is_ended_there(host: SshHost) -> None:
    with pytest.raises(HostTimeout):
        host.run(["sh", "-c", "sleep 4711.5"], timeout_s=1)
    assert host.run(["pgrep", "-f", "^sleep 4711.5"], timeout_s=10).status == 1


def test_files(host: SshHost) -> None:
    with host.workdir() as folder:
        host.write(f"{folder}/f", b"secret\n")
        assert host.read(f"{folder}/f") == "secret\n"
        assert Path(folder, "f").stat().st_mode & 0o777 == 0o600
        assert Path(folder).stat().st_mode & 0o777 == 0o700
    assert not Path(folder).exists()


def test_facts(host: SshHost) -> None:
    facts = host.facts()
    assert facts.identity == f"remote:{socket.gethostname()}"
    assert facts.facts["kernel"] == os.uname().release
    assert facts.facts["machine_id"] == machine_id(LocalReader())
    assert facts.facts["address"] == address(LocalReader())


def test_the_image_is_brought_once_and_whole(host: SshHost, remote: Remote) -> None:
    files = image.ensure()
    there = host.upload_image(files)
    assert Path(there.kernel).read_bytes() == Path(files.kernel).read_bytes()
    assert Path(there.root, "usr/bin/busybox").exists()
    assert Path(there.root, "bin").is_symlink()
    before = Path(there.kernel).stat().st_ctime_ns
    assert host.upload_image(files) == there
    assert Path(there.kernel).stat().st_ctime_ns == before
    assert len(list((remote.root / "cache/placed").iterdir())) == 1


def test_a_guest_there(host: SshHost) -> None:
    with BACKEND.launch(host, image.ensure(), BACKEND.options) as guest:
        BACKEND.attest(guest)
        assert guest.run("echo $((6*7))", timeout_s=20).stdout == "42\n"
        assert guest.usage()["host_cpu_s"] > 0
        pid = guest.machine.pid  # type: ignore[attr-defined]
        listeners = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True)
        ours = [line for line in listeners.stdout.splitlines() if f"pid={pid}," in line]
        assert all("127.0.0.1:" in line.split()[3] for line in ours)
    assert gone(pid)


def test_a_cut_connection_ends_everything_on_both_sides(host: SshHost) -> None:
    guest = BACKEND.launch(host, image.ensure(), BACKEND.options)
    pid = guest.machine.pid  # type: ignore[attr-defined]
    os.kill(parent(pid), signal.SIGKILL)  # sshd's process of our connection
    assert until(lambda: gone(pid), 2)
    with pytest.raises((GuestLost, ConnectionLost)):
        guest.run("true", timeout_s=10)
    assert not guest.alive
    guest.close()
    with pytest.raises(ConnectionLost, match="all that ran there"):
        host.run(["true"], timeout_s=10)
    assert host.run(["true"], timeout_s=10).status == 0  # a new connection


def test_our_own_death_ends_everything_there(remote: Remote) -> None:
    command = [sys.executable, "-m", "vbench.cli", "exec", "tcg-virtio", "--host", remote.address]
    ours = subprocess.Popen(
        [*command, "--", "echo up; sleep 600"],
        env={**os.environ, **remote.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    marker = str(remote.root / "tmp")

    def qemu() -> list[int]:
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes()
            except OSError:
                continue
            if line.startswith(b"qemu-system") and marker.encode() in line:
                found.append(int(path.parent.name))
        return found

    try:
        assert until(lambda: bool(qemu()), 60)
        (pid,) = qemu()
    finally:
        ours.kill()
        ours.communicate()
    assert until(lambda: gone(pid), 2)
    assert until(lambda: not remote.left(), 3)


def test_exec(remote: Remote) -> None:
    command = [sys.executable, "-m", "vbench.cli", "exec", "tcg-virtio", "--host", remote.address]
    done = subprocess.run(
        [*command, "--", "uname -r; exit 3"],
        env={**os.environ, **remote.environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (3, f"{image.ensure().kernel_release}\n"), done.stderr


def test_an_unknown_host_is_refused_in_opensshs_words(
    remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", ssh_program(tmp_path, f"UserKnownHostsFile {tmp_path}/none\n"))
    with pytest.raises(ConnectionLost, match="Host key verification failed") as caught:
        SshHost(remote.address).run(["true"], timeout_s=10)
    assert "connect once by hand: ssh -p" in caught.value.remedy


def test_a_malformed_address_is_a_usage_error() -> None:
    for url in ("ssh://", "ssh://host:port", "ssh://user:secret@host", "ssh://host/path"):
        with pytest.raises(UsageError):
            SshHost(url).run(["true"], timeout_s=10)
