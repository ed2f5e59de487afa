"""The libvirt backend: guests as domains, of vbench's own XML or of the user's."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from xml.etree import ElementTree

from vbench.contract.backend import CountedRun, OnAskedHost
from vbench.contract.console import kernel_arguments
from vbench.contract.guest import SERVER_PORT, Endpoint, Guest
from vbench.contract.host import Host, Network
from vbench.contract.undo import undone
from vbench.errors import AttestationError, HostError, LaunchError, UsageError
from vbench.guest.booted import BootedGuest
from vbench.guest.launch import (
    LaunchKeys,
    Stopwatch,
    hang_up_at_its_end,
    log_in,
    log_in_by_relay,
    observe,
    write_initramfs,
)
from vbench.guest.shell import GuestShell
from vbench.hosts import access
from vbench.hosts.pinning import UNPINNED, Placement, parse_list, placement
from vbench.hosts.room import room
from vbench.hosts.ssh import SshConnection
from vbench.hypervisors.libvirt import network, truth, tuning
from vbench.hypervisors.libvirt.domain import NAME_PREFIX, Supplied
from vbench.hypervisors.libvirt.life import LIFECYCLE, LibvirtLife
from vbench.hypervisors.libvirt.machine import LibvirtMachine
from vbench.hypervisors.libvirt.tuning import DISK_DRIVERS, NIC_DRIVERS, Tuning
from vbench.hypervisors.libvirt.virsh import TIMEOUT_S, Virsh, end_script
from vbench.hypervisors.qemu import truth as qemu_truth
from vbench.hypervisors.qemu.backend import KVM, TCG
from vbench.hypervisors.qemu.kvm import provider, usable
from vbench.hypervisors.qemu.nics import user_network
from vbench.model import Availability, Fact, ImageFiles, Technique
from vbench.records import (
    Attestation,
    Capabilities,
    Declaration,
    DeviceModel,
    DeviceSettings,
    DiskPath,
    NativeReference,
    NetworkPath,
    Place,
    UsageScope,
)
from vbench.system.cgroups import cpu_group
from vbench.system.kvm_probe import HARDWARE

_SOCKET = "/run/libvirt/libvirt-sock"  # of the system's libvirt, which opens /dev/kvm itself
# Those of QEMU's own guests, and the second that libvirt needs beside.
BOOT_TIMEOUT_S = {"qemu": 95.0, "kvm": 45.0}
# To get the hypervisor: libvirt manages it.
_PACKAGES = ("qemu-system-x86",)
_ENGINES = ("threads", "native", "io_uring")


@dataclass(frozen=True)
class LibvirtOptions:
    """Options of the variant string.

    `uri` is libvirt's connection: the system's for root, else the session's. `xml` is a file with a
    domain's XML, whose tuning is taken over: it then decides all but `uri`. The others are those of
    the QEMU backends: `memory` in MiB, `cache` and `aio` of the disk under test, `pin`.
    """

    vcpus: int = 1
    memory: int = 512
    cache: str = "none"
    aio: str = "threads"
    pin: bool = True
    uri: str = ""
    xml: str = ""

    def __post_init__(self) -> None:
        if self.cache not in ("none", "writeback", "unsafe"):
            raise ValueError("cache is one of none, writeback, unsafe")
        if self.aio not in _ENGINES:
            raise ValueError(f"aio is one of {', '.join(_ENGINES)}")
        if not 1 <= self.vcpus <= 255:
            raise ValueError("vcpus is 1 to 255")
        if not tuning.MEMORY_LEAST_MIB <= self.memory <= 1 << 20:
            raise ValueError("memory is 256 to 1048576 MiB (the image needs 256)")
        own = [f.name for f in fields(self) if f.name not in ("uri", "xml")]
        changed = [name for name in own if getattr(self, name) != getattr(type(self), name)]
        if self.xml and changed:
            raise ValueError(f"the file of xml= decides {', '.join(changed)}: change it there")


@dataclass(frozen=True)
class LibvirtBackend(OnAskedHost):
    """Domains of one type: "kvm" or "qemu", as libvirt names them."""

    name: str
    technique: Technique
    type: str
    summary: str
    facts: Mapping[str, Fact]
    other: str  # the backend of the other type
    options: LibvirtOptions = field(default_factory=LibvirtOptions)
    default: bool = False  # libvirt is not installed by `vbench setup` alone
    counted: tuple[CountedRun, ...] = ()

    def tuning(self, options: LibvirtOptions, places: Placement = UNPINNED) -> Tuning:
        """The file's, or our own. Raises UsageError."""
        if not options.xml:
            return tuning.own(
                self.type,
                vcpus=options.vcpus,
                memory_mib=options.memory,
                cache=options.cache,
                aio=options.aio,
                places=places,
            )
        found = tuning.of_file(options.xml)
        if found.type != self.type:
            raise UsageError(
                f"{options.xml} is a domain of type {found.type}, and {self.name} starts those of "
                f"type {self.type}",
                remedy=f"--backend {self.other},xml={options.xml}",
            )
        return found

    def declare(self, options: LibvirtOptions) -> Declaration:
        hypervisor = KVM if self.type == "kvm" else TCG
        try:
            found = self.tuning(options)
        except UsageError:  # `placed` says it
            return Declaration(hypervisor, packages=_PACKAGES)
        kinds = {found.bus == "virtio", found.nic == "virtio"}
        models = {True: DeviceModel.PARAVIRTUAL, False: DeviceModel.EMULATED}
        devices = models[kinds.pop()] if len(kinds) == 1 else None
        return Declaration(hypervisor, devices, packages=_PACKAGES)

    def placed(self, host: Host, options: LibvirtOptions) -> Host:
        """`host`. Raises UsageError for a file that cannot be taken over."""
        self.tuning(options)
        return host

    def probe(self, host: Host, options: LibvirtOptions) -> Availability:
        """libvirt answers, and can start such domains; so can the host."""
        able = Virsh(host, options.uri).able(self.type)
        if able.ok and self.type == "kvm":
            able = usable(host)
        plan = self.tuning(options)
        if able.ok:
            able = room(host, plan.memory_mib)
        engine = plan.disk.get("io", "threads")
        return qemu_truth.engine(host, engine) if able.ok else able

    def launch(self, host: Host, image: ImageFiles, options: LibvirtOptions) -> BootedGuest:
        """Start a domain and wait until it runs commands. Raises LaunchError."""
        pinned = options.pin and not options.xml
        places = placement(host, options.vcpus) if pinned else UNPINNED
        plan = self.tuning(options, places)
        if plan.disk.get("cache") in ("none", "directsync"):
            direct = qemu_truth.direct(host)
            if not direct.ok:
                raise LaunchError(direct.reason, remedy=direct.remedy)
        files, scratch = host.upload_image(image), host.scratch()
        virsh = Virsh(host, options.uri)
        try:
            virsh.end_left()
            version = virsh.version()
        except HostError as error:
            raise LaunchError(error.what, evidence=error.evidence) from error
        measuring = network.usable(virsh)
        with ExitStack() as stack:
            folder, keys = stack.enter_context(host.workdir()), LaunchKeys.generate()
            name = f"{NAME_PREFIX}{secrets.token_hex(4)}"
            address = network.GUEST_ADDRESS if measuring else "10.0.2.15/24"
            supplied = Supplied(
                name=name,
                folder=folder,
                user=virsh.user,
                kernel=files.kernel,
                initrd=write_initramfs(host, files, folder, keys),
                append=kernel_arguments("ttyS0", [address]),
                scratch=scratch,
                console=f"{folder}/console",
                tap=name if measuring else "",  # as long as a name of an interface may be
                netdev=user_network(),
                label=(virsh.user, virsh.group) if virsh.privileged else None,
            )
            watch = Stopwatch(host.clock)
            end_s = TIMEOUT_S * host.timeout_scale
            stack.enter_context(undone(host, end_script(virsh.uri, name), timeout_s=end_s))
            machine = LibvirtMachine(virsh, plan, supplied)
            stack.callback(machine.close)
            if measuring:
                network.place(host, measuring, name)
            timeout_s = BOOT_TIMEOUT_S[self.type]
            watch.kernel(machine.wait_ready(timeout_s * host.timeout_scale))
            watch.reached("ready")

            def logged_in(machine: LibvirtMachine, stack: ExitStack) -> SshConnection:
                return _log_in(host, measuring, files, keys, machine, timeout_s / 2, stack)

            shell = GuestShell(machine, logged_in(machine, stack), host)
            hang_up_at_its_end(shell)
            observed = observe(shell)
            watch.reached("command")
            if not observed.disks:
                raise LaunchError("the guest sees no disk", evidence=machine.evidence())
            return BootedGuest(
                shell=shell,
                host=host,
                reference=host,
                client_prefix=measuring.peer_prefix if measuring else (),
                image=files,
                versions={"libvirt": version, "qemu": _qemu_version(machine)},
                endpoint=Endpoint(
                    scratch=f"/dev/{next(iter(observed.disks))}",
                    scratch_offset_mib=0,
                    scratch_size_mib=scratch.size_mib,
                    address=address.split("/")[0] if measuring else "127.0.0.1",
                    port=SERVER_PORT if measuring else machine.forwarded_port(SERVER_PORT),
                    vcpus=plan.vcpus,
                    pinned=bool(places.vcpus),
                    cpus=() if places.vcpus else _cpus(machine),
                    cpu_group=cpu_group(machine.cgroup()),
                ),
                capabilities=Capabilities(
                    native=NativeReference.LAUNCHING_HOST,
                    network=NetworkPath.TAP if measuring else NetworkPath.NAT,
                    network_by="libvirt's tap" if measuring else "QEMU's user-mode stack",
                    disk=DiskPath.BLOCK_DEVICE if scratch.device else DiskPath.IMAGE_FILE,
                    pausable=True,
                    usage=UsageScope.GUEST,
                    lifecycle=LIFECYCLE,
                ),
                device=_device(plan, options, virsh),
                observed=observed,
                phases=watch.phases,
                life=LibvirtLife(supplied, logged_in, timeout_s),
                cleanup=stack.pop_all(),
            )

    def attest(self, guest: Guest) -> Attestation:
        """What libvirt and QEMU made of the XML, and what runs it. Raises AttestationError."""
        machine, observed = guest.machine, guest.observed
        if not isinstance(machine, LibvirtMachine):
            raise AttestationError(f"this guest is not {self.name}: libvirt does not run it")
        plan = machine.plan
        live = ElementTree.fromstring(machine.virsh.ask("dumpxml", machine.name))
        process = qemu_truth.Process.of(machine.host, machine.pid)
        place = Place.MODULE if process.kvm else Place.PROCESS
        evidence, problems = truth.look(
            plan,
            ElementTree.fromstring(machine.xml),
            live,
            query=machine.query,
            process=process,
            vcpu_threads=machine.vcpu_threads,
        )
        kvm = machine.query("query-kvm") or {}
        evidence |= {
            "libvirt": f"{guest.versions['libvirt']} at {machine.virsh.uri}",
            "CPU control group": cpu_group(machine.cgroup()),
            "query-kvm": f"enabled={kvm.get('enabled')} present={kvm.get('present')}",
            "process: /dev/kvm": "open" if process.kvm else "not open",
        }
        module = ""
        if self.type == "kvm":
            module = provider(guest.host)
            if module not in HARDWARE:
                problems.append(f"the host's KVM is provided by {module or 'no module'}")
        if bool(kvm.get("enabled")) != (self.type == "kvm"):
            problems.append(f"QEMU says kvm enabled={kvm.get('enabled')}")
        if process.kvm != (self.type == "kvm"):
            problems.append(f"its process has /dev/kvm {evidence['process: /dev/kvm']}")
        disguised = any(
            plan.root.find(f"features/{name}") is not None for name in ("kvm", "hyperv")
        )
        if not disguised and (observed.hypervisor == "KVM") != (self.type == "kvm"):
            problems.append(f"the guest detected hypervisor {observed.hypervisor or 'none'!r}")
        drivers = {"disk": DISK_DRIVERS[plan.bus], "nic": NIC_DRIVERS[plan.nic]}
        for role, bound in (("disk", observed.disks), ("nic", observed.nics)):
            if set(bound.values()) != {drivers[role]}:
                found = " ".join(bound.values()) or "none"
                problems.append(f"{role} driver is {found}, not {drivers[role]}")
        if observed.vcpus != plan.vcpus:
            problems.append(f"the guest has {observed.vcpus} vCPUs, not {plan.vcpus}")
        if problems:
            rows = {**evidence, **observed.rows()}
            raise AttestationError(
                f"this guest is not {self.name}: {'; '.join(problems)}",
                evidence="\n".join(f"{key}: {value}" for key, value in rows.items()),
            )
        how = "KVM" if self.type == "kvm" else "QEMU TCG (binary translation)"
        summary = f"{how} by libvirt; disk {drivers['disk']}; network {drivers['nic']}"
        return Attestation(
            summary,
            evidence,
            module,
            machine.kernel_ring(),
            place=place,
            access=access.of_device(guest.host, _SOCKET)
            if machine.virsh.privileged
            else access.of_process(guest.host, machine.pid),
        )


def _log_in(
    host: Host,
    measuring: Network | None,
    files: ImageFiles,
    keys: LaunchKeys,
    machine: LibvirtMachine,
    timeout_s: float,
    stack: ExitStack,
) -> SshConnection:
    if measuring:
        address = network.GUEST_ADDRESS.split("/")[0]
        return log_in_by_relay(
            host,
            measuring,
            files,
            address,
            keys,
            timeout_s=timeout_s,
            machine=machine,
            stack=stack,
        )
    port = machine.forwarded_port(22)
    ssh = log_in(host, "127.0.0.1", port, keys, timeout_s=timeout_s, machine=machine)
    stack.callback(ssh.close)
    return ssh


def _qemu_version(machine: LibvirtMachine) -> str:
    version = machine.query("query-version") or {}
    numbers = version.get("qemu", {})
    return ".".join(str(numbers.get(key, "")) for key in ("major", "minor", "micro"))


def _cpus(machine: LibvirtMachine) -> tuple[int, ...]:
    """Where its vCPUs may run, whoever decided that: the file, libvirt, a control group."""
    process = qemu_truth.Process.of(machine.host, machine.pid)
    allowed = (process.cpus.get(thread, "") for thread in machine.vcpu_threads)
    return tuple(sorted({number for each in allowed for number in parse_list(each)}))


def _device(plan: Tuning, options: LibvirtOptions, virsh: Virsh) -> DeviceSettings:
    disk, card = plan.disk, plan.network
    return DeviceSettings(
        machine=plan.machine or "libvirt's default",
        start="PVH, vmlinux",
        cpu=plan.cpu,
        vcpus=plan.vcpus,
        memory_mib=plan.memory_mib,
        disk=plan.bus,
        nic=plan.nic,
        further={
            "cache": disk.get("cache", "default"),
            "aio": disk.get("io", "default"),
            "iothread": "on" if disk.get("iothread") else "off",
            "queues": disk.get("queues", "default"),
            "vhost": {"qemu": "off", "vhost": "on"}.get(card.get("name", ""), "default"),
            "pin": "on" if plan.pins else "off",
            "libvirt": virsh.uri,
            **({"xml": plan.digest} if options.xml else {}),
            **({"left out": " ".join(plan.left_out)} if plan.left_out else {}),
        },
    )
