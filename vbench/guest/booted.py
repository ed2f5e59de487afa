"""A guest that a backend booted from the image: complete, and ended by closing it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field

from vbench.contract.guest import Endpoint, Life
from vbench.contract.host import Host
from vbench.errors import GuestLost
from vbench.guest.shell import GuestShell, Machine
from vbench.hosts.ssh import SshConnection
from vbench.model import ImageFiles, Output
from vbench.records import Capabilities, DeviceSettings, Observed, Phase


@dataclass(frozen=True, eq=False, kw_only=True)
class BootedGuest(AbstractContextManager["BootedGuest"]):
    """See `vbench.contract.guest.Guest`. A context manager that ends it.

    `cleanup` ends the machine and all that was made for it, in the order of its `ExitStack`.
    """

    shell: GuestShell
    cleanup: ExitStack
    host: Host
    reference: Host | None
    client_prefix: tuple[str, ...]
    image: ImageFiles
    versions: Mapping[str, str]
    endpoint: Endpoint
    capabilities: Capabilities
    device: DeviceSettings
    observed: Observed
    phases: tuple[Phase, ...]
    digests: Mapping[str, str] = field(default_factory=dict)
    life: Life | None = None

    @property
    def machine(self) -> Machine:
        return self.shell.machine

    @property
    def client_host(self) -> Host:
        return self.host

    @property
    def argv(self) -> tuple[str, ...]:
        return self.machine.argv

    @property
    def ssh(self) -> SshConnection:
        """Its one connection, for a guest that is a host itself."""
        return self.shell.ssh

    @property
    def alive(self) -> bool:
        return self.shell.alive

    def run(self, command: str, *, timeout_s: float, stdin: bytes = b"") -> Output:
        return self.shell.run(command, timeout_s=timeout_s, stdin=stdin)

    def server(self, command: str) -> AbstractContextManager[None]:
        return self.shell.server(command)

    def pass_through(self, command: str) -> int:
        return self.shell.pass_through(command)

    def interact(self, terminal: str) -> int:
        return self.shell.interact(terminal)

    def lost(self, why: str) -> GuestLost:
        return self.shell.lost(why)

    def pause(self) -> None:
        if self.capabilities.pausable:
            self.machine.pause()

    def resume(self) -> None:
        if self.capabilities.pausable:
            self.machine.resume()

    def usage(self) -> Mapping[str, float]:
        return self.machine.usage()

    def close(self) -> None:
        self.cleanup.close()

    def __exit__(self, *_: object) -> None:
        self.close()
