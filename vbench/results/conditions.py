"""Under what conditions the two sides of a comparison were measured, where they differ. Pure.

What withholds a word in the report refuses a row here, if one side has it: the figures of that side
say something else. What disturbs is named: it is flagged and never dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from vbench.model import HostFacts, Item, Statistic
from vbench.results import identity, stats

# A flag is named where its share of all pairs differs by this much: it disturbs a part of almost
# any run, and a condition of all rounds is one of the series (docs/method.md).
_SHARE = 0.5
_SAID_OTHERWISE = ("one_boot",)
# Facts of a host by which it is faster or slower, and that are no part of its class.
UNKNOWN = "unknown"
_FACTS = (
    *("governor", "turbo", "smt", "mitigations", "priority", "cpu_quota", "virtualization"),
    *("nested", "nested_paging", "transparent_hugepage", "page_size", "scratch_file_system"),
)


def unlike(base: Collection[Item], new: Collection[Item], *, paired: bool = False) -> str:
    """The key in which the figures of the two sides mean different things, or "".

    `paired`: native is the same on both sides, so a kernel of a guest's own is what was asked
    about. Of counted instructions the guest's are compared alone."""

    def withheld(item: Item) -> str:
        flags = _withheld(item)
        if stats.no_word(item) and not paired and not stats.is_counted(item):
            flags |= {"kernel_differs"}
        return ", ".join(sorted(flags)) or "none"

    for key, values_of in (("statistic", _statistic), ("flags that forbid a word", withheld)):
        one, other = (_joined(map(values_of, items)) for items in (base, new))
        if found := identity.differing({key: one}, {key: other}):
            return found[0]
    return ""


def _statistic(item: Item) -> str:
    lost = _is_ratio(item) and item.pairs and all(pair.native_s is None for pair in item.pairs)
    return f"{item.statistic} without native" if lost else str(item.statistic)


def _is_ratio(item: Item) -> bool:
    """Whether native counts: instructions of the guest are compared by themselves."""
    return item.statistic == Statistic.RATIO and not stats.is_counted(item)


def _withheld(item: Item) -> set[str]:
    flags = {*item.flags, *(flag for pair in item.pairs for flag in pair.flags)}
    return flags & set(stats.UNLIKE)


def _joined(values: Iterable[str]) -> str:
    return " and ".join(sorted(set(values)))


def notes(base: Collection[Item], new: Collection[Item]) -> list[str]:
    """What disturbed one side far more than the other, and pairs that have no native sample."""
    found = [
        f"{lost} of {total} pairs of {where} left out, which have no native"
        for where, items in (("BASE", base), ("NEW", new))
        for lost, total in [_without_native(items)]
        if lost
    ]
    shares = _shares(base), _shares(new)
    for flag in sorted({*shares[0], *shares[1]} - set(_SAID_OTHERWISE)):
        before, after = (share.get(flag, 0.0) for share in shares)
        if abs(after - before) >= _SHARE:
            found.append(f"{flag}: {before:.0%} of the pairs of BASE, {after:.0%} of NEW")
    return found


def _without_native(items: Iterable[Item]) -> tuple[int, int]:
    pairs = [pair for item in items if _is_ratio(item) for pair in item.pairs]
    lost = sum(pair.native_s is None for pair in pairs)
    return (lost if lost < len(pairs) else 0), len(pairs)  # where all have none, seconds compare


def _shares(items: Iterable[Item]) -> Mapping[str, float]:
    """The share of pairs that have a flag, or are of an item that has it."""
    flags = [{*item.flags, *pair.flags} for item in items for pair in item.pairs]
    return {flag: n / len(flags) for flag, n in Counter(f for of in flags for f in of).items()}


def facts(base: Iterable[HostFacts], new: Iterable[HostFacts]) -> list[str]:
    """The facts in which the hosts of the two sides differ, each with the values of both."""
    sides = tuple(base), tuple(new)
    both = [
        {name: _joined({host.facts.get(name, "") for host in hosts} - {"", UNKNOWN})
         for name in _FACTS}
        for hosts in sides
    ]  # fmt: skip
    shared = [name for name in _FACTS if all(side[name] for side in both)]  # older files lack some
    return identity.differing(*({name: side[name] for name in shared} for side in both))
