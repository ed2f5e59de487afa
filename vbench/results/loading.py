"""Result files read back and checked: what is foreign, damaged or too new is refused by name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vbench.errors import UnreadableError
from vbench.model import (
    HostFacts,
    HostKind,
    Item,
    Pair,
    Result,
    Statistic,
    Status,
    Technique,
    TimeBase,
)
from vbench.results.history import SCHEMA_VERSION, upgraded
from vbench.results.journal import JOURNAL_NAME
from vbench.results.launches import cause_from_json, declaration_from_json, launch_from_json


def load(path: Path) -> Result:
    """Read one result file. Raises UnreadableError if it is foreign, damaged or newer."""
    whole = _json(path, _read(path))
    if not _is_ours(whole):
        raise UnreadableError(
            f"{path} is JSON, but not a vbench result: it has no top-level `vbench` object",
            remedy="name a file that `vbench run` wrote",
        )
    return _parse(path, whole)


def load_all(paths: Sequence[Path]) -> list[Result]:
    """Read files, and every result file of directories (if none lies there, of those in them).

    Other JSON in a directory, such as a tool's raw output, is passed over. Raises UnreadableError
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
            raise UnreadableError(
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
        raise UnreadableError(f"{path} cannot be read: {error.strerror}", remedy=remedy) from error


def _json(path: Path, data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise UnreadableError(
            f"{path} is not JSON: {error}",
            remedy="the file is damaged or foreign; measure again, or name another file",
        ) from error


def _is_ours(whole: Any) -> bool:
    ours = whole.get("vbench") if isinstance(whole, dict) else None
    return isinstance(ours, dict) and "schema_version" in ours


def _parse(path: Path, whole: Mapping[str, Any]) -> Result:
    ours = whole["vbench"]
    version = ours["schema_version"]
    if not isinstance(version, int) or not 1 <= version <= SCHEMA_VERSION:
        raise UnreadableError(
            f"{path} has schema version {version}; this vbench reads up to {SCHEMA_VERSION}",
            remedy="upgrade vbench to at least the version that wrote the file"
            f" ({ours.get('vbench_version', 'unknown')})",
        )
    try:
        whole = upgraded(whole, version)
        return _result(whole, whole["vbench"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnreadableError(
            f"{path} is a damaged vbench result",
            evidence=f"{type(error).__name__}: {error}",
            remedy="measure again; finished pairs are in the run's " + JOURNAL_NAME,
        ) from error


def _result(whole: Mapping[str, Any], ours: Mapping[str, Any]) -> Result:
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
        launches=tuple(launch_from_json(launch) for launch in ours["launches"]),
        vbench_version=ours["vbench_version"],
        image=ours["image"],
        started=ours["started"],
        argv=tuple(ours["argv"]),
        facts=ours["facts"],
        declaration=declaration_from_json(ours["declaration"]),
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
        counted=head.get("counted", True),
        cause=cause_from_json(head["cause"]),
    )


def _pairs(info: Mapping[str, Any]) -> tuple[Pair, ...]:
    counters = info["counters"]
    quantiles = info["quantiles"]
    pairs = []
    equal = info.get("pair_equal", [None] * len(info["pairs"]))
    columns = zip(info["pairs"], info["pair_boots"], info["pair_flags"], equal, strict=True)
    for i, ((native_s, guest_s), boot, flags, shares) in enumerate(columns):
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
                None if shares is None else (shares[0], shares[1]),
            )
        )
    return tuple(pairs)
