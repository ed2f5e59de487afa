"""Isolation: what guests have for themselves, and what a neighbour takes from one. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vbench.model import SCENARIOS, Item
from vbench.report import units
from vbench.report.consolidation import FOREIGN_PERCENT
from vbench.report.document import Block, Cell, Table
from vbench.report.gather import Panel
from vbench.report.scenarios import counts, measured, medians, seconds
from vbench.report.verdicts import Basis, Finding, Part
from vbench.results.formatting import NOTHING, TIMES, code, number

KIND = SCENARIOS[4]
HOW = "vbench run --workload 'isolation*'"
_ALONE, _WORK = "alone", ("computing", "system calls")
_WHERE = ("guests", "natively")
_DISRUPTORS = {
    "cpu": "{} busy processes",
    "memory": "takes all memory, again and again",
    "disk": "writes to the disk",
    "network": "sends packets to the host",
    "fork": "fork bomb of {} processes",
}
_SIGHTS = {
    "processes": "a process, by a word on its command line",
    "files": "a file, by its name",
    "ports": "a socket that listens, by its port",
    "frames": "network frames, unicast, in half a second",
}
_SEERS = ("itself", "neighbour", "host", "plain process")
THRESHOLDS = (
    "guests are isolated where three kernels run (of two guests and the host), neither neighbour "
    "nor host sees a guest's process, file or socket, the neighbour hears none of its frames, and "
    "no disruptor stops it"
)


_REACHED = {
    "nothing": "nothing: a command that ends at once",
    "computing": "computing",
    "memory": "touches new memory",
    "files": "makes, copies, renames and removes files",
    "processes": "starts programs, a pipe, lists processes",
    "sockets": "pings itself",
    "disk": "reads the disk under test",
    "all": "**all of these**",
}


def _with_neighbours(panel: Panel) -> list[Item]:
    return [item for item in measured(panel, KIND) if counts(item, "kernels")]


def _traced(panel: Panel) -> list[Item]:
    return [item for item in measured(panel, KIND) if counts(item, "all, guests: functions")]


def sentence(panel: Panel) -> str:
    """Whether guests were seen or stopped by others, and how much of the host's kernel they reach;
    empty where it was not measured."""
    texts = []
    for item in _with_neighbours(panel):
        own, stands = _own(item), _stands(item)
        texts += [own.evidence, f"{code(item.variant)}: {stands.evidence}"]
    texts += [_reaches(item) for item in _traced(panel)]
    return "; ".join(texts) + "." if texts else ""


def _reaches(item: Item) -> str:
    counted = medians(item)
    guests, natively = (counted[f"all, {where}: functions"] for where in _WHERE)
    return (
        f"{code(item.variant)}: the same work reaches {guests:,.0f} functions of the host's kernel "
        f"from a guest, {natively:,.0f} natively"
    )


def blocks(panel: Panel) -> list[Block]:
    """What is seen of a guest, then its slowdown beside each disruptor, for each variant."""
    found: list[Block] = []
    for item in _with_neighbours(panel):
        found.append(f"**Isolation**, {code(item.variant)}. {_kernels(item)}")
        found.append(_sights(item))
        found.append(_how(item))
        found.append(_slowdowns(panel, item))
    for item in _traced(panel):
        found += [f"**Attack surface**, {code(item.variant)}. {_surface(item)}", _functions(item)]
    return found


def _surface(item: Item) -> str:
    lost = counts(item, "events_lost")
    return (
        "Distinct functions of the host's kernel in which the tasks were seen that run the guest, "
        "while it did the work, and natively the tasks that did it. What a guest could attack is "
        "among them. A command reaches a guest over SSH, which the first row shows alone. Work "
        "that the kernel leaves to threads of its own is on neither side. Interrupts come when "
        "they come, so the numbers of two runs differ a little."
        + (f" {lost[0]:,.0f} events were lost: there may be more." if lost and lost[0] else "")
    )


def _functions(item: Item) -> Table:
    counted = medians(item)
    rows: list[Sequence[Cell | str]] = [
        [text, *(_count(counted.get(f"{kind}, {where}: functions")) for where in _WHERE)]
        for kind, text in _REACHED.items()
        if f"{kind}, guests: functions" in counted
    ]
    return Table(["Work", "Functions, from a guest", "Functions, natively"], rows)


def _kernels(item: Item) -> str:
    kernels = counts(item, "kernels")
    seen = f"{kernels[0]:g} of 3" if kernels else "An unknown number of"
    return (
        f"{seen} kernels are different ones: of a guest, of its neighbour and of the host, by what "
        "each drew at random when it booted. Below: in how many places what a guest has is found. "
        "The last column is the control: what a plain process has, searched for by another one."
    )


def _sights(item: Item) -> Table:
    counted = medians(item)
    rows: list[Sequence[Cell | str]] = [
        [text, *(_count(counted.get(f"{what}: {who}")) for who in _SEERS)]
        for what, text in _SIGHTS.items()
        if f"{what}: itself" in counted
    ]
    headings = ["Seen so many times", "In the guest", "In its neighbour", "On the host"]
    headings.append("By a plain process")
    return Table(headings, rows)


def _count(value: float | None) -> Cell | str:
    return NOTHING if value is None else Cell(f"{value:g}", value)


def _how(item: Item) -> str:
    limits = counts(item, "limited")
    beside = {
        1.0: "The same two as plain processes have control groups of their own, with the memory of "
        "a guest and 1,000 processes at most.",
        0.0: "The same two as plain processes have no limits, because this host lets vbench make "
        "no control groups: nothing was started there that only a limit would stop.",
    }.get(limits[0] if limits else -1.0, "")
    ended = ""
    if foreign := counts(item, f"{_ALONE}, {_WHERE[0]}: foreign_percent"):
        ended += (
            f" Others used {number(foreign[0])} % of the host's CPUs while the guest worked alone"
            + (": these figures are theirs as well." if foreign[0] > FOREIGN_PERCENT else ".")
        )
    if counts(item, "ended_by_budget"):
        ended += " There was no time for the other disruptors."
    return (
        "How many times as long a guest's work takes beside a disruptor in another guest. The "
        "CPUs of both are the same one where guests are pinned, as by default: a fair share of it "
        f"is {TIMES}2. That work only computes and makes system calls, so floods of disk and "
        "network show how the CPU is shared, and nothing about shared input and output. "
        f"{beside}{ended}"
    )


def _slowdowns(panel: Panel, item: Item) -> Table:
    scale = units.clock(panel.host.time_base)
    rows: list[Sequence[Cell | units.Figures | str]] = []
    for kind, text in _DISRUPTORS.items():
        if not counts(item, f"{kind}, {_WHERE[0]}: finished"):
            continue
        answers = seconds(item, f"{kind}, {_WHERE[0]}", "answer")
        rows.append(
            [
                text.format(f"{next(iter(counts(item, f'{kind}: processes')), math.nan):g}"),
                *(_times(slowdown(item, kind, work, _WHERE[0])) for work in _WORK),
                units.Figures(answers[:1], scale) if answers else "no answer",
                *(_times(slowdown(item, kind, work, _WHERE[1])) for work in _WORK),
            ]
        )
    headings = [
        "Disruptor",
        "Guest, computing",
        "system calls",
        "The disruptor's guest answers (within 5 s)",
        "Plain process, computing",
        "system calls",
    ]
    return units.table(headings, rows)


def _times(value: float | None) -> Cell | str:
    return NOTHING if value is None else Cell(f"{TIMES}{value:.2f}", value)


def slowdown(item: Item, kind: str, work: str, where: str) -> float | None:
    """Of a victim's work beside a disruptor against alone; None where it was not measured."""
    alone = seconds(item, f"{_ALONE}, {where}", work)
    found = seconds(item, f"{kind}, {where}", work)
    return found[0] / alone[0] if alone and found else None


def claim(panel: Panel) -> Finding | str:
    """W2: what a guest has is its own, and no disruptor stops it."""
    parts: list[Part] = []
    for item in _with_neighbours(panel):
        parts += [_own(item), _stands(item)]
    return Finding(tuple(parts)) if parts else f"measure it by {code(HOW)}"


def _own(item: Item) -> Part:
    counted = medians(item)
    known = [what for what in _SIGHTS if f"{what}: itself" in counted]
    seen = [
        f"{what} by the {who}"
        for what in known
        for who in ("neighbour", "host")
        if counted.get(f"{what}: {who}", 0.0) > 0
    ]
    hidden = [what for what in known if counted[f"{what}: itself"] <= 0]  # nothing to be seen
    name = code(item.variant)
    if counted.get("kernels") != 3 or seen:
        wrong = ", ".join(seen) or "its kernel is not its own"
        return Part(False, f"{name}: seen from outside: {wrong}", Basis.SIGHT)
    if hidden or len(known) < len(_SIGHTS):
        missing = ", ".join(what for what in _SIGHTS if what in hidden or what not in known)
        return Part(None, f"{name}: not shown: {missing}", Basis.SIGHT)
    return Part(
        True,
        f"{name}: a kernel of its own; neither neighbour nor host sees its processes, files and "
        "sockets; the neighbour hears none of its frames",
        Basis.SIGHT,
    )


def _stands(item: Item) -> Part:
    finished = [
        (kind, found[0])
        for kind in _DISRUPTORS
        if (found := counts(item, f"{kind}, {_WHERE[0]}: finished"))
    ]
    stopped = [kind for kind, done in finished if not done]
    if stopped:
        return Part(False, f"stopped by {', '.join(stopped)}", Basis.SIGHT)
    texts = [text for where in _WHERE if (text := _range(item, where))]
    holds = True if len(finished) == len(_DISRUPTORS) else None
    return Part(
        holds,
        f"{len(finished)} of {len(_DISRUPTORS)} disruptors beside it do not stop it"
        + (f"; beside them work takes {', '.join(texts)} as long" if texts else ""),
        Basis.SIGHT,
    )


def _range(item: Item, where: str) -> str:
    found = [
        value
        for kind in _DISRUPTORS
        for work in _WORK
        if (value := slowdown(item, kind, work, where)) is not None
    ]
    if not found:
        return ""
    who = "" if where == _WHERE[0] else "as a plain process "
    return f"{who}{TIMES}{min(found):.2f} to {TIMES}{max(found):.2f}"
