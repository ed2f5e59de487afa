"""Claims about rings (R1, R2): the privilege level at which each guest's kernel was seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from vbench.model import Technique
from vbench.report.gather import Panel
from vbench.report.verdicts import Basis, Finding, Part, default_variants
from vbench.results.formatting import code

_UNKNOWN = "the privilege level of no such guest's kernel was seen"


# A page is for rings 0 to 2, or for all; only the segment limits of 32-bit code keep ring 1 away
# from the hypervisor's memory (AMD APM volume 2, sections 4.12 and 5.6). Xen's 32-bit PV guests run
# there.
_NO_RING_1 = (
    "not testable on x86-64: paging protects a hypervisor from ring 3 alone, so a kernel without "
    "hardware support runs there; a 32-bit Xen PV kernel, such as Linux before 5.9, could show "
    "ring 1"
)
_USER_RING = 3


def without_hardware(panel: Panel) -> Finding | str:
    """R1: ring 1, for guests whose kernel runs on the CPU without its help: paravirtual ones. Ring
    3 refutes nothing, because x86-64 has no other for them."""
    rings = _rings(panel, Technique.PARA)
    found = _judged(rings, 1)
    if isinstance(found, Finding) and set(rings.values()) == {_USER_RING}:
        return replace(found, untested=_NO_RING_1)
    return found


def with_hardware(panel: Panel) -> Finding | str:
    """R2: ring 0; that the hypervisor is below is what hardware-assisted means."""
    return _judged(_rings(panel, Technique.HARDWARE), 0)


def _rings(panel: Panel, technique: Technique) -> dict[str, int]:
    """Where the kernel of each variant was seen."""
    return {
        launch.variant: launch.attestation.ring
        for launch in panel.launches
        if launch.variant in default_variants(panel, technique)
        and launch.attestation.ring is not None
    }


def _judged(rings: Mapping[str, int], wanted: int) -> Finding | str:
    if not rings:
        return _UNKNOWN
    return Finding(
        tuple(
            Part(ring == wanted, f"ring {ring}: the kernel of {code(variant)}", Basis.SIGHT)
            for variant, ring in rings.items()
        )
    )
