"""Two sets of results: what became slower. Pure.

A change counts only if it is significant (Holm-corrected over all rows) *and* larger than the
limit. Overheads are compared wherever there are any: native ran beside the guest, so a slower
machine cancels out. Seconds are compared only between machines with the same CPU, and decide
only where there is no overhead (boots, latencies, networks without a native partner).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from tabulate import tabulate

from vbench.errors import UsageError
from vbench.model import HostFacts, Item, Pair, Result, Statistic, Status, TimeBase
from vbench.results import significance, stats
from vbench.results.formatting import NOTHING, duration, number, times
from vbench.results.merge import boots_used, distinct, joined, moved
from vbench.results.significance import Difference
from vbench.results.stats import CONFIDENCE

# The quantiles that are compared; the largest of all is too wild to tell anything.
_QUANTILES = ("p50", "p99")

Logs = Mapping[int, Sequence[float]]  # logarithms by boot


class Verdict(StrEnum):
    """What a row says, the gravest first."""

    REGRESSION = "regression"
    REFUSED = "refused"
    MISSING = "missing"
    UNKNOWN = "not comparable"
    WITHIN = "slower, within the limit"
    IMPROVEMENT = "improvement"
    NEW = "new"
    SAME = "no significant difference"


@dataclass(frozen=True)
class Row:
    """One series compared. `change` is new / base; `p` is Holm-corrected."""

    host: str
    workload: str
    variant: str
    quantity: str  # "overhead", "seconds", "p99 seconds"; empty where nothing is compared
    verdict: Verdict
    base: float | None = None
    new: float | None = None
    change: Difference | None = None
    seconds: Difference | None = None  # guest seconds, where the machines are alike
    p: float | None = None
    note: str = ""
    time_base: TimeBase = TimeBase.WALL


@dataclass(frozen=True)
class Comparison:
    """All rows, the gravest first, and what a reader must know of the two sides."""

    rows: tuple[Row, ...]
    warnings: tuple[str, ...]
    fail_above_percent: float | None

    @property
    def regressions(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.verdict is Verdict.REGRESSION)

    @property
    def failed(self) -> bool:
        """Whether a limit was given and a regression passes it."""
        return self.fail_above_percent is not None and bool(self.regressions)

    @property
    def compared(self) -> int:
        """Rows with a verdict from numbers; 0 means that nothing could be compared."""
        return sum(row.p is not None for row in self.rows)

    def summary(self) -> str:
        """One line: how many rows got which verdict."""
        counts = Counter(row.verdict for row in self.rows)
        told = ", ".join(f"{counts[v]} {v.value}" for v in Verdict if counts[v])
        return told or "nothing to compare"

    def render(self) -> str:
        """For a terminal."""
        lines = [f"warning: {warning}" for warning in self.warnings]
        body = tabulate(self._cells(), _HEADINGS, tablefmt="simple", disable_numparse=True)
        return "\n".join([*lines, body, "", self.summary()]) + "\n"

    def _cells(self) -> list[list[str]]:
        return [
            [
                row.verdict.value,
                row.workload,
                row.variant,
                row.host,
                row.quantity or NOTHING,
                _value(row, row.base),
                _value(row, row.new),
                _percent(row.change),
                NOTHING if row.p is None else f"{row.p:.3f}" if row.p >= 0.001 else "<0.001",
                row.note or (f"seconds {_percent(row.seconds)}" if row.seconds else NOTHING),
            ]
            for row in self.rows
        ]


_HEADINGS = (
    "Verdict",
    "Workload",
    "Variant",
    "Host",
    "Compared",
    "Base",
    "New",
    "Change",
    "p",
    "Note",
)


def _value(row: Row, value: float | None) -> str:
    if value is None:
        return NOTHING
    return times(value) if row.quantity == "overhead" else duration(value, row.time_base)


def _percent(change: Difference | None) -> str:
    if change is None:
        return NOTHING

    def signed(ratio: float) -> str:
        percent = 100 * (ratio - 1)
        return ("+" if percent >= 0 else "") + number(percent)

    text = f"{signed(change.ratio)} %"
    if change.low is None or change.high is None:
        return text
    return f"{text} [{signed(change.low)}, {signed(change.high)}]"


# ---------------------------------------------------------------- comparing


def compare(
    base: Sequence[Result], new: Sequence[Result], fail_above_percent: float | None
) -> Comparison:
    """Compare each series of `new` with the same one of `base`.

    `fail_above_percent`: how much slower is still tolerated; None tolerates nothing that is
    significant, and never fails. Raises UsageError for a negative limit.
    """
    if fail_above_percent is not None and not fail_above_percent >= 0:
        raise UsageError(
            f"a limit of {fail_above_percent:g} % makes no sense",
            remedy="name how many per cent slower is tolerated, such as --fail-above 5",
        )
    old, young = _Side(base), _Side(new)
    warnings: list[str] = []
    rows: list[Row] = []
    for host, other in _matches(old.hosts, young.hosts):
        rows += _host_rows(old, young, host, other, warnings)
    judged = _judged(rows, fail_above_percent)
    order = list(Verdict)
    judged.sort(key=lambda r: (order.index(r.verdict), r.host, r.workload, r.variant, r.quantity))
    return Comparison(tuple(judged), tuple(warnings), fail_above_percent)


class _Side:
    """One side's hosts and series; several files of a series add their boots."""

    def __init__(self, results: Sequence[Result]) -> None:
        self.hosts: dict[str, HostFacts] = {}
        self.images: dict[str, set[str]] = {}
        self.items: dict[str, dict[tuple[str, str], Item]] = {}
        self.clashes: set[tuple[str, str, str]] = set()
        boots: dict[tuple[str, str], int] = {}
        for result in distinct(results):
            identity = f"{result.host.identity}, {result.host.time_base.value}"
            self.hosts.setdefault(identity, result.host)
            self.images.setdefault(identity, set()).add(result.image)
            items = self.items.setdefault(identity, {})
            offset = boots.get((identity, result.variant), 0)
            boots[identity, result.variant] = offset + boots_used(result)
            for item in result.items:
                key = (item.workload, item.variant)
                known = items.get(key)
                further = moved(item, offset)
                if known is not None and known.definition != item.definition:
                    self.clashes.add((identity, *key))
                else:
                    items[key] = further if known is None else joined(known, further)


def _matches(
    base: Mapping[str, HostFacts], new: Mapping[str, HostFacts]
) -> list[tuple[str | None, str | None]]:
    """Which host of one side belongs to which of the other.

    By identity; a host left over belongs to the only one of its kind and clock left over on the
    other side, as CI runners have another name each time.
    """
    pairs: list[tuple[str | None, str | None]] = [(name, name) for name in base if name in new]
    left = sorted(name for name in base if name not in new)
    right = sorted(name for name in new if name not in base)
    for name in left:
        kin = [other for other in right if _kind(new[other]) == _kind(base[name])]
        rivals = [other for other in left if _kind(base[other]) == _kind(base[name])]
        if len(kin) == 1 and len(rivals) == 1:
            pairs.append((name, kin[0]))
        else:
            pairs.append((name, None))
    taken = {other for _, other in pairs}
    return pairs + [(None, other) for other in right if other not in taken]


def _kind(host: HostFacts) -> tuple[str, str]:
    return host.kind.value, host.time_base.value


def _alike(base: HostFacts, new: HostFacts) -> bool:
    """The same CPU, and as many: an unknown one is not the same."""
    both = [(base.facts.get(name), new.facts.get(name)) for name in ("cpu_model", "cpus")]
    return all(a == b and a not in (None, "", "unknown") for a, b in both)


def _warn(old: _Side, young: _Side, base: str, new: str, warnings: list[str]) -> None:
    a, b = old.hosts[base], young.hosts[new]
    if a.identity != b.identity:
        warnings.append(f"{a.identity} is compared with {b.identity}")
    for name, what in (("cpu_model", "CPU"), ("cpus", "number of CPUs"), ("kernel", "host kernel")):
        before, after = a.facts.get(name, "unknown"), b.facts.get(name, "unknown")
        if before != after:
            warnings.append(f"another {what} on {b.identity}: {before}, now {after}")
    if not _alike(a, b):
        warnings.append(f"{b.identity}: only overheads are compared, seconds are not")
    if old.images[base] != young.images[new]:
        warnings.append(
            f"another image on {b.identity}: {', '.join(sorted(old.images[base]))}, now "
            + ", ".join(sorted(young.images[new]))
        )


def _host_rows(
    old: _Side, young: _Side, base: str | None, new: str | None, warnings: list[str]
) -> list[Row]:
    before = old.items[base] if base else {}
    after = young.items[new] if new else {}
    alike = False
    if base and new:
        _warn(old, young, base, new, warnings)
        alike = _alike(old.hosts[base], young.hosts[new])
    where = (young.hosts[new] if new else old.hosts[base or ""]).identity
    rows: list[Row] = []
    for key in sorted({*before, *after}):
        blank = Row(where, *key, quantity="", verdict=Verdict.UNKNOWN)
        clash = (base, *key) in old.clashes or (new, *key) in young.clashes
        rows += _series_rows(blank, before.get(key), after.get(key), alike, clash)
    return rows


def _series_rows(
    blank: Row, base: Item | None, new: Item | None, alike: bool, clash: bool
) -> list[Row]:
    old_ok = base is not None and base.status is Status.OK
    new_ok = new is not None and new.status is Status.OK
    if base is not None and new is not None and old_ok and new_ok:
        if not clash and base.definition == new.definition:
            return _compared(replace(blank, time_base=new.time_base), base, new, alike)
        note = f"another workload definition: {base.definition[:19]}, now {new.definition[:19]}"
        if clash:
            note = "one side's files have several workload definitions"
        return [replace(blank, verdict=Verdict.REFUSED, note=note)]
    if old_ok:
        note = f"{new.status.value}: {new.reason}" if new else "not in the new results"
        return [replace(blank, verdict=Verdict.MISSING, note=note)]
    if new_ok:
        note = f"was {base.status.value}: {base.reason}" if base else "not in the base results"
        return [replace(blank, verdict=Verdict.NEW, note=note)]
    return []  # measured on neither side


def _compared(blank: Row, base: Item, new: Item, alike: bool) -> list[Row]:
    """Rows of a series that both sides measured: overhead first, seconds of like machines."""
    if new.statistic is Statistic.QUANTILES:
        if not alike:
            return [replace(blank, note="latencies of unlike machines")]
        return [
            _row(blank, f"{name} seconds", _quantile(base.pairs, name), _quantile(new.pairs, name))
            for name in _QUANTILES
        ]
    seconds = (stats.log_guest(base.pairs), stats.log_guest(new.pairs))
    ratios = (stats.log_ratios(base.pairs), stats.log_ratios(new.pairs))
    if new.statistic is Statistic.RATIO and all(ratios):
        row = _row(blank, "overhead", *ratios)
        return [replace(row, seconds=significance.difference(*seconds))] if alike else [row]
    if not alike:
        return [replace(blank, note="no overhead, and seconds of unlike machines")]
    return [_row(blank, "seconds", *seconds)]


def _quantile(pairs: Sequence[Pair], name: str) -> dict[int, list[float]]:
    """Logarithms of the guest's quantile by boot."""
    boots: dict[int, list[float]] = {}
    for pair in pairs:
        value = pair.quantiles.get(name, (None, 0.0))[1]
        if value > 0:
            boots.setdefault(pair.boot, []).append(math.log(value))
    return boots


def _row(blank: Row, quantity: str, base: Logs, new: Logs) -> Row:
    change = significance.difference(base, new)
    return replace(
        blank,
        quantity=quantity,
        base=stats.typical(base),
        new=stats.typical(new),
        change=change,
        p=change.p if change else None,
        note="" if change and change.p is not None else "too few samples to judge",
    )


def _judged(rows: Sequence[Row], limit: float | None) -> list[Row]:
    """With Holm-corrected p over all rows that have one, and the verdict that follows."""
    tested = [i for i, row in enumerate(rows) if row.p is not None]
    adjusted = dict(zip(tested, significance.holm([rows[i].p or 0.0 for i in tested]), strict=True))
    judged = []
    for i, row in enumerate(rows):
        if i not in adjusted or row.change is None:
            judged.append(row)
            continue
        verdict = Verdict.SAME
        if adjusted[i] < 1 - CONFIDENCE:
            percent = 100 * (row.change.ratio - 1)
            if percent <= 0:
                verdict = Verdict.IMPROVEMENT
            else:
                verdict = Verdict.REGRESSION if percent > (limit or 0) else Verdict.WITHIN
        judged.append(replace(row, p=adjusted[i], verdict=verdict))
    return judged
