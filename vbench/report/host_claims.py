"""Claims about hosts: hands-on checks (D1 to D3)."""

from __future__ import annotations

from vbench.model import Technique
from vbench.report.gather import Panel
from vbench.report.technique_claims import module_launches, no_guest
from vbench.report.verdicts import Basis, Finding, Part
from vbench.results.formatting import code, plain


def cpu_flag(panel: Panel) -> Finding | str:
    """D1, as /proc/cpuinfo showed it."""
    flag = panel.host.facts.get("virtualization_flag", "")
    if flag in ("", "unknown"):
        return "the flags of this host's CPU are not in the results; measure again"
    texts = "neither vmx nor svm" if flag == "none" else code(flag)
    return Finding((Part(flag != "none", f"/proc/cpuinfo shows {texts}", Basis.SIGHT),))


def modules(panel: Panel) -> Finding | str:
    """D2, as /sys/module showed them before the run or a hardware-assisted guest's launch."""
    loaded = panel.host.facts.get("kvm_modules", "")
    providers = sorted({x.attestation.module for x in module_launches(panel)})
    if providers:
        texts = ", ".join(map(code, providers))
        return Finding((Part(True, f"{texts} behind /dev/kvm when guests ran", Basis.SIGHT),))
    if not loaded:
        return "the host's modules are not in the results; measure again"
    holds = loaded != "none"
    texts = code(loaded) if holds else "no module of KVM"
    return Finding((Part(holds, f"/sys/module shows {texts}", Basis.SIGHT),))


def created(panel: Panel) -> Finding | str:
    """D3: guests that booted; or what stood against it."""
    count = {
        variant: sum(launch.variant == variant for launch in panel.launches)
        for variant in panel.variants(Technique.HARDWARE)
    }
    if any(count.values()):
        texts = ", ".join(f"{code(variant)} {n}" for variant, n in count.items() if n)
        return Finding((Part(True, f"hardware-assisted guests booted: {texts}", Basis.SIGHT),))
    why = no_guest(panel)
    refused = [e for e in panel.unavailable if e.technique == Technique.HARDWARE.value]
    return (
        Finding((Part(False, plain(why) if not refused else why, Basis.SIGHT),)) if refused else why
    )
