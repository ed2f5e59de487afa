"""From result files to panels: what may stand side by side, what may not, and why.

A panel holds everything measured on one machine, by one clock, with one image. Where those
differ the panels are apart, so no cell can mix them. Within a panel, several files of one
variant add their boots if their guests were built alike; a workload of another definition is
refused. What is alike is for `results.identity` to say.
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
from vbench.records import Declaration, Installation
from vbench.report import cells
from vbench.report.partial import partial
from vbench.results import identity
from vbench.results.exactness import reasons
from vbench.results.merge import boots_used, distinct, joined, moved
from vbench.results.stats import Overhead


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

    number: int  # from 1, in the order of the report
    host: HostFacts
    image: str
    items: tuple[Item, ...]  # by category, workload, variant
    launches: tuple[Launch, ...]  # by variant, boot
    unavailable: tuple[Unavailable, ...]
    reduced_to: Mapping[str, tuple[str, ...]]  # by variant
    declarations: Mapping[str, Declaration]  # by variant
    installations: Mapping[str, Installation]  # by variant, of those that were asked about
    runs: tuple[str, ...]  # vbench command lines, with their start
    # derived from the pairs, by item name: it takes most of a report's time, so it is done once
    overheads: Mapping[str, Overhead]
    flags: Mapping[str, Mapping[str, str]]  # what disturbed some rounds
    conditions: Mapping[str, frozenset[str]]  # what held in all of them
    inexact: Mapping[str, str]  # why instructions are no exact count

    @property
    def wall(self) -> bool:
        return self.host.time_base is TimeBase.WALL

    def series(self, item: Item) -> str:
        """The name of an item's series, unique in a report: its samples go by it."""
        return f"{self.number} {item.name}"

    def variants(self, technique: Technique | None = None) -> list[str]:
        """Variants in the order of the columns, of one technique or all."""
        return [variant for of, variant in self._columns if technique in (None, of)]

    @cached_property
    def _columns(self) -> list[tuple[Technique, str]]:
        order = list(Technique)
        found = {(order.index(item.technique), item.variant) for item in self.items}
        return [(order[index], variant) for index, variant in sorted(found)]

    def declared(self, variant: str) -> Declaration:
        """What its backend declared of a variant."""
        return self.declarations[variant]

    def launch(self, variant: str) -> Launch | None:
        """The first of a variant."""
        return next((one for one in self.launches if one.variant == variant), None)

    def launched(self) -> list[str]:
        """`variants`, and those that were launched for a workload with options of its own."""
        return list(dict.fromkeys([*self.variants(), *(one.variant for one in self.launches)]))

    def started_otherwise(self, technique: Technique) -> list[Launch]:
        """One launch of each variant of this technique that no user asked for, only a workload,
        and that started in another way than those asked for: by firmware, say."""
        ids = {
            launch for item in self.items if item.technique is technique for launch in item.launches
        }
        known = self.variants()
        starts = {one.device.start for one in self.launches if one.variant in known}
        others = {
            one.variant: one
            for one in reversed(self.launches)
            if one.id in ids and one.device.start not in {*starts, ""}
        }
        return list(others.values())[::-1]

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
    """All panels, what was refused, and the facts that each backend of a technique states;
    `partial` says which runs are not whole."""

    panels: tuple[Panel, ...]
    refused: tuple[str, ...]
    facts: Mapping[Technique, Mapping[str, Mapping[str, Mapping[str, str]]]]
    partial: tuple[str, ...]


def gather(results: Sequence[Result]) -> Gathered:
    """Sort results into panels. The order of `results` and their file names do not matter."""
    ordered = distinct(results)
    groups: list[_Group] = []
    for result in sorted(ordered, key=lambda one: (not _wall(one), *_panel_key(one).values())):
        group = next((one for one in groups if one.takes(result)), None)
        if group is None:
            group = _Group(_panel_key(result))
            groups.append(group)
        group.add(result)
    refused = _apart(groups)
    panels = [_panel(n + 1, group.results, refused) for n, group in enumerate(groups)]
    facts: dict[Technique, dict[str, Mapping[str, Mapping[str, str]]]] = {}
    for result in ordered:
        for item in result.items:
            if result.facts:
                facts.setdefault(item.technique, {}).setdefault(item.backend, result.facts)
    return Gathered(tuple(panels), tuple(refused), facts, partial(ordered))


class _Group:
    """The files of one panel: one machine, one image, each variant built in one way."""

    def __init__(self, key: identity.Key) -> None:
        self.key = key
        self.results: list[Result] = []
        self.settings: dict[str, identity.Key] = {}  # by item name, of those that were launched

    def takes(self, result: Result) -> bool:
        return self.key == _panel_key(result) and all(
            self.settings.get(name, of) == of for name, of in _settings(result).items()
        )

    def add(self, result: Result) -> None:
        self.results.append(result)
        self.settings |= _settings(result)

    def differing(self, other: _Group) -> list[str]:
        """Keys of the machines, and of the series that both have, with their values."""
        found = dict.fromkeys(identity.differing(self.key, other.key))
        for name in self.settings.keys() & other.settings.keys():
            found |= dict.fromkeys(identity.differing(self.settings[name], other.settings[name]))
        return sorted(found)


def _panel_key(result: Result) -> identity.Key:
    return {**identity.machine(result.host), "image": result.image}


def _settings(result: Result) -> dict[str, identity.Key]:
    """How each item's guests were built; failed before the launch, they were built in no way."""
    found = {item.name: identity.settings(result, item) for item in result.items}
    return {name: of for name, of in found.items() if of}


def _wall(result: Result) -> bool:
    return result.host.time_base is TimeBase.WALL


def _apart(groups: Sequence[_Group]) -> list[str]:
    """Why panels of one host name are apart: the keys that differ, named."""
    return [
        f"`{one.key['host']}` was measured under unlike conditions, shown in panels of their own: "
        + ", ".join(one.differing(other))
        for i, one in enumerate(groups)
        for other in groups[i + 1 :]
        if one.key["host"] == other.key["host"]
    ]


def _panel(number: int, results: Sequence[Result], refused: list[str]) -> Panel:
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
                keys = ({"definition": of} for of in (item.definition, definition))
                refused.append(
                    f"`{item.name}` of {result.started} on `{result.host.identity}` is left out: "
                    f"its workload is not that of `{owner}`: "
                    + ", ".join(identity.differing(*keys))
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
    inexact = reasons(shown)
    overheads = {i.name: value for i in shown if (value := cells.overhead(i)) is not None}
    whole = {one.variant for one in results if not one.reduced_to}
    return Panel(
        number=number,
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
        declarations={one.variant: _declared(one) for one in results},
        installations=_installations(results),
        runs=tuple(sorted({f"{r.started}  {' '.join(r.argv)}" for r in results if r.argv})),
        overheads=overheads,
        flags={item.name: cells.flags(item) for item in shown},
        conditions={
            item.name: cells.conditions(item) | ({"not_exact"} if item.name in inexact else set())
            for item in shown
        },
        inexact=inexact,
    )


def _installations(results: Sequence[Result]) -> dict[str, Installation]:
    """By variant; what was counted goes before what was not."""
    found = [(each.variant, each.installation) for each in results if each.installation]
    return dict(sorted(found, key=lambda pair: pair[1].packages is not None))


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


def _declared(result: Result) -> Declaration:
    """What the backend declared; the hypervisor as attested where it could not know."""
    declared = result.declaration
    if declared.hypervisor is not None:
        return declared
    attested = (launch.attestation.hypervisor for launch in result.launches)
    return replace(declared, hypervisor=next(filter(None, attested), None))
