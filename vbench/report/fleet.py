"""Many machines: which of them deviates from those of its class, by how much, and how sure. Pure.

A machine is compared by the logarithms of what it measured, less the class's median of the same
workload, in means over the workloads of a category. So a machine that lacks a workload is compared
by those that it has. Only that is kept of a result: the samples of a thousand machines are never in
memory at once.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from vbench.model import CATEGORIES, SCENARIOS, HostFacts, Item, Result, Statistic, Status, TimeBase
from vbench.report import cells
from vbench.results import identity, outlying, stats
from vbench.results.merge import run_key
from vbench.results.stats import CONFIDENCE
from vbench.results.unmeasured import Unmeasured

LEAST = 0.02  # a smaller deviation is not worth a word, however sure it is

# Facts of a host that an administrator or the firmware sets.
SETTINGS = (
    "governor",
    "turbo",
    "smt",
    "mitigations",
    "virtualization",
    "virtualization_flag",
    "kvm_modules",
    "nested",
    "nested_paging",
    "transparent_hugepage",
    "cpu_quota",
    "priority",
    "qemu",
    "distribution",
    "scratch_file_system",
    "tcp_congestion_control",
)

Class = tuple[tuple[str, str], ...]  # the items of a machine class's key
Workload = tuple[str, str]  # name and definition: unlike ones are never compared


class Kind(Enum):
    """What is compared of a series."""

    NATIVE = "native's time"
    OVERHEAD = "overhead"
    SECONDS = "time"  # of what has no native counterpart


class Quantity(NamedTuple):
    """What is compared of machines. Native has no variant."""

    category: str
    kind: Kind
    variant: str = ""


@dataclass
class Machine:
    """One machine, by all the names under which it was measured. `logs` has the means of boots.

    `left_out`: names whose results are not counted, with the settings in which they differ from
    what was measured last."""

    facts: Mapping[str, str]
    names: dict[str, Path | None] = field(default_factory=dict)  # with the folder of its results
    logs: dict[Quantity, dict[Workload, list[float]]] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)  # workloads, by reason
    partial: bool = False
    left_out: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, files: Sequence[_File]) -> Machine:
        """Of all files of one machine. Only what was measured under the settings that the last one
        has is counted: figures of two settings have no mean."""
        last = max(files, key=lambda file: file.started).host
        made = cls(last.facts)
        for file in files:
            unlike = identity.differing(_set(file.host), _set(last))
            if unlike:
                made.left_out[identity.name(file.host)] = ", ".join(unlike)
            else:
                made.add(file)
        return made

    @property
    def name(self) -> str:
        return ", ".join(self.names)

    def add(self, file: _File) -> None:
        self.names[identity.name(file.host)] = file.folder
        self.partial |= file.partial
        for quantity, workload, boots in file.series:
            self.logs.setdefault(quantity, {}).setdefault(workload, []).extend(boots)
        for reason in file.failed:
            self.failed[reason] = self.failed.get(reason, 0) + 1


@dataclass(frozen=True)
class Deviation:
    """A machine that is far from those of its class. `log`: the logarithm of its value divided by
    theirs. `p`: how probable that is by chance, corrected for all that was looked at."""

    machine: Machine
    quantity: Quantity
    log: float
    p: float

    @property
    def percent(self) -> float:
        return 100 * math.expm1(self.log)


@dataclass(frozen=True)
class Compared:
    """One quantity on all machines of a class that have it.

    `level`: the class's own value, a ratio or seconds, as the geometric mean over its workloads.
    `logs`: the distance of each machine from it. `spread`: their standard deviation, without the
    machines that deviate.
    """

    quantity: Quantity
    level: float
    machines: Sequence[Machine]
    logs: Sequence[float]
    spread: float
    deviations: Sequence[Deviation]


@dataclass
class MachineClass:
    """Machines of which one should measure what another does."""

    key: Mapping[str, str]
    machines: list[Machine]
    compared: list[Compared] = field(default_factory=list)

    @property
    def deviations(self) -> list[Deviation]:
        return [each for one in self.compared for each in one.deviations]

    def unusual(self, machine: Machine) -> dict[str, tuple[str, str]]:
        """Settings in which a machine differs from most: its own value, and theirs."""
        both = {name: (machine.facts.get(name, ""), usual) for name, usual in self._usual.items()}
        return {name: values for name, values in both.items() if values[0] != values[1]}

    @cached_property
    def _usual(self) -> dict[str, str]:
        """The values that more than half of the machines have."""
        found = {}
        for name in SETTINGS:
            values = [machine.facts.get(name, "") for machine in self.machines]
            value = statistics.mode(values)
            if value and 2 * values.count(value) > len(values):
                found[name] = value
        return found


Filed = tuple[Path | None, Result]  # the folder that a result lies in, if it is known


class Fleet:
    """The machines of some results by class, the largest first. Those by the wall clock alone:
    counts depend on no machine."""

    def __init__(self, files: Iterable[Filed], failures: Iterable[Unmeasured] = ()) -> None:
        self.counted = 0  # results in instructions, which are left out
        self.techniques: dict[str, str] = {}  # by variant
        runs: dict[tuple[object, ...], _File] = {}
        for folder, result in files:
            if result.host.time_base is not TimeBase.WALL:
                self.counted += 1
                continue
            self.techniques |= {item.variant: item.technique.value for item in result.items}
            run = run_key(result)
            if run not in runs or runs[run].done < result.done:  # of a copy the later state
                runs[run] = _File.of(folder, result)
        self.classes = _classes(runs.values())
        _compare(self.classes)
        self.unmeasured = _last(failures)  # read after the files

    @property
    def machines(self) -> int:
        return sum(len(each.machines) for each in self.classes)


@dataclass(frozen=True)
class _File:
    """What is kept of a result file."""

    folder: Path | None
    host: HostFacts
    started: str
    done: int
    partial: bool
    series: Sequence[tuple[Quantity, Workload, Sequence[float]]]
    failed: Sequence[str]

    @classmethod
    def of(cls, folder: Path | None, result: Result) -> _File:
        return cls(
            folder,
            result.host,
            result.started,
            result.done,
            result.partial,
            [one for item in result.items for one in _series(item)],
            [item.reason for item in result.items if item.status is Status.FAILED],
        )


def _last(failures: Iterable[Unmeasured]) -> list[Unmeasured]:
    """The last failure of each host."""
    last = {each.host: each for each in sorted(failures, key=lambda each: each.at)}
    return [last[host] for host in sorted(last)]


def _series(item: Item) -> Iterable[tuple[Quantity, Workload, Sequence[float]]]:
    """An overhead with native's time beside it, or what has no native counterpart in seconds.
    Distributions and scenarios are left out."""
    if item.status is not Status.OK or item.category in SCENARIOS or cells.no_ratio(item):
        return
    workload = (item.workload, item.definition)
    if item.statistic is Statistic.RATIO:
        if ratios := stats.log_ratios(item.pairs):
            yield Quantity(item.category, Kind.OVERHEAD, item.variant), workload, _means(ratios)
            native = _means(stats.log_native(item.pairs))
            yield Quantity(item.category, Kind.NATIVE), workload, native
    elif item.statistic is Statistic.ABSOLUTE:
        quantity = Quantity(item.category, Kind.SECONDS, item.variant)
        yield quantity, workload, _means(stats.log_guest(item.pairs))


def _means(boots: Mapping[int, Sequence[float]]) -> list[float]:
    return [statistics.fmean(values) for _, values in sorted(boots.items())]


def _classes(files: Iterable[_File]) -> list[MachineClass]:
    found: dict[Class, dict[tuple[str, ...], list[_File]]] = {}
    for file in sorted(files, key=lambda one: (one.host.identity, one.started)):
        kind = tuple(identity.machine_class(file.host).items())
        found.setdefault(kind, {}).setdefault(_machine(file.host), []).append(file)
    classes = [MachineClass(dict(of), [*map(Machine.of, m.values())]) for of, m in found.items()]
    return sorted(classes, key=lambda one: (-len(one.machines), *one.key.values()))


def _set(host: HostFacts) -> dict[str, str]:
    return {name.replace("_", " "): host.facts.get(name, "") for name in SETTINGS}


def _machine(host: HostFacts) -> tuple[str, ...]:
    """What tells one machine from another, whatever it is called; guests of one physical machine
    count as that."""
    if physical := host.facts.get("physical_host"):
        return ("physical", physical)
    ids = tuple(host.facts.get(name, "") for name in ("machine_id", "address"))
    return ids if all(id not in ("", "unknown") for id in ids) else ("named", host.identity)


def _compare(classes: Sequence[MachineClass]) -> None:
    tested = 0
    for each in classes:
        each.compared = [*_class_compared(each)]
        tested += sum(len(one.machines) >= outlying.MIN_VALUES for one in each.compared)
    level = (1 - CONFIDENCE) / max(1, tested)  # Bonferroni: one false alarm in all of the report
    for each in classes:
        each.compared = [_tested(one, level) for one in each.compared]


def _class_compared(of: MachineClass) -> Iterable[Compared]:
    quantities = {quantity for machine in of.machines for quantity in machine.logs}
    for quantity in sorted(quantities, key=_order):
        if quantity.kind is not Kind.OVERHEAD and not identity.cpu_known(of.key):
            continue  # seconds of unknown CPUs do not compare
        having = [machine for machine in of.machines if quantity in machine.logs]
        medians = _medians([machine.logs[quantity] for machine in having])
        having = [machine for machine in having if medians.keys() & machine.logs[quantity].keys()]
        logs = [_distance(machine.logs[quantity], medians) for machine in having]
        level = stats.exp(statistics.fmean(medians.values()))
        yield Compared(quantity, level, having, logs, 0.0, ())


def _order(quantity: Quantity) -> tuple[int, str, int, str]:
    category = quantity.category
    known = CATEGORIES.index(category) if category in CATEGORIES else len(CATEGORIES)
    return known, category, list(Kind).index(quantity.kind), quantity.variant


def _medians(series: Sequence[Mapping[Workload, Sequence[float]]]) -> dict[Workload, float]:
    """Of the workloads that at least half of the machines have."""
    found: dict[Workload, list[float]] = {}
    for one in series:
        for workload, boots in one.items():
            found.setdefault(workload, []).append(statistics.fmean(boots))
    most = max(map(len, found.values()))
    return {name: statistics.median(of) for name, of in found.items() if 2 * len(of) >= most}


def _distance(of: Mapping[Workload, Sequence[float]], medians: Mapping[Workload, float]) -> float:
    shared = [name for name in medians if name in of]
    return statistics.fmean(statistics.fmean(of[name]) - medians[name] for name in shared)


def _tested(one: Compared, level: float) -> Compared:
    found = outlying.crowd(one.logs, _excess(one), level)
    families = (1 - CONFIDENCE) / level
    deviations = [
        Deviation(one.machines[i], one.quantity, one.logs[i] - found.centre, min(1.0, families * p))
        for i, p in found.p.items()
        if abs(one.logs[i] - found.centre) >= math.log1p(LEAST)
    ]
    return Compared(
        one.quantity, one.level, one.machines, one.logs, found.spread, tuple(deviations)
    )


def _excess(one: Compared) -> list[float]:
    """The variance that a machine's value has beyond that of the others because it has fewer
    boots; that of one boot is pooled over all machines."""
    variances, counts = [], []
    for machine in one.machines:
        series = machine.logs[one.quantity].values()
        counts.append(statistics.fmean(len(boots) for boots in series))
        known = [statistics.variance(boots) for boots in series if len(boots) > 1]
        if known:
            variances.append(statistics.fmean(known) / len(known))
    boot = statistics.fmean(variances) if variances else 0.0
    usual = statistics.fmean(1 / count for count in counts)
    return [boot * max(0.0, 1 / count - usual) for count in counts]
