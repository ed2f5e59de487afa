"""The workloads that stand for a row of the comparison table, and for the claims about it.

A mean is over these workloads and no others. So it does not change because another variant
measured fewer workloads, or because a user added one. A mean says how many of them are in it.
All other workloads are in the tables per workload.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vbench.model import Item, Statistic
from vbench.report.gather import Panel

# What reference workloads were called in results of earlier versions.
_FORMER = {"cpu-prime": "cpu-sysbench", "memory-stream": "memory-sysbench"}


@dataclass(frozen=True)
class ReferenceSet:
    """Workloads of one category whose geometric mean fills one cell."""

    title: str
    category: str
    workloads: tuple[str, ...]


COMPUTING = ReferenceSet(
    "computing", "cpu", ("cpu-prime", "cpu-sha256", "cpu-aes", "cpu-aes-own-isa")
)
MEMORY = ReferenceSet(
    "memory",
    "memory",
    ("memory-stream", "memory-random", "memory-random-huge", "memory-pagefault"),
)
SYSTEM_CALLS = ReferenceSet("system calls", "syscall", ("syscall-getppid", "syscall-switch"))
DISK_THROUGHPUT = ReferenceSet("disk throughput", "disk", ("disk-read-1m", "disk-write-1m"))
DISK_OPERATIONS = ReferenceSet(
    "disk operations", "disk", ("disk-randread-qd1", "disk-randread-qd16", "disk-randwrite-qd1")
)
NETWORK_THROUGHPUT = ReferenceSet(
    "network throughput", "network", ("network-receive", "network-send")
)
NETWORK_OPERATIONS = ReferenceSet("network operations", "network", ("network-rr",))
# workload -> what people call the program
PROGRAMS = {
    "app-redis": "redis",
    "app-sqlite": "SQLite",
    "app-nginx": "nginx",
    "app-compile": "tcc (C compiler)",
    "app-zstd": "zstd",
}
DATABASES = ("app-redis", "app-sqlite")
APPLICATIONS = ReferenceSet("applications", "app", tuple(PROGRAMS))
PAGE_FAULT = "memory-pagefault"
# What hypervisors are compared by on one machine: operations, and the workload of each.
OPERATIONS = (
    ("Computing (primes)", "cpu-prime"),
    ("System call (getppid)", "syscall-getppid"),
    ("Task switch", "syscall-switch"),
    ("Page fault", PAGE_FAULT),
    ("4 KiB read from disk", "disk-randread-qd1"),
    ("Request and reply by network", "network-rr"),
)
ALL = (
    COMPUTING,
    MEMORY,
    SYSTEM_CALLS,
    DISK_THROUGHPUT,
    DISK_OPERATIONS,
    NETWORK_THROUGHPUT,
    NETWORK_OPERATIONS,
)


def measured(panel: Panel, variant: str, *sets: ReferenceSet) -> list[Item]:
    """The variant's measured items of these sets that have an overhead."""
    return [item for item in asked(panel, variant, *sets) if item.name in panel.overheads]


def asked(panel: Panel, variant: str, *sets: ReferenceSet) -> list[Item]:
    """The variant's measured items of these sets, with an overhead or without."""
    categories: Sequence[str] = [each.category for each in sets]
    measured = {item.workload: item for item in panel.of(variant, *categories)}
    found = [_named(measured, name) for each in sets for name in each.workloads]
    return [item for item in found if item and item.statistic is Statistic.RATIO]


def operation(panel: Panel, variant: str, workload: str) -> Item | None:
    """The variant's measured item of a workload of OPERATIONS."""
    measured = panel.of(variant, *(each.category for each in ALL))
    return _named({item.workload: item for item in measured}, workload)


def _named(items: Mapping[str, Item], workload: str) -> Item | None:
    return items.get(workload) or items.get(_FORMER.get(workload, ""))
