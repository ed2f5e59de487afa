"""Results as versioned JSON that pytest-benchmark reads too: out, in, and checked.

A result file is a pytest-benchmark JSON document. `benchmarks[]` holds measured items only;
what is ours lies in each entry's `extra_info["vbench"]` and in a top-level `vbench` object,
which lists every item, failed and unsupported ones included. Durations are seconds per unit
of work. What is missing is null, never 0; NaN and infinities are never written.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vbench import stats
from vbench.errors import StoreError
from vbench.journal import JOURNAL_NAME as JOURNAL_NAME  # noqa: PLC0414 - public here too
from vbench.journal import Journal as Journal  # noqa: PLC0414 - public here too
from vbench.journal import write_atomic as write_atomic  # noqa: PLC0414 - public here too
from vbench.model import (
    Attestation,
    HostFacts,
    HostKind,
    Item,
    Launch,
    Pair,
    Result,
    Statistic,
    Status,
    Technique,
    TimeBase,
)

# History of the format. Add a line and a migration in `_result` when it changes.
#   1  first: pairs with pair_boots, pair_flags, counters and quantiles per pair
#   2  `exits` of an item: by reason, per unit of work; absent in 1, which counted none
SCHEMA_VERSION = 2


# ---------------------------------------------------------------- to JSON


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


def _item_head(item: Item) -> dict[str, Any]:
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
        "status": item.status.value,
        "reason": item.reason,
    }


def extra_info(item: Item, overhead: stats.Overhead | None) -> dict[str, Any]:
    """The `extra_info["vbench"]` object of a measured item. Units: seconds per unit of work.

    `pairs`, `pair_boots`, `pair_flags` and each list in `counters` and `quantiles` run in
    parallel. Raises StoreError for a guest sample that is not finite.
    """
    counters = sorted({name for pair in item.pairs for name in pair.counters})
    quantiles = sorted({name for pair in item.pairs for name in pair.quantiles})
    return {
        **_item_head(item),
        "pairs": [[_number(p.native_s), _sample(item, p.guest_s)] for p in item.pairs],
        "pair_boots": [p.boot for p in item.pairs],
        "pair_flags": [list(p.flags) for p in item.pairs],
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


def _launch(launch: Launch) -> dict[str, Any]:
    return {
        "id": launch.id,
        "variant": launch.variant,
        "boot": launch.boot,
        "argv": list(launch.argv),
        "versions": dict(launch.versions),
        "image": launch.image,
        "kernel": launch.kernel,
        "attestation": {
            "summary": launch.attestation.summary,
            "evidence": dict(launch.attestation.evidence),
        },
        "boot_times_s": {name: _number(value) for name, value in launch.boot_times_s.items()},
        "guest_facts": dict(launch.guest_facts),
        "device": dict(launch.device),
    }


def top_level(result: Result) -> dict[str, Any]:
    """The top-level `vbench` object: every item without its samples, launches, host."""
    return {
        "schema_version": SCHEMA_VERSION,
        "vbench_version": result.vbench_version,
        "started": result.started,
        "argv": list(result.argv),
        "image": result.image,
        "variant": result.variant,
        "host": {
            "identity": result.host.identity,
            "kind": result.host.kind.value,
            "time_base": result.host.time_base.value,
            "facts": dict(result.host.facts),
        },
        "facts": {row: dict(fact) for row, fact in result.facts.items()},
        "unavailable": [
            dict(zip(("backend", "technique", "reason", "remedy"), entry, strict=True))
            for entry in result.unavailable
        ],
        "reduced_to": list(result.reduced_to),
        "items": [_item_head(item) for item in result.items],
        "launches": [_launch(launch) for launch in result.launches],
    }


def attach(benchmark_json: dict[str, Any], result: Result) -> dict[str, Any]:
    """`benchmark_json` as pytest-benchmark generated it, plus our top-level object.

    Its `benchmarks[]` must already carry `extra_info["vbench"]` for each measured item.
    """
    return {**benchmark_json, "vbench": top_level(result)}


def document(result: Result) -> dict[str, Any]:
    """A complete pytest-benchmark document made from `result` without running pytest."""
    import pytest_benchmark  # noqa: PLC0415 - brings pytest, which a report does not need
    from pytest_benchmark.stats import Stats  # noqa: PLC0415

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
    whole = {
        "machine_info": {"node": result.host.identity, **dict(sorted(result.host.facts.items()))},
        "commit_info": {},
        "benchmarks": benchmarks,
        "datetime": result.started,
        "version": pytest_benchmark.__version__,
    }
    return attach(whole, result)


def dumps(document: Mapping[str, Any]) -> bytes:
    """JSON text of a document. Raises StoreError if it holds NaN or an infinity."""
    try:
        return json.dumps(document, allow_nan=False).encode() + b"\n"
    except ValueError as error:
        raise StoreError(f"a result cannot be written as JSON: {error}") from error


# ---------------------------------------------------------------- from JSON


def load(path: Path) -> Result:
    """Read one result file. Raises StoreError if it is unreadable, foreign, damaged or newer."""
    whole = _json(path, _read(path))
    if not _is_ours(whole):
        raise StoreError(
            f"{path} is JSON, but not a vbench result: it has no top-level `vbench` object",
            remedy="name a file that `vbench run` wrote",
        )
    return _parse(path, whole)


def load_all(paths: Sequence[Path]) -> list[Result]:
    """Read files, and every result file of directories (if none lies there, of those in them).

    Other JSON in a directory, such as a tool's raw output, is passed over. Raises StoreError
    where nothing is ours, and for a damaged file of ours rather than leaving it out. A file
    named twice is read once.
    """
    results: dict[Path, Result] = {}
    for path in paths:
        if not path.is_dir():
            results[path.resolve()] = load(path)
            continue
        # CI artefacts arrive with a folder for each job: look one level down as well
        found = _load_ours(path.glob("*.json")) or _load_ours(path.glob("*/*.json"))
        if not found:
            raise StoreError(
                f"{path} holds no vbench result",
                remedy="name the folder that `vbench run` wrote with --out, or a file in it",
            )
        results.update(found)
    return list(results.values())


def _load_ours(paths: Iterable[Path]) -> dict[Path, Result]:
    ours = {}
    for path in sorted(path for path in paths if path.is_file()):
        data = _read(path)
        if b'"vbench"' not in data:
            continue
        try:
            whole = json.loads(data)
        except ValueError:
            if b'"pair_boots"' in data:
                _json(path, data)  # ours, cut short: say so
            continue
        if _is_ours(whole):
            ours[path.resolve()] = _parse(path, whole)
    return ours


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        remedy = "check the name and its permissions"
        raise StoreError(f"{path} cannot be read: {error.strerror}", remedy=remedy) from error


def _json(path: Path, data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise StoreError(
            f"{path} is not JSON: {error}",
            remedy="the file is damaged or foreign; measure again, or name another file",
        ) from error


def _is_ours(whole: Any) -> bool:
    ours = whole.get("vbench") if isinstance(whole, dict) else None
    return isinstance(ours, dict) and "schema_version" in ours


def _parse(path: Path, whole: Mapping[str, Any]) -> Result:
    ours = whole["vbench"]
    version = ours["schema_version"]
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise StoreError(
            f"{path} has schema version {version}; this vbench reads up to {SCHEMA_VERSION}",
            remedy="upgrade vbench to at least the version that wrote the file"
            f" ({ours.get('vbench_version', 'unknown')})",
        )
    try:
        return _result(whole, ours, str(path))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(
            f"{path} is a damaged vbench result",
            evidence=f"{type(error).__name__}: {error}",
            remedy="measure again; finished pairs are in the run's " + JOURNAL_NAME,
        ) from error


def _result(whole: Mapping[str, Any], ours: Mapping[str, Any], source: str) -> Result:
    measured: dict[tuple[str, str], Mapping[str, Any]] = {}
    for entry in whole["benchmarks"]:
        info = entry["extra_info"]["vbench"]
        key = (info["workload"], info["variant"])
        if key in measured:
            raise ValueError(f"{entry['name']} is there twice")
        measured[key] = info
    items = []
    for head in ours["items"]:
        info = measured.get((head["workload"], head["variant"]))
        if info is None and head["status"] == Status.OK:
            raise ValueError(f"{head['workload']}[{head['variant']}] is ok but has no samples")
        items.append(_item(head, info))
    host = ours["host"]
    return Result(
        host=HostFacts(
            host["identity"], HostKind(host["kind"]), TimeBase(host["time_base"]), host["facts"]
        ),
        variant=ours["variant"],
        items=tuple(items),
        launches=tuple(_read_launch(launch) for launch in ours["launches"]),
        vbench_version=ours["vbench_version"],
        image=ours["image"],
        started=ours["started"],
        argv=tuple(ours["argv"]),
        source=source,
        facts=ours["facts"],
        unavailable=tuple(
            (entry["backend"], entry["technique"], entry["reason"], entry["remedy"])
            for entry in ours["unavailable"]
        ),
        reduced_to=tuple(ours.get("reduced_to", ())),  # not in files of vbench before it
    )


def _item(head: Mapping[str, Any], info: Mapping[str, Any] | None) -> Item:
    return Item(
        workload=head["workload"],
        category=head["category"],
        unit=head["work_unit"],
        statistic=Statistic(head["statistic"]),
        definition=head["definition"],
        backend=head["backend"],
        variant=head["variant"],
        technique=Technique(head["technique"]),
        host=head["host"],
        host_kind=HostKind(head["host_kind"]),
        time_base=TimeBase(head["time_base"]),
        status=Status(head["status"]),
        reason=head["reason"],
        work=head["work"],
        native_work=head["native_work"],
        pairs=() if info is None else _pairs(info),
        flags=tuple(head["flags"]),
        launches=tuple(head["launch"]),
        commands=head["commands"],
        exits={} if info is None else info.get("exits", {}),
    )


def _pairs(info: Mapping[str, Any]) -> tuple[Pair, ...]:
    counters = info["counters"]
    quantiles = info["quantiles"]
    pairs = []
    columns = zip(info["pairs"], info["pair_boots"], info["pair_flags"], strict=True)
    for i, ((native_s, guest_s), boot, flags) in enumerate(columns):
        if not isinstance(guest_s, (int, float)) or not isinstance(boot, int):
            raise ValueError(f"pair {i} is {[native_s, guest_s]} of boot {boot}")
        pairs.append(
            Pair(
                native_s,
                guest_s,
                boot,
                tuple(flags),
                {name: values[i] for name, values in counters.items() if values[i] is not None},
                {
                    name: (values[i][0], values[i][1])
                    for name, values in quantiles.items()
                    if values[i] is not None and values[i][1] is not None
                },
            )
        )
    return tuple(pairs)


def _read_launch(launch: Mapping[str, Any]) -> Launch:
    return Launch(
        id=launch["id"],
        variant=launch["variant"],
        boot=launch["boot"],
        argv=tuple(launch["argv"]),
        versions=launch["versions"],
        image=launch["image"],
        kernel=launch["kernel"],
        attestation=Attestation(**launch["attestation"]),
        boot_times_s={k: v for k, v in launch["boot_times_s"].items() if v is not None},
        guest_facts=launch["guest_facts"],
        device=launch["device"],
    )
