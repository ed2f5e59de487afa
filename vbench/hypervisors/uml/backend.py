"""The User-mode Linux backend: launch and attestation."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import ClassVar

from vbench.contract.backend import CountedRun, OnAskedHost
from vbench.contract.console import kernel_arguments
from vbench.contract.guest import SERVER_PORT, Endpoint, Guest
from vbench.contract.host import Host
from vbench.errors import AttestationError, Unsupported
from vbench.guest.booted import BootedGuest
from vbench.guest.launch import (
    LaunchKeys,
    Stopwatch,
    hang_up_at_its_end,
    log_in_by_relay,
    observe,
    write_initramfs,
)
from vbench.guest.shell import GuestShell
from vbench.hosts.room import room
from vbench.hypervisors.uml.machine import (
    BINARY,
    GUEST_ADDRESS,
    UmlMachine,
    UmlSpec,
    refusal,
    version,
)
from vbench.model import Availability, Fact, ImageFiles, Technique
from vbench.records import (
    Attestation,
    Capabilities,
    Declaration,
    DeviceModel,
    DeviceSettings,
    DiskPath,
    Hypervisor,
    HypervisorType,
    NativeReference,
    NetworkPath,
    Place,
)

BOOT_TIMEOUT_S = 60.0  # some thirty times what it takes
# What its /proc/cpuinfo and its drivers are called; no other Linux has them.
_MODEL, _DISK, _NIC = "UML", "uml-blkdev", "uml-vector"
UML = Hypervisor(
    "User-mode Linux",
    "Linux",
    HypervisorType.TWO,
    "Dike, Linux Showcase 2000: a kernel that runs as processes of a host's kernel",
)


@dataclass(frozen=True)
class UmlOptions:
    """Options of the variant string; `memory` is in MiB. There is one vCPU."""

    memory: int = 512
    vcpus: ClassVar[int] = 1  # what UML has

    def __post_init__(self) -> None:
        if not 256 <= self.memory <= 1 << 20:
            raise ValueError("memory is 256 to 1048576 MiB (the image needs 256)")


@dataclass(frozen=True)
class UmlBackend(OnAskedHost):
    """A kernel ported to the system calls of a host: its user code runs natively, and each
    system call and page fault of it goes through ptrace."""

    name: str
    summary: str
    facts: Mapping[str, Fact]
    technique: Technique = Technique.PARA
    options: UmlOptions = field(default_factory=UmlOptions)
    default: bool = True
    counted: tuple[CountedRun, ...] = ()

    def declare(self, options: UmlOptions) -> Declaration:
        del options
        return Declaration(
            hypervisor=UML, devices=DeviceModel.PARAVIRTUAL, packages=("user-mode-linux",)
        )

    def probe(self, host: Host, options: UmlOptions) -> Availability:
        """The program is there, a kernel of it starts, and it can have a network and memory."""
        if version(host) is None:
            return Availability(
                False,
                f"{BINARY} is not installed",
                "run `vbench setup` (Debian's package user-mode-linux)",
            )
        why = refusal(host)
        if why:
            return Availability(
                False,
                f"User-mode Linux does not start: {why}",
                "it needs ptrace; a container or a security policy may forbid it",
            )
        if host.network() is None:
            return Availability(
                False,
                "User-mode Linux is reached through a tap, and none can be made",
                "allow user namespaces and /dev/net/tun, or run as root",
            )
        return room(host, options.memory)

    def launch(self, host: Host, image: ImageFiles, options: UmlOptions) -> BootedGuest:
        """Start a kernel and wait until it runs commands. Raises LaunchError."""
        network = host.network()
        if network is None:
            raise Unsupported("no tap can be made here")
        if not network.native_address:  # a port of a bridge, whose tap is open already
            raise Unsupported(
                "User-mode Linux opens its tap itself, so no bridge has a port for it"
            )
        files, scratch = host.upload_image(image), host.scratch()
        with ExitStack() as stack:
            folder, keys = stack.enter_context(host.workdir()), LaunchKeys.generate()
            spec = UmlSpec(
                folder=folder,
                initrd=write_initramfs(host, files, folder, keys),
                memory_mib=options.memory,
                scratch=scratch.path,
                arguments=kernel_arguments("tty0", [GUEST_ADDRESS], devices="vec"),
            )
            watch = Stopwatch(host.clock)
            machine = UmlMachine(host, network, spec)
            stack.callback(machine.close)
            watch.kernel(machine.wait_ready(BOOT_TIMEOUT_S))
            watch.reached("ready")
            ssh = log_in_by_relay(
                host,
                network,
                files,
                _ADDRESS,
                keys,
                timeout_s=BOOT_TIMEOUT_S / 2,
                machine=machine,
                stack=stack,
            )
            shell = GuestShell(machine, ssh, host)
            hang_up_at_its_end(shell)
            observed = observe(shell)
            watch.reached("command")
            return BootedGuest(
                shell=shell,
                host=host,
                reference=host,
                client_prefix=network.peer_prefix,
                image=files,
                versions={"linux.uml": version(host) or "unknown"},
                endpoint=Endpoint("/dev/ubda", 0, scratch.size_mib, _ADDRESS, SERVER_PORT, 1),
                capabilities=Capabilities(
                    native=NativeReference.LAUNCHING_HOST,
                    network=NetworkPath.TAP,
                    network_by="the host's kernel",
                    disk=DiskPath.NONE,
                    no_disk="its disk goes through the host's page cache and has no direct mode",
                ),
                device=DeviceSettings(
                    machine="User-mode Linux",
                    start="a program of the host",
                    vcpus=1,
                    memory_mib=options.memory,
                    disk="ubd",
                    nic="vector, tap",
                ),
                observed=observed,
                phases=watch.phases,
                cleanup=stack.pop_all(),
            )

    def attest(self, guest: Guest) -> Attestation:
        """Its CPU and drivers are User-mode Linux's own, and its kernel is a process of the host:
        the code of processes runs in ring 3. Raises AttestationError."""
        observed, machine = guest.observed, guest.machine
        program = machine.program() if isinstance(machine, UmlMachine) else ""
        process = BINARY in program
        problems = [
            f"its {what} is {found or 'unknown'}, not {wanted}"
            for what, found, wanted in (
                ("CPU", observed.cpu_model, _MODEL),
                ("disk driver", " ".join(set(observed.disks.values())), _DISK),
                ("network driver", " ".join(set(observed.nics.values())), _NIC),
            )
            if found != wanted
        ]
        if problems:
            raise AttestationError(
                f"this guest is not {self.name}: {'; '.join(problems)}",
                evidence="\n".join(f"{key}: {value}" for key, value in observed.rows().items()),
            )
        return Attestation(
            f"User-mode Linux {observed.kernel}; disk {_DISK}; network {_NIC}",
            {**observed.rows(), "host: the kernel's program": program or "unknown"},
            ring=3 if process else None,
            place=Place.PROCESS if process else None,
            access=machine.access() if isinstance(machine, UmlMachine) else None,
        )


_ADDRESS = GUEST_ADDRESS.split("/")[0]
