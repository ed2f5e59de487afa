"""Claims about rings (R1, R2): the privilege level at which each guest's kernel was seen."""

from __future__ import annotations

from vbench.model import Technique
from vbench.report.gather import Panel
from vbench.report.verdicts import Basis, Finding, Part, default_variants
from vbench.results.formatting import code

_UNKNOWN = "the privilege level of no such guest's kernel was seen"


def without_hardware(panel: Panel) -> Finding | str:
    """R1: ring 1, for guests whose kernel runs on the CPU without its help: paravirtual ones."""
    return _judged(panel, Technique.PARA, 1)


def with_hardware(panel: Panel) -> Finding | str:
    """R2: ring 0; that the hypervisor is below is what hardware-assisted means."""
    return _judged(panel, Technique.HARDWARE, 0)


def _judged(panel: Panel, technique: Technique, wanted: int) -> Finding | str:
    rings = {
        launch.variant: launch.attestation.ring
        for launch in panel.launches
        if launch.variant in default_variants(panel, technique)
        and launch.attestation.ring is not None
    }
    if not rings:
        return _UNKNOWN
    return Finding(
        tuple(
            Part(ring == wanted, f"ring {ring}: the kernel of {code(variant)}", Basis.SIGHT)
            for variant, ring in rings.items()
        )
    )
