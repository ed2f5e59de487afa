"""Type 1 against type 2 on the first screen: the introduction's second table, in short."""

from __future__ import annotations

from collections.abc import Sequence

from vbench.model import HostKind, Technique
from vbench.records import HypervisorType, Place
from vbench.report import absolute, hypervisors
from vbench.report.choice import COUNTED, CPU, Choice, choose
from vbench.report.document import Table
from vbench.report.gather import Gathered, Panel
from vbench.report.hypervisors import COLUMNS, FirstCommand, Measured
from vbench.results.formatting import NOTHING, code, number, plain

_NOT_MEASURED = "not measured"
_COSTS = "Performance: computing / memory / system calls, guest ÷ native"
_MANAGEMENT = (
    "Management complexity: packages / MiB / s from launch to first command; what it takes"
)
# What the introduction states of each type.
_INSTALLED = ("directly on hardware", "a module makes Linux the hypervisor", "on top of a host OS")
_USE = ("servers, cloud (stated)", "servers, cloud (stated)", "development, testing (stated)")
_PRODUCTS = ("ESXi, Hyper-V, Xen", "KVM", "VirtualBox, VMware Workstation and Fusion, Parallels")
# The introduction names KVM twice. Said once below the table, and of each claim where it matters.
HYBRID = (
    "The introduction calls KVM a hybrid (H3) and also names it among type 1 (H1). Here it has the "
    "column of the hybrid; the claims H1 and Q1 count it as type 1."
)
# Where several ways to start a guest stand beside each other.
_STARTS = (
    "In brackets behind the seconds: how the guest was started, where that was recorded. Compare "
    "like starts: by BIOS or firmware a guest takes seconds before its kernel starts."
)
_PLACES = {
    Place.BENEATH: "beneath the host's kernel",
    Place.MODULE: "a module of it",
    Place.PROCESS: "a process",
}


def table(gathered: Gathered) -> Table:
    """Five rows as the introduction has them; its hybrid between its two types."""
    everybody = sorted(hypervisors.measured(gathered.panels), key=_assisted_first)
    found = [[each for each in everybody if each.kind.type is of] for of in COLUMNS]
    common = hypervisors.common_panel(gathered.panels)
    rows = (
        ("Installation", [_installation(s, of) for s, of in zip(_INSTALLED, found, strict=True)]),
        (_COSTS, [_performance(common, of) for of in found]),
        ("Primary use", list(_USE)),
        (_MANAGEMENT, [_management(gathered, of) for of in found]),
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


def _assisted_first(each: Measured) -> bool:
    """Hardware-assisted before others, what ran before what did not."""
    choice = each.best()
    return not each.ran or choice is None or choice.technique is not Technique.HARDWARE


def starts(gathered: Gathered) -> str:
    """What is in brackets behind the seconds, where there is anything."""
    everybody = hypervisors.measured(gathered.panels)
    timed = (
        one for e in everybody for wall in (True, False) for one in e.first_commands(wall=wall)
    )
    return _STARTS if any(one.start for one in timed) else ""


def _performance(common: Panel | None, found: Sequence[Measured]) -> str:
    """Of each on the machine that most were measured on, else wherever one was."""
    chosen = [(e, c) for e in found for c in _by_technique(common, e)]
    texts = [f"{plain(e.kind.name)}{hypervisors.how(c)} {_overheads(c)}" for e, c in chosen]
    measured = {each.kind.name for each, _ in chosen}
    texts += [
        f"{plain(each.kind.name)} {absolute.NO_REFERENCE}"
        for each in found
        if each.kind.name not in measured
        and any(absolute.alone(choice.panel, choice.variant) for choice in each.of)
    ]
    return "<br>".join(texts) or _NOT_MEASURED


def _by_technique(common: Panel | None, each: Measured) -> list[Choice]:
    """What stands for a hypervisor by each of its techniques, hardware-assisted first."""
    elsewhere = list({c.panel.number: c.panel for c in each.of}.values())
    found = []
    for technique in reversed(Technique):
        places = ([common] if common else [], elsewhere)
        of = (choose(panels, technique, CPU, hypervisor=each.kind.name) for panels in places)
        found += list(filter(None, of))[:1]
    return found


def _overheads(choice: Choice) -> str:
    texts = choice.overheads()
    return texts if choice.panel.wall else f"{texts} {COUNTED}"


def _management(gathered: Gathered, found: Sequence[Measured]) -> str:
    texts = (_effort(each, _access(gathered, each)) for each in found)
    return "<br>".join(filter(None, texts)) or _NOT_MEASURED


def _access(gathered: Gathered, each: Measured) -> str:
    """Who may launch it: as seen on a machine with a distribution, else as stated of one."""
    seen = next(iter(each.access), None)
    if seen is not None and seen[1].host.kind is not HostKind.TESTBED:
        return plain(seen[0].who)
    stated = hypervisors.stated_access(gathered, each)
    if stated is None:
        return f"{plain(seen[0].who)} in the testbed" if seen is not None else ""
    who = stated["text"].partition(":")[0]
    return plain(who) if seen is not None and seen[0].who == who else f"{plain(who)} (stated)"


def _effort(each: Measured, access: str) -> str:
    """Packages, their MiB and how soon a first command ran, by the clock where it can be; a reboot
    where it takes one, and who may launch guests."""
    counted = each.installation
    packages = counted.packages if counted is not None else None
    size = counted.disk_mib if counted is not None else None
    timed = each.first_commands()
    first = timed or each.first_commands(wall=False)
    if packages is None and size is None and not first:
        return ""
    texts = [
        NOTHING if packages is None else str(packages),
        NOTHING if size is None else number(size),
        _first(first, "" if timed else COUNTED),
    ]
    takes = ["a reboot"] if each.place is Place.BENEATH else []
    takes += [f"launched by {access}"] if access else []
    return ", ".join([f"{plain(each.kind.name)} {' / '.join(texts)}", *takes])


def _first(of: Sequence[FirstCommand], mark: str) -> str:
    """`1.81 (PVH) or 8.65 (firmware)`: seconds by each way to start a guest."""
    texts = (
        f"{number(each.median_s)}{mark}"
        + (f" ({plain(each.start.partition(',')[0])})" if each.start else "")
        for each in of
    )
    return " or ".join(texts) or NOTHING


def _products(stated: str, found: Sequence[Measured]) -> str:
    here = ", ".join(plain(each.kind.name) for each in found if each.ran) or "none"
    return f"{stated}; measured here: {here}"


def type_name(of: HypervisorType) -> str:
    """The type in a sentence."""
    names = {HypervisorType.HYBRID: "hybrid", HypervisorType.UNKNOWN: "of a type unknown"}
    return names.get(of, f"type {of.value}")
