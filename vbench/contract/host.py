"""Where guests are launched: the Host protocol. Code asks the host, never which kind it is."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from vbench.contract.layer import Layer
from vbench.model import HostFacts, ImageFiles, Output, TimeBase

SCRATCH_MIB = 256  # size of the disk under test where the host has room for a file
# What a host may hint at (`Host.launch_hints`): shell commands that make a hardware-assisted guest
# fit to run before it loads drivers; what they print is recorded with the launch.
HINT_EARLY = "early"


class Stream(Protocol):
    """A connection that carries bytes: a socket, or a channel inside an SSH connection."""

    def send(self, data: bytes, /) -> int: ...

    def recv(self, size: int, /) -> bytes: ...

    def settimeout(self, timeout_s: float | None, /) -> None: ...

    def close(self) -> None: ...


class HostProcess(Protocol):
    """A process on a host that cannot outlive us."""

    pid: int  # on that host
    stream: socket.socket  # its standard input and output

    def log(self) -> str:
        """All that it wrote to standard error so far."""

    def wait_for(self, wanted: Callable[[str], bool], timeout_s: float) -> str | None:
        """The first line on standard error that is `wanted`; None after `timeout_s`, or once
        the process has ended without writing one."""

    def status(self) -> int | None:
        """Exit status, None while it runs, negative for a signal (as subprocess)."""

    def wait(self, timeout_s: float) -> int | None:
        """Wait up to `timeout_s`; as `status`."""

    def kill(self) -> None:
        """SIGKILL, reap it, and close the streams. Safe to repeat."""


@dataclass(frozen=True)
class Network:
    """A network for measuring, made by the host: a tap for the guest, a veth pair for native.

    Clients run beside the tap (`peer_prefix`), the native server behind the veth
    (`native_prefix`): argv prefixes such as `nsenter -t PID -U -n`, empty where none is needed.
    """

    tap: str  # the interface's name
    # its open descriptor, which `Host.start` hands on; None: whoever runs there opens it by name
    tap_fd: int | None
    peer_prefix: tuple[str, ...]
    native_prefix: tuple[str, ...]
    guest_address: str  # with prefix length: "10.77.0.2/24"
    native_address: str  # where the native server is reached


@dataclass(frozen=True)
class Scratch:
    """The disk under test: a file or block device. `in_memory`: one of the host's on purpose."""

    path: str
    size_mib: int
    device: bool = False
    in_memory: bool = False


class Host(Protocol):
    """A machine that launches guests. All paths and pids are that machine's.

    Where it is another one, whatever asks it may raise ConnectionLost.
    """

    name: str  # "local", "ssh://user@host", "testbed": what --host takes
    time_base: TimeBase
    # A second of its clock lasts at most so many of ours: deadlines are stated in its seconds
    # and kept in ours. More than 1 where a host is emulated.
    timeout_scale: float
    # Whether its kernel is idle only where the processor is: not with a hypervisor beneath it,
    # which runs the guests.
    sees_idle: bool
    # What guests there need to be launched with: HINT_EARLY, or a name of a hypervisor's folder.
    launch_hints: Mapping[str, str]

    def with_layer(self, layer: Layer) -> Host:
        """This machine booted with a hypervisor's software, where it can be booted so; anywhere
        else the machine as it runs, which may have it already."""

    def clock(self) -> float:
        """Seconds on the host's monotonic clock."""

    def deadline_clock(self) -> float:
        """Seconds by which deadlines of what runs there are kept: ours, without those in which an
        emulated machine got no CPU."""

    def facts(self) -> HostFacts:
        """What this host is; asked once, then remembered."""

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        stdin: bytes = b"",
    ) -> Output:
        """Run `argv` to its end. Raises HostError if it cannot start or passes `timeout_s`."""

    def start(self, argv: Sequence[str], *, network: Network | None = None) -> HostProcess:
        """Start `argv`, tied to our life: it dies with us, SIGKILL included. It inherits the tap
        of `network`, if that is an open descriptor."""

    def interact(self, argv: Sequence[str], terminal: str) -> int:
        """Run `argv` on our own terminal; returns its exit status."""

    def pass_through(self, argv: Sequence[str]) -> int:
        """Run `argv` with our own standard input, output and error, byte for byte and as they
        come; returns its exit status, 128 + n for signal n."""

    def connect(self, address: str, port: int, timeout_s: float) -> Stream:
        """A TCP connection made from this host, to a server that speaks first."""

    def workdir(self) -> AbstractContextManager[str]:
        """A private 0700 directory that ends with the context, on a real disk. A janitor removes
        it if we end before; see `vbench.contract.undo`."""

    def write(self, path: str, data: bytes) -> None:
        """Write a file, mode 0600."""

    def read(self, path: str) -> str:
        """A small text file, such as one of /proc. Raises HostError."""

    def program(self, path: str, pack: Callable[[], bytes]) -> str:
        """Where a program is that the user named by its path here. A host whose files nobody else
        knows gets it from this machine: `pack` makes a tar archive, gzipped, of a root that holds
        usr/bin/NAME and all that it loads."""

    def upload_image(self, image: ImageFiles) -> ImageFiles:
        """The image's files on this host, copied once by digest if they are not there yet."""

    def scratch(self) -> Scratch:
        """The disk under test, made at the first call. Several guests may be up with it, so it is
        attached without a lock; one at a time uses it."""

    def fill_scratch(self) -> None:
        """Fill the scratch disk with random data and sync it, once: holes and unwritten extents
        never reach the device when read. Apart from `scratch`, because a guest that measures no
        disk need not wait for it."""

    def network(self) -> Network | None:
        """The network for measuring, made at the first call; None where this host may not
        make one: guests then have what network their hypervisor gives them."""

    def bridge(self, ports: int) -> AbstractContextManager[Sequence[Network]]:
        """Networks whose taps are the ports of one bridge, which ends with the context: guests on
        them reach each other, and one can go on at another port. Clients run beside the bridge.
        Empty where this host may not make one."""

    def close(self) -> None:
        """End and remove all that the host made. Safe to repeat."""
