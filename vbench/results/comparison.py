"""What a comparison found: rows, the gate's verdict, and both as text for a terminal. Pure."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from tabulate import tabulate

from vbench.model import CATEGORIES, TimeBase
from vbench.results.change import POWER, Change
from vbench.results.formatting import NOTHING, measure, number, plural, signed, times
from vbench.results.stats import CONFIDENCE

# Exit statuses; 2, 3 and 5 are the errors' own.
PASSED, REGRESSED, NOT_COMPARED, UNDECIDED = 0, 1, 4, 6


class Verdict(StrEnum):
    """What a row says, the gravest first."""

    REGRESSION = "regression"
    FAILED = "failed"
    REFUSED = "refused"
    MISSING = "missing"
    UNUSABLE = "no usable samples"
    WITHIN = "slower, within the limit"
    IMPROVEMENT = "improvement"
    NEW = "new"
    TOO_FEW = "too few boots"
    UNDECIDED = "undecided"
    SAME = "no difference"


# A series that was not compared may hide any regression.
_NOT_COMPARED = (Verdict.FAILED, Verdict.REFUSED, Verdict.MISSING, Verdict.UNUSABLE)
# With fewer boots (or machines) on a side, Student's t is so large that little can be found.
ENOUGH_UNITS = 3
_FEW_RUNS = f"a series with fewer than {ENOUGH_UNITS} is compared with the newest alone"
_CHANGED = (Verdict.REGRESSION, Verdict.WITHIN, Verdict.IMPROVEMENT)
_JUDGED = (*_CHANGED, Verdict.SAME)


@dataclass(frozen=True)
class Row:
    """One series compared on the machines of one class.

    `base` and `new` are overheads, seconds per unit of work, or instructions as seconds of
    1e9. `p` is Holm-corrected over all rows; counts that repeat exactly have none. `smallest` is
    the change, as a share, that could have been found.
    """

    workload: str
    variant: str
    category: str
    verdict: Verdict
    machines: str = ""  # the name of their class; "" where nothing is compared
    counts: tuple[int, int] = (0, 0)  # machines of base and new, or runs of such
    quantity: str = ""  # "overhead", "seconds", "p99 seconds", "instructions"
    time_base: TimeBase = TimeBase.WALL
    base: float | None = None
    new: float | None = None
    change: Change | None = None
    p: float | None = None
    smallest: float | None = None
    note: str = ""
    hides: str = ""  # why a regression above the limit may well be there, though none was shown
    # how the numbers of exits per unit of work changed, by reason; None if a side counted none
    exits: tuple[str, ...] | None = None
    # counted instructions of what is no exact count: no boots of ordinary number decide it
    estimate: bool = False

    @property
    def says(self) -> str:
        """The note; of a change, also what became of the exits."""
        if self.exits is None or self.verdict not in _CHANGED:
            return "; ".join(filter(None, (self.hides, self.note)))
        exits = f"exits: {', '.join(self.exits)}" if self.exits else "no exit reason changed"
        return f"{self.note}; {exits}" if self.note else exits

    @property
    def percent(self) -> float | None:
        """How much slower the new side is; negative where it is faster."""
        if self.base is None or self.new is None:
            return None
        return 100 * (self.new / self.base - 1)

    @property
    def not_compared(self) -> bool:
        """Whether the row may hide any regression: nothing was compared, or nothing could be
        tested."""
        untested = self.verdict is Verdict.TOO_FEW and self.p is None and not self.estimate
        return (untested and not self.undecided) or self.verdict in _NOT_COMPARED

    @property
    def undecided(self) -> bool:
        """Whether NEW is to blame that nothing could be judged: it has too few boots where BASE has
        enough, or it may well hide a regression above the limit. Never of an estimate."""
        if self.estimate:
            return False
        if self.verdict is Verdict.TOO_FEW and self.change is not None:
            return bool(self.hides) or self.change.repeats < ENOUGH_UNITS <= self.change.units[0]
        return bool(self.hides)


@dataclass(frozen=True)
class Comparison:
    """All rows, the gravest first, and what a reader must know of the two sides."""

    rows: tuple[Row, ...]
    machines: tuple[str, ...]  # each class of machine that was compared, in words
    warnings: tuple[str, ...]
    fail_above_percent: float | None
    allow_missing: bool
    runs: int = 1  # of BASE

    @property
    def regressions(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.verdict is Verdict.REGRESSION)

    @property
    def not_compared(self) -> tuple[Row, ...]:
        """Rows that were not compared, and may hide a regression."""
        return tuple(row for row in self.rows if row.not_compared)

    @property
    def undecided(self) -> tuple[Row, ...]:
        """Rows that were compared and may well hide a regression above the limit."""
        return tuple(row for row in self.rows if row.undecided)

    @property
    def judged(self) -> int:
        """Rows that have a verdict."""
        return sum(row.verdict in _JUDGED for row in self.rows)

    @property
    def _blank(self) -> bool:
        """Whether nothing at all could be compared."""
        return not any(row.verdict in (*_JUDGED, Verdict.UNDECIDED) for row in self.rows)

    @property
    def status(self) -> int:
        """PASSED, REGRESSED, UNDECIDED or NOT_COMPARED, the gravest that is true. Without a limit
        only that nothing at all could be compared is a failure."""
        if self.fail_above_percent is not None and self.regressions:
            return REGRESSED
        gate = self.fail_above_percent is not None and not self.allow_missing
        if gate and self.undecided:
            return UNDECIDED
        return NOT_COMPARED if self._blank or (gate and self.not_compared) else PASSED

    def summary(self) -> str:
        """One line: how many rows got which verdict."""
        counts = Counter(row.verdict for row in self.rows)
        return ", ".join(f"{counts[v]} {v.value}" for v in Verdict if counts[v]) or (
            "nothing to compare"
        )

    def conclusion(self) -> str:
        """The gate's verdict in one sentence, with what to do and how many rows have no verdict."""
        total = len(self.rows)
        return f"{self._outcome()}; {total - self.judged} of {plural(total, 'row')} not judged"

    def _outcome(self) -> str:
        gate = self.fail_above_percent is not None and not self.allow_missing
        if self._blank and not (gate and self.undecided):
            return "failed: no series could be compared; the notes above say why"
        if self.fail_above_percent is None:
            return "no limit was given (--fail-above PCT)"
        limit = f"{self.fail_above_percent:g} %"
        if self.regressions:
            return f"failed: {plural(len(self.regressions), 'regression')} above {limit}"
        if self.undecided and gate:
            return (
                f"failed: {plural(len(self.undecided), 'row')} undecided, which may well hide a "
                f"regression above {limit}; measure more machines or boots, or accept them with "
                "--allow-missing"
            )
        if self.not_compared and gate:
            return (
                f"failed: {plural(len(self.not_compared), 'row')} could not be compared, and may "
                "hide a regression; --allow-missing accepts that"
            )
        return f"passed: no regression above {limit} was found"

    def render(self) -> str:
        """For a terminal."""
        parts = [
            *(f"warning: {warning}" for warning in self.warnings),
            *self.machines,
            *([f"BASE has {self.runs} runs; {_FEW_RUNS}"] if self.runs > 1 else []),
            _table([_cells(row) for row in self.rows], _HEADINGS),
            *self._power(),
            self.summary(),
            self.conclusion(),
        ]
        return "\n\n".join(parts) + "\n"

    def _power(self) -> list[str]:
        """What the comparison could have found, by category."""
        rows = [_power_cells(category, of) for category, of in _by_category(self.rows)]
        if not rows:
            return []
        title = (
            f"Smallest change that this comparison finds with a probability of {POWER:.0%}, at "
            f"{1 - CONFIDENCE:.0%} false alarms over all rows:"
        )
        what = "runs" if self.runs > 1 else "machines"
        headings = [
            *("Category", "Rows", what.capitalize(), "Spread of boots, %", f"Spread of {what}, %"),
            *("Smallest change, %: median", "largest, %"),
        ]
        parts = [title + "\n" + _table(rows, headings)]
        limit = self.fail_above_percent
        blind = [r for r in self.rows if r.smallest and limit and 100 * r.smallest > limit]
        if blind:
            total = sum(row.smallest is not None for row in self.rows)
            parts.append(
                f"warning: in {len(blind)} of {total} rows, a change of {limit:g} % is found with "
                f"a probability below {POWER:.0%}; measure more boots or more machines"
            )
        return parts


_HEADINGS = (
    *("Verdict", "Workload", "Variant", "Machines", "Compared"),
    *("Base", "New", "Change, %", "p", "Note"),
)


def _table(rows: Sequence[Sequence[str]], headings: Sequence[str]) -> str:
    return tabulate(rows, headings, tablefmt="simple", disable_numparse=True)


def _cells(row: Row) -> list[str]:
    return [
        row.verdict.value,
        row.workload,
        row.variant,
        row.machines or NOTHING,
        *_values(row),
        _percent(row),
        NOTHING if row.p is None else f"{row.p:.3f}" if row.p >= 0.001 else "<0.001",
        row.says or NOTHING,
    ]


def _values(row: Row) -> tuple[str, str, str]:
    """What is compared, with its unit, and both sides in that unit."""
    known = [value for value in (row.base, row.new) if value is not None]
    both = (row.base, row.new)
    if row.quantity == "overhead" or not known:
        first, second = (NOTHING if value is None else times(value) for value in both)
        return row.quantity or NOTHING, first, second
    unit, _ = measure(known[0], known[0], row.time_base)
    first, second = (
        NOTHING if value is None else measure(value, known[0], row.time_base)[1] for value in both
    )
    what = row.quantity.replace("seconds", "time")
    return what if row.time_base is TimeBase.INSTRUCTIONS else f"{what}, {unit}", first, second


def _percent(row: Row) -> str:
    if row.percent is None:
        return NOTHING
    text = signed(row.percent)
    bounds = row.change.interval if row.change else None
    if bounds is None:
        return text
    low, high = (signed(100 * (bound - 1)) for bound in bounds)
    return f"{text} [{low}, {high}]"


def _by_category(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    of: dict[str, list[Row]] = {category: [] for category in CATEGORIES}
    for row in rows:
        if row.smallest is not None:
            of.setdefault(row.category, []).append(row)
    return [(category, found) for category, found in of.items() if found]


def _power_cells(category: str, rows: Sequence[Row]) -> list[str]:
    changes = [row.change for row in rows if row.change]
    smallest = [row.smallest for row in rows if row.smallest is not None]
    return [
        category,
        str(len(rows)),
        _span([count for row in rows for count in row.counts]),
        _median([change.boot_spread for change in changes]),
        _median([change.spread for change in changes if change.unit in ("machine", "run")]),
        _share(statistics.median(smallest)),
        _share(max(smallest)),
    ]


def _span(counts: Sequence[int]) -> str:
    low, high = min(counts, default=0), max(counts, default=0)
    return str(low) if low == high else f"{low} to {high}"


def _median(shares: Sequence[float | None]) -> str:
    known = [share for share in shares if share is not None]
    return _share(statistics.median(known)) if known else NOTHING


def _share(share: float) -> str:
    return number(100 * share) if share < 10 else "> 1,000"
