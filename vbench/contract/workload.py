"""What a workload is: a `bench_*` function and what is stated about it.

A scenario is a `scenario_<kind>_<name>` function: it gets a lab, in which it launches guests, where
others get a `measure`. What else is true of workloads is true of scenarios.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from vbench.errors import UsageError
from vbench.model import CATEGORIES, SCENARIOS, Statistic, WorkloadInfo
from vbench.records import Cause

PREFIX, SCENARIO_PREFIX = "bench_", "scenario_"
_DEFAULTS: Mapping[str, object] = {
    "category": "cpu", "statistic": "ratio", "options": "", "boots": 0, "counted": True,
    "cause": None, "fresh": False, "representative": False, "cpus": 1, "named": False, "needs": "",
}  # fmt: skip
_NEEDED = ("disk", "network")


@dataclass(frozen=True)
class Workload:
    """A workload that can be measured: `function(measure)` or, if it is a scenario,
    `function(lab)`, and what is stated about it."""

    info: WorkloadInfo
    function: FunctionType


def described(function: FunctionType) -> Workload:
    """The workload that `function` is by its `workload` marks. Raises UsageError."""
    stated: dict[str, object] = {}
    for mark in marks(function):
        if mark.name == "workload":
            stated.update(mark.kwargs)
    return Workload(describe(function, stated), function)


def marks(function: FunctionType) -> list[Any]:
    """The pytest marks (`name`, `args`, `kwargs`) of a function's file, then its own, the nearest
    last: it wins."""
    of_file = function.__globals__.get("pytestmark", [])
    of_file = of_file if isinstance(of_file, list) else [of_file]
    own = getattr(function, "pytestmark", [])
    # `pytestmark` may hold decorators, which have their mark in an attribute
    return [getattr(each, "mark", each) for each in [*reversed(of_file), *reversed(own)]]


def describe(function: Callable[..., object], stated: Mapping[str, object]) -> WorkloadInfo:
    """What `function` is, with what its marker states: unit, category, statistic; `options` that
    its guest gets beside the variant's own; `boots` to measure at most; `counted=False` where no
    exact count of instructions is to be had; `cause`, the event whose cost it shows; `fresh`: it is
    the first on each boot;
    `representative`: a reduced run measures it of its category; `cpus`: guests with fewer are left
    out, unless it is named; `named`: it is measured only where `--workload` names it, and not by
    "*"; `needs`: "disk" or "network", which workloads of these categories need without saying so.

    The definition digest covers the function's whole file but its other workloads: helpers and
    constants count too. A scenario need state nothing: its name says its kind, which is its
    category and its unit. Raises UsageError for a statement that is missing, unknown or wrong.
    """
    path = inspect.getsourcefile(function) or ""
    name = function.__name__.removeprefix(PREFIX).removeprefix(SCENARIO_PREFIX).replace("_", "-")
    where = f"workload {name} in {path}"
    stated = {**_by_name(function.__name__, where), **stated}
    unknown = set(stated) - {"unit", *_DEFAULTS}
    if unknown or "unit" not in stated:
        raise UsageError(
            f"{where}: "
            + (f"unknown {', '.join(sorted(unknown))}" if unknown else "its unit is not stated"),
            remedy='write @pytest.mark.workload(category="cpu", unit="event")',
        )
    values = {key: str(value) for key, value in {**_DEFAULTS, **stated}.items()}
    categories = [
        each
        for each in CATEGORIES
        if (each in SCENARIOS) == function.__name__.startswith(SCENARIO_PREFIX)
    ]
    for key, known in (("category", categories), ("statistic", tuple(Statistic))):
        if values[key] not in known:
            raise UsageError(
                f"{where}: there is no {key} {values[key]!r}", remedy=f"one of {', '.join(known)}"
            )
    for key in ("boots", "cpus"):
        if not values[key].isdecimal():
            raise UsageError(f"{where}: {key} is a number, not {values[key]!r}")
    if values["counted"] not in ("True", "False"):
        raise UsageError(f"{where}: counted is True or False, not {values['counted']!r}")
    needs = values["needs"]
    if needs not in ("", *_NEEDED):
        raise UsageError(
            f"{where}: it cannot need {needs!r}", remedy=f"one of {', '.join(_NEEDED)}, or nothing"
        )
    cause = stated.get("cause")
    if cause is not None and not isinstance(cause, Cause):
        raise UsageError(f"{where}: its cause is no vbench.records.Cause: {cause!r}")
    return WorkloadInfo(
        name=name,
        category=values["category"],
        unit=values["unit"],
        statistic=Statistic(values["statistic"]),
        summary=(inspect.getdoc(function) or "").split("\n", 1)[0],
        definition=hashlib.sha256(_definition(function).encode()).hexdigest()[:16],
        path=path,
        options=values["options"],
        boots=int(values["boots"]),
        counted=values["counted"] == "True",
        cause=cause,
        fresh=stated.get("fresh") is True,
        representative=stated.get("representative") is True,
        cpus=int(values["cpus"]),
        needs=needs,
        named=stated.get("named") is True,
    )


def _by_name(name: str, where: str) -> dict[str, object]:
    """What the name of a scenario states. Raises UsageError for a kind that there is not."""
    if not name.startswith(SCENARIO_PREFIX):
        return {}
    kind = name.removeprefix(SCENARIO_PREFIX).partition("_")[0]
    if kind not in SCENARIOS:
        raise UsageError(
            f"{where}: there is no kind of scenario {kind!r}",
            remedy=f"call it scenario_KIND_NAME, with a kind of {', '.join(SCENARIOS)}",
        )
    return {"category": kind, "unit": kind, "statistic": Statistic.ABSOLUTE, "counted": False}


def _definition(function: Callable[..., object]) -> str:
    """The source of the function's file without that of its other workloads."""
    lines, _ = inspect.findsource(function)
    dropped: set[int] = set()
    for node in ast.parse("".join(lines)).body:
        if (
            isinstance(node, ast.FunctionDef)
            and node.name.startswith((PREFIX, SCENARIO_PREFIX))
            and node.name != function.__name__
        ):
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            dropped.update(range(first - 1, node.end_lineno or node.lineno))
    return "".join(line for number, line in enumerate(lines) if number not in dropped)
