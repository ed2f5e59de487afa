"""Several real guests at once: what they cost each other, and what they see."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Vbench
from vbench import image
from vbench.contract.undo import paused
from vbench.guest.native import Native
from vbench.measure import surface
from vbench.plugins.kvm_virtio import BACKEND
from vbench.testbed import TestbedHost

pytestmark = [pytest.mark.tcg, pytest.mark.alone]
KSM = Path("/sys/kernel/mm/ksm/run")


def test_guests_share_a_host_and_nothing_else(vbench: Vbench) -> None:
    """Both scenarios, as short as they are."""
    chosen = ("--workload", "consolidation*", "--workload", "isolation*")
    done = vbench.measure("--quick", "--boots", "1", "--rounds", "1", *chosen)
    assert done.returncode == 0, done.stderr
    found = {
        entry["extra_info"]["vbench"]["workload"]: entry["extra_info"]["vbench"]
        for entry in vbench.json()["benchmarks"]
    }
    _share_a_host(found["consolidation-part-time"])
    _share_nothing_else(found["isolation-neighbour"])
    text = (vbench.out / "report.md").read_text()
    assert "**Consolidation**" in text
    assert "**Isolation**" in text
    assert list(vbench.out.glob("**/consolidation-*.svg"))


def _share_a_host(item: dict[str, Any]) -> None:
    counted = {name: value for name, (value,) in item["counters"].items()}
    # what its process takes is what was asked for, by which the requests were sized
    assert counted["1 guests: cpu_percent"] == pytest.approx(18, abs=4)
    assert counted["1 natively: cpu_percent"] < counted["1 guests: cpu_percent"]
    if os.geteuid() == 0 and os.access(KSM, os.W_OK):
        assert 50 < counted["ksm: pss_mib"] < counted["ksm: pss_before_mib"] - 20
        assert KSM.read_text() == "0\n"
    (phases,) = item["pair_phases"]
    times = {(each["operation"], each["phase"]): each["seconds"] for each in phases}
    for who in ("1 guests", "1 natively"):
        assert 0 < counted[f"{who}: busy_percent"] <= 100
        assert 0.0002 < times[who, "p50"] <= times[who, "p99"]  # natively 0.9 ms
    # fixed work: what is translated takes longer
    assert times["1 guests", "p50"] > times["1 natively", "p50"]
    assert 100 < counted["1 guests: pss_mib"] < 1200


def _share_nothing_else(item: dict[str, Any]) -> None:
    counted = {name: value for name, (value,) in item["counters"].items()}
    assert counted["kernels"] == 3
    for what in ("processes", "files", "ports", "frames"):
        assert counted[f"{what}: itself"] > 0, what
        assert counted[f"{what}: neighbour"] == 0, what
    assert [counted[f"{what}: host"] for what in ("processes", "files", "ports")] == [0, 0, 0]
    # the control: plain processes are seen
    assert counted["processes: plain process"] > 0
    assert counted["ports: plain process"] > 0
    assert counted["cpu, guests: finished"] == 1


@pytest.mark.testbed
def test_a_guest_reaches_less_of_the_hosts_kernel_than_a_process(testbed: TestbedHost) -> None:
    """By the kernel's function tracer, in real KVM guests."""
    found = {}
    with BACKEND.launch(testbed, image.ensure(), BACKEND.options) as guest:
        native = Native(testbed, testbed.upload_image(guest.image), scratch=testbed.scratch())
        with surface.traced(testbed):
            inside, outside = surface.work(guest), surface.work(native)
            for kind in ("nothing", "files"):
                of_guest = surface.of_guest(guest, inside[kind])
                with paused(guest):
                    found[kind] = of_guest, surface.of_native(native, outside[kind])
        assert testbed.run(["ls", "/sys/kernel/tracing/instances"], timeout_s=20).stdout == ""
    print({kind: [len(each.functions) for each in sides] for kind, sides in found.items()})
    assert not any(each.lost for sides in found.values() for each in sides)
    # the file system of a guest is its own kernel's
    (idle, _), (guest_, process) = found["nothing"], found["files"]
    assert any(each.startswith("kvm_") for each in guest_.functions)
    assert "vfs_rename" not in guest_.functions
    assert {"vfs_rename", "vfs_mkdir"} <= process.functions
    assert not any(each.startswith("kvm_") for each in process.functions)
    assert len(guest_.functions) == pytest.approx(len(idle.functions), rel=0.15)
