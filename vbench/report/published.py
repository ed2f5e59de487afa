"""Published figures of real hardware, to stand beside instruction counts. Stated, not measured."""

from __future__ import annotations

from vbench.text import TIMES, table

_FIGURES = (
    ("VM exit for CPUID", "about 1,000 to 1,100 cycles", "KVM mailing list, 2024"),
    ("hypercall", "1,500 to 1,700 cycles", "measured on Skylake and on an i7-3960X"),
    (
        "port I/O handled in user space",
        f"3.79 µs, about 7 {TIMES} CPUID's 0.54 µs",
        "PVM paper, SOSP 2023",
    ),
    ("boot to init", "125 ms", "Firecracker's specification"),
    ("boot to shell", "0.5 to 0.9 s on KVM", "virtme-ng"),
)


def figures() -> str:
    return table(["On hardware", "Published", "Source"], [list(row) for row in _FIGURES])
