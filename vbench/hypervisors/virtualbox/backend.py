"""The VirtualBox backend: launch and attestation."""

from __future__ import annotations

import dataclasses
import re
import secrets
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from vbench.contract.backend import CountedRun, OnAskedHost
from vbench.contract.console import kernel_arguments
from vbench.contract.guest import SERVER_PORT, Endpoint, Guest
from vbench.contract.host import HINT_EARLY, Host, Scratch
from vbench.contract.registry import variant_text
from vbench.errors import AttestationError, HostError, LaunchError
from vbench.guest.booted import BootedGuest
from vbench.guest.launch import LaunchKeys, Stopwatch, log_in, observe, write_boot_medium
from vbench.guest.shell import GuestShell
from vbench.guest.target import parse_facts
from vbench.hosts import access
from vbench.hosts.room import room
from vbench.hosts.ssh import SshConnection
from vbench.hypervisors.machine.identify import ASK, evidence, identify
from vbench.hypervisors.virtualbox import host as vbox
from vbench.hypervisors.virtualbox.config import NICS, VmSpec, raw_disk
from vbench.hypervisors.virtualbox.life import LIFECYCLE, VirtualBoxLife
from vbench.hypervisors.virtualbox.machine import VirtualBoxMachine
from vbench.model import Availability, Fact, ImageFiles, Technique
from vbench.records import (
    Access,
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
    UsageScope,
)
from vbench.system.facts import output

BOOT_TIMEOUT_S = 60.0
VIRTUALBOX = Hypervisor(
    "VirtualBox",
    "Oracle",
    HypervisorType.TWO,
    "VirtualBox manual, 'First Steps': a hosted hypervisor, an application of a host OS",
)
_ADDRESS = "10.0.2.15/24"  # in the network that VirtualBox's NAT has by default
_DIRECT = {True: "yes", False: "no", None: "not seen: its process hides its files"}
_DISK_DRIVER, _NIC_DRIVERS = "ahci", {"virtio": "virtio_net", "e1000": "e1000"}
_PORTS = range(20000, 32768)  # below those that Linux gives to connections


@dataclass(frozen=True)
class VirtualBoxOptions:
    """Options of the variant string, in VirtualBox's words; `memory` is in MiB, `nic` the model of
    the network card.

    `paravirt`: the interface that the guest sees; with `none` its clock is the ACPI timer, each
    reading of which exits. `tsc_mode`: without RealTSCOffset each reading of the TSC exits where
    the host's TSC is not called invariant; empty: VirtualBox's own choice. `host_hz_max`: how often
    VirtualBox interrupts a guest at most to run its timers, 16 kHz of its own where it is 0, which
    costs user code 7 %.
    """

    vcpus: int = 1
    memory: int = 512
    nic: str = "virtio"
    nested_paging: bool = True
    paravirt: str = "kvm"
    tsc_mode: str = "RealTSCOffset"
    host_hz_max: int = 1000

    def __post_init__(self) -> None:
        allowed = {
            "nic": tuple(NICS),
            "paravirt": ("kvm", "minimal", "none", "default"),
            "tsc_mode": ("RealTSCOffset", "VirtTSCEmulated", "Dynamic", ""),
        }
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise ValueError(f"{name} is one of {', '.join(filter(None, values))}")
        if not 1 <= self.vcpus <= 64:
            raise ValueError("vcpus is 1 to 64")
        if not 256 <= self.memory <= 1 << 20:
            raise ValueError("memory is 256 to 1048576 MiB (the image needs 256)")
        if self.host_hz_max and not 100 <= self.host_hz_max <= 100_000:
            raise ValueError("host_hz_max is 100 to 100000, or 0")


@dataclass(frozen=True)
class VirtualBoxBackend(OnAskedHost):
    """Hardware-assisted virtualization by an application with a kernel module of its own."""

    name: str
    summary: str
    facts: Mapping[str, Fact]
    technique: Technique = Technique.HARDWARE
    options: VirtualBoxOptions = field(default_factory=VirtualBoxOptions)
    default: bool = True
    counted: tuple[CountedRun, ...] = ()

    def declare(self, options: VirtualBoxOptions) -> Declaration:
        nested = dataclasses.replace(options, nested_paging=True)
        return Declaration(
            hypervisor=VIRTUALBOX,
            devices=DeviceModel.EMULATED,
            contrast_to="" if options.nested_paging else variant_text(self, nested),
            shadow_paging=not options.nested_paging,
            packages=("virtualbox",),
            release="sid",
        )

    def probe(self, host: Host, options: VirtualBoxOptions) -> Availability:
        """VirtualBox is there, or can be had for the testbed, with its module and hardware."""
        able = vbox.available(host)
        return room(host.with_layer(vbox.LAYER), options.memory) if able.ok else able

    def launch(self, host: Host, image: ImageFiles, options: VirtualBoxOptions) -> BootedGuest:
        """Make a machine, start it and wait until it runs commands. Raises LaunchError."""
        machine = host.with_layer(vbox.LAYER)
        vbox.sweep(machine)
        scratch = machine.scratch()
        early = machine.launch_hints.get(HINT_EARLY, "")
        with ExitStack() as stack:
            folder, keys = stack.enter_context(machine.workdir()), LaunchKeys.generate()
            # where nothing of anybody else's is switched
            bridged = machine is not host
            address = vbox.GUEST_ADDRESS if bridged else _ADDRESS
            append = kernel_arguments("ttyS0", [address])
            spec = VmSpec(
                name=f"vbench-{secrets.token_hex(4)}",
                folder=folder,
                medium=write_boot_medium(machine, image, folder, keys, append, early),
                disk=_write_disk(machine, scratch, folder),
                console="/dev/stderr",
                ports={}
                if bridged
                else dict(zip((22, SERVER_PORT), _free_ports(machine, 2), strict=True)),
                mac="08:00:27:" + ":".join(re.findall("..", secrets.token_hex(3))),
                bridge=vbox.BRIDGE if bridged else "",
                nic=options.nic,
                vcpus=options.vcpus,
                memory_mib=options.memory,
                nested_paging=options.nested_paging,
                paravirt=options.paravirt,
                tsc_mode=options.tsc_mode,
                host_hz_max=options.host_hz_max,
            )
            watch = Stopwatch(machine.clock)
            vm = VirtualBoxMachine(machine, spec, stack)
            watch.kernel(vm.wait_ready(BOOT_TIMEOUT_S * machine.timeout_scale))
            watch.reached("ready")
            reached = address.partition("/")[0] if bridged else "127.0.0.1"

            def logged_in(vm: VirtualBoxMachine, stack: ExitStack) -> SshConnection:
                ssh = log_in(
                    machine,
                    reached,
                    spec.ports.get(22, 22),
                    keys,
                    timeout_s=BOOT_TIMEOUT_S / 2,
                    machine=vm,
                )
                stack.callback(ssh.close)
                return ssh

            shell = GuestShell(vm, logged_in(vm, stack), machine)
            observed = observe(shell)
            watch.reached("command")
            return BootedGuest(
                shell=shell,
                host=machine,
                reference=host,
                client_prefix=(),
                image=machine.upload_image(image),
                versions={"virtualbox": vbox.version(machine)},
                endpoint=Endpoint(
                    scratch="/dev/sda",
                    scratch_offset_mib=0,
                    scratch_size_mib=scratch.size_mib,
                    address=reached,
                    port=spec.ports.get(SERVER_PORT, SERVER_PORT),
                    vcpus=options.vcpus,
                ),
                capabilities=Capabilities(
                    native=NativeReference.LAUNCHING_HOST,
                    network=NetworkPath.TAP if bridged else NetworkPath.NAT,
                    network_by="VirtualBox's bridge" if bridged else "VirtualBox's own NAT",
                    disk=DiskPath.BLOCK_DEVICE if scratch.device else DiskPath.IMAGE_FILE,
                    pausable=machine is host,  # elsewhere native runs in another machine
                    usage=UsageScope.GUEST,
                    lifecycle=LIFECYCLE,
                ),
                device=_device(options, bridged, observed.early),
                observed=observed,
                phases=watch.phases,
                life=VirtualBoxLife(spec, logged_in),
                cleanup=stack.pop_all(),
            )

    def attest(self, guest: Guest) -> Attestation:
        """Check what the guest and VirtualBox's log say against the label. Raises
        AttestationError."""
        vm = guest.machine
        if not isinstance(vm, VirtualBoxMachine):
            raise AttestationError(f"this guest is not {self.name}: VirtualBox does not run it")
        log = log_facts(vm.log())
        inside = evidence(parse_facts(guest.run(ASK, timeout_s=60).stdout))
        found = identify(inside)
        seen = guest.observed
        problems = log_problems(log, vm.spec)
        if found is None or found.hypervisor.name != VIRTUALBOX.name:
            problems.append(f"the guest shows {found.hypervisor.name if found else 'none'}")
        if vm.spec.paravirt == "kvm" and seen.hypervisor != "KVM":
            problems.append(f"the guest detected hypervisor {seen.hypervisor or 'none'!r}")
        wanted = {"disk": _DISK_DRIVER, "nic": _NIC_DRIVERS[vm.spec.nic]}
        for role, bound in (("disk", seen.disks), ("nic", seen.nics)):
            if set(bound.values()) != {wanted[role]}:
                drivers = " ".join(bound.values()) or "none"
                problems.append(f"{role} driver is {drivers}, not {wanted[role]}")
        direct = vm.direct(guest.host.scratch().path)
        if direct is False:
            problems.append("the disk goes through the host's page cache")
        rows = {**log, **inside.rows(), "disk: direct": _DIRECT[direct]}
        if problems:
            raise AttestationError(
                f"this guest is not {self.name}: {'; '.join(problems)}",
                evidence="\n".join(f"{key}: {value}" for key, value in rows.items()),
            )
        paging = "nested" if vm.spec.nested_paging else "shadow"
        return Attestation(
            f"VirtualBox {guest.versions['virtualbox'].partition('_')[0]}; "
            f"{log['VBox.log: processor']}, {paging} paging; disk {wanted['disk']}; "
            f"network {wanted['nic']}",
            rows,
            "vboxdrv",
            vm.kernel_ring(),
            access=_access(guest.host, vm),
        )


def _access(host: Host, vm: VirtualBoxMachine) -> Access | None:
    """By its device, unless its program becomes root by itself."""
    mode = output(host, 'stat -L -c "%A %U %G" "$1"', f"/proc/{vm.process.pid}/exe")
    if mode[3:4] == "s" and mode.split()[1] == "root":
        return Access(access.ANY_USER, f"{mode}: its program is setuid root")
    return access.of_device(host, "/dev/vboxdrv")


def _device(options: VirtualBoxOptions, bridged: bool, early: str) -> DeviceSettings:
    return DeviceSettings(
        machine="PIIX3",
        start="BIOS, ISO",
        vcpus=options.vcpus,
        memory_mib=options.memory,
        disk="AHCI",
        nic=f"{options.nic}, {'bridged' if bridged else 'NAT'}",
        nested_paging=options.nested_paging,
        further={
            "paravirt": options.paravirt,
            "tsc_mode": options.tsc_mode or "VirtualBox's own",
            "host_hz_max": str(options.host_hz_max or "VirtualBox's own"),
            **({"interrupts": early} if early else {}),
        },
    )


def _write_disk(machine: Host, scratch: Scratch, folder: str) -> str:
    path = f"{folder}/scratch.vmdk"
    try:
        text = raw_disk(scratch.path, scratch.size_mib, device=scratch.device)
    except ValueError as error:
        raise LaunchError(str(error), remedy="set VBENCH_TMP to another folder") from error
    machine.write(path, text.encode())
    return path


def _free_ports(machine: Host, count: int) -> list[int]:
    """Ports of its loopback that nobody listens at."""
    taken: set[int] = set()
    for name in ("tcp", "tcp6"):
        with suppress(HostError):
            taken |= used_ports(machine.read(f"/proc/net/{name}"))
    free = [port for port in _PORTS if port not in taken]
    return secrets.SystemRandom().sample(free, count)


def used_ports(table: str) -> set[int]:
    """The local ports of /proc/net/tcp."""
    return {int(port, 16) for port in re.findall(r"(?m)^ *\d+: [0-9A-F]+:([0-9A-F]{4}) ", table)}


# What is looked for in the log. Nested paging and the cache are not mentioned where they are off.
_LOGGED = {
    "processor": r"HM: HMR3Init: (AMD-V|VT-x)",
    "enabled": r"HM: Enabled (SVM|VMX)",
    "nested paging": r"HM: +Enabled (nested paging)",
    "block cache": r" +BlockCache +<integer> = 0x0*(1) ",
    "host's TSC": r"TM: GIP - u32Mode=\d+ \((\w+)",
    "TSC": r"TM: +cTSCTicksPerSecond=.* enmTSCMode=\d+ \((\w+)\)",
    "TSC Hz": r"TM: +cTSCTicksPerSecond=([\d ]+\d)",
    "paravirtual interface": r"GIM: Using provider '(\w+)'",
    "TSC kHz told to the guest": r"GIM: KVM: VCPU +0: Enabled system-time struct.* TscKHz=(\d+)",
}
# By how much the clock that a guest is given may be wrong.
_CLOCK_TOLERANCE = 0.0005


def log_facts(text: str) -> dict[str, str]:
    """What VBox.log says of how it runs the machine."""
    found = {name: re.search(rf"(?m){each}", text) for name, each in _LOGGED.items()}
    return {f"VBox.log: {name}": match[1] if match else "none" for name, match in found.items()}


def log_problems(log: Mapping[str, str], spec: VmSpec) -> list[str]:
    """What of it is not as it was asked for."""
    said = {name.removeprefix("VBox.log: "): text for name, text in log.items()}
    problems = []
    if "none" in (said["processor"], said["enabled"]):
        problems.append("VirtualBox's log does not say that it uses AMD-V or VT-x")
    if (said["nested paging"] != "none") is not spec.nested_paging:
        problems.append(f"nested paging is {'off' if spec.nested_paging else 'on'}")
    if said["block cache"] != "none":
        problems.append("the disk goes through VirtualBox's own cache")
    if spec.tsc_mode not in ("", said["TSC"]):
        problems.append(f"its TSC is {said['TSC']}, not {spec.tsc_mode}")
    told, real = said["TSC kHz told to the guest"], said["TSC Hz"].replace(" ", "")
    if told.isdecimal() and real.isdecimal():
        wrong = int(told) * 1000 / int(real) - 1
        if abs(wrong) > _CLOCK_TOLERANCE:
            problems.append(f"its clock is {wrong:+.2%} wrong, as the host's TSC is not invariant")
    return problems
