"""The words of vbench as data: frozen records that all packages share.

Units are in the names: `_s` seconds, `_mib` mebibytes, `_bytes`. A duration of a
sample is always *seconds per unit of work*, so samples of different size compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any

from vbench.errors import one_line
from vbench.records import (
    Attestation,
    Capabilities,
    Cause,
    Declaration,
    DeviceSettings,
    Installation,
    Observed,
    Phase,
)


class Technique(StrEnum):
    """The columns of the comparison table."""

    FULL = "full virtualization"
    PARA = "paravirtualization"
    HARDWARE = "hardware-assisted"


class TimeBase(StrEnum):
    """What a second of a sample is.

    `INSTRUCTIONS`: the testbed's clock under QEMU -icount shift=0, where one
    nanosecond is one instruction.
    """

    WALL = "wall"
    INSTRUCTIONS = "instructions"


class HostKind(StrEnum):
    """Where guests are launched."""

    LOCAL = "local"
    REMOTE = "remote"
    TESTBED = "testbed"


class Status(StrEnum):
    """How an item ended. Failed and unsupported items have no samples, never zeros."""

    OK = "ok"
    FAILED = "failed"
    UNSUPPORTED = "unsupported"


class Statistic(StrEnum):
    """How samples of a workload may be condensed.

    `RATIO`: guest / native overhead of log ratios. `QUANTILES`: a latency
    distribution, shown as quantiles, no ratio. `ABSOLUTE`: no native counterpart
    (boot, scenarios), shown in seconds.
    """

    RATIO = "ratio"
    QUANTILES = "quantiles"
    ABSOLUTE = "absolute"


# Workloads as series and --workload name them, category/name: those that go through a device.
ON_DEVICES = ("disk/*", "network/*", "app/*", "boot/*")
# Events of a guest's life, or of several guests together.
SCENARIOS = ("provisioning", "snapshot", "migration", "consolidation", "isolation")
CATEGORIES = (
    "cpu",
    "memory",
    "syscall",
    "interrupt",
    "exit",
    "smp",
    "disk",
    "network",
    "app",
    "boot",
    # what scenarios measure, one kind each
    *SCENARIOS,
)
# All but what makes a guest leave for its hypervisor, and real programs, which are run in guests
# that people have: with paravirtual devices.
NO_EXITS = tuple(f"{each}/*" for each in CATEGORIES if each not in ("exit", "app"))


def _empty() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True)
class Availability:
    """Whether a backend can run on a host with given options, and if not, why and what to do."""

    ok: bool
    reason: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Fact:
    """A stated (not measured) row of the comparison table, with its source."""

    text: str
    source: str


@dataclass(frozen=True)
class Output:
    """What a finished command left: its exit status and both streams as text."""

    status: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class WorkloadInfo:
    """What a workload is, without running it."""

    name: str  # "disk-randread-qd1"
    category: str  # one of CATEGORIES
    unit: str  # unit of work, singular: "event", "read", "byte"
    statistic: Statistic
    summary: str  # first line of its docstring
    definition: str  # digest of its source: unlike definitions are never compared
    path: str  # file it comes from
    options: str = ""  # of the backend, beside the variant's own: "firmware=on"
    boots: int = 0  # at most so many are measured, 0: as many as the plan says
    # Whether instructions can be counted exactly. Not where it waits: the time of the machine
    # beneath the testbed is in it then.
    counted: bool = True
    cause: Cause | None = None  # the event whose cost it shows, of category "exit"
    fresh: bool = False  # the first of a boot
    representative: bool = False  # one of those that a reduced run measures of its category
    cpus: int = 1  # so many the guest must have: with fewer it is measured only if it is named
    needs: str = ""  # "disk" or "network", if its category does not say so
    named: bool = False  # takes long, and is measured only where `--workload` names it, but by "*"

    @property
    def device(self) -> str:
        """What is made ready for it and checked on both sides: "disk", "network" or nothing."""
        return self.needs or (self.category if self.category in ("disk", "network") else "")

    @property
    def scenario(self) -> bool:
        """Whether it launches its guests itself: a function `scenario_*(lab)`."""
        return self.category in SCENARIOS

    def matches(self, glob: str) -> bool:
        """By name, or by category/name."""
        return any(fnmatchcase(text, glob) for text in (self.name, f"{self.category}/{self.name}"))


@dataclass(frozen=True)
class Reading:
    """One execution as the program itself measured it: total seconds, and quantiles if it has them.

    `units` of work were done, 0: as many as were asked for. `quantiles` maps names ("p50", "p99",
    "mean") to seconds per unit of work; `counters` are totals that the program counted itself
    ("tsc_ticks"). `equal`: where it timed groups of units one by one, the share of them that are
    within 0.1 % of the median. `too_short` says why this is no sample: more units are needed.
    """

    elapsed_s: float
    quantiles: Mapping[str, float] = field(default_factory=_empty)
    counters: Mapping[str, float] = field(default_factory=_empty)
    units: float = 0.0
    equal: float | None = None
    too_short: str = ""


TAKEN_OFF = "/start"


@dataclass(frozen=True)
class Pair:
    """A guest sample and the native sample taken beside it, in seconds per unit of work.

    On the wall clock a sample is the mean over its units. On the instruction base it is the median
    of groups of units where the program timed such (`equal` is there then), and the mean beside it
    is `quantiles["mean"]`: the difference is what interrupts and housekeeping add.
    """

    native_s: float | None
    guest_s: float
    boot: int  # 0-based
    flags: tuple[str, ...] = ()  # what disturbed this pair: "steal", "cpu-pressure", "clock"
    # per unit of work; NAME + TAKEN_OFF: what was taken off NAME for starting the program
    counters: Mapping[str, float] = field(default_factory=_empty)
    # (native, guest) seconds per unit of work
    quantiles: Mapping[str, tuple[float | None, float]] = field(default_factory=_empty)
    # (native, guest) share of groups of units within 0.1 % of their median
    equal: tuple[float | None, float] | None = None
    # of a scenario: all that it timed. `guest_s` is the figure that it is about, and `counters`
    # hold what it counted, with the unit in the name ("sent_mib", "rounds")
    phases: tuple[Phase, ...] = ()


@dataclass(frozen=True)
class Launch:
    """The provenance of one start of a guest. `id` is unique within a result."""

    id: str
    variant: str
    boot: int
    argv: tuple[str, ...]
    versions: Mapping[str, str]  # "qemu": "7.2.22", "vbench": ...
    image: str  # image digest
    attestation: Attestation
    phases: tuple[Phase, ...]
    observed: Observed
    device: DeviceSettings
    capabilities: Capabilities | None  # None in files that did not record them
    # SHA-256 of what `versions` names by a file: "qemu", "kernel"; empty in older files
    digests: Mapping[str, str] = field(default_factory=_empty)


@dataclass(frozen=True)
class Item:
    """One workload on one variant on one host, over all its boots: what a result consists of."""

    workload: str
    category: str
    unit: str
    statistic: Statistic
    definition: str
    backend: str
    variant: str
    technique: Technique
    host: str  # the host's identity: "local:myserver"; never merged with another
    host_kind: HostKind
    time_base: TimeBase
    status: Status
    reason: str = ""  # why failed or unsupported; for ok items, what was lost on the way
    work: int = 0  # units of work in a guest sample
    native_work: int = 0
    pairs: tuple[Pair, ...] = ()
    flags: tuple[str, ...] = ()  # "kernel_differs", "nat", "one_boot", "budget"...
    launches: tuple[str, ...] = ()  # ids
    commands: Mapping[str, str] = field(default_factory=_empty)  # "guest", "native": as run
    # exits by reason per unit of work, counted apart from the timed rounds; see exits.py
    exits: Mapping[str, float] = field(default_factory=_empty)
    counted: bool = True  # as WorkloadInfo has it
    cause: Cause | None = None

    @property
    def name(self) -> str:
        """`<workload>[<variant>]`, the series' name in every file."""
        return f"{self.workload}[{self.variant}]"


@dataclass(frozen=True)
class HostFacts:
    """What a host is: everything that a reader needs to judge its numbers. Strings only."""

    identity: str  # "local:myserver"
    kind: HostKind
    time_base: TimeBase
    facts: Mapping[str, str]  # cpu_model, cpus, kernel, governor, virtualization, mitigations...

    def __post_init__(self) -> None:
        object.__setattr__(self, "identity", one_line(self.identity))
        facts = {name: one_line(value) for name, value in self.facts.items()}
        object.__setattr__(self, "facts", facts)


@dataclass(frozen=True)
class Result:
    """All that one result file holds: one host, one variant."""

    host: HostFacts
    variant: str
    items: tuple[Item, ...]
    launches: tuple[Launch, ...]
    vbench_version: str
    image: str
    started: str  # ISO 8601, UTC
    argv: tuple[str, ...] = ()  # the vbench command line
    # the backend's stated rows of the table: row -> {"text": ..., "source": ...}
    facts: Mapping[str, Mapping[str, str]] = field(default_factory=_empty)
    declaration: Declaration = field(default_factory=Declaration)
    # what the run could not measure on this host: (backend, technique, reason, remedy)
    unavailable: tuple[tuple[str, str, str, str], ...] = ()
    # globs of the only workloads that the run took to this host by itself; empty: no such choice
    reduced_to: tuple[str, ...] = ()
    seed: int | None = None  # of the order of variants and workloads within a boot
    sittings: tuple[str, ...] = ()  # when the run was continued (ISO 8601, UTC)
    # Of the whole run, which other series may have been part of: measurements (a workload on a boot
    # of a variant) planned and made, and why it ended before all were. 0 planned: not known.
    planned: int = 0
    done: int = 0
    stopped: str = ""
    # what it takes to install what ran it; None where that was not asked
    installation: Installation | None = None
    side: str = ""  # "A" or "B", of two variants that `vbench ab` measured by turns

    @property
    def partial(self) -> bool:
        """Whether the run has not measured all that it planned."""
        return self.done < self.planned


@dataclass(frozen=True)
class Check:
    """One line of `vbench doctor`."""

    name: str
    state: str  # "ok", "warn", "bad", "info"
    finding: str
    remedy: str = ""


@dataclass(frozen=True)
class ImageFiles:
    """An image as it lies on a host: paths there, digest of its inputs, kernel release."""

    digest: str
    kernel: str  # uncompressed vmlinux, booted through PVH
    initramfs: str  # one cpio archive, uncompressed: unpacks fastest where code is translated
    root: str  # the same tree unpacked, for native runs
    kernel_release: str
    versions: Mapping[str, str] = field(default_factory=_empty)  # Debian package -> version
    # the same kernel as distributed, packed: what firmware starts; "" if it came unpacked
    bzimage: str = ""
    kernel_digest: str = ""  # SHA-256 of `kernel`
    build_s: float | None = None  # how long it took to build, where it was built; None: not known
