"""The report of many machines as a document: what deviates first, then the classes, then each
machine, folded away. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence, Sized

from vbench.model import Technique
from vbench.report import fleet_failures, units
from vbench.report.document import Block, Cell, Document, Fold, Section, Table, link
from vbench.report.fleet import LEAST, Compared, Deviation, Fleet, Kind, Machine, MachineClass
from vbench.report.fleet_names import Names
from vbench.results import outlying, stats
from vbench.results.formatting import (
    NOTHING,
    code,
    number,
    plain,
    plural,
    small,
    times,
)

TITLE = "What virtualization costs on these machines"
_SHOWN = 30  # deviating machines that are not folded away
_LINES = 4  # quantities of one machine that are shown in a cell


def document(fleet: Fleet, names: Names) -> Document:
    """The whole report."""
    chapters = [
        Section("Machines that deviate", _deviating(fleet, names)),
        Section("Settings that differ within a class", _settings(fleet, names)),
        Section("Classes of machine", _classes(fleet)),
        *(
            _class(fleet, i, names)
            for i in range(len(fleet.classes))
            if _measured(fleet.classes[i])
        ),
        Section(fleet_failures.TITLE, fleet_failures.blocks(fleet, names)),
        Section("How machines are compared", [_METHOD]),
    ]
    chapters = [chapter for chapter in chapters if chapter.blocks]
    contents = " · ".join(link(chapter.title) for chapter in chapters if chapter.level == 2)
    return Document(TITLE, [*_answer(fleet, names), f"**Read on:** {contents}"], chapters)


_METHOD = (
    "Machines of one class have the same CPU model, number of CPUs, kernel, clock source and kind "
    "of host. A machine's value is the mean over the workloads of a category, each less the "
    "class's median of that workload. A machine deviates where its value is too far from those of "
    "the others to be chance. The test is the generalized extreme studentized deviate (Rosner "
    "1983): it takes out one extreme machine after the other, so that several do not hide each "
    "other. p is corrected for the number of machines, and for all categories, variants and "
    f"classes (Bonferroni). Deviations below {100 * LEAST:g} % are left out. A class needs "
    f"{outlying.MIN_VALUES} machines. How far a machine deviates is told against the mean of those "
    "that do not; the tables of a class are against its median.\n\n"
    "*native's time* is seconds without a guest: where it deviates, the machine itself is slower "
    "or faster. *overhead* is guest ÷ native, in which the machine's own speed cancels. A setting "
    "that differs is no proof of a cause. The report of one machine: `vbench report` with its "
    "folder."
)


def _answer(fleet: Fleet, names: Names) -> list[Block]:
    far = list({id(each.machine): each.machine for each in _worst_first(fleet)}.values())
    small_ones = [each for each in fleet.classes if len(each.machines) < outlying.MIN_VALUES]
    lone = sum(len(each.machines) for each in small_ones)
    classes = "1 class" if len(fleet.classes) == 1 else f"{len(fleet.classes)} classes"
    lines = [f"{plural(fleet.machines, 'machine')} in {classes}."]
    if far:
        verb = "deviates from its class" if len(far) == 1 else "deviate from their class"
        lines.append(f"**{len(far)} {verb}:** {names.some(far)}.")
    elif lone < fleet.machines:
        lines.append("**No machine deviates from its class.**")
    if lone:
        lines.append(
            f"{plural(lone, 'machine')} cannot be judged: their classes have fewer than "
            f"{outlying.MIN_VALUES} machines."
        )
    if fleet.counted:
        lines.append(
            f"{plural(fleet.counted, 'result')} of counted instructions left out: counts depend on "
            "no machine."
        )
    if fleet.unmeasured:
        lines.append(fleet_failures.sentence(fleet))
    several = [m for each in fleet.classes for m in each.machines if len(m.names) > 1]
    out: list[Block] = [" ".join(lines)]
    if several:
        out.append(f"Counted as one machine each, because they are: {names.some(several, '; ')}.")
    if left_out := [m for each in fleet.classes for m in each.machines if m.left_out]:
        out.append(_left_out(left_out))
    return out


def _left_out(machines: Sequence[Machine]) -> str:
    what = "; ".join(
        f"{code(name)}, being {code(machine.name)}: {unlike}"
        for machine in machines
        for name, unlike in machine.left_out.items()
    )
    return f"Left out, because the same machine was measured later with other settings: {what}."


def _worst_first(fleet: Fleet) -> list[Deviation]:
    found = [each for one in fleet.classes for each in one.deviations]
    return sorted(found, key=lambda each: (-abs(each.log), each.machine.name, _what(each)))


def letter(index: int) -> str:
    """A to Z, then A2 to Z2."""
    round, at = divmod(index, 26)
    return chr(ord("A") + at) + (str(round + 1) if round else "")


# ---------------------------------------------------------------- machines that deviate


def _deviating(fleet: Fleet, names: Names) -> list[Block]:
    of = {id(machine): i for i, each in enumerate(fleet.classes) for machine in each.machines}
    found: dict[int, list[Deviation]] = {}
    for each in _worst_first(fleet):
        found.setdefault(id(each.machine), []).append(each)
    rows = [_deviating_row(fleet, of[key], own, names) for key, own in found.items()]
    if not rows:
        return []
    headings = ["Machine", "Class", "What deviates", "By, %", "p", "Settings unlike its class's"]
    far = _worst_first(fleet)[0]
    blocks: list[Block] = [
        f"{plural(len(rows), 'machine')} of {fleet.machines} {_verb(rows, 'deviate')} from the "
        f"others of their class; {names.of(far.machine)} is furthest, by {far.percent:+z.1f} % in "
        f"{_what(far)}. A positive figure is slower than the class, or more overhead.",
        Table(headings, rows[:_SHOWN]),
    ]
    if rows[_SHOWN:]:
        blocks.append(Fold(f"{len(rows) - _SHOWN} more", [Table(headings, rows[_SHOWN:])]))
    return blocks


def _deviating_row(
    fleet: Fleet, at: int, own: Sequence[Deviation], names: Names
) -> list[Cell | str]:
    machine = own[0].machine
    shown = own[:_LINES]
    more = [small(f"and {len(own) - _LINES} more")] if len(own) > _LINES else []
    unusual = [
        f"{plain(name.replace('_', ' '))}: {_value(value)}<br>{small('most: ' + _value(usual))}"
        for name, (value, usual) in fleet.classes[at].unusual(machine).items()
    ]
    return [
        names.of(machine),
        letter(at),
        "<br>".join([*map(_what, shown), *more]),
        Cell("<br>".join(f"{each.percent:+z.1f}" for each in shown), own[0].percent),
        "<br>".join(_p(each.p) for each in shown),
        "<br>".join(unusual) or NOTHING,
    ]


def _what(each: Deviation) -> str:
    of = f" {code(each.quantity.variant)}" if each.quantity.variant else ""
    return f"{each.quantity.category}: {each.quantity.kind.value}{of}"


def _p(p: float) -> str:
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"


def _value(text: str) -> str:
    short = text if len(text) <= 60 else f"{text[:60]}…"
    return plain(short) if " " in short else code(short or "unknown")


def _settings(fleet: Fleet, names: Names) -> list[Block]:
    """How many of the machines with a setting deviate, and of those without."""
    rows: list[list[Cell | str]] = []
    for i, of in enumerate(fleet.classes):
        deviating = None
        if _judged(of.machines):
            deviating = {id(each.machine) for each in of.deviations}
        groups: dict[tuple[str, str, str], list[Machine]] = {}
        for machine in of.machines:
            for name, (value, usual) in of.unusual(machine).items():
                groups.setdefault((name, value, usual), []).append(machine)
        for (name, value, usual), machines in sorted(groups.items()):
            same = [m for m in of.machines if m.facts.get(name, "") == usual]
            rows.append(
                [
                    letter(i),
                    plain(name.replace("_", " ")),
                    _value(value),
                    *_counted(machines, deviating),
                    _value(usual),
                    *_counted(same, deviating),
                    names.some(machines),
                ]
            )
    if not rows:
        return []
    headings = ["Class", "Setting", "Value", "Machines", "of them deviate", "Most have"]
    headings += ["Machines", "of them deviate", "Which"]
    text = (
        f"{plural(len(rows), 'setting')} {_verb(rows, 'differ')} from what most of a class have. "
    )
    text += "Where all with a setting deviate and few of the others, look at that setting first."
    return [text, Table(headings, rows)]


def _judged(of: Sized) -> bool:
    """Whether there are enough machines, or values of them, to tell which deviate."""
    return len(of) >= outlying.MIN_VALUES


def _counted(machines: Sequence[Machine], deviating: Collection[int] | None) -> list[Cell | str]:
    """How many, and how many of them deviate; None: nobody can tell."""
    cells: list[Cell | str] = [Cell(str(len(machines)), len(machines))]
    if deviating is None:
        return [*cells, NOTHING]
    count = sum(id(machine) in deviating for machine in machines)
    return [*cells, Cell(str(count), count)]


def _verb(many: Sequence[object], verb: str) -> str:
    return f"{verb}s" if len(many) == 1 else verb


# ---------------------------------------------------------------- classes


def _classes(fleet: Fleet) -> list[Block]:
    return [_largest(fleet), _class_table(fleet)] if fleet.classes else []


def _largest(fleet: Fleet) -> str:
    counts = [len(of.machines) for of in fleet.classes]
    return (
        f"{plural(fleet.machines, 'machine')} in {len(counts)} "
        f"{'class' if len(counts) == 1 else 'classes'}; the largest has {max(counts)}."
    )


def _class_table(fleet: Fleet) -> Table:
    keys = [key for key in fleet.classes[0].key if key != "time base"]
    rows: list[list[Cell | str]] = []
    for i, of in enumerate(fleet.classes):
        count = len({id(each.machine) for each in of.deviations})
        rows.append(
            [
                letter(i),
                *(plain(of.key[key] or "unknown") for key in keys),
                Cell(str(len(of.machines)), len(of.machines)),
                Cell(str(count), count) if _judged(of.machines) else "too few machines to tell",
            ]
        )
    return Table(
        ["Class", *(key[0].upper() + key[1:] for key in keys), "Machines", "Deviate"], rows
    )


def _measured(of: MachineClass) -> bool:
    return bool(of.compared)


def _class(fleet: Fleet, at: int, names: Names) -> Section:
    of = fleet.classes[at]
    count = len({id(each.machine) for each in of.deviations})
    found = f"{plural(len(of.machines), 'machine')}: too few to tell which deviate."
    if _judged(of.machines):
        found = f"{count} of {plural(len(of.machines), 'machine')} here "
        found += f"{_verb([0] * count, 'deviate')}."
    blocks: list[Block] = [found]
    rows: list[list[Cell | units.Figures | str]] = []
    for one in of.compared:
        rows.append(
            [
                one.quantity.category,
                _column(fleet, one),
                NOTHING if one.quantity.kind is Kind.NATIVE else _shown(one, one.level),
                _range(one),
                Cell(number(100 * one.spread), one.spread) if len(one.logs) > 1 else NOTHING,
                str(len(one.logs)),
                Cell(str(len(one.deviations)), len(one.deviations))
                if _judged(one.logs)
                else NOTHING,
            ]
        )
    headings = [
        "Category",
        "Of what",
        "Class",
        "Middle 90 % of machines, % of the class's",
        "Between machines, ± %",
        "Machines",
        "Deviate",
    ]
    blocks.append(units.table(headings, rows))
    blocks += _hosts(fleet, of, names)
    title = f"Class {letter(at)}: {plain(of.key['CPU model'] or 'unknown CPU')}"
    return Section(title, blocks, 3)


def _column(fleet: Fleet, one: Compared) -> str:
    variant = one.quantity.variant
    if not variant:
        return one.quantity.kind.value
    technique = fleet.techniques.get(variant, "")
    return f"{one.quantity.kind.value} {code(variant)}<br>{small(technique)}"


def _shown(one: Compared, value: float) -> Cell | units.Figures:
    if one.quantity.kind is Kind.OVERHEAD:
        return Cell(times(value), value)
    return units.Figures([value], units.SECONDS)


def _range(one: Compared) -> str:
    """As shares of the class's value: a mean of unlike units says nothing by itself."""
    if len(one.logs) < 2:
        return NOTHING
    cut = statistics.quantiles(map(stats.exp, one.logs), n=20, method="inclusive")
    return " to ".join(f"{100 * (bound - 1):+z.1f}" for bound in (cut[0], cut[-1]))


def _hosts(fleet: Fleet, of: MachineClass, names: Names) -> list[Block]:
    """A folded table of all machines for each variant, by technique, the most deviating first."""
    order = [technique.value for technique in Technique]
    variants = sorted(
        {one.quantity.variant for one in of.compared},
        key=lambda v: (order.index(fleet.techniques[v]) if v else -1, v),
    )
    out: list[Block] = []
    for variant in variants:
        columns = [one for one in of.compared if one.quantity.variant == variant]
        far: dict[int, float] = {}
        values: dict[int, list[Cell | units.Figures | str]] = {}
        machines: dict[int, Machine] = {}
        for at, one in enumerate(columns):
            deviating = {id(each.machine) for each in one.deviations}
            for machine, log in zip(one.machines, one.logs, strict=True):
                key = id(machine)
                machines[key] = machine
                far[key] = max(far.get(key, 0.0), abs(log))
                cells = values.setdefault(key, [NOTHING] * len(columns))
                cells[at] = _host_cell(one, log, key in deviating)
        rows: list[list[Cell | units.Figures | str]] = [
            [names.of(machines[key]), *values[key]]
            for key in sorted(values, key=lambda key: (-far[key], machines[key].name))
        ]
        name = code(variant) if variant else "native's time, against the class's"
        technique = f", {fleet.techniques[variant]}" if variant else ""
        summary = f"Each machine: {name}{technique}"
        percent = "" if variant else ", %"
        headings = ["Machine", *(f"{c.quantity.category}{percent}" for c in columns)]
        out.append(Fold(summary, [units.table(headings, rows)]))
    return out


def _host_cell(one: Compared, log: float, deviates: bool) -> Cell | units.Figures:
    mark = "**" if deviates else ""
    if one.quantity.kind is Kind.NATIVE:
        return Cell(f"{mark}{100 * (stats.exp(log) - 1):+z.1f}{mark}", round(log, 6))
    value = round(one.level * stats.exp(log), 6)
    if one.quantity.kind is Kind.OVERHEAD:
        return Cell(f"{mark}{times(value)}{mark}", value)
    return units.Figures([value], units.SECONDS, lambda texts: f"{mark}{texts[0]}{mark}")
