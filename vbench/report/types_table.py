"""Type 1 against type 2 on the first screen: the introduction's second table, in short."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from vbench.model import Technique
from vbench.records import HypervisorType, Place
from vbench.report import hypervisors
from vbench.report.choice import COUNTED, Choice
from vbench.report.document import Table
from vbench.report.gather import Gathered, Panel
from vbench.report.hypervisors import COLUMNS, Measured
from vbench.results.formatting import NOTHING, code, number, plain

_NOT_MEASURED = "not measured"
# What the introduction states of each type.
_INSTALLED = ("directly on hardware", "a module makes Linux the hypervisor", "on top of a host OS")
_USE = ("servers, cloud (stated)", "servers, cloud (stated)", "development, testing (stated)")
_PRODUCTS = ("ESXi, Hyper-V, Xen", "KVM", "VirtualBox, VMware Workstation and Fusion, Parallels")
_PLACES = {
    Place.BENEATH: "beneath the host's kernel",
    Place.MODULE: "a module of it",
    Place.PROCESS: "a process",
}


def table(gathered: Gathered) -> Table:
    """Five rows as the introduction has them; its hybrid between its two types."""
    everybody = hypervisors.measured(gathered.panels)
    found = [[each for each in everybody if each.kind.type is of] for of in COLUMNS]
    common = hypervisors.common_panel(gathered.panels)
    standing = [_standing(common, of) for of in found]
    timed = any(each.first_command() for of in standing for each in of)
    management = "Management complexity, packages / MiB"
    if timed:
        management += " / s to first command"
    rows = (
        ("Installation", [_installation(s, of) for s, of in zip(_INSTALLED, found, strict=True)]),
        ("Performance", [_performance(common, of) for of in standing]),
        ("Primary use", list(_USE)),
        (management, [_management(of, timed) for of in standing]),
        ("Key products", [_products(s, of) for s, of in zip(_PRODUCTS, found, strict=True)]),
    )
    headings = ["Criterion", "Type 1", "Hybrid", "Type 2"]
    return Table(headings, [[f"**{name}**", *cells] for name, cells in rows])


def _installation(stated: str, found: Sequence[Measured]) -> str:
    """What is stated of the type; where each hypervisor was seen."""
    observed: dict[str, list[str]] = {}
    for each in found:
        if each.place is not None:
            text = f"module {code(each.module)}" if each.module else _PLACES[each.place]
            observed.setdefault(text, []).append(plain(each.kind.name))
    places = (f"{', '.join(names)}: {text}" for text, names in observed.items())
    return "; ".join([stated, *places])


def _standing(common: Panel | None, found: Sequence[Measured]) -> Sequence[Measured]:
    """The one hypervisor whose figures stand for its type, so that a cell is a short line:
    hardware-assisted before others, what ran before what did not. The chapter has all."""

    def rank(each: Measured) -> tuple[bool, bool, bool]:
        choice = (common and each.best(common)) or each.best()
        other = choice is None or choice.technique is not Technique.HARDWARE
        return choice is None, other, not each.ran

    return sorted(found, key=rank)[:1]


def _performance(common: Panel | None, found: Sequence[Measured]) -> str:
    """On the machine that most were measured on, else wherever one was."""
    chosen = [(e, c) for e in found if (c := (common and e.best(common)) or e.best()) is not None]
    chosen.sort(key=lambda pair: pair[1].technique is not Technique.HARDWARE)
    texts = [f"{plain(e.kind.name)}{hypervisors.how(c)} {_overheads(c)}" for e, c in chosen]
    return "; ".join(texts) or _NOT_MEASURED


def _overheads(choice: Choice) -> str:
    texts = choice.overheads()
    return texts if choice.panel.wall else f"{texts} {COUNTED}"


def _management(found: Sequence[Measured], timed: bool) -> str:
    texts = [text for each in found if (text := _effort(each, timed))]
    return "; ".join(texts) or _NOT_MEASURED


def _effort(each: Measured, timed: bool) -> str:
    """Packages, their MiB, and if it was `timed` anywhere, how soon a first command ran by the
    clock; a reboot where it takes one."""
    counted, first = each.installation, each.first_command()
    packages = counted.packages if counted is not None else None
    size = counted.disk_mib if counted is not None else None
    figures = (packages, size, None if first is None else statistics.median(first[1]))
    if all(value is None for value in figures):
        return ""
    shown = figures if timed else figures[:2]
    texts = [NOTHING if value is None else number(value) for value in shown]
    texts[0] = NOTHING if packages is None else str(packages)
    reboot = ", a reboot" if each.place is Place.BENEATH else ""
    return f"{plain(each.kind.name)} {' / '.join(texts)}{reboot}"


def _products(stated: str, found: Sequence[Measured]) -> str:
    here = ", ".join(plain(each.kind.name) for each in found if each.ran) or "none"
    return f"{stated}; measured here: {here}"


def type_name(of: HypervisorType) -> str:
    """The type in a sentence."""
    names = {HypervisorType.HYBRID: "hybrid", HypervisorType.UNKNOWN: "of a type unknown"}
    return names.get(of, f"type {of.value}")
