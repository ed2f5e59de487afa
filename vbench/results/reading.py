"""JSON back to records: the reader of what `store` writes.

The whole is checked first: what is missing or of another type raises ValueError by its key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vbench.errors import one_line
from vbench.model import Item, Launch, Pair, Result, Status
from vbench.results.formatting import plural
from vbench.results.shapes import Document
from vbench.results.typed import from_json


def result_of(whole: Mapping[str, Any]) -> Result:
    """The result that a whole file holds. Raises ValueError if it is damaged."""
    document = from_json(whole, Document)
    run = document["vbench"]
    measured: dict[tuple[str, str], Mapping[str, Any]] = {}
    for entry in document["benchmarks"]:
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
    return run_of(run, items, run["launches"])


def run_of(run: Mapping[str, Any], items: Sequence[Item], launches: Sequence[Launch]) -> Result:
    """The result whose top-level object is `run`, with these items and launches. Raises ValueError
    for an item of something else."""
    host = run["host"]
    for item in items:
        own = (item.variant, item.host, item.host_kind, item.time_base)
        if own != (run["variant"], host.identity, host.kind, host.time_base):
            raise ValueError(f"{item.name} is of another variant or host than its file")
    return Result(
        host=host,
        variant=run["variant"],
        items=tuple(items),
        launches=tuple(launches),
        vbench_version=run["vbench_version"],
        image=run["image"],
        started=run["started"],
        argv=run["argv"],
        facts=run["facts"],
        declaration=run["declaration"],
        unavailable=tuple(
            (entry["backend"], entry["technique"], entry["reason"], entry["remedy"])
            for entry in run["unavailable"]
        ),
        # these are not in files of earlier versions
        reduced_to=run.get("reduced_to", ()),
        seed=run.get("seed"),
        sittings=run.get("sittings", ()),
        side=run.get("side", ""),
        planned=run.get("planned", 0),
        done=run.get("done", 0),
        stopped=run.get("stopped", ""),
        installation=run.get("installation"),
    )


def item_of(
    head: Mapping[str, Any], pairs: Sequence[Pair], exits: Mapping[str, float | None]
) -> Item:
    """An item from all that is written of it but its samples, and those."""
    return Item(
        workload=head["workload"],
        category=head["category"],
        unit=head["work_unit"],
        statistic=head["statistic"],
        definition=head["definition"],
        backend=head["backend"],
        variant=head["variant"],
        technique=head["technique"],
        host=one_line(head["host"]),  # as in HostFacts
        host_kind=head["host_kind"],
        time_base=head["time_base"],
        status=head["status"],
        reason=head["reason"],
        work=head["work"],
        native_work=head["native_work"],
        pairs=tuple(pairs),
        flags=head["flags"],
        launches=head["launch"],
        commands=head["commands"],
        exits={reason: count for reason, count in exits.items() if count is not None},
        counted=head.get("counted", True),
        cause=head["cause"],
    )


def _pairs(samples: Mapping[str, Any]) -> tuple[Pair, ...]:
    counters, quantiles = samples["counters"], samples["quantiles"]
    equal = samples.get("pair_equal", [None] * len(samples["pairs"]))
    phases = samples.get("pair_phases", [()] * len(samples["pairs"]))
    columns = (samples["pairs"], samples["pair_boots"], samples["pair_flags"], equal, phases)
    names = ("pairs", "pair_boots", "pair_flags", "pair_equal", "pair_phases")
    by_pair = dict(zip(names, columns, strict=True))
    for kind, of in (("counters", counters), ("quantiles", quantiles)):
        by_pair |= {f"{kind}.{name}": values for name, values in of.items()}
    for name, values in by_pair.items():
        if len(values) != len(samples["pairs"]):
            count = plural(len(values), "value")
            raise ValueError(
                f"{name} has {count} for {plural(len(samples['pairs']), 'pair')} of "
                f"{samples['workload']}"
            )
    return tuple(
        Pair(
            native_s,
            guest_s,
            boot,
            flags,
            {name: values[i] for name, values in counters.items() if values[i] is not None},
            {
                name: values[i]
                for name, values in quantiles.items()
                if values[i] is not None and values[i][1] is not None
            },
            shares,
            timed,
        )
        for i, ((native_s, guest_s), boot, flags, shares, timed) in enumerate(
            zip(*columns, strict=True)
        )
    )
