"""What people ask first, each answered in a few sentences from the figures. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from itertools import product

from vbench.model import Technique
from vbench.report import applications, attribution, exits, hypervisors, reference, sentences
from vbench.report.choice import (
    COUNTED,
    CPU,
    DOUBTFUL,
    PART,
    UNDECIDED,
    Choice,
    brief,
    choose,
    doubt,
    parted,
)
from vbench.report.document import Block, Table, link
from vbench.report.gather import Gathered, Panel
from vbench.report.reference import (
    APPLICATIONS,
    DISK_OPERATIONS,
    NETWORK_OPERATIONS,
    SYSTEM_CALLS,
    ReferenceSet,
)
from vbench.report.sentences import NAMES, cheapest_of
from vbench.results import stats
from vbench.results.formatting import TIMES, code, number, plain, plural, span

TITLE = "Questions people ask"
# The kinds of work that a program mixes. Memory is named by what costs there: see reference.py.
_WORK = dict(
    zip(
        (*CPU, DISK_OPERATIONS, NETWORK_OPERATIONS),
        ("computing", "memory", "system calls", "small disk operations", "network round trips"),
        strict=True,
    )
)
_REPEATS = 0.001  # counts that are no further apart over boots repeat: see `compare`


def section(gathered: Gathered) -> list[Block]:
    """Empty where nothing has a ratio to native."""
    chosen, programs = list(_chosen(gathered)), applications.chosen(gathered.panels)
    if not (chosen or programs):
        return []
    return [
        *_extremes(chosen),
        _database(gathered, programs),
        *_why(gathered),
        *_trust(gathered.panels),
        *_costs(chosen),
        *_advice(gathered),
    ]


def _chosen(gathered: Gathered) -> Iterator[Choice]:
    """The variant that stands for each hypervisor by each technique, by the clock if it can be."""
    # older results do not name their hypervisors
    names = [each.kind.name for each in hypervisors.measured(gathered.panels)] or [""]
    for technique, name in product(Technique, names):
        found = choose(gathered.panels, technique, _WORK, hypervisor=name)
        if found is not None:
            yield found


def _marked(choice: Choice) -> str:
    """The variant after its hypervisor, which people ask for."""
    kind = choice.panel.declared(choice.variant).hypervisor
    name = f"{plain(kind.name)}{hypervisors.how(choice)} " if kind is not None else ""
    return name + code(choice.variant) + ("" if choice.panel.wall else f" {COUNTED}")


def _extremes(chosen: Sequence[Choice]) -> list[Block]:
    """Opens the chapter: the least and the most that any kind of work costs, by each time base."""
    timed = _ends([each for each in chosen if each.panel.wall], "By the clock")
    counted = _ends([each for each in chosen if not each.panel.wall], "In counted instructions")
    left = [_marked(each) for each in chosen if _one_boot(each)]
    without = f", without {', '.join(left)} (one boot)" if 0 < len(left) < len(chosen) else ""
    texts = timed + counted
    if texts and len(chosen) > 1:
        texts.append(f"This compares the variants of the table below{without}.")
    return [" ".join(texts)] if texts else []


def _one_boot(choice: Choice) -> bool:
    return all(value.boots < 2 for of in _WORK if (value := choice.mean(of)) is not None)


def _ends(chosen: Sequence[Choice], base: str) -> list[str]:
    found = [
        (value, f"{_WORK[of]} in {_marked(each)} ({brief(value.ratio)}{_device(each, of)})")
        for each in chosen
        for of in _WORK
        if (value := each.mean(of)) is not None and not stats.undecided(value)
    ]
    found = [each for each in found if each[0].boots > 1] or found  # one boot parts from nothing
    if not found:
        return []
    if len(found) == 1:
        return [f"{base} there is one figure: {found[0][1]}."]
    found.sort(key=lambda each: each[0].ratio)
    ends = ((found[0], "cheap"), (found[-1], "expensive"))
    texts = []
    for (value, text), word in ends:
        alike = sum(not parted(value, other) for other, _ in found) - 1
        texts.append(text + (f", and {alike} more may be as {word}" if alike else ""))
    return [f"{base} the cheapest is {texts[0]}; the most expensive is {texts[1]}."]


def _device(choice: Choice, of: ReferenceSet) -> str:
    """`, disk ahci`: what small operations go through, which is most of what they cost."""
    device = choice.device(of.category) if of in (DISK_OPERATIONS, NETWORK_OPERATIONS) else ""
    return f", {plain(device)}" if device else ""


def _database(gathered: Gathered, programs: Sequence[Choice]) -> str:
    """The databases that were measured under each technique; where none was in a hardware-assisted
    guest, what the operations of a database cost there."""
    texts = [
        f"In {_marked(each)} {found} ({link(applications.TITLE)})."
        for each in programs
        if (found := applications.databases(each))
    ]
    if not any(each.technique is Technique.HARDWARE for each in programs):
        texts.append(
            "No application was measured in a hardware-assisted guest."
            if programs
            else "No application was measured so far."
            if gathered.partial
            else f"No application was measured ({code(applications.HOW_TO)} does it)."
        )
        operations = choose(gathered.panels, Technique.HARDWARE, _OPERATIONS)
        parts = [
            f"{name} {sentences.cost(value, wall=operations.panel.wall)}"
            for of, name in _OPERATIONS.items()
            if operations is not None and (value := operations.mean(of)) is not None
        ]
        if operations is not None:
            texts.append(
                f"A database is made of small operations: in {_marked(operations)} "
                f"{', '.join(parts)} ({link('Disk and network')})."
            )
    return f"**How much slower is my database in a guest?** {' '.join(texts)}"


_OPERATIONS = {
    DISK_OPERATIONS: "a small disk operation",
    NETWORK_OPERATIONS: "a network round trip",
    SYSTEM_CALLS: "a mix of system calls",
}


def _costs(chosen: Sequence[Choice]) -> list[Block]:
    """Each kind of work under each hypervisor."""
    if not chosen:
        return []
    kinds = (each.panel.declared(each.variant).hypervisor for each in chosen)
    names = list(dict.fromkeys(plain(kind.name) for kind in kinds if kind is not None))
    asked = " or ".join(filter(None, [", ".join(names[:-1]), *names[-1:]])) or "each variant"
    headings = ["Guest ÷ native", *(f"{work[0].upper()}{work[1:]}" for work in _WORK.values())]
    table = Table(headings, [[_marked(each), *(each.ratio(of) for of in _WORK)] for each in chosen])
    return [
        f"**What does {asked} cost?** Each kind of work has its own cost. The intervals are in "
        f"{link('Techniques')} and {link('Disk and network')}.{_notes(table)}",
        table,
        "\n".join(map(_dearest, chosen)),
    ]


def _notes(shown: Table) -> str:
    """What the marks of a table say, as a sentence in brackets."""
    notes = {
        COUNTED: "counted in instructions, without the time of a device or of a world switch",
        PART: "over a part of the workloads",
        DOUBTFUL: "not certain",
        UNDECIDED: f"means an interval that holds {TIMES}1.00 and a high overhead",
    }
    text = "".join(cell.text for row in shown.cells() for cell in row)
    marks = "; ".join(f"{mark} {note}" for mark, note in notes.items() if mark in text)
    return f" ({marks}.)" if marks else ""


def _dearest(choice: Choice) -> str:
    """The kinds of work that cost most and least: more than one where intervals overlap."""
    means = [(of, value) for of in _WORK if (value := choice.mean(of)) is not None]
    known = sorted(
        ((value, _WORK[of]) for of, value in means if not stats.undecided(value)),
        key=lambda each: each[0].ratio,
    )
    open_ = [_WORK[of] for of, value in means if stats.undecided(value)]
    start = f"- {_marked(choice)}"
    if not known:
        return f"{start}: undecided."
    if len(known) == 1:
        return f"{start}: only {known[0][1]} is known, {brief(known[0][0].ratio)}."
    if any(value.boots < 2 for value, _ in known):
        return f"{start}: one boot decides no order of these."
    least, most = (
        [one for one in known if not parted(one[0], end[0])] for end in (known[0], known[-1])
    )
    if any(one in least for one in most):
        return f"{start}: the intervals overlap, so none is surely the dearest or the cheapest."
    also = f" ({', '.join(open_)}: undecided)" if open_ else ""
    return f"{start} costs most in {_either(most)} and least in {_either(least)}{also}."


def _either(found: Sequence[tuple[stats.Overhead, str]]) -> str:
    """`a (x 1.00) or b (x 1.01)`: their intervals do not tell which."""
    return " or ".join(f"{work} ({brief(value.ratio)})" for value, work in found)


def _why(gathered: Gathered) -> list[Block]:
    reasons = [
        f"under {NAMES[technique]}, {plain(text)}{_system_call(gathered, technique)}"
        for technique in Technique
        if any(panel.variants(technique) for panel in gathered.panels)
        and (text := _technology(gathered, technique))
    ]
    found = [f"Each technique has its own reason: {'; '.join(reasons)}."] if reasons else []
    of_exits = [text for p in gathered.panels if (text := exits.sentence(p)) != exits.NO_EXIT]
    of_exits += filter(None, map(_explained, gathered.panels))
    if of_exits:
        found += [*of_exits, f"What each event costs is in {link('VM exits')}."]
    found.append(f"Disk and network cost what their devices cost: {link('Disk and network')}.")
    return [f"**Why?** {' '.join(found)}"]


def _system_call(gathered: Gathered, technique: Technique) -> str:
    """What system calls cost by this technique, in brackets: there they differ most plainly."""
    found = choose(gathered.panels, technique, (SYSTEM_CALLS,))
    if found is None or (ratio := found.ratio(SYSTEM_CALLS)) == UNDECIDED:
        return ""
    mark = "" if found.panel.wall else f" {COUNTED}"
    return f" (system calls {ratio} in {code(found.variant)}{mark})"


def _technology(gathered: Gathered, technique: Technique) -> str:
    known = gathered.facts.get(technique, {})
    # without what it says in brackets
    texts = (
        facts["technology"]["text"].partition(" (")[0]
        for facts in known.values()
        if "technology" in facts
    )
    return next(iter(texts), "")


def _explained(panel: Panel) -> str:
    """How much of an operation's overhead its exits are, in the variant that stands for KVM."""
    chosen = choose([panel], Technique.HARDWARE, (DISK_OPERATIONS, NETWORK_OPERATIONS))
    if chosen is None:
        return ""
    of = reference.measured(panel, chosen.variant, DISK_OPERATIONS, NETWORK_OPERATIONS)
    texts = []
    for one in attribution.worth_explaining(panel):
        if one.item in of:
            exits_are = attribution.share(one.share(one.predicted))
            text = f"{exits_are} of the overhead of {plain(one.item.workload)}"
            if one.io_threads:
                text += f" (device threads: up to {attribution.share(one.share(one.io_threads))})"
            texts.append(text)
    return f"Under {_marked(chosen)} exits explain {', '.join(texts)}." if texts else ""


def _trust(panels: Sequence[Panel]) -> list[Block]:
    texts = [_evidence(panel) for panel in panels if panel.overheads]
    return [
        f"**Can I trust it?** {' '.join(texts)} Trust each figure as far as its brackets reach, "
        f"and for this machine. Its flags are in {link('Every workload')}; versions and command "
        f"lines are in {link('Provenance')}. Run it again: `vbench compare` says what changed."
    ]


def _evidence(panel: Panel) -> str:
    values = list(panel.overheads.values())
    boots = sorted({value.boots for value in values})
    over = f"{span([str(boots[0]), str(boots[-1])])} {'boot' if boots[-1] == 1 else 'boots'} each"
    text = f"On {code(panel.host.identity)} {plural(len(values), 'ratio')} came from {over}"
    if panel.wall:
        several = [value.half_width for value in values if value.boots > 1]
        if widths := list(filter(None, several)):
            typical = statistics.median(widths)
            reach = f"{number(100 * typical)} %" if typical < 1 else f"factor {number(1 + typical)}"
            text += f"; half of their intervals reach {reach} or less to either side"
        text += f"; {_disturbed(panel)}"
        if open_ := sum(map(stats.undecided, values)):
            text += f"; {open_} {'is' if open_ == 1 else 'are'} undecided"
        under = panel.host.facts.get("virtualization", "")
        nested = f" This machine is itself a virtual machine ({plain(under)})."
        return f"{text}.{nested if under not in ('', 'none', 'unknown') else ''}"
    again = [value for value in values if value.boots > 1 and value.low and value.high]
    same = sum(
        value.high / value.low - 1 <= _REPEATS for value in again if value.low and value.high
    )
    if again:
        repeat = "repeats" if same == 1 else "repeat"
        text += f"; of {len(again)} counted on several boots, {same} {repeat} within 0.1 %"
    return f"{text}."


_DISTURBED = {"steal", "cpu-pressure", "throttled", "clock"}


def _disturbed(panel: Panel) -> str:
    """How many ratios had a round that something disturbed. What stands in every round is a
    condition of the item, and is no flag of some rounds."""
    always = {name for name in panel.overheads if _DISTURBED & panel.conditions[name]}
    some = {name for name in panel.overheads if _DISTURBED & panel.flags[name].keys()}
    text = f"{len(always | some) or 'none'} of them had a disturbed round"
    return f"{text}, {len(always)} in every round" if always else text


def _unlike(panel: Panel, of: ReferenceSet) -> bool:
    """Whether some variant measured more of a set than all did."""
    return any(
        len(reference.measured(panel, variant, of)) > len(common)
        for variant, common in sentences.shared(panel, of).items()
    )


def _advice(gathered: Gathered) -> list[Block]:
    """The cheapest variant for each kind of work, of those that the clock timed; where intervals do
    not tell it, all that may be."""
    texts = []
    for panel in gathered.panels:
        cheapest: dict[str, list[str]] = {}
        open_ = []
        for of, work in (*_WORK.items(), (APPLICATIONS, "applications")):
            found = cheapest_of(panel, of) if panel.wall else []
            if len(found) == 1:
                value, variant = found[0]
                whole = Choice(panel, variant)
                part = PART if whole.lacking(of) else ""
                text = f"{work} {brief(value.ratio)}{part}{doubt(value)}"
                if _unlike(panel, of):
                    text += " in what all measured"  # the tables have the mean of all that it did
                cheapest.setdefault(variant, []).append(text)
            elif found:
                open_.append(f"{work} ({', '.join(code(variant) for _, variant in found)})")
        where = f"Of what runs on {code(panel.host.identity)}"
        if cheapest:
            each = "; ".join(f"{code(v)} for {', '.join(w)}" for v, w in cheapest.items())
            which = "the cheapest is" if len(panel.variants()) > 1 else "there is only"
            texts.append(f"{where}, {which} {each}.")
        if open_:
            start = "The intervals" if cheapest else f"{where}, the intervals"
            texts.append(
                f"{start} do not decide which is cheapest for {'; '.join(open_)}: they overlap, or "
                "each is cheaper in one workload."
            )
    if not any(p.wall and p.variants(Technique.HARDWARE) for p in gathered.panels):
        best = choose(gathered.panels, Technique.HARDWARE, CPU)
        costs = (
            f" Counted, {_marked(best)} costs {best.overheads()} (computing, memory, system calls)."
            if best
            else ""
        )
        texts.append(
            "No hardware-assisted guest was timed here. If you can choose the machine, take one "
            f"with KVM, and measure there.{costs}"
        )
    if texts:
        texts.append(f"All figures: {link('Techniques')}, {link('Disk and network')}.")
    return [f"**What should I use on this machine?** {' '.join(texts)}"] if texts else []
