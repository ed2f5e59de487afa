"""Why virtualization matters: provisioning, snapshots and migration, a table each.

Scenarios are told by their kind, which is the category of their items; what they timed and counted
by name. Pure.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vbench.model import SCENARIOS, Item, Status
from vbench.records import Clock
from vbench.report.document import Block, Cell, Table
from vbench.report.gather import Panel
from vbench.results.formatting import NOTHING, code, duration, number, plain

TITLE = "Why virtualization matters"
PROVISIONING, SNAPSHOT, MIGRATION = SCENARIOS[:3]
_LIMITS = (
    "Source and destination are on one host. No network lies between them, and they share its CPUs "
    "and its disk. Hypervisor, guest and client each have a clock of their own. *Tick gap* is the "
    "longest time between two ticks of the guest, one of which it sends each millisecond, as the "
    "host stamps them. *Client's wait* is the longest time until a client got an answer over a "
    "connection that stayed open. *Before* is the same shortly before the migration. A guest "
    "cannot time its own stop: *clock lost* is by how much its clock fell behind the host's."
)


def measured(panel: Panel, kind: str) -> list[Item]:
    """Scenarios of a kind that were measured here, in the order of the workloads."""
    return [item for item in panel.items if item.category == kind and item.status is Status.OK]


def seconds(item: Item, operation: str, phase: str, clock: Clock | None = None) -> list[float]:
    """What was timed of a phase, in the order of the rounds."""
    return [
        each.seconds
        for pair in item.pairs
        for each in pair.phases
        if (each.operation, each.phase) == (operation, phase) and clock in (None, each.clock)
    ]


def counts(item: Item, name: str) -> list[float]:
    """What was counted under a name, in the order of the rounds."""
    return [pair.counters[name] for pair in item.pairs if name in pair.counters]


def phases(item: Item) -> list[dict[str, Any]]:
    """Each phase that was timed, with the median of its seconds."""
    found: dict[tuple[str, str, str], list[float]] = {}
    for pair in item.pairs:
        for each in pair.phases:
            key = (each.operation, each.phase, each.clock.value)
            found.setdefault(key, []).append(each.seconds)
    return [
        {"operation": operation, "phase": phase, "clock": clock, "seconds": statistics.median(all_)}
        for (operation, phase, clock), all_ in found.items()
    ]


def medians(item: Item) -> dict[str, float]:
    """What was counted, by name."""
    names = sorted({name for pair in item.pairs for name in pair.counters})
    return {name: statistics.median(counts(item, name)) for name in names}


@dataclass(frozen=True)
class _Column:
    heading: str
    cell: Callable[[Panel, Item], Cell | str]


def _timed(heading: str, operation: str, phase: str, clock: Clock | None = None) -> _Column:
    def cell(panel: Panel, item: Item) -> Cell | str:
        values = seconds(item, operation, phase, clock)
        texts = [duration(value, panel.host.time_base) for value in _middle_and_ends(values)]
        return _cell(texts, values)

    return _Column(heading, cell)


def _counted(heading: str, *names: str) -> _Column:
    def cell(panel: Panel, item: Item) -> Cell | str:
        values = next((found for name in names if (found := counts(item, name))), [])
        return _cell([number(value) for value in _middle_and_ends(values)], values)

    return _Column(heading, cell)


def _middle_and_ends(values: Sequence[float]) -> list[float]:
    return [statistics.median(values), min(values), max(values)] if values else []


def _cell(texts: Sequence[str], values: Sequence[float]) -> Cell | str:
    if not values:
        return NOTHING
    middle, low, high = texts
    text = middle if low == high else f"{middle} ({low} to {high})"
    return Cell(text, statistics.median(values))


def _kept(panel: Panel, item: Item) -> str:
    found = counts(item, "connections_kept")
    if not found:
        return NOTHING
    return "yes" if min(found) > 0 else f"lost in {sum(not kept for kept in found)} of {len(found)}"


def _result(panel: Panel, item: Item) -> str:
    """Whether a migration came to its end, and with what memory."""
    found = counts(item, "converged")
    lost = counts(item, "survived").count(0)
    failed = [pair for pair in item.pairs if not pair.counters.get("converged", 1)]
    stale = sum(counts(item, "memory_stale_mib"))
    moved = sum(map(bool, found)) - lost
    texts = [f"moved {'once' if moved == 1 else f'{moved} times'}" if moved else ""]
    if lost:
        texts.append(f"**the guest did not survive**: {plain(item.reason)}")
    if failed:
        left = statistics.median(counts(item, "left_mib"))
        texts.append(f"does not converge: {number(left)} MiB left when it was given up")
    if stale:
        texts.append(f"**memory lost: {number(stale)} MiB are not what was written last**")
    return "; ".join(filter(None, texts)) or NOTHING


_CLIENT, _GUEST, _HYPERVISOR = Clock.CLIENT, Clock.GUEST, Clock.HYPERVISOR
_COLUMNS: dict[str, tuple[_Column, ...]] = {
    PROVISIONING: (
        _timed("Image built, once", "image", "built"),
        _timed("Image at hand", "image", "ready"),
        _timed("User space, by the guest", "kernel", "userspace", _GUEST),
        _timed("Ready", "launch", "ready"),
        _timed("First command", "launch", "command"),
        _timed("A clone's first command", "restore", "command"),
        _timed("Natively", "native", "command"),
    ),
    SNAPSHOT: (
        _timed("Saved", "save", "saved"),
        _counted("State, MiB", "state_mib"),
        _timed("Guest stopped, by the hypervisor", "save", "downtime", _HYPERVISOR),
        _timed("Tick gap", "save", "tick gap"),
        _timed("Restored: hypervisor started", "restore", "started"),
        _timed("state loaded", "restore", "loaded"),
        _timed("first command", "restore", "command"),
        _timed("first answer over the kept connection", "restore", "answer"),
        _Column("Connection kept", _kept),
        _counted("Memory kept, MiB", "memory_kept_mib"),
        _timed("Read before", "memory before", "read"),
        _timed("Read after", "memory after", "read"),
    ),
    MIGRATION: (
        _Column("Result", _result),
        _counted("Touched before, MiB/s", "dirtied_before_mib_s"),
        _counted("Touched during", "dirtied_mib_s"),
        _timed("In all", "migration", "total"),
        _counted("Sent, MiB", "sent_mib"),
        _counted("Rounds", "rounds"),
        _timed("Downtime, by the hypervisor", "migration", "downtime", _HYPERVISOR),
        _timed("Tick gap", "migration", "tick gap"),
        _timed("Tick gap before", "before", "tick gap"),
        _timed("Client's wait", "migration", "longest wait"),
        _timed("Client's wait before", "before", "longest wait"),
        _timed("Clock lost, by the guest", "migration", "clock lost", _GUEST),
        _Column("Connection kept", _kept),
    ),
}


def tables(panel: Panel) -> list[Block]:
    """What scenarios measured, one table for each kind; empty where none was."""
    blocks: list[Block] = []
    for kind, columns in _COLUMNS.items():
        items = measured(panel, kind)
        if not items:
            continue
        rows = [[_name(item), *(column.cell(panel, item) for column in columns)] for item in items]
        shown = [
            i for i in range(len(columns) + 1) if not i or any(row[i] != NOTHING for row in rows)
        ]
        headings = ["Scenario", *(column.heading for column in columns)]
        blocks.append(f"**{kind.capitalize()}**")
        blocks.append(
            Table([headings[i] for i in shown], [[row[i] for i in shown] for row in rows])
        )
    if not blocks:
        return []
    return [*blocks, f"Medians, in brackets the range over rounds. {_LIMITS}"]


def _name(item: Item) -> str:
    return f"{plain(item.workload)}, {code(item.variant)}"
