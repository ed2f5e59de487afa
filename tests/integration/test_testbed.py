"""The testbed, for real: L1 under TCG, KVM guests in it, and what happens when they die."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from vbench import image
from vbench.contract.guest import Guest, Target
from vbench.errors import AttestationError, ConnectionLost, GuestLost, GuestSilent, UsageError
from vbench.guest.native import Native
from vbench.guest.target import succeed
from vbench.hypervisors.qemu.machine import QemuMachine
from vbench.measure.load import Requests, events_of, under_load
from vbench.model import Technique, TimeBase
from vbench.plugins.kvm_exits import vbench_counters
from vbench.plugins.kvm_virtio import BACKEND
from vbench.plugins.tcg_virtio import BACKEND as TCG
from vbench.records import NetworkPath, Place
from vbench.testbed import TestbedHost

pytestmark = pytest.mark.testbed


@pytest.fixture(scope="module")
def native(testbed: TestbedHost) -> Native:
    return Native(testbed, testbed.upload_image(image.ensure()), scratch=testbed.scratch())


@pytest.fixture(scope="module")
def guest(testbed: TestbedHost) -> Iterator[Guest]:
    """One that is used up by the last tests of this file."""
    with BACKEND.launch(testbed, image.ensure(), BACKEND.options) as each:
        yield each


def elapsed_ns(target: Target, command: str) -> int:
    return int(json.loads(succeed(target, command, timeout_s=30))["elapsed_ns"])


def test_its_clock_counts_instructions(testbed: TestbedHost, native: Native) -> None:
    assert testbed.time_base is TimeBase.INSTRUCTIONS
    # four instructions a step: the same on every machine
    spun = elapsed_ns(native, "vbench-probe spin 20000000")
    assert spun == pytest.approx(80_000_000, rel=0.01)
    assert elapsed_ns(native, "vbench-probe spin 20000000") == pytest.approx(spun, rel=0.001)


def test_system_calls_cost_the_same_twice(native: Native) -> None:
    first = elapsed_ns(native, "vbench-probe getppid 1000000")
    assert elapsed_ns(native, "vbench-probe getppid 1000000") == pytest.approx(first, rel=0.002)


def test_a_known_load_is_its_share_of_the_machine(testbed: TestbedHost, native: Native) -> None:
    """Its period is five ticks of the kernel, which counts by ticks who is busy."""
    period_s, share = 0.02, 0.1
    busy = [
        under_load(testbed, [native], Requests(150, period_s, events), []).busy
        for events in (1, events_of(native, share * period_s))
    ]
    # our own looks at the machine cost it some per cent, with next to no load as well
    assert busy[1] - busy[0] == pytest.approx(share, abs=0.03)


def test_facts(testbed: TestbedHost) -> None:
    facts = testbed.facts()
    assert facts.identity.startswith("testbed:")
    assert facts.facts["cpus"] == "1"
    assert facts.facts["machine_id"] == "any"  # counts do not depend on the machine beneath
    assert facts.facts["qemu"] != "none"
    assert "instruction" in facts.facts["clock"]


def test_hardware_assisted_virtualization_can_be_used(testbed: TestbedHost) -> None:
    assert BACKEND.probe(testbed, BACKEND.options).ok


def test_an_unmodified_system_boots_through_firmware(testbed: TestbedHost) -> None:
    options = dataclasses.replace(BACKEND.options, firmware=True)
    with BACKEND.launch(testbed, image.ensure(), options) as guest:
        seen = BACKEND.attest(guest)
        assert seen.evidence["started by"] == "firmware, bzImage"
        # The first while it is calibrated, for a second; KVM's own is not shown.
        assert guest.observed.clocksource in ("tsc-early", "tsc")
        assert guest.observed.hypervisor == ""
        assert "kvm" not in succeed(guest, "dmesg", timeout_s=20).lower()


def test_a_guest_is_what_its_label_says(guest: Guest) -> None:
    seen = BACKEND.attest(guest)
    assert seen.summary == "KVM; disk virtio_blk; network virtio_net"
    assert guest.observed.clocksource == "kvm-clock"
    assert guest.observed.hypervisor == "KVM"
    assert (seen.module, seen.place) == ("kvm_amd", Place.MODULE)
    assert seen.ring == 0
    assert seen.evidence["host: nested paging"].startswith("on")


def test_its_interrupts_begin_with_a_breakpoint(guest: Guest) -> None:
    """docs/decisions/0004: not a jump, nor ftrace, which are no exceptions."""
    assert guest.device.further["interrupts"] == "breakpoint at __common_interrupt+5"
    listed = succeed(
        guest, "mount -t debugfs d /sys/kernel/debug; cat /sys/kernel/debug/kprobes/list",
        timeout_s=20,
    )  # fmt: skip
    assert "__common_interrupt+0x5" in listed
    assert "[" not in listed  # [OPTIMIZED], [FTRACE], [DISABLED]


def test_a_kvm_guest_labelled_tcg_is_refused(guest: Guest) -> None:
    with pytest.raises(AttestationError, match="enabled=True"):
        TCG.attest(guest)


def test_a_virtio_disk_labelled_ide_is_refused(guest: Guest) -> None:
    mislabelled = dataclasses.replace(BACKEND, drivers={"disk": "ata_piix", "nic": "virtio_net"})
    with pytest.raises(AttestationError, match="disk driver is virtio_blk, not ata_piix"):
        mislabelled.attest(guest)


def test_a_hypervisor_without_hardware_is_refused(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vbench.hypervisors.qemu.attest.provider", lambda _: "kvm_pvm")
    with pytest.raises(AttestationError, match="provided by kvm_pvm"):
        BACKEND.attest(guest)


def test_user_code_runs_at_native_speed(guest: Guest, native: Native) -> None:
    # now and then something else in the guest takes its turn: that only adds
    there = min(elapsed_ns(guest, "vbench-probe spin 20000000") for _ in range(3))
    assert there == pytest.approx(elapsed_ns(native, "vbench-probe spin 20000000"), rel=0.03)


def test_exits_are_counted(guest: Guest) -> None:
    before = vbench_counters(guest)
    succeed(guest, "vbench-probe cpuid 1000", timeout_s=30)
    after = vbench_counters(guest)
    assert 1000 <= after["exits"] - before["exits"] < 3000


def test_its_disk_is_the_scratch_disk_and_random(guest: Guest, testbed: TestbedHost) -> None:
    testbed.fill_scratch()
    digest = "dd if=%s bs=1M skip=60 count=1 iflag=direct 2>/dev/null | sha256sum"
    in_guest = succeed(guest, digest % guest.endpoint.scratch, timeout_s=30)
    assert in_guest == testbed.run(["sh", "-c", digest % "/dev/ram0"], timeout_s=30).stdout
    empty = testbed.run(["sh", "-c", "head -c 1048576 /dev/zero | sha256sum"], timeout_s=30)
    assert in_guest != empty.stdout


def test_its_network_is_a_tap_to_the_testbed(guest: Guest, testbed: TestbedHost) -> None:
    ping = ["ping", "-c", "1", "-W", "2", guest.endpoint.address]
    assert testbed.run(ping, timeout_s=10).status == 0
    assert guest.capabilities.network is NetworkPath.TAP


def test_a_guest_that_does_not_answer_leaves_evidence(guest: Guest) -> None:
    """What tells a hung CPU from a starved machine is asked while both are still there."""
    guest.pause()
    try:
        with pytest.raises(GuestSilent, match="does not answer") as caught:
            guest.run("true", timeout_s=1)
    finally:
        guest.resume()
    looks = [line for line in caught.value.evidence.splitlines() if line.startswith("host up ")]
    assert len(looks) == 2
    assert all("QEMU paused" in look and "RIP=" in look for look in looks)
    up_s = [float(look.split()[2]) for look in looks]
    assert up_s[1] > up_s[0]  # the testbed itself goes on
    assert guest.run("true", timeout_s=20).status == 0  # and so does the connection


def test_a_starved_testbed_is_waited_for(guest: Guest, testbed: TestbedHost) -> None:
    """Its CPU gets what a busy machine leaves over: the deadline passes by the wall only."""
    assert testbed._guest is not None
    machine = testbed._guest.machine
    assert isinstance(machine, QemuMachine)
    (thread,) = machine.vcpu_threads
    cpus = os.sched_getaffinity(0)
    spin = [sys.executable, "-S", "-c", "while True: pass"]
    with contextlib.ExitStack() as stack:
        spinner = subprocess.Popen(["taskset", "-c", str(min(cpus)), *spin])
        stack.callback(spinner.wait)
        stack.callback(spinner.kill)
        stack.callback(os.sched_setaffinity, thread, cpus)
        stack.callback(os.sched_setscheduler, thread, os.SCHED_OTHER, os.sched_param(0))
        os.sched_setaffinity(thread, {min(cpus)})
        os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))
        given, wall = testbed.deadline_clock(), time.monotonic()
        for _ in range(3):
            assert guest.run("true", timeout_s=1).status == 0
        given_s, wall_s = testbed.deadline_clock() - given, time.monotonic() - wall
    assert given_s < wall_s / 2


def test_qemu_killed_in_the_testbed_is_a_lost_guest(guest: Guest, testbed: TestbedHost) -> None:
    testbed.run(["kill", "-KILL", str(guest.machine.pid)], timeout_s=10)  # type: ignore[attr-defined]
    with pytest.raises(GuestLost, match=r"machine ended|the connection|is gone"):
        guest.run("sleep 5", timeout_s=10)
    assert not guest.alive
    guest.close()
    assert testbed.run(["pidof", "qemu-system-x86_64"], timeout_s=10).status == 1


def test_a_dead_testbed_says_so_and_comes_back(testbed: TestbedHost) -> None:
    first = testbed.read("/proc/sys/kernel/random/boot_id")
    inside = testbed._guest
    assert inside is not None
    pid = inside.machine.pid  # type: ignore[attr-defined]
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ConnectionLost, match="testbed"):
        testbed.run(["sleep", "2"], timeout_s=5)
    testbed.close()
    assert not os.path.exists(f"/proc/{pid}")
    assert testbed.read("/proc/sys/kernel/random/boot_id") != first


def test_its_options() -> None:
    assert TestbedHost.parse("testbed,clock=wall", image.ensure).time_base is TimeBase.WALL
    assert TestbedHost.parse("testbed,clock=wall", image.ensure).name == "testbed,clock=wall"
    with pytest.raises(UsageError, match="cpu=max"):
        TestbedHost.parse("testbed,cpu=max", image.ensure)
    assert BACKEND.technique is Technique.HARDWARE
