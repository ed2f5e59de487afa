"""From result files to panels: what may stand side by side, what may not, and why.

A panel holds everything measured on one host, by one clock, with one image. Where those
differ the panels are apart, so no cell can mix them. Within a panel, several files of one
variant add their boots; a workload of another definition is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from vbench.model import (
    CATEGORIES,
    HostFacts,
    Item,
    Launch,
    Result,
    Status,
    Technique,
    TimeBase,
)
from vbench.report import cells
from vbench.results.merge import boots_used, distinct, joined, moved
from vbench.results.stats import Overhead

# Host facts that make another machine of the same name.
_MACHINE = ("cpu_model", "cpus", "kernel")


@dataclass(frozen=True)
class Unavailable:
    """A backend that a run could not use on its host."""

    backend: str
    technique: str
    reason: str
    remedy: str


@dataclass(frozen=True)
class Panel:
    """What may be compared: one host, one clock, one image."""

    host: HostFacts
    image: str
    items: tuple[Item, ...]  # by category, workload, variant
    launches: tuple[Launch, ...]  # by variant, boot
    unavailable: tuple[Unavailable, ...]
    reduced_to: Mapping[str, tuple[str, ...]]  # by variant
    runs: tuple[str, ...]  # vbench command lines, with their start
    # derived from the pairs, by item name: it takes most of a report's time, so it is done once
    overheads: Mapping[str, Overhead]
    flags: Mapping[str, Mapping[str, str]]  # what disturbed some rounds
    conditions: Mapping[str, frozenset[str]]  # what held in all of them

    @property
    def wall(self) -> bool:
        return self.host.time_base is TimeBase.WALL

    def variants(self, technique: Technique | None = None) -> list[str]:
        """Variants in the order of the columns, of one technique or all."""
        return [variant for of, variant in self._columns if technique in (None, of)]

    @cached_property
    def _columns(self) -> list[tuple[Technique, str]]:
        order = list(Technique)
        found = {(order.index(item.technique), item.variant) for item in self.items}
        return [(order[index], variant) for index, variant in sorted(found)]

    def launched(self) -> list[str]:
        """`variants`, and those that were launched for a workload with options of its own."""
        return list(dict.fromkeys([*self.variants(), *(one.variant for one in self.launches)]))

    def started_otherwise(self, technique: Technique) -> list[Launch]:
        """Launches of this technique with options that a workload asked for, not the user."""
        ids = {
            launch for item in self.items if item.technique is technique for launch in item.launches
        }
        known = self.variants()
        return [one for one in self.launches if one.id in ids and one.variant not in known]

    def of(self, variant: str, *categories: str) -> list[Item]:
        """Measured items of a variant, in these categories."""
        of = self._measured.get(variant, ())
        return [item for item in of if item.category in categories]

    @cached_property
    def _measured(self) -> dict[str, list[Item]]:
        """Measured items by variant: each cell of each column asks for those of one variant, and a
        walk through all of them would take a time that grows with the square of the variants."""
        found: dict[str, list[Item]] = {}
        for item in self.items:
            if item.status is Status.OK:
                found.setdefault(item.variant, []).append(item)
        return found


@dataclass(frozen=True)
class Gathered:
    """All panels, what was refused, and the facts that each backend of a technique states."""

    panels: tuple[Panel, ...]
    refused: tuple[str, ...]
    facts: Mapping[Technique, Mapping[str, Mapping[str, Mapping[str, str]]]]


def gather(results: Sequence[Result]) -> Gathered:
    """Sort results into panels. The order of `results` and their file names do not matter."""
    ordered = distinct(results)
    groups: dict[tuple[str, ...], list[Result]] = {}
    for result in sorted(ordered, key=_panel_key):
        groups.setdefault(_panel_key(result), []).append(result)
    refused = _apart(list(groups))
    panels = [_panel(group, refused) for group in groups.values()]
    facts: dict[Technique, dict[str, Mapping[str, Mapping[str, str]]]] = {}
    for result in ordered:
        for item in result.items:
            if result.facts:
                facts.setdefault(item.technique, {}).setdefault(item.backend, result.facts)
    return Gathered(tuple(panels), tuple(refused), facts)


def _panel_key(result: Result) -> tuple[str, ...]:
    host = result.host
    # wall panels first
    clock = f"{host.time_base is not TimeBase.WALL:d}{host.time_base.value}"
    machine = (host.facts.get(name, "") for name in _MACHINE)
    return (clock, host.identity, result.image, *machine)


def _apart(keys: Sequence[tuple[str, ...]]) -> list[str]:
    """Why panels of the same host are apart: the keys that differ, named."""
    names = ("time base", "host", "image", *(f"host {name}" for name in _MACHINE))
    notes = []
    for i, one in enumerate(keys):
        for other in keys[i + 1 :]:
            if one[1] != other[1]:
                continue
            differing = [
                f"{name} ({_short(a)} against {_short(b)})"
                for name, a, b in zip(names, one, other, strict=True)
                if a != b
            ]
            notes.append(
                f"`{one[1]}` was measured under unlike conditions, shown in panels of their own: "
                + ", ".join(differing)
            )
    return notes


def _short(text: str) -> str:
    text = text[1:] if text[:1] in "01" and text[1:] in set(TimeBase) else text
    return f"`{text[:19]}…`" if len(text) > 40 else f"`{text}`"


def _panel(results: Sequence[Result], refused: list[str]) -> Panel:
    first = results[0]
    definitions: dict[str, tuple[str, str]] = {}  # workload -> definition, who had it first
    items: dict[str, Item] = {}
    launches: list[Launch] = []
    boots: dict[str, int] = {}  # variant -> boots taken by earlier files
    for result in results:
        offset = boots.get(result.variant, 0)
        for item in result.items:
            definition, owner = definitions.setdefault(
                item.workload, (item.definition, item.variant)
            )
            if definition != item.definition:
                refused.append(
                    f"`{item.name}` of {result.started} on `{result.host.identity}` is left out: "
                    f"its workload definition ({_short(item.definition)}) is not that of "
                    f"`{owner}` ({_short(definition)})"
                )
                continue
            further = moved(item, offset)
            known = items.get(item.name)
            items[item.name] = further if known is None else joined(known, further)
        launches += [
            replace(launch, boot=launch.boot + offset, id=f"{launch.id}+{offset}")
            if offset
            else launch
            for launch in result.launches
        ]
        boots[result.variant] = offset + boots_used(result)
    measured = {item.backend for item in items.values() if item.status is Status.OK}
    unavailable = {
        entry
        for result in results
        for entry in (Unavailable(*fields) for fields in result.unavailable)
        if entry.backend not in measured
    }
    shown = sorted(items.values(), key=_item_order)
    overheads = {i.name: value for i in shown if (value := cells.overhead(i)) is not None}
    whole = {one.variant for one in results if not one.reduced_to}
    return Panel(
        host=first.host,
        image=first.image,
        items=tuple(shown),
        launches=tuple(sorted(launches, key=lambda one: (one.variant, one.boot, one.id))),
        unavailable=tuple(
            sorted(unavailable, key=lambda one: (one.technique, one.backend, one.reason))
        ),
        reduced_to={
            one.variant: one.reduced_to
            for one in results
            if one.reduced_to and one.variant not in whole
        },
        runs=tuple(sorted({f"{r.started}  {' '.join(r.argv)}" for r in results if r.argv})),
        overheads=overheads,
        flags={item.name: cells.flags(item) for item in shown},
        conditions={item.name: cells.conditions(item) for item in shown},
    )


def _item_order(item: Item) -> tuple[int, str, str, int, str]:
    known = item.category in CATEGORIES
    category = CATEGORIES.index(item.category) if known else len(CATEGORIES)
    return (
        category,
        item.category,
        item.workload,
        list(Technique).index(item.technique),
        item.variant,
    )
