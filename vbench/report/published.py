"""Published figures of real hardware, to compare with. Stated, not measured."""

from __future__ import annotations

from collections.abc import Mapping

from vbench.report.document import Block, Table
from vbench.results.formatting import TIMES, code

TITLE = "VM exits: published figures"
INTRODUCTION = (
    "For orientation, published figures of real hardware: not measured by vbench, and not "
    "comparable with counts of instructions."
)
_FIGURES = (
    ("VM exit for CPUID, cycles", "about 1,000 to 1,100", "KVM mailing list, 2024"),
    ("hypercall, cycles", "1,500 to 1,700", "measured on Skylake and on an i7-3960X"),
    (
        "port I/O handled in user space, µs",
        f"3.79, about 7 {TIMES} CPUID's 0.54",
        "PVM paper, SOSP 2023",
    ),
    ("boot to init, ms", "125", "Firecracker's specification"),
    ("boot to shell, s", "0.5 to 0.9 on KVM", "virtme-ng"),
)

# Cycles of a CPUID exit between which nothing needs explaining: the published figure, with a
# factor of two for older and newer processors and their mitigations.
CPUID_CYCLES = (500.0, 2200.0)
# Far more than the some ten exits of the outer hypervisor that a nested exit makes.
_INTERPRETED_CYCLES = 40_000.0


def figures() -> Table:
    return Table(["On hardware", "Published", "Source"], [list(row) for row in _FIGURES])


def comparison(wall: bool, cpuid: Mapping[str, float], nested: bool) -> list[Block]:
    """Published figures to compare with the measured ones, and
    the likely cause where CPUID is far outside them. `cpuid`: ticks or instructions, by variant."""
    if not wall:
        return []  # instructions are no cycles: nothing to compare
    texts = [
        f"- CPUID in {code(variant)} costs {value:,.0f} cycles, published: {CPUID_CYCLES[0]:,.0f} "
        f"to {CPUID_CYCLES[1]:,.0f} (1,000 to 1,100 within a factor of two). Likely cause: "
        f"{likely_cause(value, nested)}."
        for variant, value in sorted(cpuid.items())
        if not CPUID_CYCLES[0] <= value <= CPUID_CYCLES[1]
    ]
    return [figures(), *(["\n".join(texts)] if texts else [])]


def likely_cause(cycles: float, nested: bool) -> str:
    """Why a CPUID exit may cost so many cycles."""
    if cycles < CPUID_CYCLES[0]:
        return (
            "the instruction did not leave the guest, or the guest's time stamp counter is scaled"
        )
    if cycles > _INTERPRETED_CYCLES:
        return "a KVM that emulates each instruction, or tracing of every exit is on"
    if nested:
        return "the host is itself a virtual machine, so each exit makes several of the outer one"
    return "tracing or a debugger is on, mitigations flush on each entry, or the CPU runs slowly"
