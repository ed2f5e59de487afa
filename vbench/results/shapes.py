"""The types of what a result file and a journal hold, from JSON and to it. Pure.

A shape is a type: a class of model.py or records.py where its fields are the keys of the JSON, else
a TypedDict below. Keys that no shape has are passed over: later versions may add some.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from enum import Enum
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, NotRequired, TypedDict, get_args, get_origin, get_type_hints, is_typeddict

from vbench.model import HostFacts, HostKind, Launch, Statistic, Status, Technique, TimeBase
from vbench.records import Cause, Declaration, Installation, Phase
from vbench.results.stats import Overhead


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


class Duration(float):
    """Seconds, above 0."""


_Pair = tuple[Duration | None, Duration]
_Shares = tuple[float | None, float | None]


class _Samples(TypedDict):
    workload: str
    variant: str
    pairs: tuple[_Pair, ...]
    pair_boots: tuple[int, ...]
    pair_flags: tuple[tuple[str, ...], ...]
    pair_equal: NotRequired[tuple[_Shares | None, ...]]
    pair_phases: NotRequired[tuple[tuple[Phase, ...], ...]]
    counters: Mapping[str, tuple[float | None, ...]]
    quantiles: Mapping[str, tuple[_Shares | None, ...]]
    exits: NotRequired[Mapping[str, float | None]]
    overhead: NotRequired[Overhead | None]


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
    boot: int
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
    boot: int
    item: Head


class _PairRecord(_Record):
    series: str
    workload: str
    pair: JournalPair


class _TaskRecord(_Record):
    series: str
    workload: str
    boot: int


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
    boot: int


class _UnavailableRecord(_Record):
    series: str
    entry: tuple[str, str, str, str]
    tasks: tuple[tuple[str, int], ...]
    beside: NotRequired[tuple[str, ...]]


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
    "dropped": _DroppedRecord,
    "stopped": _StoppedRecord,
}


def from_json(value: Any, shape: Any, where: str = "") -> Any:
    """`value` (JSON) as one of the type `shape`: records, enumerations and tuples of them.

    Raises ValueError, which names the key, if it has not that type.
    """
    origin, of = get_origin(shape), get_args(shape)
    if origin is UnionType:
        (other,) = (one for one in of if one is not NoneType)
        return None if value is None and NoneType in of else from_json(value, other, where)
    if is_typeddict(shape) or dataclasses.is_dataclass(shape):
        return shape(**_object_from_json(value, shape, where))
    if origin is Mapping:
        _expect(value, dict, "an object", where)
        return {name: from_json(each, of[1], f"{where}.{name}") for name, each in value.items()}
    if origin is tuple:
        _expect(value, (list, tuple), "a list", where)
        shapes = [of[0]] * len(value) if of[1:] == (...,) else of
        if len(shapes) != len(value):
            raise ValueError(f"{where} has {len(value)} values, not {len(shapes)}")
        pairs = enumerate(zip(value, shapes, strict=True))
        return tuple(from_json(each, one, f"{where}[{i}]") for i, (each, one) in pairs)
    if issubclass(shape, Enum):
        if value not in [one.value for one in shape]:
            raise ValueError(f"{where} is {_short(value)}, not one of {', '.join(shape)}")
        return shape(value)
    _expect(value, *_SCALARS[shape], where)
    if issubclass(shape, float) and not _is_within(value, 0.0 if shape is Duration else -math.inf):
        raise ValueError(f"{where} is {_short(value)}, not {_SCALARS[shape][1]}")
    return Path(value) if shape is Path else value


def to_json(value: Any) -> Any:
    """Records as JSON: their fields are the keys. `dataclasses.asdict` cannot copy the read-only
    mappings that are defaults."""
    if dataclasses.is_dataclass(value):
        return {each.name: to_json(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {name: to_json(each) for name, each in value.items()}
    if isinstance(value, Enum):
        return value.value
    return [to_json(each) for each in value] if isinstance(value, tuple) else value


_SCALARS: dict[type, tuple[type | tuple[type, ...], str]] = {
    object: (object, "anything"),
    str: (str, "text"),
    Path: (str, "text"),
    bool: (bool, "true or false"),
    int: (int, "a whole number"),
    float: ((int, float), "a number"),
    Duration: ((int, float), "a number above 0"),
}


def _object_from_json(value: Any, shape: Any, where: str) -> dict[str, Any]:
    _expect(value, dict, "an object", where)
    hints = _hints(shape)
    for name in sorted(_required(shape) - value.keys()):
        raise ValueError(f"{where}.{name}".lstrip(".") + " is missing")
    return {
        name: from_json(value[name], hints[name], f"{where}.{name}".lstrip("."))
        for name in hints.keys() & value.keys()
    }


@cache
def _hints(shape: Any) -> dict[str, Any]:
    return get_type_hints(shape)


@cache
def _required(shape: Any) -> frozenset[str]:
    if is_typeddict(shape):
        return frozenset(shape.__required_keys__)
    nothing = dataclasses.MISSING
    return frozenset(
        field.name
        for field in dataclasses.fields(shape)
        if field.default is nothing and field.default_factory is nothing
    )


def _expect(value: Any, kind: type | tuple[type, ...], name: str, where: str) -> None:
    # in Python, but not in JSON, true is a number
    if not isinstance(value, kind) or (isinstance(value, bool) and kind not in (bool, object)):
        raise ValueError(f"{where} is {_short(value)}, not {name}")


def _is_within(value: float, above: float) -> bool:
    """Whether a number can be reckoned with. Python reads NaN, Infinity and 1e999 from JSON."""
    try:
        return math.isfinite(value) and value > above
    except OverflowError:  # a whole number of hundreds of digits
        return False


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
