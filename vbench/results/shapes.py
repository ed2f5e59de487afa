"""The types of what a result file and a journal hold. Pure: typed.py reads and writes them.

A shape is a type: a class of model.py or records.py where its fields are the keys of the JSON, else
a TypedDict below. Keys that no shape has are passed over: later versions may add some.
"""

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

from vbench.model import HostFacts, HostKind, Launch, Statistic, Status, Technique, TimeBase
from vbench.records import Cause, Declaration, Installation, Phase
from vbench.results.typed import Boot, Duration, Finite


class Fact(TypedDict):
    """A stated row of the comparison table."""

    text: str
    source: str


class Unavailable(TypedDict):
    """A backend that could not run."""

    backend: str
    technique: str
    reason: str
    remedy: str


class Run(TypedDict):
    """The object `vbench` without items and launches, as the journal has it too."""

    vbench_version: str
    started: str
    argv: tuple[str, ...]
    image: str
    variant: str
    host: HostFacts
    declaration: Declaration
    facts: Mapping[str, Fact]
    unavailable: tuple[Unavailable, ...]
    reduced_to: NotRequired[tuple[str, ...]]
    seed: NotRequired[int | None]
    sittings: NotRequired[tuple[str, ...]]
    side: NotRequired[str]
    planned: NotRequired[int]
    done: NotRequired[int]
    stopped: NotRequired[str]
    installation: NotRequired[Installation | None]


class Head(TypedDict):
    """All of an item but its samples."""

    workload: str
    category: str
    work_unit: str
    statistic: Statistic
    definition: str
    backend: str
    variant: str
    technique: Technique
    host: str
    host_kind: HostKind
    time_base: TimeBase
    status: Status
    reason: str
    work: float
    native_work: float
    flags: tuple[str, ...]
    launch: tuple[str, ...]
    commands: Mapping[str, str]
    counted: NotRequired[bool]
    cause: Cause | None


_Pair = tuple[Duration | None, Duration]
_Shares = tuple[float | None, float | None]


class _Overhead(TypedDict):
    ratio: Finite
    low: Finite | None
    high: Finite | None
    n: int
    boots: int


class _Samples(TypedDict):
    workload: str
    variant: str
    pairs: tuple[_Pair, ...]
    pair_boots: tuple[Boot, ...]
    pair_flags: tuple[tuple[str, ...], ...]
    pair_equal: NotRequired[tuple[_Shares | None, ...]]
    pair_phases: NotRequired[tuple[tuple[Phase, ...], ...]]
    counters: Mapping[str, tuple[float | None, ...]]
    quantiles: Mapping[str, tuple[_Shares | None, ...]]
    exits: NotRequired[Mapping[str, float | None]]
    overhead: NotRequired[_Overhead | None]


class _Extra(TypedDict):
    vbench: _Samples


class _Entry(TypedDict):
    name: str
    extra_info: _Extra


class _WholeRun(Run):
    schema_version: int
    items: tuple[Head, ...]
    launches: tuple[Launch, ...]


class Document(TypedDict):
    """What vbench reads of a result file."""

    benchmarks: tuple[_Entry, ...]
    vbench: _WholeRun


class JournalPair(TypedDict):
    """A pair in the journal."""

    native_s: Duration | None
    guest_s: Duration
    boot: Boot
    flags: tuple[str, ...]
    counters: Mapping[str, float | None]
    quantiles: Mapping[str, _Shares]
    equal: _Shares | None
    phases: tuple[Phase, ...]


class _Record(TypedDict):
    event: str


class _RunRecord(_Record):
    schema_version: int
    started: str
    seed: int | None
    options: Mapping[str, object]
    same: Mapping[str, str]


class _SittingRecord(_Record):
    at: str


class _SeriesRecord(_Record):
    series: str
    result: Run


class _LaunchRecord(_Record):
    series: str
    launch: Launch


class _BeginRecord(_Record):
    series: str
    boot: Boot
    item: Head


class _PairRecord(_Record):
    series: str
    workload: str
    round: NotRequired[int]  # of this task, from 1; journals of earlier commits have none
    pair: JournalPair


class _TaskRecord(_Record):
    series: str
    workload: str
    boot: Boot


class _Sizes(TypedDict):
    guest: int
    native: int


class _EndRecord(_BeginRecord):
    complete: bool
    exits: Mapping[str, float | None]
    sizes: _Sizes
    notes: tuple[str, ...]
    problems: tuple[str, ...]
    unsupported: str
    failed: str


class _DroppedRecord(_Record):
    series: str
    boot: Boot


class _UnavailableRecord(_Record):
    series: str
    entry: tuple[str, str, str, str]
    tasks: tuple[tuple[str, int], ...]
    beside: NotRequired[tuple[str, ...]]


class _RetriedRecord(_Record):
    series: str


class _StoppedRecord(_Record):
    why: str


# The records of a journal by their event. Of others nothing is read.
RECORDS: Mapping[str, Any] = {
    "run": _RunRecord,
    "sitting": _SittingRecord,
    "series": _SeriesRecord,
    "launch": _LaunchRecord,
    "begin": _BeginRecord,
    "pair": _PairRecord,
    "again": _TaskRecord,
    "enough": _TaskRecord,
    "end": _EndRecord,
    "unavailable": _UnavailableRecord,
    "retried": _RetriedRecord,
    "dropped": _DroppedRecord,
    "stopped": _StoppedRecord,
}
