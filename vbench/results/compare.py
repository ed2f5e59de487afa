"""Two sets of results: what became slower, and whether that could have been seen. Pure.

Series are matched by workload, variant and class of machine, never by host name. A change of
what varies counts only if it is significant (Holm-corrected over all rows) *and* larger than the
limit; counts that repeat exactly are compared exactly. Overheads are compared wherever there are
any: native ran beside the guest, so a slower machine cancels out. Seconds decide only where there
is no overhead (boots, latencies, networks without a native partner) and the CPUs are known.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from vbench.errors import UsageError
from vbench.model import Item, Result, Statistic, Status, TimeBase
from vbench.results import change, conditions, identity, moderation, significance, stats
from vbench.results.change import Change, Count, Machines
from vbench.results.comparison import ENOUGH_UNITS, Comparison, Row, Verdict
from vbench.results.exactness import NEARLY, is_estimate, repeats_within
from vbench.results.formatting import plural
from vbench.results.sides import Class, Name, Series, Side
from vbench.results.stats import CONFIDENCE

# The quantiles that are compared; the largest of all is too wild to tell anything.
_QUANTILES = ("p50", "p99")
# What "no difference" means where no limit is given: the two sides differ by less than this.
EQUIVALENT_PERCENT = 5.0

# What an item with samples says of a boot that it lost.
_LOST = re.compile(r"(?:^|; )(boot \d+: [^;]+)")

_Logs = Callable[[Item], Mapping[int, Sequence[float]]]


def compare(
    base: Sequence[Result],
    new: Sequence[Result],
    fail_above_percent: float | None,
    *,
    allow_missing: bool = False,
    across: Collection[str] = (),
    paired: bool = False,
    earlier: Sequence[Sequence[Result]] = (),
) -> Comparison:
    """Compare each series of `new` with the same one of `base`.

    `fail_above_percent`: how much slower is still tolerated; None tolerates nothing that is
    significant, and never fails. `allow_missing`: rows that cannot be compared do not fail it.
    `across`: keys of a machine class (`identity.CLASS_KEYS`) in which machines may differ.
    `paired`: boots of one number were measured one after the other, on both sides.
    `earlier`: runs before `base`. They add samples to its series where class of machine, workload
    and settings are the same, so that what lies between runs is known. Each run of a machine is
    then one unit; of a series that has fewer than ENOUGH_UNITS `base` alone is compared. It alone
    says what must be in `new`, and it alone is compared where counts repeat exactly.
    Raises UsageError for a negative limit.
    """
    if fail_above_percent is not None and not fail_above_percent >= 0:
        raise UsageError(
            f"a limit of {fail_above_percent:g} % makes no sense",
            remedy="name how many per cent slower is tolerated, such as --fail-above 5",
        )
    old, young = Side(base, across), Side(new, across)
    seen, left_out = [*base], []
    for i, results in enumerate(earlier):
        fresh = [result for result in results if result not in seen]  # a copy is no repetition
        seen += fresh
        left_out.append(old.add_run(i, Side(fresh, across)))
    shared = sorted(old.machines.keys() & young.machines.keys())
    names = {kind: f"M{number}" for number, kind in enumerate(shared, 1)}  # A, B are variants
    rows: list[Row] = []
    for name in sorted(old.series.keys() | young.series.keys()):
        rows += _series_rows(old, young, name, names, paired)
    rows = _judged(rows, fail_above_percent)
    order = list(Verdict)
    rows.sort(key=lambda r: (order.index(r.verdict), r.workload, r.variant, r.machines, r.quantity))
    return Comparison(
        rows=tuple(rows),
        machines=tuple(_described(old, young, kind, names[kind]) for kind in shared),
        warnings=(*_warnings(old, young, rows), *_unlike(left_out)),
        runs=1 + len(earlier),
        fail_above_percent=fail_above_percent,
        allow_missing=allow_missing,
    )


def _described(old: Side, young: Side, kind: Class, called: str) -> str:
    keys = ", ".join(f"{name} {value or 'unknown'}" for name, value in kind)
    counts = f"{len(old.machines[kind])} in BASE, {len(young.machines[kind])} in NEW"
    return f"machines {called} ({counts}): {keys}"


def _warnings(old: Side, young: Side, rows: Sequence[Row]) -> list[str]:
    """What differs between the sides without forbidding the comparison."""
    found = []
    for one, other, where, there in ((old, young, "BASE", "NEW"), (young, old, "NEW", "BASE")):
        found += [f"{where} is partial: {run}" for run in one.partial]
        for kind in sorted(one.machines.keys() - other.machines.keys()):
            count = plural(len(one.machines[kind]), "machine")
            keys = ", ".join(_nearest(kind, other.machines))
            found.append(f"{count} of {where} without one of its class in {there}: {keys}")
    found += sorted(_built_otherwise(old, young))
    for kind in sorted(old.hosts.keys() & young.hosts.keys()):
        differ = conditions.facts(old.hosts[kind], young.hosts[kind])
        found += [f"the hosts of BASE and NEW differ: {each}" for each in differ]
    wall = TimeBase.WALL  # counts depend on no machine
    lone = [r for r in rows if r.change and r.change.alone and r.time_base is wall]
    if lone:
        found.append(
            f"{plural(len(lone), 'row')} with one machine on each side, and not the same one: "
            "the intervals do not contain the difference between machines"
        )
    return found


def _unlike(left_out: Sequence[Mapping[str, Collection[str]]]) -> Iterator[str]:
    """What earlier runs could not add."""
    variants: dict[str, dict[str, None]] = {}
    for of in left_out:
        for why, names in of.items():
            variants.setdefault(why, {}).update(dict.fromkeys(names))
    for why, names in variants.items():
        runs = plural(sum(why in of for of in left_out), "earlier run")
        yield f"{runs} left out, being unlike the newest of BASE, {why}: {', '.join(names)}"


def _nearest(kind: Class, others: Collection[Class]) -> list[str]:
    """The keys in which a class differs from the one that is most like it."""
    found = [identity.differing(dict(kind), dict(other)) for other in others]
    return min(found, key=len, default=["it has no results"])


def _built_otherwise(old: Side, young: Side) -> list[str]:
    """Image, versions and device settings that differ, each with the variants it is true of."""
    variants: dict[str, dict[str, None]] = {}
    for name in sorted(old.series.keys() & young.series.keys()):
        before, after = old.measured(name), young.measured(name)
        for kind in before.keys() & after.keys():
            both = [{**of[kind].key, "definition": ""} for of in (before, after)]
            for key in identity.differing(*both):
                variants.setdefault(key, {})[name[1]] = None
    return [f"{key}: {', '.join(of)}" for key, of in variants.items()]


# ---------------------------------------------------------------- one series


def _series_rows(
    old: Side, young: Side, name: Name, names: Mapping[Class, str], paired: bool
) -> list[Row]:
    known = next(
        item for side in (young, old) for of in side.series.get(name, {}).values()
        for item in of.items.values()
    )  # fmt: skip
    workload, variant, base = name
    blank = Row(workload, variant, known.category, Verdict.UNUSABLE, time_base=base)
    before, after = old.measured(name), young.measured(name)
    failed = young.statuses(name, Status.FAILED)
    rows = []
    if failed:
        where = "" if not after else f"on {len(failed)} machines: "
        rows.append(replace(blank, verdict=Verdict.FAILED, note=where + failed[0].reason))
    shared = sorted(before.keys() & after.keys())
    for kind in shared:
        labelled = replace(blank, machines=names[kind])
        rows += _class_rows(labelled, dict(kind), before[kind], after[kind], paired)
    if shared:
        return rows + _lost_classes(blank, old, young, name)
    if failed and not after:
        return rows
    if before and after:
        keys = min((_nearest(kind, after) for kind in before), key=len)
        note = "no machines of one class: " + ", ".join(keys)
        rows.append(replace(blank, verdict=Verdict.REFUSED, note=note))
    elif before:
        unsupported = young.statuses(name, Status.UNSUPPORTED)
        note = f"unsupported: {unsupported[0].reason}" if unsupported else "not in NEW"
        rows.append(replace(blank, verdict=Verdict.MISSING, note=note))
    elif after:
        lost = old.statuses(name, Status.FAILED) + old.statuses(name, Status.UNSUPPORTED)
        note = f"was {lost[0].status.value}: {lost[0].reason}" if lost else "not in BASE"
        rows.append(replace(blank, verdict=Verdict.NEW, note=note))
    return rows


def _lost_classes(blank: Row, old: Side, young: Side, name: Name) -> list[Row]:
    """A row for each class of machine of BASE on which NEW neither measured the series nor failed
    to: a failure has its row already."""
    after = young.measured(name)
    failed = {of for of, one in young.series[name].items() if one.having(Status.FAILED)}
    return [
        replace(
            blank,
            verdict=Verdict.MISSING,
            note="not in NEW on such machines: " + ", ".join(_nearest(kind, after)),
        )
        for kind in sorted(old.measured(name).keys() - after.keys() - failed)
    ]


def _class_rows(
    blank: Row, kind: identity.Key, base: Series, new: Series, paired: bool
) -> list[Row]:
    """Rows of a series that both sides measured on machines of one class."""
    for series, where in ((base, "BASE"), (new, "NEW")):
        if series.conflicts:
            note = f"the files of {where} differ: {', '.join(series.conflicts)}"
            return [replace(blank, verdict=Verdict.REFUSED, note=note)]
    definitions = ({"definition": of.key["definition"]} for of in (base, new))
    if other := identity.differing(*definitions):
        return [replace(blank, verdict=Verdict.REFUSED, note=f"another workload: {other[0]}")]
    latest, before, after = base.newest(), base.measured(), new.measured()
    if len(before) < ENOUGH_UNITS:
        before = latest  # two runs hardly tell how far apart runs are
    first = next(iter(after.values()))
    if unlike := conditions.unlike(before.values(), after.values(), paired=paired):
        return [replace(blank, verdict=Verdict.REFUSED, note=unlike)]
    exits = base.exits(), new.exits()
    changed = tuple(change.changed_exits(*exits)) if all(exits) else None
    lost = [
        f"{where} lost {each}"
        for where, of in (("BASE", before), ("NEW", after))
        for item in of.values()
        for each in _LOST.findall(item.reason)
    ]
    said = conditions.notes(before.values(), after.values())
    counts = (len(before), len(after))
    no_count = is_estimate(first)
    said = [*lost, *said, "no exact count" if no_count else ""]
    blank = replace(blank, counts=counts, exits=changed, note=_and(*said), estimate=no_count)
    items = [*before.values(), *after.values()]
    shares = [repeats_within(item) for item in items]
    within = max(shares) if all(shares) else 0.0
    rows = []
    known = identity.cpu_known(kind)
    for quantity, logs in _quantities(first, items, known):
        newest, *sides = [_machines(of, logs) for of in (latest, before, after)]
        row = replace(blank, quantity=quantity)
        counted = _counted(row, change.count(newest), change.count(sides[1]), within)
        unit = "run" if len(sides[0]) > len(newest) else "machine"
        rows.append(counted or _row(row, sides[0], sides[1], paired, unit))
    why = "no overhead, and seconds are of unknown or unlike CPUs"
    return rows or [replace(blank, note=_and(blank.note, why))]


def _machines(items: Mapping[tuple[str, ...], Item], logs: _Logs) -> Machines:
    """Without machines that have no usable sample, such as one that is not a number."""
    found = {machine: logs(item) for machine, item in items.items()}
    return {machine: boots for machine, boots in found.items() if boots}


def _quantities(first: Item, items: Sequence[Item], cpu_known: bool) -> list[tuple[str, _Logs]]:
    """What is compared of a series: its overhead if all have one, else seconds or counts; nothing
    where seconds of unknown CPUs are all there is."""
    counted = first.time_base is TimeBase.INSTRUCTIONS
    unit = "instructions" if counted else "seconds"
    ratios = first.statistic is Statistic.RATIO and not counted
    if ratios and all(stats.log_ratios(item.pairs) for item in items):
        return [("overhead", lambda item: stats.log_ratios(item.pairs))]
    if not (counted or cpu_known):
        return []
    if first.statistic is Statistic.QUANTILES:
        # which event of a hundred meets an interrupt says nothing of what the event itself costs
        names = _QUANTILES[:1] if counted else _QUANTILES
        return [(f"{name} {unit}", _quantile(name)) for name in names]
    return [(unit, lambda item: stats.log_guest(item.pairs))]


def _quantile(name: str) -> _Logs:
    """Logarithms of the guest's quantile by boot."""

    def logs(item: Item) -> dict[int, list[float]]:
        boots: dict[int, list[float]] = {}
        for pair in item.pairs:
            value = pair.quantiles.get(name, (None, 0.0))[1]
            if value > 0:
                boots.setdefault(pair.boot, []).append(math.log(value))
        return boots

    return logs


def _row(blank: Row, base: Machines, new: Machines, paired: bool, unit: str) -> Row:
    note = blank.note
    if paired:
        base, new, alone = _partners(base, new)
        note = _and(note, *alone)
    found = change.change(base, new, paired=paired, unit=unit)
    if found is None:
        return replace(blank, note=note)
    # What does not vary at all, or is an estimate and varies by less, was told in a clock's steps.
    if blank.estimate or (found.df and found.variance < 1e-12):
        found = replace(found, variance=max(found.variance, NEARLY**2))
    old = change.typical(base)
    if not found.df:
        note = _and(note, "one boot on a side: the next may differ by more")
    return replace(blank, base=old, new=old * found.ratio, change=found, note=note)


def _and(*notes: str) -> str:
    return "; ".join(filter(None, notes))


def _partners(base: Machines, new: Machines) -> tuple[Machines, Machines, list[str]]:
    """The boots of which both sides have samples, and a sentence for those of one side alone."""
    sides = {"BASE": base, "NEW": new}
    boots = {where: {boot for of in side.values() for boot in of} for where, side in sides.items()}
    shared = boots["BASE"] & boots["NEW"]
    alone = {where: sorted(of - shared) for where, of in boots.items()}
    notes = [
        f"only {where} has boot {', '.join(str(boot + 1) for boot in of)}, which is left out"
        for where, of in alone.items()
        if of
    ]
    old, young = (
        {machine: kept for machine, of in side.items()
         if (kept := {boot: logs for boot, logs in of.items() if boot in shared})}
        for side in (base, new)
    )  # fmt: skip
    return old, young, notes


def _counted(blank: Row, base: Count | None, new: Count | None, within: float) -> Row | None:
    """Counts that repeat `within` that share on both sides, else None: a change is one of more."""
    if not within or base is None or new is None:
        return None
    if not (base.repeats(within) and new.repeats(within)):
        return None
    ratio = new.value / base.value
    row = replace(blank, base=base.value, new=new.value, smallest=within)
    if abs(ratio - 1) <= within:
        note = _and(row.note, f"to {100 * within:.2g} %")
        return replace(row, verdict=Verdict.SAME, note=note)
    return replace(row, verdict=Verdict.WITHIN if ratio > 1 else Verdict.IMPROVEMENT)


def _judged(rows: Sequence[Row], limit: float | None) -> list[Row]:
    """With Holm-corrected p over all rows that have one, and the verdict that follows."""
    rows = _moderated(rows)
    p = {i: p for i, row in enumerate(rows) if row.change and (p := row.change.p) is not None}
    adjusted = dict(zip(p, significance.holm(list(p.values())), strict=True))
    level = (1 - CONFIDENCE) / max(1, len(p))  # what Holm asks of the smallest p
    judged = []
    for i, row in enumerate(rows):
        if row.verdict is Verdict.WITHIN and (row.percent or 0) > (limit or 0):  # counted
            judged.append(replace(row, verdict=Verdict.REGRESSION))
        elif row.change is None:
            judged.append(row)
        else:
            tested = replace(row, p=adjusted.get(i), smallest=row.change.smallest(level))
            decided = replace(tested, verdict=_verdict(tested, limit))
            judged.append(replace(decided, hides=_hides(decided, limit)))
    return judged


def _moderated(rows: Sequence[Row]) -> list[Row]:
    """With variances that borrow from those of the same category, measured in the same way."""
    groups: dict[tuple[str, ...], dict[int, Change]] = {}
    for i, row in enumerate(rows):
        if row.change and row.change.df:
            alike = (row.category, row.machines, row.quantity, row.change.unit)
            groups.setdefault(alike, {})[i] = row.change
    result = list(rows)
    for group in groups.values():
        drawn = moderation.moderated([(change.variance, change.df) for change in group.values()])
        for (i, known), (variance, df) in zip(group.items(), drawn, strict=True):
            result[i] = replace(rows[i], change=replace(known, variance=variance, df=df))
    return result


def _hides(row: Row, limit: float | None) -> str:
    """Why a row without a verdict may well be a regression; "" also where no limit was given."""
    if row.change is None or row.p is None or limit is None:
        return ""
    if row.verdict not in (Verdict.UNDECIDED, Verdict.TOO_FEW):
        return ""
    return row.change.hides((limit or EQUIVALENT_PERCENT) / 100)


def _verdict(row: Row, limit: float | None) -> Verdict:
    if row.p is None or row.change is None:
        return Verdict.TOO_FEW
    if row.p < 1 - CONFIDENCE:
        if row.change.ratio <= 1:
            return Verdict.IMPROVEMENT
        above = 100 * (row.change.ratio - 1) > (limit or 0)
        return Verdict.REGRESSION if above else Verdict.WITHIN
    if row.change.within((limit or EQUIVALENT_PERCENT) / 100):
        return Verdict.SAME
    return Verdict.TOO_FEW if row.change.repeats < ENOUGH_UNITS else Verdict.UNDECIDED
