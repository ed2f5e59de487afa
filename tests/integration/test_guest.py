"""Guests for real: what they are, how they run commands, and how they end."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import processes, until
from vbench.contract.guest import Guest
from vbench.contract.registry import Registry
from vbench.errors import AttestationError, GuestLost, LaunchError, WorkloadError, WorkloadTimeout
from vbench.guest.booted import BootedGuest
from vbench.guest.native import Native
from vbench.hosts.local import LocalHost
from vbench.hypervisors.qemu.backend import BOOT_TIMEOUT_S, QemuBackend
from vbench.hypervisors.qemu.machine import QemuMachine
from vbench.model import ImageFiles
from vbench.records import Place

pytestmark = pytest.mark.tcg
BOTH = ("tcg", "tcg-virtio")


def backend(name: str) -> QemuBackend:
    made = Registry.load().backends[name]
    assert isinstance(made, QemuBackend)
    return made


@pytest.fixture(scope="module", params=BOTH)
def guest(request: pytest.FixtureRequest, host: LocalHost, files: ImageFiles) -> Iterator[Guest]:
    """One guest of each kind for all tests that leave it as it was."""
    one = backend(request.param)
    with one.launch(host, files, one.options) as made:
        yield made
    assert not made.alive


def named(guest: Guest) -> QemuBackend:
    return backend("tcg" if guest.device.disk == "ide" else "tcg-virtio")


# ------------------------------------------------------------------ what it is


def test_attestation_says_what_was_seen(guest: Guest) -> None:
    one = named(guest)
    attestation = one.attest(guest)
    assert "TCG" in attestation.summary
    evidence = attestation.evidence
    assert "enabled=False" in evidence["query-kvm"]
    assert (attestation.place, evidence["process: /dev/kvm"]) == (Place.PROCESS, "not open")
    assert attestation.access is not None
    assert attestation.access.who == "any user"
    assert set(guest.observed.disks.values()) == {one.drivers["disk"]}
    assert set(guest.observed.nics.values()) == {one.drivers["nic"]}
    assert guest.observed.kernel == guest.image.kernel_release


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"accel": "kvm"}, "QEMU says kvm enabled=False"),
        ({"drivers": {"disk": "nvme", "nic": "rtl8139"}}, "not nvme"),
    ],
)
def test_a_mislabelled_guest_is_refused(guest: Guest, change: dict[str, object], said: str) -> None:
    liar = dataclasses.replace(named(guest), name="liar", **change)  # type: ignore[arg-type]
    with pytest.raises(AttestationError) as caught:
        liar.attest(guest)
    assert "this guest is not liar" in caught.value.what
    assert said in caught.value.what
    assert "query-kvm" in caught.value.evidence


def test_the_guest_has_what_was_asked_for(guest: Guest) -> None:
    assert guest.observed.vcpus == guest.device.vcpus == 1
    assert guest.observed.memory_kib is not None
    assert 0.6 * 512 <= guest.observed.memory_kib / 1024 <= 512
    took = {phase.name: phase.seconds for phase in guest.phases}
    assert 0 < took["kernel to userspace"] < took["launch to ready"]
    assert took["launch to ready"] < took["launch to command"] < 60
    assert guest.versions["qemu"]


def test_it_is_forwarded_on_loopback_only_and_goes_nowhere(guest: Guest) -> None:
    assert isinstance(guest.machine, QemuMachine)
    table = guest.machine.query("human-monitor-command", {"command-line": "info usernet"})
    forwards = [line.split() for line in table.splitlines() if "HOST_FORWARD" in line]
    assert forwards
    assert {fields[2] for fields in forwards} == {"127.0.0.1"}
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        guest.run(f"echo hello | timeout 2 nc 10.0.2.2 {port}", timeout_s=20)
        server.settimeout(0)
        with pytest.raises(BlockingIOError):  # nobody came
            server.accept()


# ------------------------------------------------------------------ commands


def test_status_and_streams(guest: Guest) -> None:
    output = guest.run("echo out; echo err >&2; exit 3", timeout_s=10)
    assert (output.status, output.stdout, output.stderr) == (3, "out\n", "err\n")


def test_a_signal_is_a_status(guest: Guest) -> None:
    assert guest.run("kill -SEGV $$", timeout_s=10).status == 139
    assert guest.alive


def test_stdin(guest: Guest) -> None:
    assert guest.run("wc -c", timeout_s=20, stdin=b"x" * 100_000).stdout.strip() == "100000"


def test_both_streams_are_whole(guest: Guest) -> None:
    script = "head -c 500000 /dev/zero | tr '\\0' e >&2; head -c 500000 /dev/zero | tr '\\0' o"
    output = guest.run(script, timeout_s=30)
    assert (len(output.stdout), len(output.stderr)) == (500_000, 500_000)


@pytest.mark.parametrize("command", ["sleep 987", "sleep 987; true", "sleep 987 & wait"])
def test_a_late_command_is_killed_and_the_guest_is_well(guest: Guest, command: str) -> None:
    with pytest.raises(WorkloadTimeout, match="did not end within 1 s"):
        guest.run(command, timeout_s=1)
    assert guest.alive
    left = guest.run("ps | grep 'sleep 98[7]'", timeout_s=10)
    assert left.stdout == ""


def test_a_flood_is_the_workloads_fault(guest: Guest) -> None:
    with pytest.raises(WorkloadError, match="wrote more than 32 MiB"):
        guest.run("cat /dev/zero", timeout_s=60)
    assert guest.run("echo well", timeout_s=20).stdout == "well\n"


def test_a_server_ends_with_its_context(guest: Guest) -> None:
    with guest.server("sh -c 'while :; do sleep 986; done'"):
        assert guest.run("ps | grep 'sleep 98[6]'", timeout_s=10).stdout != ""
    assert guest.run("ps | grep 'sleep 98[6]'", timeout_s=10).stdout == ""


def test_a_paused_guest_does_nothing(guest: Guest) -> None:
    """Its vCPU stands still, natively measured seconds are not shared with it."""
    guest.run("(while :; do :; done) >/dev/null 2>&1 & echo $! > /tmp/spin", timeout_s=10)
    guest.pause()
    try:
        before = guest.usage()
        threading.Event().wait(0.5)
        assert guest.usage()["host_cpu_s"] - before["host_cpu_s"] <= 0.1
    finally:  # the tests after this one use it too
        guest.resume()
    assert until(
        lambda: guest.usage()["vcpu_cpu_s"] - before["vcpu_cpu_s"] > 0.2, 10
    )  # it spins on its vCPU, and QEMU's other threads have little to do
    grew = {name: spent - before[name] for name, spent in guest.usage().items()}
    assert grew["vcpu_cpu_s"] <= grew["host_cpu_s"] < 2 * grew["vcpu_cpu_s"]
    guest.run("kill $(cat /tmp/spin)", timeout_s=10)


# ------------------------------------------------------------------ the end


def launched(host: LocalHost, files: ImageFiles, **changes: object) -> BootedGuest:
    one = dataclasses.replace(backend("tcg-virtio"), **changes)  # type: ignore[arg-type]
    return one.launch(host, files, one.options)


def qemus(tmp: Path) -> list[str]:
    return [line for line in processes(tmp) if "qemu-system" in line]


def test_a_guest_ends_at_once_and_leaves_nothing(
    host: LocalHost, files: ImageFiles, tmp: Path
) -> None:
    before = set(tmp.glob("*/*"))
    guest = launched(host, files)
    assert len(set(tmp.glob("*/*")) - before) >= 1
    began = time.monotonic()
    guest.close()
    guest.close()
    assert time.monotonic() - began < 3  # it is asked, not killed after a while
    assert not guest.alive
    assert {path.name for path in set(tmp.glob("*/*")) - before} <= {
        Path(host.scratch().path).parent.name
    }


def test_a_stopped_qemu_is_killed(host: LocalHost, files: ImageFiles) -> None:
    """The last step of the ladder: it does not answer."""
    guest = launched(host, files)
    machine = guest.machine
    assert isinstance(machine, QemuMachine)
    os.kill(machine.pid, signal.SIGSTOP)
    began = time.monotonic()
    guest.close()
    assert not guest.alive
    assert time.monotonic() - began < 15


def test_a_killed_qemu_is_a_lost_guest(host: LocalHost, files: ImageFiles) -> None:
    with launched(host, files) as guest:
        machine = guest.machine
        assert isinstance(machine, QemuMachine)
        timer = threading.Timer(0.3, os.kill, (machine.pid, signal.SIGKILL))
        timer.start()
        with pytest.raises(GuestLost, match="machine ended") as caught:
            guest.run("sleep 60", timeout_s=60)
        assert "qemu-system" in caught.value.evidence
        assert not guest.alive
        for use in (machine.pause, machine.usage, machine.resume):
            with pytest.raises(GuestLost):
                use()


def test_a_qemu_that_refuses_says_why(host: LocalHost, files: ImageFiles, tmp: Path) -> None:
    before = qemus(tmp)
    with pytest.raises(LaunchError) as caught:
        launched(host, files, cpu="no-such-cpu")
    assert "no-such-cpu" in caught.value.evidence
    assert qemus(tmp) == before


def test_a_kernel_that_does_not_boot_says_why(
    host: LocalHost, files: ImageFiles, tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BOOT_TIMEOUT_S, "tcg", 20.0)
    empty = tmp / "empty"
    empty.write_bytes(b"")
    before = qemus(tmp)
    try:
        with pytest.raises(LaunchError) as caught:
            launched(host, dataclasses.replace(files, initramfs=str(empty)))
    finally:
        empty.unlink()
    assert "Kernel panic" in caught.value.evidence or "ready" in caught.value.what
    assert qemus(tmp) == before


# ------------------------------------------------------------------ native beside it


def test_native_has_the_same_programs(host: LocalHost, guest: Guest) -> None:
    native = Native(host, host.upload_image(guest.image))
    for command in ("vbench-probe spin 1000", "iperf3 --version"):
        for target in (native, guest):
            assert target.run(command, timeout_s=20).status == 0
    assert (
        native.run("sha256sum $(command -v iperf3)", timeout_s=20).stdout
        == guest.run("sha256sum $(command -v iperf3)", timeout_s=20).stdout
    )


def test_native_sees_one_cpu_as_the_guest_does(host: LocalHost, guest: Guest) -> None:
    native = Native(host, host.upload_image(guest.image), vcpus=1)
    assert native.run("nproc", timeout_s=20).stdout == guest.run("nproc", timeout_s=20).stdout


def test_native_faults(host: LocalHost, files: ImageFiles, tmp: Path) -> None:
    native = Native(host, host.upload_image(files))
    mark = f"{tmp}/mark"
    with pytest.raises(WorkloadTimeout, match="did not end within 1 s"):
        native.run(f"sleep 987 & sleep 987; : {mark}", timeout_s=1)
    with pytest.raises(WorkloadError, match="wrote more than 32 MiB"):
        native.run(f"cat /dev/zero; : {mark}", timeout_s=60)
    assert native.run("kill -SEGV $$", timeout_s=20).status == 139
    assert until(lambda: not any(mark in line for line in processes(tmp)), 5)
