"""Whether counted instructions are an exact count, by what was seen of them. Pure.

Most groups of units hold no interrupt, and then they take the same number of instructions in every
boot. Where a unit goes many ways, as a disk's request does that another thread serves, few groups
are equal and their median moves: in runs of benchmarks/exact.py it moved by 0.1 to 0.2 % where
less than a tenth of the groups were equal, by 0.03 % at most where a quarter were.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from vbench.model import Item, Statistic, TimeBase

# Of an exact count at least so many groups are within 0.1 % of the median, in each boot.
FEW_EQUAL = 0.2
# Counts that repeat to 0.1 % are exact: see docs/method.md. Those of few equal groups moved by
# 0.22 % at most, so a change of more than this is one.
EXACT = 0.001
NEARLY = 0.005
# Single events are timed by reading a clock. In some boots that takes 6 instructions more: 1,310 or
# 1,316 of an empty loop under Xen, 107 or 113 under KVM. So a change is one of more than that.
_CLOCK_S = 6.5e-9
_BOOTS_DIFFER = "boots differ"


def inexact(item: Item) -> str:
    """Why its instructions are no exact count; empty where they are one, as far as is known."""
    if not item.counted:
        return "it waits, or its program gives a total"
    if _few_equal(item):
        return "few groups are equal"
    apart = max((max(side) / min(side) - 1 for side in _sides(item)), default=0.0)
    return _BOOTS_DIFFER if apart > EXACT else ""


def reasons(items: Iterable[Item]) -> dict[str, str]:
    """`inexact` of those items of a machine that are counted and no exact count, by their name.

    Single events are timed by reading a clock, and the way of that may differ between boots: under
    Xen by 6 instructions of 1,310. Where the boots of several kinds of events of a variant differ,
    those of another kind are alike by chance."""
    counted = [item for item in items if item.time_base is TimeBase.INSTRUCTIONS and item.pairs]
    found = {item.name: why for item in counted if (why := inexact(item))}
    events = [item for item in counted if item.statistic is Statistic.QUANTILES]
    differ = Counter(item.variant for item in events if found.get(item.name) == _BOOTS_DIFFER)
    for item in events:
        if differ[item.variant] > 1:
            found.setdefault(item.name, "boots differ in others of this variant")
    return found


def repeats_within(item: Item) -> float:
    """The share by which a count of it may differ in the next boot; 0 where it is no count."""
    if not item.counted or item.time_base is not TimeBase.INSTRUCTIONS:
        return 0.0
    if _few_equal(item):
        return NEARLY
    if item.statistic is not Statistic.QUANTILES:
        return EXACT
    guest = [value for pair in item.pairs if (value := pair.quantiles.get("p50", (None, 0.0))[1])]
    return max(EXACT, _CLOCK_S / min(guest)) if guest else EXACT


def is_estimate(item: Item) -> bool:
    """Whether its instructions are no exact count whatever is seen of them: it waits, or its
    program gives a total."""
    return item.time_base is TimeBase.INSTRUCTIONS and not item.counted


def _few_equal(item: Item) -> bool:
    equal = [share for pair in item.pairs for share in pair.equal or () if share is not None]
    return bool(equal) and min(equal) < FEW_EQUAL


def _sides(item: Item) -> Iterator[list[float]]:
    """The samples of each side: means of units, or of what is told by quantiles the median."""
    for side in (0, 1):
        both = (
            pair.quantiles.get("p50", (None, None))
            if item.statistic is Statistic.QUANTILES
            else (pair.native_s, pair.guest_s)
            for pair in item.pairs
        )
        if known := [value for each in both if (value := each[side])]:
            yield known
