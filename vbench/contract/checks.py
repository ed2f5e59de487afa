"""What a plugin's backend must be: checked where it comes in, so that a wrong one is named there
and not where it is used."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from vbench.contract.backend import Backend, CountedRun
from vbench.errors import LaunchError
from vbench.model import Fact, Technique
from vbench.records import Declaration

_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")  # what a variant and a file can be called
_OPTIONS = (bool, int, float, str)  # what the text of a variant can be turned into
_Kind = TypeVar("_Kind")


def backends(result: Iterable[Any]) -> list[Backend]:
    """Those of a plugin. Raises TypeError for one that is not what the contract asks for."""
    found = list(result)
    for backend in found:
        for wrong in _faults(backend):
            name = getattr(backend, "name", type(backend).__name__)
            raise TypeError(f"backend {name!r} {wrong}")
    return found


def _faults(backend: Any) -> Iterator[str]:
    """What is wrong with it; each holds only if those before do not."""
    missing = [name for name in vars(Backend) if name[0] != "_" and not hasattr(backend, name)]
    if missing:
        yield f"has no {', '.join(missing)}"
    if not (isinstance(backend.name, str) and _NAME.fullmatch(backend.name)):
        yield "needs another name: letters, digits, and . + - _ after the first"
    if not isinstance(backend.technique, Technique):
        yield f"has the technique {backend.technique!r}, which is no Technique"
    if not all(isinstance(each, Fact) for each in dict(backend.facts).values()):
        yield "has facts that are no Fact"
    if not all(isinstance(each, CountedRun) for each in backend.counted):
        yield "has in `counted` what is no CountedRun"
    if not dataclasses.is_dataclass(backend.options) or isinstance(backend.options, type):
        yield "has options that are no dataclass instance"
    kinds = typing.get_type_hints(type(backend.options))
    for field in dataclasses.fields(backend.options):
        if kinds[field.name] not in _OPTIONS:
            yield f"has the option {field.name}, which is no bool, int, float or str"
    declared = backend.declare(backend.options)
    if not isinstance(declared, Declaration):
        yield f"declares {declared!r}, which is no Declaration"


def returned(backend: Backend, method: str, value: object, kind: type[_Kind]) -> _Kind:
    """What a backend's `method` returned, a `kind`. Raises LaunchError for anything else."""
    if isinstance(value, kind):
        return value
    raise LaunchError(
        f"the backend {backend.name} returned {type(value).__name__} from {method}, "
        f"and not {kind.__name__}",
        remedy=f"mend the backend {backend.name}",
    )
