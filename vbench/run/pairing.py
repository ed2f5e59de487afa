"""Two variants that were measured by turns on one machine, compared."""

from __future__ import annotations

from dataclasses import replace

from vbench.model import Result
from vbench.results.compare import compare
from vbench.results.comparison import Comparison
from vbench.run.options import RunOptions
from vbench.run.session import Session

SIDES = ("A", "B")
_EITHER = "A, B"  # what both are called where they are compared


def compared(session: Session, options: RunOptions) -> Comparison:
    """What was measured so far of B against A."""
    base, new = (
        [_renamed(session.book.result(each)) for each in session.series if each.side == side]
        for side in SIDES
    )
    return compare(base, new, options.fail_above, allow_missing=options.allow_missing, paired=True)


def legend(session: Session) -> str:
    """Which variant is which side."""
    names = dict(zip(SIDES, ("BASE", "NEW"), strict=True))
    ordered = sorted(session.series, key=lambda each: each.side)
    return "\n".join(f"{each.side} ({names[each.side]}): {each.variant.text}" for each in ordered)


def _renamed(result: Result) -> Result:
    """Under the name that both have: series are matched by their names."""
    items = tuple(replace(item, variant=_EITHER) for item in result.items)
    return replace(result, variant=_EITHER, items=items)
