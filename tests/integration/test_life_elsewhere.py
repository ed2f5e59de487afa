"""A guest that migrates to another host, for real: two machines with an sshd each, on a switch."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.conftest import until
from tests.integration.namespaces import Machine, connect, machine
from tests.integration.ssh_server import SSHD, Server, ssh_program, ssh_server
from tests.integration.test_life import FAST, SLOW, answers, in_background, launched, life
from vbench import image
from vbench.contract.guest import SERVER_PORT, Guest, Terms
from vbench.errors import ConnectionLost, GuestError, Unsupported
from vbench.hosts.remote import SshHost
from vbench.measure.client import Client
from vbench.measure.watcher import bring_to_life

pytestmark = [
    pytest.mark.tcg,
    pytest.mark.skipif(SSHD is None, reason="openssh-server is not installed"),
    pytest.mark.skipif(os.geteuid() != 0, reason="makes machines of namespaces, as root"),
]


@dataclass(frozen=True)
class There:
    machine: Machine
    server: Server
    host: SshHost

    def qemus(self) -> list[int]:
        found = []
        for pid in self.machine.processes():
            line = Path(f"/proc/{pid}/cmdline")
            if line.exists() and b"-incoming" in line.read_bytes().split(b"\0"):
                found.append(pid)
        return found

    def left(self) -> list[str]:
        """Of a migration: its files and its QEMU. The connection has a folder for longer."""
        folder = self.server.root / "tmp"
        files = [each for name in ("initrd", "keys.psk") for each in folder.glob(f"*/*/{name}")]
        return [*map(str, files), *map(str, self.qemus())]


@dataclass(frozen=True)
class Two:
    here: There
    there: There
    control: Machine
    root: Path
    path: str  # with an `ssh` that knows them


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    """The control node's `ssh` reaches both, and they reach each other."""
    root = tmp_path_factory.mktemp("two")
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        control, *machines = (stack.enter_context(machine()) for _ in range(3))
        connect(control, machines)
        servers = []
        for name, each in zip("ab", machines, strict=True):
            (root / name).mkdir()
            # the image is brought to both at once
            names = f"VBENCH_CACHE={root}/a/cache VBENCH_TMP={root}/{name}/tmp"
            shared = f"SetEnv SHLVL=2 {names} VBENCH_LOCK={root}/{name}/lock"
            servers.append(
                stack.enter_context(ssh_server(root / name, shared, ip=each.ip, within=each.within))
            )
        path = ssh_program(root, "".join(f"Host {each.ip}\n{each.config}" for each in servers))
        program = root / "programs/ssh"
        inside = f"exec nsenter -t {control.pid} -n "
        program.write_text(program.read_text().replace("exec ", inside))
        patch.setenv("PATH", path)
        sides = [
            There(one, server, stack.enter_context(closing(SshHost(server.address))))
            for one, server in zip(machines, servers, strict=True)
        ]
        yield Two(*sides, control, root, path)
        for each in sides:
            each.host.close()
        assert until(lambda: not any(each.server.left() for each in sides), 5)
        assert not [pid for each in sides for pid in each.qemus()]


@pytest.fixture(scope="module")
def guest(two: Two) -> Iterator[Guest]:
    """For the tests that leave it where it is."""
    made = launched(two.here.host, image.ensure())
    yield made
    made.close()


def alone(two: Two) -> bool:
    return until(lambda: not two.there.left(), 10)


def test_who_has_not_the_key_sends_no_guest(
    two: Two, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = two.there.host.write

    def other(path: str, data: bytes) -> None:
        write(path, b"qemu:" + b"00" * 32 if path.endswith("keys.psk") else data)

    monkeypatch.setattr(two.there.host, "write", other)
    with pytest.raises(GuestError, match="goes on where it was") as caught:
        life(guest).migrate(guest, two.there.host, FAST)
    assert "TLS" in caught.value.what
    assert answers(guest)
    assert alone(two)


def test_a_destination_that_is_killed_leaves_the_guest_where_it_was(two: Two, guest: Guest) -> None:
    thread, results = in_background(lambda: life(guest).migrate(guest, two.there.host, SLOW))
    assert until(lambda: len(two.there.qemus()) == 1, 60)
    listening = two.there.machine.within
    assert until(lambda: "ESTAB" in sockets(listening, two.there.qemus()[0]), 20)
    for line in sockets(listening, two.there.qemus()[0]).splitlines():
        assert f" {two.there.machine.ip}:" in line  # at one address
    os.kill(two.there.qemus()[0], signal.SIGKILL)
    thread.join(60)
    (error,) = results
    assert isinstance(error, GuestError)
    assert "goes on where it was" in error.what
    assert answers(guest)
    assert alone(two)


def sockets(within: list[str], pid: int) -> str:
    """Those of a process but for loopback's."""
    said = subprocess.run(
        [*within, "ss", "-Htanp"], capture_output=True, text=True, check=True
    ).stdout
    lines = [line for line in said.splitlines() if f"pid={pid}," in line]
    return "\n".join(line for line in lines if " 127.0.0.1:" not in line)


def test_a_cable_that_is_pulled_leaves_the_guest_where_it_was(two: Two, guest: Guest) -> None:
    terms = Terms(bandwidth_mib_s=10, limit_s=4)
    thread, results = in_background(lambda: life(guest).migrate(guest, two.there.host, terms))
    within = two.there.machine.within
    assert until(lambda: len(two.there.qemus()) == 1, 60)
    assert until(lambda: "ESTAB" in sockets(within, two.there.qemus()[0]), 20)
    time.sleep(1)  # past TLS's handshake, in which QEMU does nothing but wait for the other side
    two.there.machine.plug(into=False)
    try:
        thread.join(150)
        (error,) = results
        assert isinstance(error, GuestError)
        assert "does not answer any more; the guest goes on where it was" in error.what
        assert answers(guest)
    finally:
        two.there.machine.plug(into=True)
    assert until(lambda: not two.there.left(), 120)  # its sshd notices
    with contextlib.suppress(ConnectionLost):  # which is told once
        two.there.host.run(["true"], timeout_s=10)


def test_another_qemu_is_another_machine(
    two: Two, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(guest.versions, "qemu", "5.2.0")  # type: ignore[arg-type]
    with pytest.raises(Unsupported, match=r"has QEMU 5\.2\.0 and ssh"):
        life(guest).migrate(guest, two.there.host, FAST)
    assert alone(two)


def test_a_guest_goes_on_at_the_other_host(two: Two, guest: Guest) -> None:
    with ExitStack() as stack:
        bring_to_life(guest, "127.0.0.1", mib=16, mib_s=0, port=SERVER_PORT)
        client = stack.enter_context(Client(guest.host, guest.endpoint.port))
        token = client.walked().token
        client.asked()
        terms = Terms(bandwidth_mib_s=128, limit_s=60, arrived=client.moved)
        moved = life(guest).migrate(guest, two.there.host, terms)
        assert moved.guest is not None
        stack.callback(moved.guest.close)
        assert not guest.alive
        memory, seen = client.walked(), client.asked()
        by_qemu = {phase.phase: phase.seconds for phase in moved.phases}
        print(by_qemu, seen.wait_s, seen.lost_s, moved.counts)
        assert (memory.token, memory.intact_mib, memory.stale_mib) == (token, 16, 0)
        assert 0 < by_qemu["downtime"] < by_qemu["total"]
        assert seen.wait_s > by_qemu["downtime"] * 0.9
        assert abs(seen.lost_s - by_qemu["downtime"]) < 0.1
        assert answers(moved.guest)
        assert two.there.qemus()
        assert moved.guest.reference is two.there.host
    assert alone(two)
