"""Claims about the three techniques (T1 to T5), each judged in all its parts."""

from __future__ import annotations

from collections.abc import Sequence

from vbench.model import Item, Launch, Technique
from vbench.records import HypervisorType
from vbench.report import cells, reference
from vbench.report.gather import Panel
from vbench.report.reference import COMPUTING, MEMORY
from vbench.report.verdicts import (
    Basis,
    Finding,
    Part,
    above,
    all_hold,
    below,
    default_variants,
    near_native,
    ordered,
)
from vbench.results import significance, stats
from vbench.results.formatting import code, duration, interval, plain, times

# Modules behind /dev/kvm that let guest instructions run on the CPU itself.
_HARDWARE_KVM = ("kvm_intel", "kvm_amd")
# What a launch's evidence holds for each interface that a guest's kernel found.
_NO_INTERFACE = ("", "none detected")


def means(panel: Panel, technique: Technique) -> list[tuple[str, stats.GeometricMean]]:
    """Mean overhead of computing of each variant, over the reference workloads."""
    found = [
        (variant, stats.geometric_mean(reference.measured(panel, variant, COMPUTING)))
        for variant in default_variants(panel, technique)
    ]
    return [(variant, mean) for variant, mean in found if mean is not None]


def _shown(found: Sequence[tuple[str, stats.GeometricMean]]) -> str:
    return "computing: " + "; ".join(
        f"{code(v)} {times(m.overhead.ratio)} {interval(m.overhead)}" for v, m in found
    )


def translation(panel: Panel) -> Finding | str:
    """T1: the guest is unmodified, and pays for it."""
    found = means(panel, Technique.FULL)
    if not found:
        return "no computing was measured under binary translation: measure category cpu"
    costs = Part(all_hold([above(m.overhead, stats.MEDIUM_MAX) for _, m in found]), _shown(found))
    unaware: list[str] = []
    knowing: list[str] = []
    for variant, _ in found:
        launch = panel.launch(variant)
        interface = launch.observed.hypervisor if launch else None
        if interface is not None:
            (unaware if interface in _NO_INTERFACE else knowing).append(code(variant))
    texts = (
        f"its kernel detected no hypervisor interface in {', '.join(unaware)}" if unaware else ""
    )
    if knowing:
        texts = f"its kernel uses a hypervisor's interface in {', '.join(knowing)}"
    holds = False if knowing else True if unaware else None
    return Finding((Part(holds, texts or "what the guest detected is not recorded", Basis.SIGHT),
                    costs))  # fmt: skip


def hardware(panel: Panel) -> Finding | str:
    """T3: near-native computing, by an equivalence test."""
    found = means(panel, Technique.HARDWARE)
    if not found:
        return (
            "no computing was measured in a hardware-assisted guest: run on a host with KVM, or "
            "with --host testbed"
        )
    return Finding((_near(found),))


def _near(found: Sequence[tuple[str, stats.GeometricMean]]) -> Part:
    """Whether all compute at nearly native speed, of those with more than one boot."""
    single = [variant for variant, mean in found if mean.overhead.boots < 2]
    repeated = [mean.overhead for variant, mean in found if variant not in single]
    holds = all_hold(list(map(near_native, repeated)))
    notes = []
    if single:
        notes.append(f"not judged, because of one boot: {', '.join(map(code, single))}")
    if holds is None and any(value.boots < stats.MIN_BOOTS for value in repeated):
        notes.append("too few boots to tell")
    return Part(holds, _shown(found) + (f" ({'; '.join(notes)})" if notes else ""))


def nested_paging(panel: Panel) -> Finding | str:
    """T4: the same hypervisor with nested paging and without. One boot decides nothing, nor does it
    keep those of more boots from deciding."""
    repeated: list[Part] = []
    single: list[Part] = []
    for variant in panel.variants(Technique.HARDWARE):
        if not panel.declared(variant).shadow_paging:
            continue
        with_it = panel.declared(variant).contrast_to
        order = significance.ordering(_memory(panel, with_it), _memory(panel, variant))
        if order is not None:
            texts = (
                f"memory workloads ({', '.join(order.workloads)}), nested paging / shadow paging: "
                f"{ordered(order)}{_fault_costs(panel, with_it, variant)}"
            )
            if order.boots > 1:
                repeated.append(Part(below(order), texts))
            else:
                single.append(Part(None, f"{texts} (not judged, because of one boot)"))
    if not repeated:
        return Finding(tuple(single)) if single else (
            "needs one variant with shadow paging and with nested paging"
        )  # fmt: skip
    return Finding(tuple(repeated), "; ".join(part.evidence for part in single))


def _memory(panel: Panel, variant: str) -> list[Item]:
    """Memory workloads that can tell the two apart: loads cost no instruction more or less."""
    found = reference.measured(panel, variant, MEMORY)
    return [item for item in found if panel.wall or "fault" in item.unit]


def _fault_costs(panel: Panel, with_it: str, without: str) -> str:
    texts = []
    for variant in (with_it, without):
        for item in reference.asked(panel, variant, MEMORY):
            guest = cells.guest_s(item)
            if "fault" in item.unit and guest is not None:
                texts.append(f"{duration(guest, panel.host.time_base)} in {code(variant)}")
    return f"; one page fault {', '.join(texts)}" if texts else ""


def kernel_module(panel: Panel) -> Finding | str:
    """T5: a module, QEMU's devices, and guest instructions that run on the CPU itself."""
    launches = module_launches(panel)
    if not launches:
        return no_guest(panel)
    first = launches[0]
    provider = first.attestation.module
    devices = Part(
        "qemu" in first.versions,
        f"devices by QEMU {plain(first.versions['qemu'])} ({plain(first.attestation.summary)})"
        if "qemu" in first.versions
        else "no QEMU among the versions",
        Basis.SIGHT,
    )
    variants = {launch.variant for launch in launches}
    found = [(v, m) for v, m in means(panel, Technique.HARDWARE) if v in variants]
    speed = _near(found) if found else Part(None, "whether computing is near native: not measured")
    return Finding(
        (
            Part(
                provider in _HARDWARE_KVM,
                f"module {code(provider)} attested in {code(first.variant)}",
                Basis.SIGHT,
            ),
            devices,
            speed,
        )
    )


def module_launches(panel: Panel) -> list[Launch]:
    """Launches under a module of Linux that makes it the hypervisor. A type 2 hypervisor may have a
    module of its own in the host's kernel, too."""
    kinds = {variant: declared.hypervisor for variant, declared in panel.declarations.items()}
    second = {v for v, kind in kinds.items() if kind and kind.type is HypervisorType.TWO}
    return [x for x in panel.launches if x.attestation.module and x.variant not in second]


def no_guest(panel: Panel) -> str:
    """Why no hardware-assisted guest ran, where a backend gave a reason."""
    reasons = [
        entry.reason for entry in panel.unavailable if entry.technique == Technique.HARDWARE.value
    ]
    return "no hardware-assisted guest ran" + (f": {plain(reasons[0])}" if reasons else "")
