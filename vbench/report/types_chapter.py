"""Type 1 against type 2 at length: where each hypervisor was seen, what it takes to install, and
what it costs on the same machine as the others."""

from __future__ import annotations

from collections.abc import Sequence

from vbench.model import Technique
from vbench.records import Place
from vbench.report import cells, exits, hypervisors, sentences, units
from vbench.report.choice import COUNTED, CPU, Choice, brief, choose, doubt
from vbench.report.document import Block, Cell, Table
from vbench.report.gather import Gathered, Panel
from vbench.report.hypervisors import Measured
from vbench.report.reference import COMPUTING, OPERATIONS, PAGE_FAULT, operation
from vbench.report.types_table import HYBRID, type_name
from vbench.results import stats
from vbench.results.formatting import (
    NOTHING,
    code,
    number,
    plain,
    small,
)

TITLE = "Type 1 and type 2"
# What events of an exit are compared: their kinds, as the workloads declare them.
_EVENTS = ("CPUID", "hypercall", "port I/O", "MSR")


def section(gathered: Gathered) -> list[Block]:
    """Of all panels. Empty where no backend says which hypervisor it is."""
    found = hypervisors.measured(gathered.panels)
    if not found:
        return []
    blocks: list[Block] = [
        _sentence(gathered.panels, found),
        HYBRID,
        _origin(gathered, found),
        _NOTE,
    ]
    for panel in gathered.panels:
        table = _same_machine(panel)
        if table is not None:
            clock = "by the clock" if panel.wall else "counted in instructions"
            blocks += [f"**The same work on {code(panel.host.identity)}, {clock}**", table]
    return blocks


_NOTE = (
    "*Seen on the host*: what the launch attested. A hypervisor beneath the kernel takes a reboot "
    "to install; a module or a process takes none. *To install*: apt's own answer for a bare "
    "Debian that boots, without recommended packages; nothing was installed for it. *Who may "
    "launch guests*: seen by the modes of the devices that the launch opened, and stated of a "
    "distribution, which sets modes that the testbed has not. To install packages takes root for "
    "all of them."
)


def _sentence(panels: Sequence[Panel], found: Sequence[Measured]) -> str:
    """Which ran, and what computing costs under each of them on the machine that most ran on."""
    ran = (f"{plain(e.kind.name)} ({type_name(e.kind.type)})" for e in found if e.ran)
    text = f"Measured here: {', '.join(ran) or 'none'}."
    panel = hypervisors.common_panel(panels)
    if panel is None:
        return text
    costs = [
        f"{_ratio(value)} under {plain(e.kind.name)}{_with_interrupts(choice)}"
        for e in hypervisors.measured([panel])
        if (choice := e.best(panel)) is not None and (value := choice.mean(COMPUTING)) is not None
    ]
    if not costs:
        return text
    clock = "" if panel.wall else f", counted in instructions. {_MEDIANS}"
    return f"{text} On {code(panel.host.identity)} computing costs {', '.join(costs)}{clock or '.'}"


_MEDIANS = (
    "Counted ratios are those of median groups of units, which no interrupt met; brackets have the "
    "mean of all groups, with interrupts."
)


def _with_interrupts(choice: Choice) -> str:
    more = sentences.interrupts(choice, COMPUTING)
    return f" ({more})" if more else ""


def _ratio(value: stats.Overhead) -> str:
    """Without its interval: with what the reader must know of that."""
    return cells.undecided(value) or brief(value.ratio) + doubt(value)


# ---------------------------------------------------------------- what each is, and what it takes


def _origin(gathered: Gathered, found: Sequence[Measured]) -> Table:
    headings = [
        "Hypervisor",
        "Type, as stated",
        "Seen on the host",
        "To install",
        "Packages",
        "To install, MiB",
        "Reboot",
        "Who may launch guests",
        f"First command after launch, s ({COUNTED} of the testbed's clock)",
    ]
    return Table(
        headings,
        [
            [
                f"**{plain(each.kind.name)}**<br>{small('by ' + plain(each.kind.vendor))}",
                _type(each),
                _seen(each),
                *_to_install(each),
                _access(gathered, each),
                _first_command(each),
            ]
            for each in found
        ],
    )


def _type(each: Measured) -> str:
    source = each.kind.source  # results of earlier versions have none
    return type_name(each.kind.type) + (f"<br>{small(plain(source))}" if source else "")


def _seen(each: Measured) -> str:
    if each.place is None:
        return "not seen from here"
    module = f" ({code(each.module)})" if each.module else ""
    variants = dict.fromkeys(c.variant for c in each.of if hypervisors.place(c.panel, c.variant))
    return f"{each.place}{module}<br>{small('by launches of ' + ', '.join(map(code, variants)))}"


def _to_install(each: Measured) -> list[Cell | str]:
    """What, how many packages, their size in MiB, and whether it takes a reboot."""
    reboot = {None: NOTHING, Place.BENEATH: "yes"}.get(each.place, "no")
    counted = each.installation
    if counted is None:
        return ["not counted: no packages are declared", NOTHING, NOTHING, reboot]
    asked = f"{', '.join(map(code, counted.asked))} of Debian {plain(counted.release)}"
    if counted.packages is None or counted.disk_mib is None:
        why = f"not counted: {plain(counted.reason)}"
        return [f"{asked}<br>{small(why)}", NOTHING, NOTHING, reboot]
    return [
        f"{asked}<br>{small(f'on {counted.counted}')}",
        Cell(str(counted.packages), counted.packages),
        Cell(number(counted.disk_mib), counted.disk_mib),
        reboot,
    ]


def _access(gathered: Gathered, each: Measured) -> str:
    """What a user needs: as it was seen in launches, and as it is stated."""
    lines = []
    for seen, panel in each.access:
        evidence = f"seen on {code(panel.host.identity)}: {plain(seen.evidence)}"
        lines.append(f"{plain(seen.who)}<br>{small(evidence)}")
    by = each.launchers
    if (somewhere := by.get("not root")) is not None:
        lines.insert(0, f"launched without root on {code(somewhere.host.identity)}")
    elif not lines:
        lines = ["launched by root here" if by.keys() == {"root"} else "not recorded"]
    if (stated := hypervisors.stated_access(gathered, each)) is not None:
        told = f"stated: {plain(stated['text'])}; {plain(stated['source'])}"
        lines.append(small(told))
    return "<br>".join(lines)


def _first_command(each: Measured) -> str:
    texts = []
    for wall in (True, False):
        for timed in each.first_commands(wall=wall):
            of = (timed.median_s, timed.seconds[0], timed.seconds[-1])
            mark = "" if wall else f" {COUNTED}"
            start = f"<br>{small('by ' + plain(timed.start))}" if timed.start else ""
            shown = f"{units.spread([*map(number, of)])}{mark} {code(timed.choice.variant)}{start}"
            texts.append(shown)
    return "<br>".join(texts) or "not timed"


# ---------------------------------------------------------------- on the same machine


def _same_machine(panel: Panel) -> Table | None:
    """What operations and exits cost under each hypervisor of one panel, by each technique; None
    for fewer than two: it compares."""
    chosen = [
        (each, choice)
        for each in hypervisors.measured([panel])
        for technique in reversed(Technique)  # hardware-assisted first
        if (choice := choose([panel], technique, CPU, hypervisor=each.kind.name)) is not None
    ]
    if len(chosen) < 2:
        return None
    rows: list[list[Cell | units.Figures | str]] = []
    for kind in ("disk", "network"):
        drivers = (c.device(kind).removeprefix(f"{kind} ") or NOTHING for _, c in chosen)
        rows.append([f"Driver of the {kind} in the guest, attested", *map(plain, drivers)])
    for title, workload in OPERATIONS:
        rows.append([title, *(_operation(panel, c.variant, workload) for _, c in chosen)])
    shadow = [_shadowed(panel, c) for _, c in chosen]
    rows.append(["Page fault without nested paging", *shadow])
    for event, workload in _events(panel, [c for _, c in chosen]):
        rows.append([f"Event: {event}", *(_event(panel, c.variant, workload) for _, c in chosen)])
    rows = [row for row in rows if any(cell != NOTHING for cell in row[1:])]
    if not rows:
        return None
    headings = [
        f"{plain(e.kind.name)} ({type_name(e.kind.type)}{hypervisors.how(c)})<br>{code(c.variant)}"
        for e, c in chosen
    ]
    return units.table(["Operation or event", *headings], rows, alike=True)


def _operation(panel: Panel, variant: str, workload: str) -> units.Figures | str:
    """Overhead with its interval, and native and guest as they are."""
    item = operation(panel, variant, workload)
    return NOTHING if item is None else units.compared(panel, item)


def _shadowed(panel: Panel, choice: Choice) -> units.Figures | str:
    """The page fault of the variant that differs from `choice` in having shadow page tables."""
    for variant in panel.variants():
        declared = panel.declared(variant)
        if declared.shadow_paging and declared.contrast_to == choice.variant:
            return _operation(panel, variant, PAGE_FAULT)
    return NOTHING


def _events(panel: Panel, chosen: Sequence[Choice]) -> list[tuple[str, str]]:
    """Event and workload of those kinds that any of these variants measured, in their order."""
    found: dict[str, tuple[str, str]] = {}
    for choice in chosen:
        for item, cause in exits.causing(panel, choice.variant):
            if cause.kind in _EVENTS:
                found.setdefault(item.workload, (cause.kind, cause.event))
    order = sorted(found.items(), key=lambda each: _EVENTS.index(each[1][0]))
    return [(event, workload) for workload, (_, event) in order]


def _event(panel: Panel, variant: str, workload: str) -> units.Figures | str:
    found = exits.cost(panel, variant, workload)
    if found is None:
        return NOTHING
    if found.drowned:
        return "not above its control"
    left = small(f"{exits.left(found.item):.2f} exits for it") if found.item.exits else ""
    scale = units.clock(panel.host.time_base)
    return units.Figures(
        [found.net],
        scale,
        lambda texts: "<br>".join(filter(None, [*texts, left])),
        series=panel.series(found.item),
    )
