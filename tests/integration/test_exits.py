"""What an exit costs by the probe, against the hypervisor's own time stamps, in the testbed."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterator
from itertools import pairwise

import pytest

from vbench import image
from vbench.contract.guest import Guest
from vbench.guest.native import Native
from vbench.guest.target import succeed
from vbench.hypervisors.qemu.options import KvmOptions
from vbench.plugins.kvm_exits import TRACING, vbench_exit_histogram
from vbench.plugins.kvm_virtio import BACKEND
from vbench.testbed import TestbedHost

pytestmark = pytest.mark.testbed

EVENTS = 500
# kvm_exit is stamped after the world switch out and kvm_entry before the one back in, some 640
# instructions together; recording one of the two events, some 580, falls in between instead.
# They nearly cancel: differences of 23 to 54 instructions were seen for costs of 1,500 to 5,300.
MARGIN = 0.05

# probe command, its control, how kvm_exit names the reason
TRIGGERS = {
    "cpuid": (f"cpuid {EVENTS}", f"empty {EVENTS}", "cpuid"),
    "port in the kernel": (
        f"read {EVENTS} /dev/port 33 1",
        f"read {EVENTS} /dev/zero 0 1",
        "io",
    ),
    "port in QEMU": (f"read {EVENTS} /dev/port 128 1", f"read {EVENTS} /dev/zero 0 1", "io"),
    "MSR": (
        f"read {EVENTS} /dev/cpu/0/msr 631 8",
        f"read {EVENTS} /dev/cpu/0/msr 3221225728 8",
        "msr",
    ),
}


@pytest.fixture(scope="module")
def guest(testbed: TestbedHost) -> Iterator[Guest]:
    with BACKEND.launch(testbed, image.ensure(), BACKEND.options) as each:
        succeed(each, "modprobe msr", timeout_s=20)
        yield each


def probe(guest: Guest | Native, command: str) -> dict[str, float]:
    said: dict[str, float] = json.loads(succeed(guest, f"vbench-probe {command}", timeout_s=30))
    return said


def sh(host: TestbedHost, script: str) -> str:
    done = host.run(["sh", "-c", script], timeout_s=60)
    assert done.status == 0, done.stderr
    return done.stdout


def stamped(testbed: TestbedHost, guest: Guest, command: str, reason: str) -> list[int]:
    """Instructions from kvm_exit for `reason` to the kvm_entry that follows, one by one."""
    events = [f"{TRACING}/events/kvm/{name}/enable" for name in ("kvm_exit", "kvm_entry")]

    def switch(on: int) -> str:
        return "; ".join(f"echo {on} > {event}" for event in events)

    # the time stamp counter runs at one tick an instruction there
    sh(testbed, f"test -d {TRACING}/events || mount -t tracefs t {TRACING}")
    sh(testbed, f"cd {TRACING}; echo x86-tsc > trace_clock; echo > trace; {switch(1)}")
    try:
        probe(guest, command)
    finally:
        sh(testbed, switch(0))
    lines = re.findall(r" (\d+): (kvm_exit|kvm_entry): (.*)", sh(testbed, f"cat {TRACING}/trace"))
    return [
        int(after[0]) - int(before[0])
        for before, after in pairwise(lines)
        if f" reason {reason} " in before[2] and after[1] == "kvm_entry"
    ]


@pytest.mark.parametrize("name", list(TRIGGERS))
def test_the_probe_agrees_with_the_hypervisors_own_time_stamps(
    testbed: TestbedHost, guest: Guest, name: str
) -> None:
    command, control, reason = TRIGGERS[name]
    cost = probe(guest, command)["p50_ns"] - probe(guest, control)["p50_ns"]

    found = stamped(testbed, guest, command, reason)

    assert len(found) >= EVENTS
    assert statistics.median(found) == pytest.approx(cost, rel=MARGIN)


@pytest.mark.parametrize("name", list(TRIGGERS))
def test_costs_repeat_to_the_instruction(guest: Guest, name: str) -> None:
    command, _, _ = TRIGGERS[name]
    medians = {probe(guest, command)["p50_ns"] for _ in range(3)}
    assert len(medians) == 1


def test_exits_are_counted_by_reason(guest: Guest) -> None:
    histogram = vbench_exit_histogram(guest)
    assert histogram is not None
    seen = []
    with histogram as look:
        for events in (1, 1001):  # the difference is free of starting programs, which ask CPUID too
            before = look()
            probe(guest, f"cpuid {events}")
            probe(guest, f"read {events} /dev/port 128 1")
            seen.append({name: count - before.get(name, 0) for name, count in look().items()})

    few, many = seen
    for name in ("CPUID", "IOIO", "to QEMU: IO"):
        assert many[name] - few[name] == pytest.approx(1000, abs=10)


def test_system_calls_do_not_exit(guest: Guest) -> None:
    histogram = vbench_exit_histogram(guest)
    assert histogram is not None
    with histogram as look:
        before = look()
        probe(guest, "getppid 100000")
        after = look()
    assert sum(after.values()) - sum(before.values()) < 2000


def test_shadow_paging_is_switched_attested_and_restored(
    testbed: TestbedHost, guest: Guest
) -> None:
    nested = probe(guest, "touch 8000")["mean_ns"]
    guest.close()  # its module cannot be loaded anew while a machine runs

    options = KvmOptions(nested_paging=False)
    assert BACKEND.probe(testbed, options).ok
    with BACKEND.launch(testbed, image.ensure(), options) as shadowed:
        seen = BACKEND.attest(shadowed).evidence
        assert seen["host: nested paging"].startswith("off")
        assert probe(shadowed, "touch 8000")["mean_ns"] > 1.5 * nested
        histogram = vbench_exit_histogram(shadowed)
        assert histogram is not None
        with histogram as look:
            before = look().get("EXCP_PF", 0)
            probe(shadowed, "touch 8000")
            assert look()["EXCP_PF"] - before >= 8000

    assert testbed.read("/sys/module/kvm_amd/parameters/npt").strip() in ("Y", "1")
