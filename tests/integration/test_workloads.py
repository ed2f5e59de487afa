"""Every workload that comes with vbench, in a real guest: its command runs, its output is read."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tests.integration.conftest import Vbench
from vbench import workloads

pytestmark = [pytest.mark.tcg, pytest.mark.alone]

SEVERAL_CPUS = (
    *("smp-wakeup", "smp-lock", "smp-kernel-lock", "smp-shootdown"),
    *("smp-parallel", "smp-messages"),
)
# What a guest under QEMU's translator does not have, or what a host may not have natively.
MAY_BE_UNSUPPORTED = {
    "exit-hypercall": "no hypervisor answers a hypercall here",
    "exit-interrupt-processor": "needs two CPUs",
    "memory-random-huge": "its kernel grants no huge pages",
    **dict.fromkeys(SEVERAL_CPUS, "needs two CPUs"),
}
# They need a network of their own between guest and host, which not every host may make.
NETWORK = {"network-receive", "network-send", "network-rr", "app-redis", "app-nginx"}


NAMED = re.compile(r"^pytestmark = .*named=True", re.MULTILINE)
FUNCTION = re.compile(r"^(?P<marks>(?:@.*\n)*)def (?:bench|scenario)_(?P<name>\w+)", re.MULTILINE)


# The second guest of a provisioning runs only where it is named.
ALL = ("--workload", "*", "--workload", "provisioning-second")


def shipped() -> set[str]:
    """But for those that a run must name: they have tests of their own."""
    texts = [path.read_text() for path in Path(workloads.__path__[0]).glob("*.py")]
    return {
        found["name"].replace("_", "-")
        for text in texts
        if not NAMED.search(text)
        for found in FUNCTION.finditer(text)
        if "named=True" not in found["marks"]
    }


def test_every_shipped_workload_is_measured_in_a_real_guest(vbench: Vbench) -> None:
    done = vbench.measure("--quick", "--boots", "1", "--rounds", "1", *ALL)
    items = {item["workload"]: item for item in vbench.json()["vbench"]["items"]}
    measured = {
        entry["extra_info"]["vbench"]["workload"]: entry["extra_info"]["vbench"]
        for entry in vbench.json()["benchmarks"]
    }

    assert set(items) == {*shipped(), "provisioning-second"}
    wrong = {
        name: item["reason"]
        for name, item in items.items()
        if item["status"] != "ok"
        and not (
            item["status"] == "unsupported" and MAY_BE_UNSUPPORTED.get(name, "\0") in item["reason"]
        )
    }
    assert not wrong, json.dumps(wrong, indent=1) + done.stderr
    for name, item in measured.items():
        assert all(guest_s > 0 for _, guest_s in item["pairs"]), name
        if item["statistic"] == "ratio" and name not in NETWORK:
            assert all(native_s > 0 for native_s, _ in item["pairs"]), name
        # By the probe, but not in groups: programs as a whole, and work of several processes.
        timed_whole = item["category"] in ("app", "smp")
        if "vbench-probe" in item["commands"].get("guest", "") and not timed_whole:
            assert all(0 < equal <= 1 for _, equal in item["pair_equal"]), name
    # A vCPU that never waits for anything is on a CPU, or waits for one, as long as its work takes.
    # What starting the program took is taken off, as it was measured once: on a busy machine most
    # of the three may have been disturbed in that, but not all.
    parts = []
    for name in ("cpu-prime", "memory-pagefault", "syscall-getppid"):
        ((_, guest_s),) = measured[name]["pairs"]
        (on_cpu_s,), (waited_s,) = (
            measured[name]["counters"][key] for key in ("vcpu_cpu_s", "vcpu_wait_s")
        )
        parts.append((on_cpu_s + waited_s) / guest_s)
    assert min(abs(part - 1) for part in parts) < 0.25, parts


def test_several_cpus_are_measured_against_as_many_native_ones(vbench: Vbench) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("this machine has one CPU")
    chosen = ("--workload", "smp/*", "--quick", "--boots", "1", "--rounds", "1")
    done = vbench.run(*("run", "--backend", "tcg-virtio,vcpus=2", "--out", vbench.out, *chosen))
    assert done.returncode == 0, done.stderr
    measured = {
        entry["extra_info"]["vbench"]["workload"]: entry["extra_info"]["vbench"]["pairs"]
        for entry in vbench.json()["benchmarks"]
    }
    assert set(measured) == set(SEVERAL_CPUS)
    assert all(native_s > 0 and guest_s > 0 for ((native_s, guest_s),) in measured.values())


def test_more_vcpus_than_cpus_are_measured_against_as_many_threads(vbench: Vbench) -> None:
    vcpus = 2 * len(os.sched_getaffinity(0))
    if vcpus < 4:
        pytest.skip("this machine has one CPU")
    names = ("smp-kernel-lock", "smp-shootdown")
    chosen = [word for name in names for word in ("--workload", name)]
    few, many = ("tcg-virtio,vcpus=2", f"tcg-virtio,vcpus={vcpus}")
    backends = ("--backend", few, "--backend", many)
    quickly = ("--quick", "--boots", "1", "--out", vbench.out)
    done = vbench.run("run", *backends, *chosen, *quickly)
    assert done.returncode == 0, done.stderr
    results = [json.loads(path.read_text()) for path in vbench.out.glob("*.json")]
    items = [each["extra_info"]["vbench"] for result in results for each in result["benchmarks"]]
    assert len(items) == 4
    for item in items:
        assert ("overcommitted" in item["flags"]) == (item["variant"] == many)
        asked = item["variant"].rpartition("=")[2]
        assert {line.split()[-1] for line in item["commands"].values()} == {asked}
        assert all(native_s > 0 for native_s, _ in item["pairs"])
    report = (vbench.out / "report.md").read_text()
    assert f"{vcpus}, overcommitted, beside 2" in report
