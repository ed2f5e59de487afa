"""Claims about VM exits (E1 to E4, Q3), and what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from vbench.model import Item, Technique
from vbench.records import Cause, DeviceModel
from vbench.report import attribution, exit_counts, exits, reference
from vbench.report.gather import Panel
from vbench.report.reference import DISK_OPERATIONS, MEMORY, NETWORK_OPERATIONS
from vbench.report.verdicts import Basis, Finding, Part, all_hold, default_variants, within
from vbench.results import stats
from vbench.results.formatting import TIMES, code

# E2: "hundreds to thousands of cycles".
EXIT_CYCLES = (100.0, 10_000.0)
# E4: exits are cut if a virtio device causes at most this share of an emulated one's.
CUT = 0.75
THRESHOLDS = (
    f"an event causes a VM exit if at least {exits.PER_EVENT:g} exits per event were counted, and "
    f"causes none if at most {1 - exits.PER_EVENT:.1g} were; hundreds to thousands of cycles are "
    f"{EXIT_CYCLES[0]:g} to {EXIT_CYCLES[1]:,.0f}, by the least and the most of any boot; exits "
    f"are cut if every boot with VirtIO has at most {CUT:.0%} of those of every boot without; "
    "overhead depends on exits if it rises with them (Kendall's rank correlation above 0, "
    f"p < {1 - stats.CONFIDENCE:.2g}, by permuting workloads)"
)

# The kinds of events that E1 names, and whether one that exits is enough: that other ports, or
# other MSRs, cause no exit proves nothing about "port I/O" and "some MSRs".
_KINDS = {"port I/O": True, "MSR": True, "CPUID": False, "interrupt": False}
# Q3
_HYPERCALL = "hypercall"
_TRAPPED = ("CPUID", "MSR", "port I/O")


def triggers(panel: Panel) -> Finding | str:
    counted = {
        variant: [(i, cause) for i, cause in exits.causing(panel, variant) if i.exits]
        for variant in default_variants(panel, Technique.HARDWARE)
    }
    variant = max(counted, key=lambda name: len(counted[name]), default="")
    parts = {kind: _kind(kind, counted.get(variant, [])) for kind in _KINDS}
    if all(part is None for part in parts.values()):
        return "no exits were counted: that needs KVM and root for tracing, or --host testbed"
    out = [part for part in parts.values() if part is not None]
    out[0] = Part(out[0].holds, f"exits per event in {code(variant)}: {out[0].evidence}",
                  Basis.COUNT)  # fmt: skip
    missing = [kind for kind, part in parts.items() if part is None]
    faults = _faults(panel)
    out += faults
    if not any(part.holds is not None for part in faults):
        missing.append("page fault without nested paging")
    if missing:
        out.append(Part(None, f"not measured: {', '.join(missing)}", Basis.COUNT))
    return Finding(tuple(out))


def _kind(kind: str, items: Sequence[tuple[Item, Cause]]) -> Part | None:
    """One kind of trigger; None where it was not counted."""
    found = {cause.event: exits.left(item) for item, cause in items if cause.kind == kind}
    if not found:
        return None
    most = max(found.values())
    # that these ports, or this MSR, cause no exit says nothing of others
    none = not _KINDS[kind] and most <= 1 - exits.PER_EVENT
    holds = True if most >= exits.PER_EVENT else False if none else None
    texts = (f"{event} {count:.2f}" for event, count in found.items())
    return Part(holds, "; ".join(texts), Basis.COUNT)


def _faults(panel: Panel) -> list[Part]:
    """Exits of a page fault, with nested paging, for comparison, and without."""
    out = []
    for variant in panel.variants(Technique.HARDWARE):
        for item in reference.asked(panel, variant, MEMORY):
            if "fault" in item.unit and item.exits:
                all_leave = min(exit_counts.by_boot(item)) >= exits.PER_EVENT
                holds = all_leave if panel.declared(variant).shadow_paging else None
                texts = f"page fault in {code(variant)} {exit_counts.per_unit(item)}"
                # with nested paging it is shown for comparison: a claim about without
                out.append(Part(True if holds is None else holds, texts, Basis.COUNT))
    return out


def exit_cost(panel: Panel) -> Finding | str:
    """Of events that did cause an exit, and for which nothing else comes with the exit."""
    parts = []
    for variant in default_variants(panel, Technique.HARDWARE):
        costs: list[str] = []
        holds: list[bool | None] = []
        for item, cause in exits.causing(panel, variant):
            found = exits.cost(panel, variant, item.workload) if cause.alone else None
            if found is None or found.drowned or exits.left(found.item) < exits.PER_EVENT:
                continue
            rate = found.rate if panel.wall else 1e9
            if rate is None:
                continue
            inside = within(found.low * rate, found.high * rate, EXIT_CYCLES)
            holds.append(inside if found.boots > 1 else None)
            costs.append(f"{cause.event} {found.net * rate:,.0f}")
        if costs:
            parts.append(Part(all_hold(holds), f"{code(variant)}: {', '.join(costs)}"))
    if not parts:
        return "no exit was counted and measured with its control: measure category exit"
    unit = "cycles" if panel.wall else "instructions, in place of cycles"
    last = parts[-1]
    return Finding((*parts[:-1], Part(last.holds, f"{last.evidence} ({unit})")))


def hypercall(panel: Panel) -> Finding | str:
    """Q3: a hypercall against instructions that are trapped and emulated, each by itself."""
    parts = []
    able = (Technique.PARA, Technique.HARDWARE)
    for variant in (each for of in able for each in default_variants(panel, of)):
        causing = exits.causing(panel, variant)
        calls = [item.workload for item, cause in causing if cause.kind == _HYPERCALL]
        call = exits.cost(panel, variant, calls[0]) if calls else None
        if call is None or call.drowned:
            continue
        beside: dict[str, list[str]] = {}
        holds: list[bool | None] = []
        for item, cause in causing:
            other = exits.cost(panel, variant, item.workload) if cause.kind in _TRAPPED else None
            if other is None or other.drowned or exits.left(other.item) < exits.PER_EVENT:
                continue
            cheaper = True if call.high < other.low else False if call.low > other.high else None
            enough = min(call.boots, other.boots) > 1
            how = {True: "less than", False: "more than", None: "about as much as"}[cheaper]
            cost = f"{cause.event} {exits.exact(panel, other.net)}"
            beside.setdefault(how, []).append(cost)
            holds.append(cheaper if enough else None)
        if holds:
            called = f"in {code(variant)} a hypercall ({exits.exact(panel, call.net)}) costs"
            texts = (f"{how} {', '.join(others)}" for how, others in beside.items())
            parts.append(Part(all_hold(holds), f"{called} {'; '.join(texts)}"))
    if not parts:
        return "needs a hypercall and a trapped instruction in one guest: measure category exit"
    return Finding(tuple(parts))


def frequency(panel: Panel) -> Finding | str:
    """Inconclusive unless the correlation is significant: a few workloads prove no absence."""
    found = attribution.worth_explaining(panel)
    dependence = attribution.dependence(panel)
    if not found or dependence is None:
        return "too few overheads with exits that were counted and whose cost is known"
    correlation, workloads = dependence
    middle = statistics.median(one.share(one.predicted) for one in found)
    evidence = (
        f"overhead against exits {TIMES} cost: rank correlation {correlation.tau:.2f} "
        f"(p = {correlation.p:.2g}) over {workloads} workloads; of the {len(found)} overheads that "
        f"are large enough to explain, exits explain {attribution.share(middle)} in the median"
    )
    return Finding((Part(correlation.tau > 0 if correlation.significant else None, evidence),))


def drivers(panel: Panel) -> Finding | str:
    """An emulated and a paravirtual guest of one hypervisor, as their backends declare them."""
    of: dict[tuple[str, str], dict[DeviceModel | None, Item]] = {}
    for variant in panel.variants():
        declared = panel.declared(variant)
        for item in reference.asked(panel, variant, DISK_OPERATIONS, NETWORK_OPERATIONS):
            if item.exits and declared.hypervisor:
                found = of.setdefault((item.workload, declared.hypervisor.name), {})
                found.setdefault(declared.devices, item)
    parts = []
    for (workload, _), by_model in of.items():
        one, other = by_model.get(DeviceModel.EMULATED), by_model.get(DeviceModel.PARAVIRTUAL)
        if one is None or other is None:
            continue
        emulated, virtio = exit_counts.by_boot(one), exit_counts.by_boot(other)
        if min(emulated) <= 0:
            continue
        cut = max(virtio) <= CUT * min(emulated)
        not_cut = min(virtio) > CUT * max(emulated)
        holds = True if cut else False if not_cut else None
        enough = min(len(emulated), len(virtio)) > 1
        texts = (
            f"{workload} {exit_counts.per_unit(one)} → {exit_counts.per_unit(other)} "
            f"per {one.unit}" + ("" if enough else ", counted once")
        )
        parts.append(Part(holds if enough else None, texts, Basis.COUNT))
    if not parts:
        return "needs exits counted with emulated and with paravirtual devices under one hypervisor"
    first = parts[0]
    head = Part(first.holds, f"exits, emulated → VirtIO: {first.evidence}", first.basis)
    return Finding((head, *parts[1:]))
