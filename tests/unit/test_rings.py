"""The privilege level of a guest's kernel, as QEMU and Xen tell it."""

from __future__ import annotations

import pytest

from vbench.hypervisors.qemu.machine import ring_of as of_qemu
from vbench.hypervisors.xen.dom0 import ring_of as of_xen

QEMU = """RAX=ffffffff81a3f0b0 RBX=0000000000000000
RIP={rip} RFL=00000246 [---Z-P-] CPL={cpl} II=0 A20=1 SMM=0 HLT=1
CS =0010 0000000000000000 ffffffff 00af9b00 DPL=0 CS64 [-RA]
"""
XEN = """rip: {rip}
flags: 00000246 i z p
rsp: ffffffff82603e88
rax: 0000000000000000	rcx: ffffffff810013aa
 cs: {cs}	 ss: e02b	 ds: 0000	 es: 0000
"""


@pytest.mark.parametrize(
    ("rip", "cpl", "ring"),
    [("ffffffff81a3f0bb", 0, 0), ("ffff800000000000", 3, 3), ("00007f12a3b4c5d6", 3, None),
     ("00000000000fff53", 0, None)],
)  # fmt: skip
def test_qemu_s_registers(rip: str, cpl: int, ring: int | None) -> None:
    assert of_qemu(QEMU.format(rip=rip, cpl=cpl)) == ring
    assert of_qemu("") is None


@pytest.mark.parametrize(
    ("rip", "cs", "ring"),
    [("ffffffff810013aa", "e033", 3), ("ffffffff810013aa", "0010", 0),
     ("00007f12a3b4c5d6", "e033", None)],
)  # fmt: skip
def test_xen_s_context(rip: str, cs: str, ring: int | None) -> None:
    assert of_xen(XEN.format(rip=rip, cs=cs)) == ring
    assert of_xen("xenctx: not found") is None
