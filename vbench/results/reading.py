"""JSON back to records: the reader of what `store` writes.

The whole is checked first: what is missing or of another type raises ValueError by its key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vbench.model import (
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
from vbench.results.launches import cause_from_json, declaration_from_json, launch_from_json
from vbench.results.shapes import Document, check


def result_of(whole: Mapping[str, Any]) -> Result:
    """The result that a whole file holds. Raises ValueError if it is damaged."""
    check(whole, Document)
    run = whole["vbench"]
    measured: dict[tuple[str, str], Mapping[str, Any]] = {}
    for entry in whole["benchmarks"]:
        info = entry["extra_info"]["vbench"]
        key = (info["workload"], info["variant"])
        if key in measured:
            raise ValueError(f"{entry['name']} is there twice")
        measured[key] = info
    items = []
    for head in run["items"]:
        info = measured.get((head["workload"], head["variant"]))
        if info is None and head["status"] == Status.OK:
            raise ValueError(f"{head['workload']}[{head['variant']}] is ok but has no samples")
        pairs = () if info is None else _pairs(info)
        items.append(item_of(head, pairs, {} if info is None else info.get("exits", {})))
    launches = [launch_from_json(launch) for launch in run["launches"]]
    return run_of(run, items, launches)


def run_of(run: Mapping[str, Any], items: Sequence[Item], launches: Sequence[Launch]) -> Result:
    """The result whose top-level object is `run`, with these items and launches."""
    host = run["host"]
    return Result(
        host=HostFacts(
            host["identity"], HostKind(host["kind"]), TimeBase(host["time_base"]), host["facts"]
        ),
        variant=run["variant"],
        items=tuple(items),
        launches=tuple(launches),
        vbench_version=run["vbench_version"],
        image=run["image"],
        started=run["started"],
        argv=tuple(run["argv"]),
        facts=run["facts"],
        declaration=declaration_from_json(run["declaration"]),
        unavailable=tuple(
            (entry["backend"], entry["technique"], entry["reason"], entry["remedy"])
            for entry in run["unavailable"]
        ),
        # these are not in files of earlier versions
        reduced_to=tuple(run.get("reduced_to", ())),
        seed=run.get("seed"),
        sittings=tuple(run.get("sittings", ())),
        planned=run.get("planned", 0),
        done=run.get("done", 0),
        stopped=run.get("stopped", ""),
    )


def item_of(
    head: Mapping[str, Any], pairs: Sequence[Pair], exits: Mapping[str, float | None]
) -> Item:
    """An item from all that is written of it but its samples, and those."""
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
        pairs=tuple(pairs),
        flags=tuple(head["flags"]),
        launches=tuple(head["launch"]),
        commands=head["commands"],
        exits={reason: count for reason, count in exits.items() if count is not None},
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
