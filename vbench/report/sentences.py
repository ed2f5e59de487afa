"""One plain sentence about a figure, which never says more than its interval does. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vbench.model import Item, Technique
from vbench.report import absolute, cells, consolidation, isolation, scenarios
from vbench.report.choice import CPU, PART, Choice, brief, choose, doubt, parted
from vbench.report.gather import Gathered, Panel
from vbench.report.reference import (
    APPLICATIONS,
    COMPUTING,
    DISK_OPERATIONS,
    MEMORY,
    NETWORK_OPERATIONS,
    SYSTEM_CALLS,
    ReferenceSet,
    measured,
)
from vbench.results import stats
from vbench.results.formatting import TIMES, code, number, plain, times

NAMES = {
    Technique.FULL: "full virtualization",
    Technique.PARA: "paravirtualization",
    Technique.HARDWARE: "hardware-assisted virtualization",
}
_WORK = {
    COMPUTING: "computing",
    MEMORY: "access to memory",
    SYSTEM_CALLS: "a mix of system calls",
    APPLICATIONS: "an application",
}
# From this ratio on "x times as long" reads better than per cent.
_TIMES_FROM = 1.5
_SAME = 0.0005  # below it "0 % more" would read like nonsense


def cost(value: stats.Overhead, *, wall: bool, besides: str = "") -> str:
    """`takes 7.8 times as long`; `executes 1.5 % more instructions`. `besides` is for brackets."""
    if stats.undecided(value) and value.low is not None and value.high is not None:
        return f"is undecided ({times(value.low)} to {times(value.high)})"
    if value.ratio >= _TIMES_FROM:
        much = f"{_figure(value.ratio)} times"
        text = f"takes {much} as long" if wall else f"executes {much} as many instructions"
    elif abs(value.ratio - 1) < _SAME:
        same = "takes the same time" if wall else "takes as many instructions as natively"
        besides = besides or "within 0.05 %"
        text = same
    else:
        part = _percent(abs(value.ratio - 1))
        more = value.ratio > 1
        if wall:
            text = f"takes {part} {'longer' if more else 'less time'}"
        else:
            text = f"executes {part} {'more' if more else 'fewer'} instructions"
    return text + (f" ({besides})" if besides else "") + doubt(value)


def _figure(ratio: float) -> str:
    """As the tables have it, so that a reader finds one figure in both."""
    return brief(ratio).removeprefix(TIMES)


def _percent(share: float) -> str:
    """In per cent: two digits, below 1 % one, are enough for a sentence."""
    value = 100 * share
    text = f"{value:,.0f}" if value >= 10 else f"{value:.2g}" if value >= 1 else f"{value:.1g}"
    return f"{text} %"


def answer(gathered: Gathered) -> str:
    """What the report found, in a sentence per clock and one for what could not run. Of computing;
    where that was not measured, of the first kind of work that was."""
    of = next((each for each in _WORK if _fills(gathered, each)), COMPUTING)
    timed: list[tuple[str, str]] = []
    counted: list[tuple[str, str]] = []
    absent: list[str] = []
    for technique in Technique:
        found = choose(gathered.panels, technique, (of,))
        value = found.mean(of) if found else None
        if found is not None and value is not None:
            mark = f" {PART}" if found.lacking(of) else ""
            how = cost(value, wall=found.panel.wall, besides=interrupts(found, of))
            text = f"{NAMES[technique]} ({code(found.variant)}{mark})", how
            (timed if found.panel.wall else counted).append(text)
        if found is None or not found.panel.wall:
            absent += _absent(gathered, technique)
    out = []
    if timed:
        out.append(f"**By the clock, {_WORK[of]} under {_joined(timed)}.**")
    if counted:
        out.append(f"**Counted in instructions in an emulated machine, {_WORK[of]} under "
                   f"{_joined(counted)}.**")  # fmt: skip
    if not out and (told := absolute.answer(gathered)):
        out.append(told)
    if not out:
        out += filter(None, map(of_scenarios, gathered.panels))
    if not out:
        out.append("**Nothing was measured that tells the CPU's cost.**")
    if absent:
        out.append(f"This machine itself cannot run {' nor '.join(dict.fromkeys(absent))}.")
    return " ".join(out)


def interrupts(choice: Choice, of: ReferenceSet) -> str:
    """Counted: how the figure changes with the interrupts and housekeeping of both sides."""
    more = cells.means(measured(choice.panel, choice.variant, of))
    if choice.panel.wall or more is None:
        return ""
    if abs(more) < _SAME:
        return "also with interrupts"
    if 1 + more >= _TIMES_FROM:
        return f"{_figure(1 + more)} times with interrupts"
    return f"{_percent(abs(more))} {'more' if more > 0 else 'fewer'} with interrupts"


def of_scenarios(panel: Panel) -> str:
    """What scenarios found; empty where none was measured."""
    found = (each.sentence(panel) for each in (scenarios, consolidation, isolation))
    return " ".join(filter(None, found))


def _fills(gathered: Gathered, of: ReferenceSet) -> bool:
    return any(choose(gathered.panels, technique, (of,)) for technique in Technique)


def _absent(gathered: Gathered, technique: Technique) -> list[str]:
    """A technique that could not be timed on the machine itself, with the first reason in short."""
    for panel in gathered.panels:
        here = [e for e in panel.unavailable if e.technique == technique.value]
        if here and panel.wall and not panel.variants(technique):
            reason = re.split(r":| \(", here[0].reason)[0]
            return [f"{NAMES[technique]} ({plain(reason)})"]
    return []


def _joined(parts: list[tuple[str, str]]) -> str:
    """`a takes twice as long; under b it takes 3 % longer`."""
    first, *others = parts
    return "; ".join([" ".join(first), *(f"under {which} it {how}" for which, how in others)])


def techniques(panel: Panel) -> str:
    """Opens the chapter of techniques for one panel."""
    texts = []
    for technique in Technique:
        found = choose([panel], technique, CPU)
        value = found.mean(COMPUTING) if found else None
        if found is not None and value is not None:
            how = cost(value, wall=panel.wall, besides=interrupts(found, COMPUTING))
            texts.append(f"under {code(found.variant)} computing {how}")
    if not texts:
        return "No workload of computing was measured here."
    return sentence(texts)


def io(panel: Panel) -> str:
    """Opens the chapter of input and output for one panel: the cost of an operation. Throughput is
    its inverse and another set of workloads, so the two never meet in one sentence."""
    texts = []
    for name, of in (("disk", DISK_OPERATIONS), ("network", NETWORK_OPERATIONS)):
        found, open_ = rated(panel, of), undecided(panel, of)
        if found:
            best, worst = min(found), max(found)
            what = " native's time" if panel.wall else " native's instructions"
            text = f"{name} operations cost {_by(best, what)}"
            texts.append(text if worst == best else f"{text} and {_by(worst)}")
        names = f"undecided under {', '.join(map(code, open_))}"
        if open_ and found:
            texts[-1] += f" ({names})"
        elif open_:
            texts.append(f"{name} operations are {names}")
    return sentence(texts) if texts else "No operation of disk or network has a ratio to native."


def rated(panel: Panel, of: ReferenceSet) -> list[tuple[float, str, str]]:
    """Ratio, variant and doubt of each variant that measured as many workloads of the set as the
    one that measured most: means over other workloads cannot be compared with it. Without those
    that are undecided."""
    return [
        (value.ratio, variant, doubt(value))
        for variant, value in _means(panel, of)
        if not stats.undecided(value)
    ]


def undecided(panel: Panel, of: ReferenceSet) -> list[str]:
    """The variants beside those that are `rated`: their intervals say nothing."""
    return [variant for variant, value in _means(panel, of) if stats.undecided(value)]


def cheapest_of(panel: Panel, of: ReferenceSet) -> list[tuple[stats.Overhead, str]]:
    """The variant that costs least, with all that may cost less: their intervals overlap with its
    own, or a workload surely costs less under them. Cheapest first; empty where all are undecided.
    Means are over the workloads that all variants measured, because means over different workloads
    cannot be compared."""
    items = shared(panel, of)
    means = sorted(
        (
            (mean.overhead, variant)
            for variant, each in items.items()
            if (mean := stats.geometric_mean(each)) is not None
        ),
        key=lambda each: each[0].ratio,
    )
    known = [each for each in means if not stats.undecided(each[0])]
    if not known:
        return []
    best = known[0]
    return [
        each
        for each in means
        if each is best
        or not parted(each[0], best[0])
        or _cheaper_in_one(panel, items[each[1]], items[best[1]])
    ]


def shared(panel: Panel, of: ReferenceSet) -> dict[str, list[Item]]:
    """By variant, the items of those workloads that all variants measured that have any."""
    items = {v: {item.workload: item for item in measured(panel, v, of)} for v in panel.variants()}
    items = {variant: each for variant, each in items.items() if each}
    common = set.intersection(*map(set, items.values())) if items else set()
    return {
        variant: [item for name, item in each.items() if name in common]
        for variant, each in items.items()
    }


def _cheaper_in_one(panel: Panel, others: Sequence[Item], best: Sequence[Item]) -> bool:
    """Whether a workload costs surely less than under what is best in the mean."""
    for one, other in zip(best, others, strict=True):
        a, b = panel.overheads[one.name], panel.overheads[other.name]
        if b.ratio < a.ratio and parted(a, b):
            return True
    return False


def _means(panel: Panel, of: ReferenceSet) -> list[tuple[str, stats.Overhead]]:
    counts = {v: len(measured(panel, v, of)) for v in panel.variants()}
    return [
        (variant, value)
        for variant, count in counts.items()
        if count == max(counts.values()) and (value := Choice(panel, variant).mean(of)) is not None
    ]


def _by(each: tuple[float, str, str], of: str = "") -> str:
    ratio, variant, doubtful = each
    return f"{_figure(ratio)} times{of} under {code(variant)}{doubtful}"


def boots(panel: Panel, medians: dict[str, float]) -> str:
    """Opens the chapter of boots: the quickest and the slowest variant, in seconds to a command."""
    order = sorted(medians, key=lambda variant: (medians[variant], variant))
    quick, slow = order[0], order[-1]
    clock = "" if panel.wall else " of the testbed's clock"
    text = f"{code(quick)} has run a command {number(medians[quick])} s{clock} after its launch"
    if slow != quick:
        text += f", {code(slow)} after {number(medians[slow])} s"
    return f"{text}."


def sentence(parts: list[str]) -> str:
    """These parts as one sentence."""
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."
