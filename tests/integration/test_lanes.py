"""Two testbeds side by side: KVM in one, Xen in the other."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from tests.integration.conftest import Vbench, until
from vbench.results import loading

pytestmark = [pytest.mark.testbed, pytest.mark.xen]

WORDS = (
    *("run", "--host", "testbed", "--backend", "kvm-virtio", "--backend", "xen-pv"),
    *("--workload", "syscall-getppid", "--workload", "cpu-prime", "--boots", "1"),
)

LABELS = ("testbed-kvm-virtio", "testbed-xen-pv")


def records(vbench: Vbench) -> list[dict[str, Any]]:
    journal = vbench.out / "journal.jsonl"
    return [json.loads(line) for line in journal.read_text().splitlines()]


def test_each_lane_counts_the_same_native_and_one_does_not_wait_for_the_other(
    vbench: Vbench,
) -> None:
    process = vbench.start(*WORDS, "--out", vbench.out)
    _, stderr = process.communicate(timeout=900)
    assert process.returncode == 0, stderr
    items = {item.name: item for result in loading.load_all([vbench.out]) for item in result.items}
    for workload in ("syscall-getppid", "cpu-prime"):
        both = [items[f"{workload}[{variant}]"] for variant in ("kvm-virtio", "xen-pv")]
        (kvm,), (xen,) = (item.pairs for item in both)
        assert kvm.native_s == pytest.approx(xen.native_s, rel=1e-3)
        assert all("native_once" in item.flags for item in both)
    told = [(each["event"], each.get("series")) for each in records(vbench)]
    up = [told.index(("launch", label)) for label in LABELS]
    over = [len(told) - told[::-1].index(("end", label)) for label in LABELS]
    assert max(up) < min(over)


def test_a_signal_ends_both(vbench: Vbench) -> None:
    process = vbench.start(*WORDS, "--out", vbench.out)
    begun = until(
        lambda: (
            (vbench.out / "journal.jsonl").exists()
            and any(each["event"] == "begin" for each in records(vbench))
        ),
        900,
    )
    machines = len([line for line in vbench.processes() if "qemu-system" in line])
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert begun, stderr
    assert machines >= 2
    assert process.returncode == 130
    assert "Partial report" in (vbench.out / "report.md").read_text()
