"""Type 1 against type 2: the introduction's second table, and its claims (H1 to H3, Q1, Q2)."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from vbench.model import Technique
from vbench.records import HypervisorType
from vbench.report import reference
from vbench.report.choice import COUNTED, CPU, Choice, choose
from vbench.report.document import Table
from vbench.report.gather import Gathered, Panel
from vbench.report.overview import BOOT_PHASES, boot_times
from vbench.report.reference import COMPUTING
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
from vbench.results.formatting import code, interval, number, plain, times

# What the introduction names of each type; KVM is a hybrid that it counts among type 1.
_FIRST = (HypervisorType.ONE, HypervisorType.HYBRID)
_SECOND = (HypervisorType.TWO,)
_PRODUCTS = {
    _FIRST: "ESXi, Hyper-V, KVM, Xen",
    _SECOND: "VirtualBox, VMware Workstation, Parallels",
}
_INSTALLED = {_FIRST: "directly on hardware", _SECOND: "on top of a host OS"}
_USE = {_FIRST: "servers, cloud (stated)", _SECOND: "development, testing (stated)"}
_NOT_MEASURED = "not measured"
# A type is not to blame for its technique, so one that is not hardware-assisted is named.
_HOW = {
    Technique.FULL: ", translating",
    Technique.PARA: ", paravirtual",
    Technique.HARDWARE: "",
}


def table(gathered: Gathered) -> Table:
    """The introduction's table of the two types, as it has it: five rows, two columns."""
    types = (_FIRST, _SECOND)
    found = {of: _measured(gathered.panels, of) for of in types}
    rows = (
        ("Installation", [_installation(of, found[of]) for of in types]),
        ("Performance", [_performance(found[of]) for of in types]),
        ("Primary use", [_USE[of] for of in types]),
        ("Management complexity", [_management(found[of]) for of in types]),
        ("Key products", [_products(of, found[of]) for of in types]),
    )
    return Table(["Criterion", "Type 1", "Type 2"], [[f"**{name}**", *c] for name, c in rows])


def _measured(panels: Iterable[Panel], of: Sequence[HypervisorType]) -> dict[str, Choice]:
    """By the name of each hypervisor of these types: the variant that stands for it."""
    panels = tuple(panels)
    names = {
        (kind.type is HypervisorType.HYBRID, kind.name)
        for panel in panels
        for variant in panel.variants()
        if (kind := panel.declared(variant).hypervisor) is not None and kind.type in of
    }
    out = {}
    for _, name in sorted(names):
        choice = choose(panels, None, CPU, hypervisor=name)
        if choice is not None:
            out[name] = choice
    return out


def _installation(of: tuple[HypervisorType, ...], found: dict[str, Choice]) -> str:
    """What is stated of the type; what was attested of the hypervisors measured."""
    texts = []
    for name, choice in found.items():
        kind = choice.panel.declared(choice.variant).hypervisor
        hybrid = kind is not None and kind.type is HypervisorType.HYBRID
        launch = choice.launch
        if hybrid and launch is not None and launch.attestation.module:
            texts.append(f"{plain(name)}: module {code(launch.attestation.module)} of Linux")
    return "; ".join([_INSTALLED[of], *texts])


def _performance(found: dict[str, Choice]) -> str:
    texts = [f"{plain(n)}{_HOW[c.technique]} {_overheads(c)}" for n, c in found.items()]
    return "; ".join(texts) or _NOT_MEASURED


def _management(found: dict[str, Choice]) -> str:
    """How soon a first command ran, where that was timed; packages are not counted."""
    for choice in found.values():
        seconds = boot_times(choice.panel, choice.variant, BOOT_PHASES[0])
        if choice.panel.wall and seconds:
            after = number(statistics.median(seconds))
            return f"first command {after} s after launch {code(choice.variant)}; rest not measured"
    return _NOT_MEASURED


def _overheads(choice: Choice) -> str:
    texts = choice.overheads()
    return texts if choice.panel.wall else f"{texts} {COUNTED}"


def _products(of: tuple[HypervisorType, ...], found: dict[str, Choice]) -> str:
    here = ", ".join(map(plain, found)) or "none"
    return f"{_PRODUCTS[of]}; measured: {here}"


# ---------------------------------------------------------------- claims


def _variants(panel: Panel, *of: HypervisorType) -> list[tuple[Technique, str]]:
    return [
        (technique, variant)
        for technique in Technique
        for variant in default_variants(panel, technique)
        if (kind := panel.declared(variant).hypervisor) is not None and kind.type in of
    ]


def _orders(
    panel: Panel, one: HypervisorType, other: HypervisorType
) -> list[tuple[str, str, significance.Ordering]]:
    """Overhead of computing, memory and system calls under hypervisors of two types, where both
    use one technique: else the techniques would be compared."""
    return [
        (a, b, order)
        for of, a in _variants(panel, one)
        for technique, b in _variants(panel, other)
        if of is technique
        and (
            order := significance.ordering(
                reference.measured(panel, a, *CPU), reference.measured(panel, b, *CPU)
            )
        )
        is not None
    ]


def lower_overhead(panel: Panel) -> Finding | str:
    """Q1: type 1 against type 2."""
    found = _orders(panel, HypervisorType.ONE, HypervisorType.TWO)
    if not found:
        return "needs guests of both types by one technique on one machine"
    texts = (f"overhead of {code(a)} is {ordered(o)} times that of {code(b)}" for a, b, o in found)
    return Finding((Part(all_hold([below(o) for *_, o in found]), "; ".join(texts)),))


def both_types(panel: Panel) -> Finding | str:
    """Q2: KVM is as fast as type 1; its convenience is not measured."""
    found = _orders(panel, HypervisorType.HYBRID, HypervisorType.ONE)
    if not found:
        return "needs KVM and a type 1 hypervisor by one technique on one machine"
    holds = [_no_slower(order) for *_, order in found]
    texts = (f"overhead of {code(a)} is {ordered(o)} times that of {code(b)}" for a, b, o in found)
    return Finding(
        (
            Part(all_hold(holds), "; ".join(texts)),
            Part(None, "what it takes to install and to manage is not measured"),
        )
    )


def _no_slower(order: significance.Ordering) -> bool | None:
    """Within LOW_MAX of the other, by the interval over boots."""
    if order.low is None or order.high is None or order.boots < 2:
        return None
    return True if order.high <= stats.LOW_MAX else False if order.low > stats.LOW_MAX else None


def _computing(panel: Panel, *of: HypervisorType) -> list[tuple[str, stats.Overhead]]:
    return [
        (variant, value)
        for _, variant in _variants(panel, *of)
        if (value := Choice(panel, variant).mean(COMPUTING)) is not None
    ]


def _shown(found: Iterable[tuple[str, stats.Overhead]]) -> str:
    texts = (f"{code(v)} {times(value.ratio)} {interval(value)}" for v, value in found)
    return f"computing: {'; '.join(texts)}"


def first_is_fast(panel: Panel) -> Finding | str:
    """H1, of those that were measured: computing is near native."""
    found = _computing(panel, *_FIRST)
    if not found:
        return "no guest of a type 1 hypervisor was measured"
    return Finding((Part(all_hold([near_native(value) for _, value in found]), _shown(found)),))


def second_is_medium(panel: Panel) -> Finding | str:
    """H2, of hypervisors like those that it names: hardware-assisted ones of type 2."""
    assisted = default_variants(panel, Technique.HARDWARE)
    found = [(v, value) for v, value in _computing(panel, *_SECOND) if v in assisted]
    if not found:
        return "no hardware-assisted guest of a type 2 hypervisor was measured"
    medium = [_medium(value) for _, value in found]
    return Finding((Part(all_hold(medium), _shown(found)),))


def _medium(value: stats.Overhead) -> bool | None:
    lower, upper = above(value, stats.LOW_MAX), above(value, stats.MEDIUM_MAX)
    if lower is None or upper is None:
        return None
    return lower and not upper


def hybrid(panel: Panel) -> Finding | str:
    """H3: a module makes Linux the hypervisor (type 1), and a guest is a process (type 2)."""
    for _, variant in _variants(panel, HypervisorType.HYBRID):
        launch = Choice(panel, variant).launch
        if launch is not None and launch.attestation.module and launch.argv:
            module = f"module {code(launch.attestation.module)} of the host's kernel"
            process = f"the guest of {code(variant)} is a process: {code(launch.argv[0])}"
            return Finding((Part(True, module, Basis.SIGHT), Part(True, process, Basis.SIGHT)))
    return "no guest of a hybrid hypervisor ran"
