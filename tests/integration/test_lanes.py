"""Two testbeds side by side: KVM in one, Xen in the other."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import Any

import pytest

from tests.integration.conftest import Vbench, until
from vbench.results import loading

pytestmark = [pytest.mark.testbed, pytest.mark.xen]

WORDS = (
    *("run", "--host", "testbed", "--backend", "kvm-virtio", "--backend", "xen-pv"),
    *("--workload", "syscall-getppid", "--workload", "cpu-prime", "--boots", "1"),
)


def records(vbench: Vbench) -> list[dict[str, Any]]:
    journal = vbench.out / "journal.jsonl"
    return [json.loads(line) for line in journal.read_text().splitlines()]


def both_up(vbench: Vbench, process: subprocess.Popen[str]) -> bool:
    """Whether both machines ran at one time: which is ready, or done, first depends on the host."""

    def machines() -> int:
        programs = [line.split()[1] for line in vbench.processes()]
        return len([program for program in programs if "qemu-system" in program])

    seen = until(lambda: process.poll() is not None or machines() == 2, 900)
    return seen and process.poll() is None


def test_each_lane_counts_the_same_native_and_one_does_not_wait_for_the_other(
    vbench: Vbench,
) -> None:
    process = vbench.start(*WORDS, "--out", vbench.out)
    two = both_up(vbench, process)
    _, stderr = process.communicate(timeout=900)
    assert process.returncode == 0, stderr
    assert two
    items = {item.name: item for result in loading.load_all([vbench.out]) for item in result.items}
    for workload in ("syscall-getppid", "cpu-prime"):
        both = [items[f"{workload}[{variant}]"] for variant in ("kvm-virtio", "xen-pv")]
        (kvm,), (xen,) = (item.pairs for item in both)
        assert kvm.native_s == pytest.approx(xen.native_s, rel=1e-3)
        assert all("native_once" in item.flags for item in both)


def test_a_signal_ends_both(vbench: Vbench) -> None:
    process = vbench.start(*WORDS, "--out", vbench.out)
    begun = until(
        lambda: (
            (vbench.out / "journal.jsonl").exists()
            and any(each["event"] == "begin" for each in records(vbench))
        ),
        900,
    )
    two = both_up(vbench, process)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert begun, stderr
    assert two, stderr
    assert process.returncode == 130
    assert "Partial report" in (vbench.out / "report.md").read_text()
