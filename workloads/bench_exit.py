"""What makes a guest leave for its hypervisor, one event at a time, and what each costs.

Each sample holds one event, one reading of the clock and, where the event needs the kernel, a
system call. The controls are the same without the event: take their median off.
"""

import pytest

from vbench.errors import Unsupported
from vbench.measure import parsers
from vbench.measure.engine import Measure
from vbench.records import Cause

pytestmark = pytest.mark.workload(category="exit", statistic="quantiles", unit="event")

# The control of events that need no system call: it only reads the clock.
_EMPTY = "exit-control-empty"

# What Xen calls an instruction of a paravirtual kernel that it has to emulate.
_PRIVILEGED = "privileged instruction"

# Of an execution: enough for a 99th percentile, and an instant on any hardware.
_EVENTS = 1000

# Architectural MSRs (Intel SDM volume 4; AMD APM volume 2, appendix A). KVM lets a guest at its
# own FS base on either vendor's processors and intercepts its page attribute table.
_FS_BASE, _PAT = 0xC0000100, 0x277

# Ports that may be read at any time: the interrupt mask of the first 8259A, which KVM answers in
# the kernel, and the diagnostic port of power-on self-tests, which goes on to QEMU.
_PIC_MASK, _POST = 0x21, 0x80


def _probe(measure: Measure, what: str, rest: str = "", *, events: int = _EVENTS) -> None:
    measure(
        lambda count, endpoint: f"vbench-probe {what} {count} {rest}".rstrip(),
        read=parsers.probe,
        initial_units=events,
        max_units=events,
    )


def _msr(measure: Measure, what: str, number: int) -> None:
    """The kernel's own module reads and writes for us; it is built in or loaded where it can be."""
    measure(
        lambda count, endpoint: (
            "modprobe -q msr allow_writes=on 2>/dev/null; "
            f"vbench-probe {what} {count} /dev/cpu/0/msr {number} 8"
        ),
        read=parsers.probe,
        initial_units=_EVENTS,
        max_units=_EVENTS,
    )


def _hypercall(measure: Measure, what: str) -> None:
    measure(
        lambda count, endpoint: (
            # a domain that is not dom0 is else allowed none
            f"modprobe -q xen-privcmd unrestricted=1 2>/dev/null; vbench-probe {what} {count}"
        ),
        read=parsers.probe,
        initial_units=_EVENTS,
        max_units=_EVENTS,
    )


@pytest.mark.workload(representative=True)
def bench_exit_control_empty(measure: Measure) -> None:
    """Control: nothing but reading the clock."""
    _probe(measure, "empty")


@pytest.mark.workload(cause=Cause("control: system call", "control", _EMPTY))
def bench_exit_control_syscall(measure: Measure) -> None:
    """Control: a plain system call, which leaves no guest that has a kernel of its own."""
    _probe(measure, "syscall")


@pytest.mark.workload(representative=True)
def bench_exit_control_read(measure: Measure) -> None:
    """Control of the ports: the same system call on /dev/zero."""
    _probe(measure, "read", "/dev/zero 0 1")


@pytest.mark.workload(representative=True)
def bench_exit_control_hypercall(measure: Measure) -> None:
    """Control of the hypercall: under Xen the same system call without it, else only the clock."""
    _hypercall(measure, "uncalled")


def bench_exit_control_rdmsr(measure: Measure) -> None:
    """Control of reading MSRs: FS_BASE, which KVM leaves to the guest."""
    _msr(measure, "read", _FS_BASE)


def bench_exit_control_wrmsr(measure: Measure) -> None:
    """Control of writing MSRs: FS_BASE, with the value that it has."""
    _msr(measure, "rewrite", _FS_BASE)


@pytest.mark.workload(
    cause=Cause("CPUID", "CPUID", _EMPTY, reasons=("CPUID",)), representative=True
)
def bench_exit_cpuid(measure: Measure) -> None:
    """The CPUID instruction."""
    _probe(measure, "cpuid")


@pytest.mark.workload(
    cause=Cause(
        "hypercall",
        "hypercall",
        "exit-control-hypercall",
        reasons=("VMCALL", "VMMCALL", "hypercall xen_version"),
    ),
    representative=True,
)
def bench_exit_hypercall(measure: Measure) -> None:
    """A hypercall that does nothing: VMCALL or VMMCALL, refused by KVM; XENVER_version of Xen."""
    # Where the guest's kernel is a process, the instruction leaves for what runs its host.
    if measure.guest.observed.hypervisor == "":
        raise Unsupported(
            "no hypervisor answers a hypercall here: the guest's kernel detected none"
        )
    _hypercall(measure, "hypercall")


@pytest.mark.workload(
    cause=Cause(
        "port 0x21 (interrupt mask)",
        "port I/O",
        "exit-control-read",
        reasons=("port I/O in kernel", _PRIVILEGED),
    ),
    representative=True,
)
def bench_exit_port_kernel(measure: Measure) -> None:
    """Reading port 0x21 (interrupt controller), which KVM answers in the kernel."""
    _probe(measure, "read", f"/dev/port {_PIC_MASK} 1")


@pytest.mark.workload(
    cause=Cause(
        "port 0x80 (POST)",
        "port I/O",
        "exit-control-read",
        reasons=("port I/O in QEMU", _PRIVILEGED),
    ),
    representative=True,
)
def bench_exit_port_qemu(measure: Measure) -> None:
    """Reading port 0x80 (power-on self-test), which KVM passes on to QEMU."""
    _probe(measure, "read", f"/dev/port {_POST} 1")


@pytest.mark.workload(
    cause=Cause("MMIO (HPET)", "MMIO", _EMPTY, reasons=("MMIO in QEMU",)), representative=True
)
def bench_exit_mmio_qemu(measure: Measure) -> None:
    """Reading a register of the timer device HPET, mapped into the program."""
    _probe(measure, "mmio", "/dev/hpet 0")


@pytest.mark.workload(
    cause=Cause("MSR read", "MSR", "exit-control-rdmsr", reasons=("MSR", "MSR_READ", _PRIVILEGED))
)
def bench_exit_rdmsr(measure: Measure) -> None:
    """Reading MSR IA32_PAT (0x277)."""
    _msr(measure, "read", _PAT)


@pytest.mark.workload(
    cause=Cause("MSR write", "MSR", "exit-control-wrmsr", reasons=("MSR", "MSR_WRITE", _PRIVILEGED))
)
def bench_exit_wrmsr(measure: Measure) -> None:
    """Writing MSR IA32_PAT (0x277) with the value that it has."""
    _msr(measure, "rewrite", _PAT)


@pytest.mark.workload(
    cause=Cause(
        "page fault (first touch)",
        "page fault",
        clock=_EMPTY,
        reasons=("EXCP_PF", "EXCEPTION_NMI"),
        alone=False,
    )
)
def bench_exit_pagefault(measure: Measure) -> None:
    """First touch of a fresh 4 KiB page."""
    _probe(measure, "touch", events=4 * _EVENTS)


@pytest.mark.workload(counted=False)
@pytest.mark.workload(
    cause=Cause(
        "timer interrupt",
        "interrupt",
        clock=_EMPTY,
        reasons=("INTR", "EXTERNAL_INTERRUPT", "PREEMPTION_TIMER"),
        alone=False,
    )
)
def bench_exit_interrupt_timer(measure: Measure) -> None:
    """The gap that a timer's interrupt tears into a running program."""
    _probe(measure, "tick", events=_EVENTS // 5)


@pytest.mark.workload(
    cause=Cause("interprocessor interrupt", "interrupt between processors", "exit-control-syscall")
)
def bench_exit_interrupt_processor(measure: Measure) -> None:
    """Interrupting another CPU and waiting for its answer (membarrier)."""
    guest = measure.guest
    cpus = guest.host.facts().facts.get("cpus", "")
    if cpus.isdigit() and guest.endpoint.vcpus > int(cpus):
        raise Unsupported("the host has fewer CPUs than the guest: its scheduler would be measured")
    _probe(measure, "ipi")


@pytest.mark.workload(counted=False)
@pytest.mark.workload(
    cause=Cause("wake-up from HLT", "halt", clock=_EMPTY, reasons=("HLT",), alone=False)
)
def bench_exit_halt(measure: Measure) -> None:
    """Lateness of a program that slept until a time, on a CPU that halts (1 ms apart)."""
    _probe(measure, "timer", "1000", events=_EVENTS // 5)
