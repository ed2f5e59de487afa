"""A machine that is already there and answers over SSH: measured as it is, and looked into."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field

from vbench.contract.backend import CountedRun
from vbench.contract.guest import Endpoint, Guest
from vbench.contract.host import Host
from vbench.errors import (
    AttestationError,
    ConnectionLost,
    HostError,
    LaunchError,
    LaunchTimeout,
    UsageError,
)
from vbench.guest.launch import Stopwatch
from vbench.guest.native import Native
from vbench.hosts.address import FORM, PORTS, is_address
from vbench.hosts.local import LocalHost
from vbench.hosts.lock import take_again
from vbench.hosts.remote import SshHost
from vbench.hypervisors.machine.guest import MachineGuest, look_inside
from vbench.hypervisors.machine.identify import SYSTEMD, Found, identify
from vbench.model import Availability, Fact, ImageFiles, Technique
from vbench.records import (
    Attestation,
    Capabilities,
    Declaration,
    DiskPath,
    NativeReference,
    NetworkPath,
    Phase,
)

# A server's firmware tests its memory for minutes.
REBOOT_TIMEOUT_S = 600.0
_NO_NETWORK = (
    "a server there would listen on a network that is not vbench's: option network=ADDRESS allows "
    "it, and names where the machine's port 5201 is reached"
)
_PORT = re.compile(r"(?P<name>[^:\s]+)(:(?P<port>\d{1,5}))?")
# $1 name: its address, and the way there by the kernel's routes. The probe and iperf3 speak IPv4.
_ROUTE = """
PATH=$PATH:/usr/sbin:/sbin
case $1 in *[!0-9.]*) address=$(getent ahostsv4 "$1" | sed 's/ .*//; q');; *) address=$1;; esac
[ "$address" ] || { echo "$1 has no IPv4 address there" >&2; exit 1; }
echo "$address"
ip -o route get "$address"
"""
_HOP = re.compile(r"\b((?:via|dev) \S+)")
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
# As root, or as somebody who may. The command must end before the machine does.
_REBOOT = "(sleep 3; reboot || sudo -n reboot) >/dev/null 2>&1 </dev/null &"


@dataclass(frozen=True)
class MachineOptions:
    """Options of the variant string. `address`: `user@machine[:port]`. `reference`: where native
    runs, `ssh://user@host` or `local`; empty: nowhere, so there are no ratios. `reboot`: each boot
    of the plan reboots the machine; else all rounds are one boot. `network`: `address[:port]` by
    which the reference, or without one this machine, reaches port 5201 of the machine. Servers of
    network workloads listen there while they are measured; empty: none does."""

    address: str = ""
    reference: str = ""
    reboot: bool = False
    network: str = ""

    def __post_init__(self) -> None:
        if self.address and not is_address(_url(self)):
            raise ValueError("address is user@machine[:port]")
        if self.reference not in ("", "local") and not is_address(self.reference):
            raise ValueError(f"reference is local or {FORM}")
        found = _PORT.fullmatch(self.network)
        if self.network and (not found or int(found["port"] or PORTS[0]) not in PORTS):
            raise ValueError("network is an address or a name, and :port where it is forwarded")


@dataclass(frozen=True)
class MachineBackend:
    """Machines that run by one technique, whatever runs them."""

    name: str
    technique: Technique
    summary: str
    facts: Mapping[str, Fact]
    options: MachineOptions = field(default_factory=MachineOptions)
    default: bool = False  # it needs an address
    counted: tuple[CountedRun, ...] = ()

    def declare(self, options: MachineOptions) -> Declaration:
        """Nothing is known before the machine was looked into."""
        del options
        return Declaration()

    def placed(self, host: Host, options: MachineOptions) -> Host:
        """The reference; without one, the machine itself: no other host has part in it."""
        del host
        if not options.address:
            raise UsageError(
                f"backend {self.name!r} needs an address",
                remedy=f"--backend {self.name},address=user@machine",
            )
        if options.reference:
            return LocalHost() if options.reference == "local" else SshHost(options.reference)
        return SshHost(_url(options))

    def machines(self, options: MachineOptions) -> tuple[str, ...]:
        """The machine, its reference, and where its client is."""
        if not options.address:
            return ()
        client = "local" if options.network else ""
        return tuple(filter(None, (options.reference or client, _url(options))))

    def probe(self, host: Host, options: MachineOptions) -> Availability:
        """It answers, and so does the reference. Raises ConnectionLost."""
        if not options.address:
            return Availability(False, "it needs an address", "NAME,address=user@machine")
        host.run(["true"], timeout_s=20)
        if options.reference:
            machine = SshHost(_url(options))
            try:
                machine.run(["true"], timeout_s=20)
            finally:
                machine.close()
        return Availability(True)

    def launch(self, host: Host, image: ImageFiles, options: MachineOptions) -> Guest:
        """Log in, copy the image's root there if it is not there yet, and look inside."""
        reference = host if options.reference else None
        with ExitStack() as stack:
            machine = SshHost(_url(options))
            stack.callback(machine.close)
            phases = _reboot(machine) if options.reboot else ()
            if phases:
                take_again(machine.name)
            try:
                scratch = machine.scratch()
                files = machine.upload_image(image)
                cpus = int(machine.facts().facts.get("cpus", "1"))
                shell = Native(machine, files, vcpus=cpus, scratch=scratch, pin=False)
                observed, evidence = look_inside(shell)
                endpoint, between = shell.endpoint, ""
                client = reference or stack.enter_context(closing(LocalHost()))
                if options.network:
                    endpoint, between = _reached(client, options.network, endpoint)
            except (HostError, ValueError) as error:
                raise LaunchError(
                    f"{machine.name} cannot be measured: {error}",
                    remedy=getattr(error, "remedy", ""),
                ) from error
            return MachineGuest(
                host=machine,
                client_host=client,
                shell=shell,
                endpoint=endpoint,
                reference=reference,
                capabilities=Capabilities(
                    native=NativeReference.OTHER_HOST if reference else NativeReference.NONE,
                    network=NetworkPath.OWN if options.network else NetworkPath.NONE,
                    network_by=between,
                    no_network="" if options.network else _NO_NETWORK,
                    disk=DiskPath.OWN,
                    relaunchable=options.reboot,
                ),
                observed=observed,
                evidence=evidence,
                phases=phases,
                cleanup=stack.pop_all(),
            )

    def attest(self, guest: Guest) -> Attestation:
        """What it runs under, by what it shows from inside. Raises AttestationError."""
        if not isinstance(guest, MachineGuest):
            raise AttestationError(f"this guest is not {self.name}: something else launched it")
        rows = guest.evidence.rows()
        found = identify(guest.evidence)
        if found is None:
            raise AttestationError(
                f"no hypervisor shows itself in {guest.host.name}",
                evidence="\n".join(f"{name}: {text}" for name, text in rows.items()),
                remedy="a machine without a hypervisor is a host: --host ssh://user@machine",
            )
        if found.technique is not self.technique:
            raise AttestationError(
                f"{guest.host.name} runs by {found.technique.value} "
                f"({found.hypervisor.name}, by {found.reason}), not {self.technique.value}",
                evidence="\n".join(f"{name}: {text}" for name, text in rows.items()),
                remedy="`vbench backends` lists the backend `machine-...` of each technique",
            )
        said = _systemd(guest.host)
        rows |= {"shown by": found.reason, "systemd-detect-virt": said or "not there"}
        summary = _summary(found)
        if said and said not in SYSTEMD[found.hypervisor.name]:
            summary += f"; disputed: systemd-detect-virt says {said}"
        return Attestation(summary, rows, hypervisor=found.hypervisor)


def _summary(found: Found) -> str:
    hypervisor = found.hypervisor
    return f"{hypervisor.name} ({hypervisor.vendor}), type {hypervisor.type}, by {found.reason}"


def _systemd(machine: SshHost) -> str:
    """What systemd says of the same question; "" where it is not there."""
    script = "systemd-detect-virt --vm 2>/dev/null || true"
    return machine.run(["sh", "-c", script], timeout_s=20).stdout.strip()


def _url(options: MachineOptions) -> str:
    address = options.address
    return address if address.startswith("ssh://") else f"ssh://{address}"


def _reached(client: Host, network: str, endpoint: Endpoint) -> tuple[Endpoint, str]:
    """Where `client` reaches the servers of the machine, and the way there. Raises HostError."""
    found = _PORT.fullmatch(network)
    assert found  # noqa: S101 - the options have seen to it
    done = client.run(["sh", "-c", _ROUTE, "vbench-route", found["name"]], timeout_s=30)
    address, _, way = done.stdout.strip().partition("\n")
    if done.status != 0:
        raise HostError(f"{client.name} cannot reach {network}", evidence=done.stderr)
    port = int(found["port"] or endpoint.port)
    between = ", ".join([f"to {address}:{port} from {client.name}", *_HOP.findall(way)])
    return dataclasses.replace(endpoint, address=address, port=port), between


def _reboot(machine: SshHost) -> tuple[Phase, ...]:
    """Reboot it and wait until it answers again. Raises LaunchError, LaunchTimeout."""
    before = machine.read(_BOOT_ID)
    watch = Stopwatch(machine.clock)
    machine.run(["sh", "-c", _REBOOT], timeout_s=20)
    machine.close()  # a connection that the reboot cut would be waited for
    time.sleep(4)
    deadline = time.monotonic() + REBOOT_TIMEOUT_S
    while time.monotonic() < deadline:
        with suppress(ConnectionLost, HostError):
            if machine.read(_BOOT_ID) != before:
                watch.reached("command")
                return watch.phases
        machine.close()  # the next use connects anew
        time.sleep(1)
    raise LaunchTimeout(
        f"{machine.name} did not come back within {REBOOT_TIMEOUT_S:g} s of a reboot",
        remedy="log in as root or as somebody who may `sudo -n reboot`, or leave reboot off",
    )
