"""The plugin contract (pluggy, project name "vbench"). Hooks register; they do no work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pluggy

from vbench.contract.backend import Backend
from vbench.contract.guest import Guest
from vbench.contract.host import Host
from vbench.model import Check, Item

PROJECT = "vbench"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def vbench_backends() -> Iterable[Backend]:
    """Backends of this plugin. Called once, after all plugins are loaded."""
    return ()


@hookspec
def vbench_workloads() -> Iterable[Path]:
    """Files bench_*.py of this plugin. Called once, before pytest collects."""
    return ()


@hookspec
def vbench_doctor(host: Host) -> Iterable[Check]:
    """Further checks for `vbench doctor`. Called once per host asked about."""
    return ()


@hookspec
def vbench_counters(guest: Guest) -> Mapping[str, int]:
    """Monotonic counters of a running guest. Called before and after each guest round,
    outside the timed region; the core stores differences per unit of work."""
    return {}


@hookspec
def vbench_exit_histogram(
    guest: Guest,
) -> AbstractContextManager[Callable[[], Mapping[str, int]]] | None:
    """A finer count that may disturb, or None where there is none of this guest. While the
    context lasts, what it yields returns monotonic counters (exits by reason). Entered once per
    workload, for rounds of its own after the timed ones."""
    return None


@hookspec
def vbench_item_finished(item: Item, out: Path) -> None:
    """An item has ended and is on disk in `out`. Observers only; outside timed regions."""
