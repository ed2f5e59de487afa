"""The plugin contract (pluggy, project name "vbench"). Hooks register; they do no work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pluggy

from vbench.model import (
    Attestation,
    Availability,
    Check,
    Fact,
    ImageFiles,
    Technique,
)

if TYPE_CHECKING:  # annotations only: the contract imports no room that works
    from vbench.contract.host import Host
    from vbench.guest.launch import Guest
    from vbench.model import Item

PROJECT = "vbench"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class Backend(Protocol):
    """A plugged-in way to start a guest: one technique and one device model.

    `options` is a frozen dataclass with defaults: each field is an option of the variant
    string, `NAME,field=value`.
    """

    @property
    def name(self) -> str: ...

    @property
    def technique(self) -> Technique: ...

    @property
    def summary(self) -> str:
        """One line for `vbench backends`."""

    @property
    def facts(self) -> Mapping[str, Fact]:
        """The stated rows of the table: "windows", "usage", "technology", "guest_os"."""

    @property
    def options(self) -> Any:
        """An instance of the frozen options dataclass, holding the defaults."""

    def probe(self, host: Host, options: Any) -> Availability:
        """Whether it can run there, found out without launching a guest."""

    def launch(self, host: Host, image: ImageFiles, options: Any) -> Guest:
        """Start a guest; it is ready for commands when this returns. No fallback, ever."""

    def attest(self, guest: Guest) -> Attestation:
        """Observe what really runs. Raises AttestationError if it is not this backend."""


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
