"""VirtualBox, for real: the testbed with its module, guests in it, and what becomes of them."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Iterator

import pytest

from vbench import image
from vbench.contract.guest import Guest, Target
from vbench.contract.host import Host
from vbench.errors import AttestationError
from vbench.guest.native import Native
from vbench.guest.target import succeed
from vbench.hypervisors.virtualbox.host import LAYER
from vbench.hypervisors.virtualbox.machine import VirtualBoxMachine
from vbench.plugins.virtualbox import BACKEND
from vbench.testbed import TestbedHost

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


def test_attested(guest: Guest) -> None:
    seen = BACKEND.attest(guest)
    assert "AMD-V, nested paging" in seen.summary
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
