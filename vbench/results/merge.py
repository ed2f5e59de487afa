"""Several files of one series made one: each brings further boots. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from vbench.model import Item, Result, Status
from vbench.results import identity


def distinct(results: Iterable[Result]) -> list[Result]:
    """In an order that depends on the content alone; what was given twice counts once, and of a
    run that was read at two times (a copy, then the whole) the later state."""
    ordered: list[Result] = []
    latest: dict[tuple[object, ...], int] = {}  # a run's series -> its place in `ordered`
    for result in sorted(results, key=_order):
        if ordered and ordered[-1] == result:
            continue
        run = run_key(result)
        place = latest.get(run) if result.planned else None  # older files do not know
        if place is None:
            latest[run] = len(ordered)
            ordered.append(result)
        elif ordered[place].done < result.done:
            ordered[place] = result
    return ordered


def run_key(result: Result) -> tuple[object, ...]:
    """Of which run a result is, and of which of its series."""
    machine = identity.machine(result.host).values()
    # what Ansible starts in one second on clones of one machine differs in these alone
    told = [result.host.facts.get(name) for name in ("inventory_name", "physical_host")]
    run = (result.started, result.argv, result.seed, *told)
    return (*machine, result.variant, result.side, *run)


def _order(result: Result) -> tuple[object, ...]:
    host = result.host
    content = [
        (i.name, i.status.value, len(i.pairs), math.fsum(p.guest_s for p in i.pairs))
        for i in result.items
    ]
    where = (host.time_base.value, host.identity, result.image, sorted(host.facts.items()))
    return (*where, result.variant, result.side, result.started, content)


def boots_used(result: Result) -> int:
    """How many boot numbers a result takes up: what to add to those of the next file."""
    used = [launch.boot for launch in result.launches]
    used += [pair.boot for item in result.items for pair in item.pairs]
    return 1 + max(used, default=-1)


def moved(item: Item, offset: int) -> Item:
    """With boots counted on from those of earlier files."""
    if not offset:
        return item
    return replace(
        item,
        pairs=tuple(replace(pair, boot=pair.boot + offset) for pair in item.pairs),
        launches=tuple(f"{launch}+{offset}" for launch in item.launches),
    )


def joined(one: Item, other: Item) -> Item:
    """Two files' boots of one series; a measured one beats one that failed.

    The caller has moved the boots of `other` and checked that both mean the same thing.
    """
    if other.status is not Status.OK:
        return one
    if one.status is not Status.OK:
        return other
    return replace(
        one,
        pairs=one.pairs + other.pairs,
        flags=tuple(sorted({*one.flags, *other.flags} - {"one_boot"})),
        launches=one.launches + other.launches,
        reason="; ".join(reason for reason in (one.reason, other.reason) if reason),
        exits=one.exits or other.exits,
    )
