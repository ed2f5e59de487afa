"""Results that nobody measured, for benchmarks of what reads results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

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
from vbench.results import store

STARTED = "2026-01-01T00:00:00Z"


def host(name: str, facts: Mapping[str, str], kind: HostKind = HostKind.LOCAL) -> HostFacts:
    return HostFacts(f"{kind.value}:{name}", kind, TimeBase.WALL, facts)


def item(
    where: HostFacts,
    variant: str,
    technique: Technique,
    workload: str,
    pairs: Iterable[Pair],
    category: str = "",
) -> Item:
    """An overhead. Without `category` the workload's name begins with it."""
    return Item(
        workload=workload,
        category=category or workload.partition("-")[0],
        unit="event",
        statistic=Statistic.RATIO,
        definition=workload,
        backend=variant,
        variant=variant,
        technique=technique,
        host=where.identity,
        host_kind=where.kind,
        time_base=where.time_base,
        status=Status.OK,
        pairs=tuple(pairs),
    )


def result(where: HostFacts, variant: str, items: Iterable[Item], started: str = STARTED) -> Result:
    return Result(where, variant, tuple(items), (), "0", "image", started)


def write(made: Result, path: Path) -> None:
    """As `vbench run` writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(store.dumps(store.document(made)))
