"""What a backend returns: a guest that is complete, with the records that the core asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from vbench.contract.host import Host
from vbench.errors import GuestLost
from vbench.model import ImageFiles, Output
from vbench.records import Capabilities, DeviceSettings, Observed, Phase

# Where the server of a network workload listens, in a guest and natively: iperf3's own port.
SERVER_PORT = 5201
# What `Guest.usage` may tell, in seconds.
USAGE = ("host_cpu_s", "vcpu_cpu_s", "vcpu_wait_s")


@dataclass(frozen=True)
class Endpoint:
    """Where a command finds what it needs on its target."""

    scratch: str  # the disk under test: a block device or file
    scratch_offset_mib: int  # the region that this side may use in this round
    scratch_size_mib: int
    address: str  # where a client reaches this target's server
    port: int
    vcpus: int
    pinned: bool = False  # each vCPU has a CPU of its host for itself; so has native
    # where its vCPUs may run if somebody else decided that; native is to run there too
    cpus: tuple[int, ...] = ()
    cpu_group: str = ""  # the control group by which its vCPUs get CPU time, where that is known
    floating: str = ""  # what serves its network and could not be kept off those CPUs


class Target(Protocol):
    """What a workload runs on: a guest or native."""

    @property
    def endpoint(self) -> Endpoint: ...

    def run(self, command: str, *, timeout_s: float) -> Output:
        """Run a shell command to its end. Raises WorkloadTimeout, GuestLost."""

    def server(self, command: str) -> AbstractContextManager[None]:
        """Keep `command` running while the context lasts."""


class Guest(Target, Protocol):
    """A guest that is ready for commands. Nothing of it is assigned after it was returned.

    `vbench.guest` makes one of a machine that booted the image and answers over SSH.
    """

    @property
    def host(self) -> Host:
        """Where it runs: its clock, and what it is driven from."""

    @property
    def client_host(self) -> Host:
        """Where the clients of its servers run: `host`, nearly always."""

    @property
    def reference(self) -> Host | None:
        """Where native runs. None: it has no native partner, and gets absolute values only."""

    @property
    def client_prefix(self) -> tuple[str, ...]:
        """argv prefix of a client on `client_host` that reaches its server."""

    @property
    def image(self) -> ImageFiles:
        """The image that it runs, as it lies on its host."""

    @property
    def argv(self) -> tuple[str, ...]:
        """What started it, as it can be pasted into a terminal of its host."""

    @property
    def versions(self) -> Mapping[str, str]:
        """Of what runs it: "qemu": "7.2.22"."""

    @property
    def digests(self) -> Mapping[str, str]:
        """SHA-256 of files that `versions` names: "qemu", "kernel". Empty where none is known."""

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def device(self) -> DeviceSettings: ...

    @property
    def observed(self) -> Observed: ...

    @property
    def phases(self) -> tuple[Phase, ...]:
        """How long its launch took, by whose clock. Empty where nothing was launched."""

    @property
    def life(self) -> Life | None:
        """What saves, restores and migrates it. None where `capabilities.lifecycle` has reasons
        only."""

    @property
    def machine(self) -> object:
        """What drives it. For attestation and observers that know this hypervisor."""

    @property
    def alive(self) -> bool: ...

    def run(self, command: str, *, timeout_s: float, stdin: bytes = b"") -> Output: ...

    def pass_through(self, command: str) -> int:
        """Run a shell command with our own standard input, output and error, byte for byte and as
        they come; returns its exit status, 128 + n for signal n. Raises GuestLost."""

    def interact(self, terminal: str) -> int:
        """A shell on our own terminal; returns its exit status. Raises GuestLost."""

    def lost(self, why: str) -> GuestLost:
        """The error that says how it was lost, with evidence such as the console's last lines."""

    def pause(self) -> None:
        """Stop its CPUs; nothing where it is not `pausable`. Raises GuestLost."""

    def resume(self) -> None: ...

    def usage(self) -> Mapping[str, float]:
        """Monotonic seconds, of whom `capabilities.usage` says: those of USAGE that are known.
        Raises GuestLost."""

    def close(self) -> None:
        """End it and everything made for it. Safe to repeat."""


# ------------------------------------------------------------ saved, restored, migrated


@dataclass(frozen=True)
class Saved:
    """The saved state of a guest, in a folder of its host that the caller made and removes.

    `counts` have their unit in the name: "state_mib". `how` is for the life that saved it.
    """

    guest: Guest  # may have ended since
    folder: str
    phases: tuple[Phase, ...]
    counts: Mapping[str, float]
    how: Any = None


@dataclass(frozen=True)
class Terms:
    """How a guest is migrated: at most so many MiB/s, and given up after `limit_s` seconds of the
    host. `downtime_s`: how long the hypervisor may stop the guest for the last round. `arrived` is
    told at once where the guest goes on: the host, and the port of its loopback that leads to the
    guest's SERVER_PORT, if one does."""

    bandwidth_mib_s: float
    limit_s: float
    downtime_s: float = 0.3
    arrived: Callable[[Host, int | None], object] = lambda host, port: None


@dataclass(frozen=True)
class Migration:
    """What came of a migration. `guest`: as it goes on; None: it did not converge, and goes on
    where it was, or it was `lost`: it was moved and is dead, for this reason. Counts are
    "sent_mib", "rounds" and such."""

    guest: Guest | None
    phases: tuple[Phase, ...]
    counts: Mapping[str, float]
    lost: str = ""


class Life(Protocol):
    """By what runs guests of one kind. `host` in these is the machine that the guest is on, as
    seen from the port of a bridge; where hypervisors can, another machine.

    The connections of vbench to the guest are made anew; those of the guest's own programs go on
    if the network lets them.
    """

    def save(self, guest: Guest, folder: str) -> Saved:
        """Save a running guest into `folder` of its host; it goes on. Raises GuestLost, and
        GuestError if it cannot be saved: it goes on then as well, and no file is left."""

    def restore(self, saved: Saved, host: Host) -> Guest:
        """A guest that goes on where it was saved. Its `phases` are those of its restoring, the
        last of them the end of its first command. Raises LaunchError."""

    def migrate(self, guest: Guest, host: Host, terms: Terms) -> Migration:
        """Migrate a running guest. If it was moved, `guest` has ended. Raises GuestLost, and
        GuestError if it failed: the guest goes on where it was."""
