"""Paravirtual guests: which of them call their hypervisor, and the claim about them (T2)."""

from __future__ import annotations

from collections.abc import Sequence

from vbench.model import Technique
from vbench.report import reference
from vbench.report.gather import Panel
from vbench.report.reference import COMPUTING, MEMORY, SYSTEM_CALLS, ReferenceSet
from vbench.report.verdicts import Basis, Finding, Part, all_hold, below, default_variants, ordered
from vbench.results import significance
from vbench.results.formatting import code, number, plain

_HYPERCALLS_PER_CALL = 0.9  # exits.PER_EVENT: so many per system call are "uses hypercalls"
_NO_TRANSLATION = (
    "whether it is cheaper needs a translated guest beside it, on one machine by one clock; none "
    "was measured here"
)


def claim(panel: Panel) -> Finding | str:
    """T2: the guest knows its hypervisor, calls it, and is cheaper than translation. Judged on the
    guests that do call; what others cost stands beside."""
    para = default_variants(panel, Technique.PARA)
    if not para:
        return "no paravirtual guest was measured: run on a Xen dom0, or with --host testbed"
    callers = [variant for variant in para if calls(panel, variant)]
    judged = callers or para
    others = [variant for variant in para if variant not in judged]
    costs = _costs(panel, judged) or [Part(None, _NO_TRANSLATION + _how(panel))]
    beside = "; ".join(part.evidence for part in _costs(panel, others))
    return Finding(
        (_knows(panel, judged), _calls(panel, judged), *costs),
        beside=f"beside, without hypercalls: {beside}" if beside else "",
    )


def _how(panel: Panel) -> str:
    """What would measure a translated guest here, where something refused to."""
    of = (each.remedy for each in panel.unavailable if each.technique == Technique.FULL.value)
    remedy = next(filter(None, of), "")
    return f" ({code(remedy)} measures one)" if remedy.startswith("vbench ") else ""


def typical(panel: Panel) -> bool:
    """Whether a guest here calls its hypervisor, as paravirtual guests do."""
    return any(calls(panel, variant) for variant in panel.variants(Technique.PARA))


def calls(panel: Panel, variant: str) -> bool:
    """Whether a guest was seen to call its hypervisor: by a count of its hypercalls or, where
    nobody counted, by the interface that its kernel reports."""
    counted = _calls(panel, [variant]).holds
    return bool(_knows(panel, [variant]).holds) if counted is None else counted


def _costs(panel: Panel, para: Sequence[str]) -> list[Part]:
    """Against translation, apart for each kind of work: a mean over both could hide that one of
    them is the dearer."""
    full = default_variants(panel, Technique.FULL)
    return [part for of in (COMPUTING, SYSTEM_CALLS) for part in _cheaper(panel, para, full, of)]


def _cheaper(
    panel: Panel, para: Sequence[str], full: Sequence[str], of: ReferenceSet
) -> list[Part]:
    """Whether each paravirtual variant costs less than each translated one at one kind of work."""
    orders = [
        (a, b, order)
        for a in para
        for b in full
        if (
            order := significance.ordering(
                reference.measured(panel, a, of), reference.measured(panel, b, of)
            )
        )
        is not None
    ]
    texts = "; ".join(
        f"overhead of {code(a)} is {ordered(o)} times that of {code(b)} ({_boots(o)})"
        for a, b, o in orders
    )
    if not orders:
        return []
    return [Part(all_hold([below(o) for *_, o in orders]), f"{of.title}: {texts}")]


def _boots(order: significance.Ordering) -> str:
    return "one boot is not enough" if order.boots < 2 else f"{order.boots} boots or more"


def _knows(panel: Panel, variants: Sequence[str]) -> Part:
    """By the interface that the kernel reports; one that reports none may still be a port."""
    texts: list[str] = []
    holds: list[bool | None] = []
    for variant in variants:
        launch = panel.launch(variant)
        if launch is not None:
            interface = launch.observed.hypervisor
            holds.append(True if interface else None)
            texts.append(f"the kernel of {code(variant)} reports {plain(interface or 'nothing')}")
    return Part(all_hold(holds), "; ".join(texts) or "no launch is recorded", Basis.SIGHT)


def _calls(panel: Panel, variants: Sequence[str]) -> Part:
    """Hypercalls per unit of work of the reference workloads."""
    texts: list[str] = []
    most: list[float] = []
    for variant in variants:
        for item in reference.measured(panel, variant, SYSTEM_CALLS, MEMORY):
            if item.exits:
                count = sum(n for name, n in item.exits.items() if name.startswith("hypercall"))
                most.append(count)
                texts.append(f"{item.workload} {number(count)} per {item.unit}")
    if not most:
        return Part(None, "hypercalls were not counted", Basis.COUNT)
    return Part(max(most) >= _HYPERCALLS_PER_CALL, f"hypercalls: {', '.join(texts)}", Basis.COUNT)
