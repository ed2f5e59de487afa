"""Why virtualization matters: provisioning, snapshots and migration, a table each.

Scenarios are told by their kind, which is the category of their items; what they timed and counted
by name. Pure.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vbench.model import SCENARIOS, Item, Status, TimeBase
from vbench.records import Clock
from vbench.report import units
from vbench.report.document import Block, Cell
from vbench.report.gather import Panel
from vbench.results.formatting import NOTHING, code, duration, number, plain

TITLE = "Why virtualization matters"
PROVISIONING, SNAPSHOT, MIGRATION = SCENARIOS[:3]
_TICKS = (
    "*Tick gap* is the longest time between two ticks of the guest, one of which it sends each "
    "millisecond, as the host stamps them."
)
_CLOCKS = (
    "Hypervisor, guest and client each have a clock of their own. *Before* is shortly before the "
    "migration. A guest cannot time its own stop: *clock lost* is by how much its clock fell "
    "behind the host's."
)
_ONE_HOST = (
    "Source and destination are on one host. No network lies between them, and they share its CPUs "
    "and its disk. *Client's wait* is the longest time until a client got an answer over a "
    "connection that stayed open."
)
_TWO_HOSTS = (
    "A migration to another host goes over the network between them, encrypted, which "
    "costs bandwidth and downtime. Its client reaches the guest by a port of the guest's host. "
    "That connection ends with the hypervisor there. "
    "*Connected anew* is from the client's last question there to an answer through the other host."
)

# What the shipped workloads allow a migration: see workloads/scenario_migration.py.
STREAM_MIB_S = 128
_STREAM = (
    f"A migration may send {STREAM_MIB_S} MiB/s at most, as over a network of 1 Gbit/s. So a guest "
    "that touches more than that never converges, on any hypervisor."
)
_RESTORED = (
    "The columns from *Restored* on count from the start of the restore. *Read* is how long the "
    "guest took to look at each page once."
)
_NOT_EXACT = (
    "None of these figures is an exact count. Guests, hypervisors and clients wait for each other "
    "here, and for what drives them from outside of the testbed. Waiting passes as on the wall."
)

_IN_SPANS = (
    "A rate that is kept in spans of 100 ms, as by QEMU, makes a migration one span longer or "
    "shorter, which is 100 million instructions."
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


def _stopped(item: Item) -> list[float]:
    """The downtimes by the hypervisor's clock, of guests that went on."""
    return [
        each.seconds
        for pair in item.pairs
        for each in pair.phases
        if (each.operation, each.phase) == ("migration", "downtime")
        and pair.counters.get("survived", 1)
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
    cell: Callable[[Panel, Item], Cell | units.Figures | str]


def _timed(heading: str, operation: str, phase: str, clock: Clock | None = None) -> _Column:
    return _seconds(heading, lambda item: seconds(item, operation, phase, clock))


def _seconds(heading: str, of: Callable[[Item], list[float]]) -> _Column:
    def cell(panel: Panel, item: Item) -> units.Figures | str:
        values = of(item)
        if not values:
            return NOTHING
        scale = units.SECONDS if panel.wall else units.MILLIONS
        return units.Figures(_middle_and_ends(values), scale, units.spread)

    return _Column(heading, cell)


def _counted(heading: str, *names: str) -> _Column:
    def cell(panel: Panel, item: Item) -> Cell | str:
        values = next((found for name in names if (found := counts(item, name))), [])
        if not values:
            return NOTHING
        texts = [*map(_count, _middle_and_ends(values))]
        return Cell(units.spread(texts), statistics.median(values))

    return _Column(heading, cell)


def _count(value: float) -> str:
    """What was counted one by one has no fraction."""
    return f"{value:,.0f}" if value == int(value) else number(value)


def _middle_and_ends(values: Sequence[float]) -> list[float]:
    return [statistics.median(values), min(values), max(values)]


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


ANEW = ("migration", "connected anew")
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
        _counted("Touched during, MiB/s", "dirtied_mib_s"),
        _timed("In all", "migration", "total"),
        _counted("Sent, MiB", "sent_mib"),
        _counted("Rounds of copying", "rounds"),
        _seconds("Downtime, by the hypervisor", _stopped),
        _timed("Tick gap", "migration", "tick gap"),
        _timed("Tick gap before", "before", "tick gap"),
        _timed("Client's wait", "migration", "longest wait"),
        _timed("Connected anew", *ANEW),
        _timed("Client's wait before", "before", "longest wait"),
        _timed("Clock lost, by the guest", "migration", "clock lost", _GUEST),
        _Column("Connection kept", _kept),
    ),
}


def sentence(panel: Panel) -> str:
    """What was found of these three kinds, in a sentence; empty where none was measured."""
    base = panel.host.time_base
    texts = []
    if first := _each(panel, PROVISIONING, "launch", "command"):
        texts.append(f"a new guest ran its first command after {_ends(first, base)}")
    if answered := _each(panel, SNAPSHOT, "restore", "answer"):
        texts.append(f"a restored guest answered after {_ends(answered, base)}")
    texts += _outcomes(panel)
    text = "; ".join(texts)
    return f"{text[0].upper()}{text[1:].removesuffix('.')}." if text else ""


_WAIT = ("migration", "longest wait")


def _ends(found: Sequence[tuple[float, str]], base: TimeBase) -> str:
    """The quickest and the slowest, with their variants."""
    quick, slow = found[0], found[-1]
    text = f"{duration(quick[0], base)} ({quick[1]})"
    return text if slow == quick else f"{text} to {duration(slow[0], base)} ({slow[1]})"


def _outcomes(panel: Panel) -> list[str]:
    """A part of a sentence for each way in which migrations ended."""
    moved = measured(panel, MIGRATION)
    well = [item for item in moved if item_ended(item)]
    died = [item for item in moved if 0 in counts(item, "survived")]
    stuck = [item for item in moved if 0 in counts(item, "converged") and item not in died]
    lost = [item for item in moved if item not in (*well, *died, *stuck)]
    texts = [f"migrated guests moved in {_those(well)}"] if well else []
    if waits := [max(found) for i in well if (found := seconds(i, *_WAIT))]:
        texts[-1] += f", with up to {duration(max(waits), panel.host.time_base)} "
        texts[-1] += "in which a client waited"
    texts += [f"they died in {_those(died)}"] if died else []
    texts += [f"they were given up in {_those(stuck)}"] if stuck else []
    texts += [f"they lost memory in {_those(lost)}"] if lost else []
    return texts


def _those(items: Sequence[Item]) -> str:
    """Each scenario with its variants."""
    found: dict[str, list[str]] = {}
    for item in items:
        found.setdefault(plain(item.workload), []).append(code(item.variant))
    return ", ".join(f"{name} ({', '.join(variants)})" for name, variants in found.items())


def item_ended(item: Item) -> bool:
    """Whether every migration of an item came to its end, with its guest and its memory."""
    whole = all(counts(item, "converged")) and all(counts(item, "survived"))
    return whole and not any(counts(item, "memory_stale_mib"))


def _each(panel: Panel, kind: str, operation: str, phase: str) -> list[tuple[float, str]]:
    """The median of a phase and the variant, of each that has it, the quickest first."""
    found = ((seconds(item, operation, phase), item) for item in measured(panel, kind))
    return sorted((statistics.median(of), code(item.variant)) for of, item in found if of)


def tables(panel: Panel) -> list[Block]:
    """What scenarios measured, one table for each kind; empty where none was."""
    blocks: list[Block] = []
    for kind, columns in _COLUMNS.items():
        items = measured(panel, kind)
        if not items:
            continue
        rows = [[_name(item), *(column.cell(panel, item) for column in columns)] for item in items]
        headings = ["Scenario", *(column.heading for column in columns)]
        blocks += [f"**{kind.capitalize()}**", units.table(headings, rows)]
    if not blocks:
        return []
    texts = ["Medians, in brackets the range over rounds."]
    moved = measured(panel, MIGRATION)
    here = [item for item in moved if not seconds(item, *ANEW)]
    texts += [_TICKS] if here or measured(panel, SNAPSHOT) else []
    texts += [_RESTORED] if measured(panel, SNAPSHOT) else []
    texts += [_CLOCKS, _STREAM] if moved else []
    texts += [_ONE_HOST] if here else []
    texts += [_TWO_HOSTS] if len(here) < len(moved) else []
    texts += [] if panel.wall else [_NOT_EXACT]
    texts += [] if panel.wall or not moved else [_IN_SPANS]
    return [*blocks, " ".join(texts)]


def _name(item: Item) -> str:
    return f"{plain(item.workload)}, {code(item.variant)}"
