"""One side of a comparison: its series by class of machine, each with the machines that have it.

Hosts are matched by class, never by name: a runner has another name each time. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from vbench.model import HostFacts, Item, Result, Status, TimeBase
from vbench.results import identity
from vbench.results.identity import Key
from vbench.results.merge import boots_used, distinct, joined, moved

Name = tuple[str, str, TimeBase]  # workload, variant, and what a second of it is
Class = tuple[tuple[str, str], ...]  # the items of a machine class's key
Machine = tuple[str, ...]  # what is independent of others


@dataclass
class Series:
    """One workload on one variant on the machines of one class."""

    key: Key = field(default_factory=dict)  # workload definition, and settings once launched
    conflicts: dict[str, None] = field(default_factory=dict)  # keys that differ among its files
    items: dict[Machine, Item] = field(default_factory=dict)
    earlier: set[Machine] = field(default_factory=set)  # those of `items` that earlier runs brought

    def add(self, machine: Machine, key: Key, item: Item) -> None:
        # An item that failed before a launch has no settings to differ in.
        both = [{name: of[name] for name in key.keys() & self.key.keys()} for of in (self.key, key)]
        self.conflicts |= dict.fromkeys(identity.differing(*both))
        self.key = {**key, **self.key}
        known = self.items.get(machine)
        self.items[machine] = item if known is None else joined(known, item)

    def measured(self) -> dict[Machine, Item]:
        return {where: i for where, i in self.items.items() if i.status is Status.OK}

    def newest(self) -> dict[Machine, Item]:
        """What was measured, without earlier runs."""
        return {where: i for where, i in self.measured().items() if where not in self.earlier}

    def add_run(self, run: int, other: Series) -> list[str]:
        """Take what an earlier run measured, each machine as one of its own. Returns the keys in
        which it differs: then nothing is taken."""
        if unlike := [*other.conflicts, *identity.differing(self.key, other.key)]:
            return unlike
        for machine, item in other.measured().items():
            self.items[*machine, f"run {run}"] = item
            self.earlier.add((*machine, f"run {run}"))
        return []

    def exits(self) -> Mapping[str, float]:
        """By reason, per unit of work, of the first machine that counted them."""
        return next((item.exits for item in self.measured().values() if item.exits), {})

    def having(self, status: Status) -> list[Item]:
        return [item for item in self.items.values() if item.status is status]


class Side:
    """All series of some results, by name and class of machine.

    `across` names keys of a machine class that may differ.
    """

    def __init__(self, results: Sequence[Result], across: Collection[str]) -> None:
        self.series: dict[Name, dict[Class, Series]] = {}
        self.machines: dict[Class, set[Machine]] = {}
        self.hosts: dict[Class, list[HostFacts]] = {}
        self.partial: dict[str, None] = {}  # runs that did not measure all that they planned
        boots: dict[tuple[Machine, str], int] = {}
        for result in distinct(results):
            if result.partial:
                counts = f"{result.done} of {result.planned} planned measurements"
                self.partial[f"the run of {result.started} made {counts}"] = None
            of = identity.machine_class(result.host)
            kind = tuple((name, value) for name, value in of.items() if name not in across)
            machine = identity.unit(result.host)
            self.machines.setdefault(kind, set()).add(machine)
            self.hosts.setdefault(kind, []).append(result.host)
            offset = boots.get((machine, result.variant), 0)
            boots[machine, result.variant] = offset + boots_used(result)
            for item in result.items:
                key = {"definition": item.definition, **identity.settings(result, item)}
                name = (item.workload, item.variant, result.host.time_base)
                classes = self.series.setdefault(name, {})
                classes.setdefault(kind, Series()).add(machine, key, moved(item, offset))

    def add_run(self, run: int, other: Side) -> dict[str, dict[str, None]]:
        """Take the samples that an earlier run has of the series of this one, on machines of the
        same class. Returns why some were not taken, each reason with variants."""
        left_out: dict[str, dict[str, None]] = {}
        for name, classes in self.series.items():
            for kind, earlier in other.measured(name).items():
                own = classes.get(kind)
                if own is None:
                    known = (identity.differing(dict(kind), dict(one)) for one in classes)
                    why = min(known, key=len)
                else:
                    why = own.add_run(run, earlier) if own.measured() else []
                for each in why:
                    left_out.setdefault(each, {})[name[1]] = None
        return left_out

    def statuses(self, name: Name, status: Status) -> list[Item]:
        """Items of a series that ended so, on machines of all classes."""
        return [i for series in self.series.get(name, {}).values() for i in series.having(status)]

    def measured(self, name: Name) -> dict[Class, Series]:
        """Classes of machine that have samples of a series."""
        return {of: one for of, one in self.series.get(name, {}).items() if one.measured()}
