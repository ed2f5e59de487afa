"""A machine that is already there, as a guest: the image's root is used in a namespace of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass

from vbench.contract.guest import Endpoint
from vbench.contract.host import Host
from vbench.errors import ConnectionLost, GuestLost, HostError
from vbench.guest.launch import OBSERVE, observed
from vbench.guest.native import Native
from vbench.guest.target import parse_facts, succeed
from vbench.hosts.remote import SshHost
from vbench.hypervisors.machine.identify import ASK, Evidence, evidence
from vbench.model import ImageFiles, Output
from vbench.records import Capabilities, DeviceSettings, Observed, Phase

_TIMEOUT_S = 60.0


@dataclass(frozen=True, eq=False, kw_only=True)
class MachineGuest:
    """See `vbench.contract.guest.Guest`. Closing it ends nothing but our connection.

    It has no `usage`, and is never paused: what runs it is not ours to ask.
    """

    host: SshHost
    client_host: Host
    shell: Native
    endpoint: Endpoint
    cleanup: ExitStack
    reference: Host | None
    capabilities: Capabilities
    observed: Observed
    evidence: Evidence
    phases: tuple[Phase, ...]
    client_prefix: tuple[str, ...] = ()
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    digests: Mapping[str, str] = dataclasses.field(default_factory=dict)
    life: None = None

    @property
    def image(self) -> ImageFiles:
        return self.shell.image

    @property
    def argv(self) -> tuple[str, ...]:
        return ("ssh", self.host.name)

    @property
    def device(self) -> DeviceSettings:
        return DeviceSettings(
            machine=self.evidence.dmi.get("product_name", ""),
            cpu=self.observed.cpu_model,
            vcpus=self.observed.vcpus,
            memory_mib=self.observed.memory_kib and self.observed.memory_kib >> 10,
        )

    @property
    def machine(self) -> SshHost:
        return self.host

    @property
    def alive(self) -> bool:
        """Whether it answers. A connection that was lost is made anew."""
        try:
            return self.host.run(["true"], timeout_s=10).status == 0
        except (ConnectionLost, HostError):
            return False

    def run(self, command: str, *, timeout_s: float, stdin: bytes = b"") -> Output:
        try:
            return self.shell.run(command, timeout_s=timeout_s, stdin=stdin)
        except ConnectionLost as error:
            raise GuestLost(error.what, evidence=error.evidence) from error

    def server(self, command: str) -> AbstractContextManager[None]:
        return self.shell.server(command)

    def pass_through(self, command: str) -> int:
        try:
            return self.shell.pass_through(command)
        except (ConnectionLost, HostError) as error:
            raise self.lost(error.what) from error

    def interact(self, terminal: str) -> int:
        try:
            return self.host.interact(self.shell.argv("exec sh -i"), terminal)
        except ConnectionLost as error:
            raise self.lost(error.what) from error

    def lost(self, why: str) -> GuestLost:
        return GuestLost(why, remedy=f"check that {self.host.name} is up and can be reached")

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def usage(self) -> Mapping[str, float]:
        return {}

    def close(self) -> None:
        self.cleanup.close()


def look_inside(shell: Native) -> tuple[Observed, Evidence]:
    """What the machine sees of itself, and what tells its hypervisor.

    Raises HostError for an answer that is none."""
    seen = observed(succeed(shell, OBSERVE, timeout_s=_TIMEOUT_S))
    # Its kernel's log may be closed to us, and what it says of the hypervisor with it.
    seen = dataclasses.replace(seen, hypervisor=seen.hypervisor or None)
    text = succeed(shell, ASK, timeout_s=_TIMEOUT_S)
    try:
        return seen, evidence(parse_facts(text))
    except ValueError as error:
        raise HostError(
            f"{shell.host.name} did not say what it runs under", evidence=text
        ) from error
