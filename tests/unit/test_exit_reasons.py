"""Exits: their names, and the kernel's histogram of them."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vbench.errors import HostError, Unsupported
from vbench.hosts.local import LocalHost
from vbench.plugins import kvm_exits
from vbench.records import Observed
from vbench.results import exit_reasons
from vbench.run.collecting import collect
from vbench.workloads import bench_exit

WORKLOADS = Path(__file__).parents[2] / "workloads"

# As Linux 6.1 prints it.
HISTOGRAM = """# event histogram
#
# trigger info: hist:keys=common_pid,isa,exit_reason:vals=hitcount:sort=hitcount:size=4096 [active]
#

{ common_pid:        512, isa:          2, exit_reason:         96 } hitcount:          7
{ common_pid:        512, isa:          2, exit_reason:        114 } hitcount:       1000
{ common_pid:        900, isa:          2, exit_reason:        114 } hitcount:         55

Totals:
    Hits: 1062
    Entries: 3
    Dropped: 0
{ common_pid:        512, reason:          2 } hitcount:         20
{ common_pid:        512, reason:          6 } hitcount:          3
"""


def test_the_kernels_histogram_is_read_for_our_threads_only() -> None:
    assert kvm_exits.parse(HISTOGRAM, frozenset({512})) == {
        "INTR": 7,
        "CPUID": 1000,
        "to QEMU: IO": 20,
        "to QEMU: MMIO": 3,
    }


@pytest.mark.parametrize(
    ("isa", "code", "name"),
    [
        (exit_reasons.SVM, 0x400, "NPF"),
        (exit_reasons.SVM, 0x4E, "EXCP_PF"),
        (exit_reasons.SVM, 0x13, "WRITE_CR3"),
        (exit_reasons.SVM, 0x999, "SVM_0x999"),
        (exit_reasons.VMX, 30, "IO_INSTRUCTION"),
        (exit_reasons.VMX, 0x80000000 + 48, "EPT_VIOLATION"),  # the upper bits are flags
        (exit_reasons.VMX, 200, "VMX_200"),
    ],
)
def test_reasons_have_the_processors_names(isa: int, code: int, name: str) -> None:
    assert exit_reasons.reason(isa, code) == name


def test_exits_for_devices_are_told_apart_by_who_answers() -> None:
    counts = {"IOIO": 10.0, "NPF": 4.0, "HLT": 1.0, "to QEMU: IO": 8.0, "to QEMU: MMIO": 1.0}

    assert exit_reasons.split(counts) == {
        "port I/O in QEMU": 8.0,
        "port I/O in kernel": 2.0,
        "MMIO in QEMU": 1.0,
        "NPF": 3.0,
        "HLT": 1.0,
    }
    assert sum(exit_reasons.split(counts).values()) == 15  # nothing is lost, nothing counted twice


def test_every_control_is_a_workload_and_each_has_its_event() -> None:
    infos = [each.info for each in collect([WORKLOADS / "bench_exit.py"])]
    names = {info.name for info in infos}
    causes = [info.cause for info in infos if info.cause]
    assert {name for cause in causes for name in (cause.control, cause.clock) if name} <= names
    assert all(cause.control or cause.clock for cause in causes)
    # the others are controls of these
    assert {info.name for info in infos if not info.cause} <= {
        name for cause in causes for name in (cause.control, cause.clock)
    }


def test_entries_into_xen_have_the_names_of_xen_h() -> None:
    assert exit_reasons.entry("hypercall 23", exit_reasons.SVM) == "hypercall iret"
    assert (
        exit_reasons.entry("in multicall 14", exit_reasons.SVM) == "in multicall update_va_mapping"
    )
    assert exit_reasons.entry("hypercall 63", exit_reasons.SVM) == "hypercall 63"
    assert exit_reasons.entry("page table write", exit_reasons.SVM) == "page table write"
    assert exit_reasons.entry("exit 10", exit_reasons.VMX) == "CPUID"
    assert exit_reasons.entry("exit 114", exit_reasons.SVM) == "CPUID"


@pytest.mark.parametrize(("detected", "measured"), [("", 0), ("KVM", 1), (None, 1)])
def test_a_guest_that_detected_no_hypervisor_makes_no_hypercall(
    detected: str | None, measured: int
) -> None:
    """User-mode Linux is a process: VMCALL there would leave for what runs its host."""
    calls: list[object] = []

    class FakeMeasure:
        guest = SimpleNamespace(observed=Observed(hypervisor=detected))

        def __call__(self, command: object, **_: object) -> None:
            calls.append(command)

    made: Any = FakeMeasure()
    with nullcontext() if measured else pytest.raises(Unsupported, match="no hypervisor answers"):
        bench_exit.bench_exit_hypercall(made)
    assert len(calls) == measured


@pytest.fixture
def tracing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files in place of the kernel's."""
    for name in kvm_exits.HISTOGRAMS:
        (tmp_path / f"events/kvm/{name}").mkdir(parents=True)
        (tmp_path / f"events/kvm/{name}/hist").write_text(HISTOGRAM)
    monkeypatch.setattr(kvm_exits, "TRACING", str(tmp_path))
    return tmp_path / "events/kvm"


def guest_here() -> Any:
    return SimpleNamespace(host=LocalHost())


def test_exits_that_the_kernel_left_out_are_not_taken_for_none(tracing: Path) -> None:
    with kvm_exits._counting(guest_here(), frozenset({512})) as read:
        assert read()["CPUID"] == 2000
        hist = tracing / "kvm_exit" / "hist"
        hist.write_text(HISTOGRAM.replace("Dropped: 0", "Dropped: 3"))
        with pytest.raises(HostError, match="left 3 exits out"):
            read()
    assert (tracing / "kvm_exit" / "trigger").read_text().startswith("!hist:")


def test_a_trigger_that_was_set_before_another_failed_is_removed(tracing: Path) -> None:
    """It would slow every later exit of the run, and of the machine until it reboots."""
    first, second = kvm_exits.HISTOGRAMS
    (tracing / second / "trigger").mkdir()  # cannot be written
    with (
        pytest.raises(HostError, match="refuses to count exits"),
        kvm_exits._counting(guest_here(), frozenset({512})),
    ):
        raise AssertionError
    assert (tracing / first / "trigger").read_text().startswith("!hist:")
