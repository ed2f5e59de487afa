"""What is recorded of a guest: who runs it, what it is built of, can do, saw and proved.

A backend makes these records, result files keep them, and the report reads them. Units are in the
names, as in model.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from types import MappingProxyType
from typing import Any


def _empty() -> Mapping[str, Any]:
    return MappingProxyType({})


class HypervisorType(StrEnum):
    """Directly on the hardware (1), in a host's operating system (2), or both at once."""

    ONE = "1"
    TWO = "2"
    HYBRID = "hybrid"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Hypervisor:
    """What runs the guest. `source` is where its type is stated."""

    name: str
    vendor: str
    type: HypervisorType
    source: str


class Place(StrEnum):
    """What a hypervisor is to the kernel of the host that launches its guests."""

    BENEATH = "beneath the host's kernel"
    MODULE = "a module of the host's kernel"
    PROCESS = "a process of the host"


class DeviceModel(StrEnum):
    """What a guest's disk and network card are made to look like."""

    EMULATED = "emulated"
    PARAVIRTUAL = "paravirtual"
    PASSED_THROUGH = "passed through"


@dataclass(frozen=True)
class Declaration:
    """What a backend declares of one variant, for the report; kept with the results.

    `processor_of` names a variant that differs in its devices only. `contrast_to` names the
    variant that this one differs from in one setting, to show what that setting costs. `packages`
    are what an administrator asks apt for to get the hypervisor, by Debian's names, from `release`
    of Debian if it is not in the image's. `destination` is another host that its guests can
    migrate to, as `--host` names it.
    """

    hypervisor: Hypervisor | None = None
    devices: DeviceModel | None = None
    processor_of: str = ""
    contrast_to: str = ""
    shadow_paging: bool = False
    packages: tuple[str, ...] = ()
    release: str = ""
    destination: str = ""


@dataclass(frozen=True)
class Installation:
    """What a bare Debian would install to get a hypervisor: counted by apt, nothing installed.

    `packages` are those of `asked` and all that they need, without what a bare system that boots
    has already; `disk_mib` is what they take when installed. Where they were not counted both
    are None, and `reason` says why.
    """

    release: str  # of Debian: "bookworm"
    asked: tuple[str, ...]
    packages: int | None = None
    disk_mib: float | None = None
    counted: str = ""  # the day: "2026-01-31"
    reason: str = ""


@dataclass(frozen=True)
class Cause:
    """The event that a workload of category `exit` causes, and what to take off its median.

    `control` is a workload whose median holds all but the event. Empty: no workload does, so the
    cost is the guest's median less native's; `clock` is then the workload that only reads the
    clock. `reasons` are the exit reasons of the event, as `exit_reasons.split` names them. `alone`:
    nothing else comes with it.
    """

    event: str  # "port 0x80 (POST)"
    kind: str = ""  # "port I/O", "MSR", "CPUID", "interrupt", "page fault", "hypercall"...
    control: str = ""
    clock: str = ""
    reasons: tuple[str, ...] = ()
    alone: bool = True


@dataclass(frozen=True)
class Access:
    """What a user of the host needs to launch guests in this way: "any user", "group kvm" or
    "root". `evidence`: what shows it, such as the mode of a device that was opened."""

    who: str
    evidence: str


@dataclass(frozen=True)
class Attestation:
    """What was observed after launch that proves which technique is running."""

    summary: str  # one line: "QEMU TCG; virtio_blk on vda; virtio_net on eth0"
    evidence: Mapping[str, str] = field(default_factory=_empty)
    # the module of the host's kernel that is the hypervisor: "kvm_amd"; "" where there is none
    module: str = ""
    # the privilege level at which the guest's kernel was seen running, 0 to 3; None if it was not
    ring: int | None = None
    # what was seen to run it, where the backend cannot declare that beforehand
    hypervisor: Hypervisor | None = None
    # what the hypervisor was seen to be on the host; None if that was not seen
    place: Place | None = None
    # who may launch it, by what the launch opened on the host; None if that was not seen
    access: Access | None = None


class NativeReference(StrEnum):
    """What runs the native half of a pair."""

    LAUNCHING_HOST = "the launching host"
    PRIVILEGED_GUEST = "dom0"
    OTHER_HOST = "another host"
    NONE = "none"


class NetworkPath(StrEnum):
    """How packets reach the guest."""

    TAP = "tap"  # through the host's kernel, bridges included
    NAT = "NAT"
    PASSED_THROUGH = "passed through"
    OWN = "its own"  # whatever lies between it and its client
    NONE = "none"


class DiskPath(StrEnum):
    """What the guest's disk under test is on its host."""

    IMAGE_FILE = "image file"
    BLOCK_DEVICE = "block device"
    OWN = "its own"
    NONE = "none"


class UsageScope(StrEnum):
    """Whose CPU time a guest's usage counts."""

    GUEST = "the guest"
    HOST = "all of the host"


NOT_DRIVEN = "vbench does not drive it"


@dataclass(frozen=True)
class Lifecycle:
    """The operations of a guest's life: None where vbench can have them, else why it cannot."""

    save: str | None = NOT_DRIVEN
    restore: str | None = NOT_DRIVEN
    migrate: str | None = NOT_DRIVEN
    clone: str | None = NOT_DRIVEN


@dataclass(frozen=True)
class Capabilities:
    """What a guest can do and be compared with. Code asks these, never which backend it is.

    `native` NONE: absolute values only. `network_by` says whose tap or NAT it is, or what lies
    between. Where `network` or `disk` is NONE, `no_network` and `no_disk` may say why. Not
    `relaunchable`: its rounds are one boot, however many were asked for. `usage` None: its CPU time
    is unknown.
    """

    native: NativeReference
    network: NetworkPath
    network_by: str = ""
    no_network: str = ""
    disk: DiskPath = DiskPath.NONE
    no_disk: str = ""
    relaunchable: bool = True
    pausable: bool = False
    usage: UsageScope | None = None
    lifecycle: Lifecycle = Lifecycle()

    def rows(self) -> dict[str, str]:
        """As text by name; what of its life is absent for a reason of its own."""
        reasons = _rows(self.lifecycle).items()
        absent = {name: f"no: {why}" for name, why in reasons if why != NOT_DRIVEN}
        return {**_rows(self, "lifecycle"), **absent}


@dataclass(frozen=True)
class DeviceSettings:
    """What the guest was built of. What a backend does not know stays empty."""

    machine: str = ""
    start: str = ""  # how its kernel was started: "PVH, vmlinux"
    cpu: str = ""
    vcpus: int | None = None
    memory_mib: int | None = None
    disk: str = ""
    nic: str = ""
    nested_paging: bool | None = None
    further: Mapping[str, str] = field(default_factory=_empty)  # "cache", "aio", "vhost"...

    def rows(self) -> dict[str, str]:
        """What is known, as text by name."""
        return {**_rows(self, "further"), **self.further}


@dataclass(frozen=True)
class Observed:
    """What the guest saw of itself. `disks` and `nics` map names to the drivers that are bound."""

    kernel: str = ""
    cpu_model: str = ""
    vcpus: int | None = None
    memory_kib: int | None = None
    clocksource: str = ""
    tcp_congestion_control: str = ""  # the default of its kernel
    cpuid_hypervisor: bool | None = None  # CPUID 1, ECX bit 31
    hypervisor: str | None = None  # as its kernel detected it: "KVM"; "" where it detected none
    sys_hypervisor: str = ""  # /sys/hypervisor, type and guest type: "xen PV"
    mitigations: str = ""
    disks: Mapping[str, str] = field(default_factory=_empty)
    nics: Mapping[str, str] = field(default_factory=_empty)
    early: str = ""  # what the script of the launch printed before drivers were loaded

    def rows(self) -> dict[str, str]:
        """What is known, as text by name."""
        return _rows(self)


def _rows(record: Any, *without: str) -> dict[str, str]:
    rows = {f.name: getattr(record, f.name) for f in fields(record) if f.name not in without}
    return {name: _text(value) for name, value in rows.items() if value not in (None, "", {})}


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return " ".join(f"{name}:{driver}" for name, driver in value.items())
    return str(value)


class Clock(StrEnum):
    """Whose clock timed a phase."""

    CLIENT = "client"
    GUEST = "guest"
    HYPERVISOR = "hypervisor"


@dataclass(frozen=True)
class Phase:
    """Seconds from the start of an operation on a guest to a point of it, by one clock."""

    operation: str  # "launch"; "kernel": since the guest's kernel started
    phase: str  # what was reached: "ready", "command", "userspace"
    clock: Clock
    seconds: float

    @property
    def name(self) -> str:
        return f"{self.operation} to {self.phase}"
