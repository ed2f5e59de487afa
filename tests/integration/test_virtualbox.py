"""VirtualBox, for real: the testbed with its module, guests in it, and what becomes of them."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from tests.integration.conftest import until
from tests.integration.ssh_server import reached_by_ssh
from vbench import image
from vbench.contract.guest import SERVER_PORT, Guest, Target
from vbench.contract.host import Host, Scratch
from vbench.errors import AttestationError, GuestError, LaunchError, Unsupported
from vbench.guest.booted import BootedGuest
from vbench.guest.native import Native
from vbench.guest.target import succeed
from vbench.hosts.remote import SshHost
from vbench.hypervisors.virtualbox import host as vbox
from vbench.hypervisors.virtualbox import machine as vbox_machine
from vbench.hypervisors.virtualbox.host import LAYER
from vbench.hypervisors.virtualbox.machine import VirtualBoxMachine
from vbench.measure.execution import serving
from vbench.model import ImageFiles
from vbench.plugins.virtualbox import BACKEND
from vbench.records import NetworkPath
from vbench.testbed import TestbedHost
from vbench.testbed.scripts import FILES, SCRATCH_MIB

pytestmark = pytest.mark.virtualbox


@pytest.fixture(scope="module")
def machine(testbed: TestbedHost) -> TestbedHost:
    """The testbed with VirtualBox; Debian's archive has to have it."""
    found = BACKEND.probe(testbed, BACKEND.options)
    if not found.ok:
        pytest.skip(found.reason)
    return testbed.with_layer(LAYER)


@pytest.fixture(scope="module")
def guest(testbed: TestbedHost, machine: TestbedHost) -> Iterator[Guest]:
    with BACKEND.launch(testbed, image.ensure(), BACKEND.options) as each:
        yield each


def ns_per_unit(target: Target, command: str) -> float:
    said = json.loads(succeed(target, f"vbench-probe {command}", timeout_s=60))
    return float(said["p50_ns"])


def round_trip_ns(guest: Guest, client: Native) -> float:
    where = f"{guest.endpoint.address} {guest.endpoint.port}"
    with serving(guest, lambda endpoint: f"vbench-probe rr-server {SERVER_PORT}"):
        return ns_per_unit(client, f"rr-client {where} 200")


@contextmanager
def full_disk(host: Host) -> Iterator[None]:
    """Of all its temporary files: some memory's worth of state has no room."""
    size = host.run(["sh", "-c", "df -k /tmp | awk 'END { print $2, $3 }'"], timeout_s=20)
    total, used = map(int, size.stdout.split())
    for kib in (used + 8192, total):
        resize = ["mount", "-o", f"remount,size={kib}k", "/tmp"]
        assert host.run(resize, timeout_s=20).status == 0
        if kib != total:
            yield


@contextmanager
def of_another_version(host: Host, path: str) -> Iterator[None]:
    """A saved state begins with "VirtualBox SavedState V2.0"."""
    head = host.run(["head", "-c", "28", path], timeout_s=20).stdout
    assert "VirtualBox SavedState V2.0" in head
    place = head.index("2.0")
    for version in "92":
        write = f"printf {version} | dd of={path} bs=1 seek={place} conv=notrunc"
        assert host.run(["sh", "-c", write], timeout_s=20).status == 0
        if version != "2":
            yield


def test_a_machine_is_restored_as_it_was_saved(testbed: TestbedHost) -> None:
    """Before the guest that other tests share is there: all have one address."""
    small = dataclasses.replace(BACKEND.options, memory=256)
    with ExitStack() as stack:
        other = stack.enter_context(BACKEND.launch(testbed, image.ensure(), small))
        folder = stack.enter_context(other.host.workdir())
        life = other.life
        assert life is not None
        succeed(other, "echo mine >/tmp/whose", timeout_s=30)
        with full_disk(other.host):
            with pytest.raises(GuestError, match="controlvm failed") as caught:
                life.save(other, folder)
            assert "Failed to save machine state" in str(caught.value)
            assert other.host.run(["ls", folder], timeout_s=20).stdout == ""
        succeed(other, "test -e /tmp/whose", timeout_s=30)  # it goes on
        saved = life.save(other, folder)
        succeed(other, "rm /tmp/whose", timeout_s=30)  # it goes on
        assert 10 < saved.counts["state_mib"] < 300
        with pytest.raises(Unsupported, match="only one of them can run"):
            life.restore(saved, other.host)
        other.close()
        with of_another_version(other.host, f"{folder}/state"):
            with pytest.raises(LaunchError, match="cannot be loaded") as refused:
                life.restore(saved, other.host)
            assert "VERR_SSM_INTEGRITY_VERSION" in refused.value.evidence
        again = life.restore(saved, other.host)
        stack.callback(again.close)
        for each in (*saved.phases, *again.phases):
            print(each.operation, each.phase, f"{each.seconds:.2f} s")
        assert again.run("cat /tmp/whose", timeout_s=30).stdout == "mine\n"
        assert "VirtualBox 7" in BACKEND.attest(again).summary


def test_attested(guest: Guest) -> None:
    seen = BACKEND.attest(guest)
    assert "AMD-V, nested paging; disk ahci; network virtio_net" in seen.summary
    assert seen.module == "vboxdrv"
    assert seen.ring == 0
    assert "innotek GmbH" in seen.evidence["DMI"]
    assert "KVMKVMKVM" in seen.evidence["CPUID signatures"]
    assert seen.evidence["VBox.log: host's TSC"] == "Invariant"
    assert seen.evidence["disk: direct"] == "yes"
    assert guest.observed.disks == {"sda": "ahci"}
    assert guest.observed.early.startswith("breakpoint")
    assert guest.versions["virtualbox"].startswith("7.")


def test_a_wrong_label_is_refused(guest: Guest) -> None:
    assert isinstance(guest.machine, VirtualBoxMachine)
    spec = guest.machine.spec
    try:
        guest.machine.spec = dataclasses.replace(spec, nested_paging=False)
        with pytest.raises(AttestationError, match="nested paging is on"):
            BACKEND.attest(guest)
    finally:
        guest.machine.spec = spec


def test_commands_and_the_scratch_disk(guest: Guest, machine: Host) -> None:
    assert guest.run("exit 3", timeout_s=20).status == 3
    write = f"echo vbench | dd of={guest.endpoint.scratch} bs=512 conv=sync oflag=direct"
    assert guest.run(write, timeout_s=20).status == 0
    assert machine.run(["head", "-c", "6", "/dev/ram0"], timeout_s=20).stdout == "vbench"


def test_its_clock_counts_instructions(guest: Guest, testbed: TestbedHost) -> None:
    """To 0.1 %: plain computation is native, and CPUID leaves for the hypervisor."""
    native = Native(testbed, testbed.upload_image(image.ensure()), scratch=testbed.scratch())
    for command in ("spin 20000000", "getppid 100000"):
        assert ns_per_unit(guest, command) == pytest.approx(
            ns_per_unit(native, command), rel=0.001
        ), command
    assert ns_per_unit(guest, "cpuid 1000") > 1000 + ns_per_unit(native, "cpuid 1000")


def test_its_network_is_a_bridge_and_a_round_trip_is_counted(
    guest: Guest, machine: TestbedHost
) -> None:
    assert guest.capabilities.network is NetworkPath.TAP
    client = Native(machine, guest.image, client=True)
    counted = [round_trip_ns(guest, client) for _ in range(2)]
    assert counted[0] == pytest.approx(counted[1], rel=0.005)
    assert counted[0] > 20_000  # natively some 16,000


def test_a_paused_machine_does_nothing(guest: Guest) -> None:
    assert isinstance(guest.machine, VirtualBoxMachine)
    answered = threading.Event()
    guest.machine.pause()
    try:
        asking = threading.Thread(
            target=lambda: (guest.run("true", timeout_s=60), answered.set()), daemon=True
        )
        asking.start()
        assert not answered.wait(3)
    finally:  # the tests after this one use it too
        guest.machine.resume()
    assert answered.wait(60)


def test_many_disk_operations(guest: Guest) -> None:
    """What decision 0004 is about: an interrupt that is delivered twice hangs the guest."""
    reads = f"vbench-probe disk {guest.endpoint.scratch} 0 64 randread 4 1 8192"
    said = json.loads(succeed(guest, reads, timeout_s=120))
    assert said["units"] == 8192


class There(SshHost):
    """The testbed with VirtualBox as a machine of the user's own, over SSH. What is special about
    an emulated machine, and where its files are, only its own class knows."""

    timeout_scale = TestbedHost.timeout_scale
    launch_hints = TestbedHost.launch_hints

    def upload_image(self, image: ImageFiles) -> ImageFiles:
        return dataclasses.replace(
            image, initramfs="/dev/vdb", bzimage=f"{FILES}/vmlinuz", root="/"
        )

    def scratch(self) -> Scratch:
        return Scratch("/dev/ram0", SCRATCH_MIB, device=True, in_memory=True)


def lives(address: str) -> None:
    """A vbench that is killed; until then it says what it saw."""
    there, options = There(address), dataclasses.replace(BACKEND.options, nic="e1000")
    with BACKEND.launch(there, image.ensure(), options) as guest:
        client = Native(there, guest.image, client=True)
        answered = round_trip_ns(guest, client) > 0
        print(guest.capabilities.network, *guest.observed.nics.values(), answered, flush=True)
        time.sleep(600)


LIVES = f"import sys; from {__name__} import lives; lives(sys.argv[1])"
# $1 folder, $2 name, $3 comment: a machine that stands still, and that nobody waits for.
STARTED = """
set -e
mkdir -p "$1"
export HOME=/tmp VBOX_USER_HOME=/tmp/others VBOX_IPC_SOCKETID=others
exec </dev/null >/dev/null 2>"$1/errors"
VBoxManage -q createvm --name "$2" --ostype Linux_64 --basefolder "$1" --register
setsid VBoxHeadless --comment "$3" --startvm "$2" --vrde off --start-paused &
until grep -qs "VM state from" "$1/$2/Logs/VBox.log"; do kill -0 $!; sleep 0.1; done
"""


def machines(host: Host) -> dict[str, str]:
    """The machines that run: pid by comment."""
    script = "cd /proc; for each in $(grep -lsz '^--startvm$' [0-9]*/cmdline); do "
    script += 'tr "\\0" " " <$each; echo "pid ${each%/*}"; done'
    text = host.run(["sh", "-c", script], timeout_s=20).stdout
    return dict(re.findall(r"--comment (.*?) --startvm .* pid (\d+)", text))


def test_a_killed_vbench_leaves_no_machine_and_the_next_one_ends_what_was_left(
    guest: Guest, machine: TestbedHost, tmp_path: Path
) -> None:
    """Left: ours whose run is gone, and its janitor with it. Nobody else's is touched."""
    left, foreign = "/var/tmp/vbench-left", "/var/tmp/somebody"
    assert isinstance(guest.machine, VirtualBoxMachine)
    address, path = reached_by_ssh(machine, tmp_path)
    guest.machine.pause()  # its time is everybody's
    (living,) = machines(machine)
    for *words, comment in (
        (f"{left}/abc", "left", f"{vbox.MARK}{left}/abc"),
        (foreign, "foreign", "Windows"),
    ):
        done = machine.run(["sh", "-c", STARTED, "started", *words, comment], timeout_s=60)
        assert done.status == 0, machine.read(f"{words[0]}/errors")
    before = machines(machine)
    assert set(before) == {living, f"{vbox.MARK}{left}/abc", "Windows"}

    run = subprocess.Popen(
        [sys.executable, "-c", LIVES, address],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert run.stdout is not None
        assert run.stdout.readline() == "NAT e1000 True\n"
        during = machines(machine)
        assert len(during) == 3
        assert f"{vbox.MARK}{left}/abc" not in during
        assert machine.run(["test", "-e", left], timeout_s=20).status == 1
    finally:
        run.kill()
        run.communicate()
    assert until(lambda: len(machines(machine)) < 3, 60)
    after = machines(machine)
    assert after == {each: before[each] for each in (living, "Windows")}
    machine.run(["kill", "-KILL", after["Windows"]], timeout_s=20)
    guest.machine.resume()
    assert guest.run("true", timeout_s=60).status == 0


def test_a_service_that_hangs_and_a_module_that_is_not_loaded(
    guest: Guest, machine: TestbedHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(guest, BootedGuest)
    guest.close()
    assert machines(machine) == {}
    no_service = ["sh", "-c", "while pidof VBoxSVC; do sleep 0.1; done"]
    assert machine.run(no_service, timeout_s=30).status == 0
    hang = "until pid=$(pidof VBoxSVC); do :; done; kill -STOP $pid"
    monkeypatch.setattr(vbox_machine, "MAKE_TIMEOUT_S", 4.0)
    hanging = machine.start(["sh", "-c", hang])
    with pytest.raises(LaunchError, match="VBoxSVC does not answer within") as caught:
        BACKEND.launch(machine, image.ensure(), BACKEND.options)
    assert hanging.wait(20) == 0
    assert "VBoxSVC" in caught.value.remedy
    assert machine.run(no_service, timeout_s=30).status == 0

    address, path = reached_by_ssh(machine, tmp_path)
    monkeypatch.setenv("PATH", path)
    assert machine.run(["rmmod", "vboxnetflt", "vboxdrv"], timeout_s=20).status == 0
    with closing(There(address)) as there:
        found = BACKEND.probe(there, BACKEND.options)
    assert "vboxdrv is not loaded" in found.reason
    assert "modprobe vboxdrv" in found.remedy
