"""Results as versioned JSON that pytest-benchmark reads too; `loading.py` reads them back.

A result file is a pytest-benchmark JSON document. `benchmarks[]` holds measured items only;
what vbench adds lies in each entry's `extra_info["vbench"]` and in a top-level `vbench` object,
which lists every item, failed and unsupported ones included. Durations are seconds per unit
of work. What is missing is null, never 0; NaN and infinities are never written.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from vbench.errors import StoreError
from vbench.model import Item, Launch, Result, Status
from vbench.results import stats
from vbench.results.history import SCHEMA_VERSION
from vbench.results.typed import to_json


def _number(value: float | None) -> float | None:
    """A finite number or None: JSON has no NaN, and a made-up 0 would be a lie."""
    return value if value is not None and math.isfinite(value) else None


def _sample(item: Item, value: float) -> float:
    if not math.isfinite(value):
        raise StoreError(
            f"{item.name}: a guest sample is {value}, which is no duration",
            remedy="a workload must raise instead of reporting a time that it did not measure",
        )
    return value


def item_head(item: Item) -> dict[str, Any]:
    """All of an item but its samples."""
    return {
        "backend": item.backend,
        "variant": item.variant,
        "technique": item.technique.value,
        "workload": item.workload,
        "category": item.category,
        "statistic": item.statistic.value,
        "definition": item.definition,
        "host": item.host,
        "host_kind": item.host_kind.value,
        "time_base": item.time_base.value,
        "work": item.work,
        "native_work": item.native_work,
        "work_unit": item.unit,
        "flags": list(item.flags),
        "launch": list(item.launches),
        "commands": dict(item.commands),
        "cause": to_json(item.cause),
        "status": item.status.value,
        "reason": item.reason,
        "counted": item.counted,
    }


def extra_info(item: Item, overhead: stats.Overhead | None) -> dict[str, Any]:
    """The `extra_info["vbench"]` object of a measured item. Units: seconds per unit of work.

    `pairs`, `pair_boots`, `pair_flags`, `pair_equal`, `pair_phases` and each list in `counters`
    and `quantiles` run in parallel. Raises StoreError for a guest sample that is not finite.
    """
    counters = sorted({name for pair in item.pairs for name in pair.counters})
    quantiles = sorted({name for pair in item.pairs for name in pair.quantiles})
    return {
        **item_head(item),
        "pairs": [[_number(p.native_s), _sample(item, p.guest_s)] for p in item.pairs],
        "pair_boots": [p.boot for p in item.pairs],
        "pair_flags": [list(p.flags) for p in item.pairs],
        "pair_equal": [_quantile_pair(p.equal) for p in item.pairs],
        "pair_phases": [to_json(p.phases) for p in item.pairs],
        "counters": {
            name: [_number(p.counters.get(name)) for p in item.pairs] for name in counters
        },
        "quantiles": {
            name: [_quantile_pair(p.quantiles.get(name)) for p in item.pairs] for name in quantiles
        },
        "exits": {name: _number(value) for name, value in sorted(item.exits.items())},
        "overhead": None if overhead is None else asdict(overhead),
    }


def _quantile_pair(pair: tuple[float | None, float] | None) -> list[float | None] | None:
    return None if pair is None else [_number(pair[0]), _number(pair[1])]


def launched(launch: Launch) -> dict[str, Any]:
    """A launch; a phase whose time is not known is left out."""
    known = tuple(phase for phase in launch.phases if math.isfinite(phase.seconds))
    written: dict[str, Any] = to_json(replace(launch, phases=known))
    return written


def top_level(result: Result) -> dict[str, Any]:
    """The top-level `vbench` object: every item without its samples, launches, host."""
    return {
        "schema_version": SCHEMA_VERSION,
        "vbench_version": result.vbench_version,
        "started": result.started,
        "argv": list(result.argv),
        "image": result.image,
        "variant": result.variant,
        "host": to_json(result.host),
        "declaration": to_json(result.declaration),
        "facts": {row: dict(fact) for row, fact in result.facts.items()},
        "unavailable": [
            dict(zip(("backend", "technique", "reason", "remedy"), entry, strict=True))
            for entry in result.unavailable
        ],
        "reduced_to": list(result.reduced_to),
        "seed": result.seed,
        "sittings": list(result.sittings),
        "side": result.side,
        "planned": result.planned,
        "done": result.done,
        "stopped": result.stopped,
        "installation": to_json(result.installation),
        "items": [item_head(item) for item in result.items],
        "launches": [launched(launch) for launch in result.launches],
    }


def entries(result: Result) -> list[dict[str, Any]]:
    """The `benchmarks[]` of a result: one for each measured item, as pytest-benchmark has them.

    `stats` are of the guest's samples, computed by pytest-benchmark. Raises StoreError for a
    guest sample that is not finite.
    """
    from pytest_benchmark.stats import Stats  # noqa: PLC0415 - brings pytest

    benchmarks = []
    for item in result.items:
        if item.status is not Status.OK:
            continue
        computed: Any = Stats()  # type: ignore[no-untyped-call]
        for pair in item.pairs:
            computed.update(_sample(item, pair.guest_s))
        benchmarks.append(
            {
                "group": item.workload,
                "name": item.name,
                "fullname": item.name,
                "params": None,
                "param": None,
                "extra_info": {"vbench": extra_info(item, stats.overhead_of(item))},
                "options": {},
                "stats": {**computed.as_dict(), "data": computed.data, "iterations": 1},
            }
        )
    return benchmarks


def document(result: Result) -> dict[str, Any]:
    """A result file: a complete pytest-benchmark document, and our top-level object."""
    import pytest_benchmark  # noqa: PLC0415 - brings pytest, which a report does not need

    return {
        "machine_info": {"node": result.host.identity, **dict(sorted(result.host.facts.items()))},
        "commit_info": {},  # the commit of the current folder says nothing about the guest
        "benchmarks": entries(result),
        "datetime": result.started,
        "version": pytest_benchmark.__version__,
        "vbench": top_level(result),
    }


def dumps(document: Mapping[str, Any]) -> bytes:
    """JSON text of a document. Raises StoreError if it holds NaN or an infinity."""
    try:
        return json.dumps(document, allow_nan=False).encode() + b"\n"
    except ValueError as error:
        raise StoreError(f"a result cannot be written as JSON: {error}") from error
