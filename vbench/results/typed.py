"""Values of JSON as records of a type, and records as JSON. Pure.

A shape is a type: a record's or TypedDict's fields are the keys of an object. Keys that a shape has
not are passed over: later versions may add some.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints, is_typeddict


class Duration(float):
    """Seconds per unit of work, as a sample may have them.

    No less than 1e-15: bytes at 1000 TB/s. No more than 1e6: no deadline of a run is 11 days.
    """


class Finite(float):
    """Any number: the bounds of a wild interval are beyond all that is measured."""


class Boot(int):
    """The number of a boot, from 0."""


def from_json(value: Any, shape: Any, where: str = "") -> Any:
    """`value` (JSON) as one of the type `shape`: records, enumerations and tuples of them.

    Raises ValueError, which names the key, if it has not that type.
    """
    try:
        return _reader(shape)(value)
    except _Misfit as error:
        raise ValueError(f"{where}{error.path}".lstrip(".") + f" {error}") from None


class _Misfit(Exception):
    """A value that has not the type of its shape, and the path to it."""

    path = ""

    def below(self, key: str) -> _Misfit:
        self.path = key + self.path
        return self


@cache
def _reader(shape: Any) -> Callable[[Any], Any]:
    """What reads values of a shape. Made once for each: a report reads millions of values."""
    origin, of = get_origin(shape), get_args(shape)
    if origin is UnionType:
        (other,) = (_reader(one) for one in of if one is not NoneType)
        if NoneType not in of:
            return other
        return lambda value: None if value is None else other(value)
    if is_typeddict(shape) or dataclasses.is_dataclass(shape):
        return _object_reader(shape)
    if origin is Mapping:
        return _mapping_reader(_reader(of[1]))
    if origin is tuple:
        return _list_reader(_reader(of[0])) if of[1:] == (...,) else _row_reader(of)
    return _enum_reader(shape) if issubclass(shape, Enum) else _scalar_reader(shape)


def _scalar_reader(shape: Any) -> Callable[[Any], Any]:
    kind, name = _SCALARS[shape]
    bounds = _BOUNDS.get(shape)

    def scalar(value: Any) -> Any:
        _expect(value, kind, name)
        if bounds and not bounds[0] <= value <= bounds[1]:  # NaN is not either
            raise _Misfit(f"is {_short(value)}, not {name}")
        return Path(value) if shape is Path else value

    return scalar


def _object_reader(shape: Any) -> Callable[[Any], Any]:
    readers = {name: _reader(hint) for name, hint in get_type_hints(shape).items()}
    required = sorted(_required(shape))

    def read(value: Any) -> Any:
        _expect(value, dict, "an object")
        for name in required:
            if name not in value:
                raise _Misfit("is missing").below(f".{name}")
        found = {}
        for name, reader in readers.items():
            if name in value:
                try:
                    found[name] = reader(value[name])
                except _Misfit as error:
                    raise error.below(f".{name}") from None
        return shape(**found)

    return read


def _mapping_reader(reader: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def read(value: Any) -> dict[str, Any]:
        _expect(value, dict, "an object")
        found = {}
        for name, each in value.items():
            try:
                found[name] = reader(each)
            except _Misfit as error:
                raise error.below(f".{name}") from None
        return found

    return read


def _list_reader(reader: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def read(value: Any) -> tuple[Any, ...]:
        _expect(value, (list, tuple), "a list")
        found: list[Any] = []
        try:
            found.extend(map(reader, value))
        except _Misfit as error:
            raise error.below(f"[{len(found)}]") from None
        return tuple(found)

    return read


def _row_reader(shapes: Sequence[Any]) -> Callable[[Any], Any]:
    readers = [_reader(shape) for shape in shapes]

    def read(value: Any) -> tuple[Any, ...]:
        _expect(value, (list, tuple), "a list")
        if len(readers) != len(value):
            raise _Misfit(f"has {len(value)} values, not {len(readers)}")
        found: list[Any] = []
        try:
            for reader, each in zip(readers, value, strict=True):
                found.append(reader(each))
        except _Misfit as error:
            raise error.below(f"[{len(found)}]") from None
        return tuple(found)

    return read


def _enum_reader(shape: type[Enum]) -> Callable[[Any], Any]:
    def read(value: Any) -> Enum:
        try:
            return shape(value)
        except ValueError:
            names = ", ".join(str(one.value) for one in shape)
            raise _Misfit(f"is {_short(value)}, not one of {names}") from None

    return read


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
    Duration: ((int, float), "a duration from 1e-15 to 1e+06 s"),
    Finite: ((int, float), "a number"),
    Boot: (int, "the number of a boot"),
}
# Python reads NaN, Infinity, 1e999 and numbers of hundreds of digits from JSON. What was measured
# is far below; sums and powers of what is above overflow.
_BOUNDS: dict[type, tuple[float, float]] = {
    int: (-(2**63), 2**63),
    float: (-1e24, 1e24),
    Duration: (1e-15, 1e6),
    Finite: (-sys.float_info.max, sys.float_info.max),
    Boot: (0, 1e6),
}


def _required(shape: Any) -> frozenset[str]:
    if is_typeddict(shape):
        return frozenset(shape.__required_keys__)
    nothing = dataclasses.MISSING
    return frozenset(
        field.name
        for field in dataclasses.fields(shape)
        if field.default is nothing and field.default_factory is nothing
    )


def _expect(value: Any, kind: type | tuple[type, ...], name: str) -> None:
    # in Python, but not in JSON, true is a number
    if not isinstance(value, kind) or (isinstance(value, bool) and kind not in (bool, object)):
        raise _Misfit(f"is {_short(value)}, not {name}")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
