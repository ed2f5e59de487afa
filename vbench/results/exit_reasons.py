"""VM exits: the names of their reasons.

Pure data. Codes are the processors' own, as the kernel's tracepoint kvm:kvm_exit gives them:
VMX  Intel SDM volume 3, appendix C (arch/x86/include/uapi/asm/vmx.h)
SVM  AMD APM volume 2, appendix C (arch/x86/include/uapi/asm/svm.h)
"""

from __future__ import annotations

VMX, SVM = 1, 2  # the tracepoint's field `isa`

_VMX_NAMES = {
    0: "EXCEPTION_NMI", 1: "EXTERNAL_INTERRUPT", 2: "TRIPLE_FAULT", 7: "INTERRUPT_WINDOW",
    8: "NMI_WINDOW", 9: "TASK_SWITCH", 10: "CPUID", 12: "HLT", 13: "INVD", 14: "INVLPG",
    15: "RDPMC", 16: "RDTSC", 18: "VMCALL", 28: "CR_ACCESS", 29: "DR_ACCESS",
    30: "IO_INSTRUCTION", 31: "MSR_READ", 32: "MSR_WRITE", 36: "MWAIT", 39: "MONITOR",
    40: "PAUSE", 43: "TPR_BELOW_THRESHOLD", 44: "APIC_ACCESS", 45: "EOI_INDUCED",
    48: "EPT_VIOLATION", 49: "EPT_MISCONFIG", 51: "RDTSCP", 52: "PREEMPTION_TIMER",
    54: "WBINVD", 55: "XSETBV", 56: "APIC_WRITE", 58: "INVPCID", 62: "PML_FULL",
}  # fmt: skip
_SVM_NAMES = {
    0x60: "INTR", 0x61: "NMI", 0x62: "SMI", 0x63: "INIT", 0x64: "VINTR", 0x6E: "RDTSC",
    0x6F: "RDPMC", 0x72: "CPUID", 0x75: "SWINT", 0x76: "INVD", 0x77: "PAUSE", 0x78: "HLT",
    0x79: "INVLPG", 0x7A: "INVLPGA", 0x7B: "IOIO", 0x7C: "MSR", 0x7D: "TASK_SWITCH",
    0x7F: "SHUTDOWN", 0x80: "VMRUN", 0x81: "VMMCALL", 0x87: "RDTSCP", 0x89: "WBINVD",
    0x8A: "MONITOR", 0x8B: "MWAIT", 0x8D: "XSETBV", 0xA2: "INVPCID", 0x400: "NPF",
    0x401: "AVIC_INCOMPLETE_IPI", 0x402: "AVIC_UNACCELERATED_ACCESS",
}  # fmt: skip
# What KVM hands on to QEMU: KVM_EXIT_* of <linux/kvm.h>, the tracepoint kvm:kvm_userspace_exit.
_QEMU_NAMES = {2: "IO", 5: "HLT", 6: "MMIO", 7: "IRQ_WINDOW_OPEN", 8: "SHUTDOWN", 10: "INTR"}

TO_QEMU = "to QEMU: "


def reason(isa: int, code: int) -> str:
    """The name of an exit reason; a code without one keeps its number."""
    if isa == SVM:
        for base, what in ((0x00, "READ_CR"), (0x10, "WRITE_CR"), (0x20, "READ_DR")):
            if base <= code < base + 16:
                return f"{what}{code - base}"
        if 0x30 <= code < 0x40:
            return f"WRITE_DR{code - 0x30}"
        if 0x40 <= code < 0x60:
            return {14: "EXCP_PF", 6: "EXCP_UD", 7: "EXCP_NM"}.get(
                code - 0x40, f"EXCP_{code - 0x40}"
            )
        return _SVM_NAMES.get(code, f"SVM_{code:#x}")
    return _VMX_NAMES.get(code & 0xFFFF, f"VMX_{code & 0xFFFF}")


def to_qemu(code: int) -> str:
    """The name of a reason to return to QEMU."""
    return TO_QEMU + _QEMU_NAMES.get(code, str(code))


# Hypercalls by number: xen/include/public/xen.h.
_HYPERCALLS = {
    0: "set_trap_table", 1: "mmu_update", 2: "set_gdt", 3: "stack_switch", 4: "set_callbacks",
    5: "fpu_taskswitch", 8: "set_debugreg", 10: "update_descriptor", 12: "memory_op",
    13: "multicall", 14: "update_va_mapping", 15: "set_timer_op", 17: "xen_version",
    18: "console_io", 20: "grant_table_op", 21: "vm_assist", 23: "iret", 24: "vcpu_op",
    25: "set_segment_base", 26: "mmuext_op", 29: "sched_op", 32: "event_channel_op",
    33: "physdev_op", 34: "hvm_op",
}  # fmt: skip

# What goes with one entry into the hypervisor, and is none by itself.
INSIDE = (TO_QEMU, "in multicall", "events received")


def entry(name: str, isa: int) -> str:
    """The name of an entry into Xen, as vbench-probe counts it: hypercalls and a processor's
    reasons have numbers there."""
    kind, _, number = name.rpartition(" ")
    if not number.isdecimal():
        return name
    if kind == "exit":
        return reason(isa, int(number))
    return f"{kind} {_HYPERCALLS.get(int(number), number)}"


_PORT = ("IOIO", "IO_INSTRUCTION")
_MMIO = ("NPF", "EPT_MISCONFIG")


def split(counts: dict[str, float]) -> dict[str, float]:
    """Exits by reason, those for a device told apart by who answered: the kernel or QEMU.

    On processors without nested paging, MMIO leaves as a page fault and stays with those.
    """
    out = {name: n for name, n in counts.items() if not name.startswith(TO_QEMU)}
    answers = (
        (_PORT, "IO", "port I/O in QEMU", "port I/O in kernel"),
        (_MMIO, "MMIO", "MMIO in QEMU", ""),
    )
    for names, answer, qemu, kernel in answers:
        of_qemu = counts.get(TO_QEMU + answer, 0.0)
        for name in names:
            if name in out:
                total = out.pop(name)
                taken = min(total, of_qemu)
                of_qemu -= taken
                out[qemu] = out.get(qemu, 0.0) + taken
                out[kernel or name] = total - taken
    return {name: n for name, n in out.items() if n > 0}
