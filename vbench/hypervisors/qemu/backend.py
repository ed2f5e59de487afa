"""A QEMU backend as a record: what a plugin declares, and the launch all of them share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from vbench.contract.backend import CountedRun, OnAskedHost
from vbench.contract.console import kernel_arguments
from vbench.contract.guest import SERVER_PORT, Endpoint, Guest
from vbench.contract.host import HINT_EARLY, Host
from vbench.contract.registry import variant_text
from vbench.errors import LaunchError, Unsupported, UsageError
from vbench.guest.booted import BootedGuest
from vbench.guest.launch import LaunchKeys, Stopwatch, log_in, observe, write_initramfs
from vbench.guest.shell import GuestShell
from vbench.hosts.pinning import UNPINNED, placement
from vbench.hosts.room import room
from vbench.hypervisors.qemu import binary, nics, truth, tsc
from vbench.hypervisors.qemu.attest import attest
from vbench.hypervisors.qemu.cmdline import (
    MACHINES,
    Disk,
    GuestSpec,
    argv,
    nic_device,
)
from vbench.hypervisors.qemu.kvm import HINT_CPU
from vbench.hypervisors.qemu.life import Built, QemuLife
from vbench.hypervisors.qemu.machine import QemuMachine
from vbench.hypervisors.qemu.options import KvmOptions, QemuOptions
from vbench.image import ensure, source_of
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
    Lifecycle,
    NativeReference,
    NetworkPath,
    UsageScope,
)

# Some ten times what a guest takes on a busy machine (translated 4-10 s), by accelerator.
BOOT_TIMEOUT_S = {"tcg": 90.0, "kvm": 40.0}
TCG = Hypervisor(
    "QEMU (TCG)",
    "QEMU project",
    HypervisorType.TWO,
    "QEMU documentation, 'Introduction': an ordinary process of the host's operating system",
)
KVM = Hypervisor(
    "KVM",
    "Linux",
    HypervisorType.HYBRID,
    "the kernel's Documentation/virt/kvm: a module makes Linux the hypervisor",
)


@dataclass(frozen=True)
class QemuBackend(OnAskedHost):
    """One technique and one device model under QEMU."""

    name: str
    technique: Technique
    summary: str
    accel: str  # "tcg" or "kvm"
    cpu: str
    disk: str  # "ide" or "virtio"
    nic: str  # QEMU's device name
    drivers: Mapping[str, str]  # "disk", "nic": what the guest's kernel must have bound
    facts: Mapping[str, Fact]
    options: QemuOptions = field(default_factory=QemuOptions)
    usable: Callable[[Host], Availability] | None = None  # what the accelerator needs of a host
    # holds the host in the state that the options ask for; whether it was in another one
    prepare: Callable[[Host, Any], AbstractContextManager[bool]] | None = None
    preparable: Callable[[Host, Any], Availability] | None = None  # whether that may be done
    iothread: bool = False  # the disk's requests are served in a thread of their own
    multiqueue: bool = False  # the disk has a queue for each vCPU
    processor_of: str = ""  # a backend that differs in its devices only
    default: bool = True
    counted: tuple[CountedRun, ...] = ()

    def probe(self, host: Host, options: QemuOptions) -> Availability:
        """QEMU is there, has accelerator and machine type, and the accelerator can be used.

        Raises UsageError for options that exclude each other, and files that are not there."""
        if problem := self._impossible(options):
            raise UsageError(problem, remedy="machine=pc and machine=q35 have such devices")
        if options.kernel:
            source_of(options.kernel, options.modules or None)
        for need in self._needs(host, options):
            if not (available := need()).ok:
                return available
        return Availability(True)

    def _needs(self, host: Host, options: QemuOptions) -> Iterator[Callable[[], Availability]]:
        """What a launch needs of a host, to be asked in turn."""
        yield partial(binary.usable, host, options.qemu, self.accel, options.machine)
        yield partial(room, host, options.memory)
        if self.usable is not None:
            yield partial(self.usable, host)
        if self.preparable is not None:
            yield partial(self.preparable, host, options)
        yield partial(truth.engine, host, options.aio, options.qemu)
        if _vhost(options):
            yield partial(truth.vhost, host, self.nic)

    @property
    def hypervisor(self) -> Hypervisor:
        return KVM if self.accel == "kvm" else TCG

    def declare(self, options: QemuOptions) -> Declaration:
        """Device models are known where disk and network card are of one kind."""
        kinds = {self.disk == "virtio", self.nic.startswith("virtio")}
        models = {True: DeviceModel.PARAVIRTUAL, False: DeviceModel.EMULATED}
        suffix = variant_text(self, options).removeprefix(self.name)
        shadow, nested = False, options
        if isinstance(options, KvmOptions):
            shadow = not options.nested_paging
            nested = dataclasses.replace(options, nested_paging=True)
        return Declaration(
            hypervisor=self.hypervisor,
            devices=models[kinds.pop()] if len(kinds) == 1 else None,
            processor_of=f"{self.processor_of}{suffix}" if self.processor_of else "",
            contrast_to=variant_text(self, nested) if shadow else "",
            shadow_paging=shadow,
            packages=("qemu-system-x86",),
            destination=options.destination,
        )

    def launch(self, host: Host, image: ImageFiles, options: QemuOptions) -> BootedGuest:
        """Start a guest and wait until it runs commands. Raises LaunchError."""
        if options.kernel:
            image = ensure(options.kernel, options.modules or None)
        network = host.network()
        with ExitStack() as stack:
            switched = False
            if self.prepare is not None:
                switched = stack.enter_context(self.prepare(host, options))
            folder, keys = stack.enter_context(host.workdir()), LaunchKeys.generate()
            build = partial(self._build, image, options, keys)
            built = build(host, folder)
            files, qemu, spec, places = built.files, built.qemu, built.spec, built.places
            watch = Stopwatch(host.clock)
            machine = QemuMachine(host, argv(spec), network, places)
            stack.callback(machine.close)
            timeout_s = BOOT_TIMEOUT_S[self.accel]
            watch.kernel(machine.wait_ready(timeout_s * host.timeout_scale))
            watch.reached("ready")
            port = machine.forwarded_port(22)
            ssh = log_in(host, "127.0.0.1", port, keys, timeout_s=timeout_s / 2, machine=machine)
            stack.callback(ssh.close)
            shell = GuestShell(machine, ssh, host)
            observed = observe(shell)
            watch.reached("command")
            if not observed.disks:
                raise LaunchError("the guest sees no disk", evidence=machine.evidence())
            return BootedGuest(
                shell=shell,
                host=host,
                reference=host,
                client_prefix=network.peer_prefix if network else (),
                image=files,
                versions={"qemu": qemu.version or "unknown", "kernel": files.kernel_release},
                digests={"qemu": qemu.digest, "kernel": files.kernel_digest},
                endpoint=Endpoint(
                    scratch=f"/dev/{next(iter(observed.disks))}",
                    scratch_offset_mib=0,
                    scratch_size_mib=host.scratch().size_mib,
                    address=network.guest_address.split("/")[0] if network else "127.0.0.1",
                    port=SERVER_PORT if network else machine.forwarded_port(SERVER_PORT),
                    vcpus=options.vcpus,
                    pinned=bool(places.vcpus),
                    floating=truth.floating(host, machine.pid, places, machine.kernel_threads),
                ),
                capabilities=_capabilities(host, switched),
                device=self._device(spec, options, observed.early if built.early else ""),
                observed=observed,
                phases=watch.phases,
                cleanup=stack.pop_all(),
                life=QemuLife(spec, places, keys, timeout_s, build),
            )

    def _build(
        self, image: ImageFiles, options: QemuOptions, keys: LaunchKeys, host: Host, folder: str
    ) -> Built:
        """What a launch on `host` needs, its own files in `folder`. Raises Unsupported for a host
        that cannot, LaunchError."""
        files, qemu = host.upload_image(image), binary.find(host, options.qemu)
        self._check(host, files, options)
        early = host.launch_hints.get(HINT_EARLY, "") if self.accel == "kvm" else ""
        initrd = write_initramfs(host, files, folder, keys, early)
        spec = self._spec(host, files, options, initrd, qemu.command)
        places = placement(host, options.vcpus) if options.pin else UNPINNED
        return Built(files, qemu, spec, places, early)

    def _check(self, host: Host, files: ImageFiles, options: QemuOptions) -> None:
        """Raises Unsupported for what this image or host cannot start, LaunchError."""
        if problem := self._impossible(options):
            raise Unsupported(problem)
        if options.firmware and not files.bzimage:
            raise Unsupported(
                "the image's kernel came unpacked (vmlinux): firmware starts a bzImage only"
            )
        if options.firmware and self.accel == "tcg" and host.timeout_scale > 1:
            raise Unsupported(
                "to unpack a kernel by translated code on an emulated host takes ten minutes"
            )
        if options.cache == "none" and not (direct := truth.direct(host)).ok:
            raise LaunchError(direct.reason, remedy=direct.remedy)

    def _impossible(self, options: QemuOptions) -> str:
        """Why no guest can have these options together, "" if one can."""
        if MACHINES[options.machine].virtio == "pci":
            return ""
        if self.disk != "virtio" or not self.nic.startswith("virtio"):
            return (
                f"machine={options.machine} has no PCI bus and no IDE: it takes virtio devices "
                f"only, not those of {self.name}"
            )
        if options.firmware:
            return f"machine={options.machine} has no BIOS of a PC, which firmware=on starts by"
        return ""

    def _spec(
        self,
        host: Host,
        files: ImageFiles,
        options: QemuOptions,
        initrd: str,
        command: tuple[str, ...],
    ) -> GuestSpec:
        machine = MACHINES[options.machine]
        scratch, network = host.scratch(), host.network()
        cpu = [options.cpu or self.cpu]
        if self.accel == "kvm":
            cpu += [hint] if (hint := host.launch_hints.get(HINT_CPU)) else []
            cpu += ["kvm=off"] if options.firmware else []
        cards, addresses = nics.cards(self.nic, network, vhost=_vhost(options))
        words = tsc.kernel_words(host, files) if self._uncalibrated(options) else ()
        return GuestSpec(
            accel=self.accel,
            cpu=",".join(cpu),
            kernel=files.bzimage if options.firmware else files.kernel,
            initrd=initrd,
            append=(*kernel_arguments("ttyS0", addresses), *words),
            command=command,
            machine=options.machine,
            vcpus=options.vcpus,
            memory_mib=options.memory,
            disks=(
                Disk(
                    scratch.path,
                    self.disk if self.disk == "virtio" else machine.disk,
                    options.cache,
                    options.aio,
                    queues=options.vcpus if self.multiqueue else 1,
                    iothread=self.iothread,
                    device=scratch.device,
                ),
            ),
            nics=cards,
            extra=options.arguments,
        )

    def _uncalibrated(self, options: QemuOptions) -> bool:
        """Whether the guest's kernel must be told the frequency of its time stamp counter."""
        return self.accel == "tcg" and MACHINES[options.machine].virtio == "mmio"

    def _device(self, spec: GuestSpec, options: QemuOptions, early: str) -> DeviceSettings:
        disk, machine = spec.disks[0], MACHINES[spec.machine]
        return DeviceSettings(
            machine=machine.option,
            start="firmware, bzImage" if options.firmware else "PVH, vmlinux",
            cpu=spec.cpu,
            vcpus=spec.vcpus,
            memory_mib=spec.memory_mib,
            disk=disk.model,
            nic=nic_device(self.nic, machine),
            nested_paging=options.nested_paging if isinstance(options, KvmOptions) else None,
            further={
                "cache": disk.cache,
                "aio": disk.aio,
                "iothread": _on(disk.iothread),
                "queues": str(disk.queues),
                "vhost": _on(_vhost(options)),
                "pin": _on(options.pin),
                **({"interrupts": early} if early else {}),
                **({"clock": "TSC of a stated frequency"} if self._uncalibrated(options) else {}),
                **({"extra": options.extra} if options.extra else {}),
            },
        )

    def attest(self, guest: Guest) -> Attestation:
        """Check accelerator and bound drivers against the label. Raises AttestationError."""
        return attest(guest, self.name, self.accel, self.drivers)


def _capabilities(host: Host, switched: bool) -> Capabilities:
    """`switched`: its host is in another state as long as it is up."""
    network = host.network()
    # whoever goes on with it would run on a host that was switched back
    alone = "a module of its host was loaded anew for it, until it ends" if switched else None
    return Capabilities(
        native=NativeReference.LAUNCHING_HOST,
        network=NetworkPath.TAP if network else NetworkPath.NAT,
        network_by=network.tap if network else "QEMU's user-mode stack",
        disk=DiskPath.BLOCK_DEVICE if host.scratch().device else DiskPath.IMAGE_FILE,
        pausable=True,
        usage=UsageScope.GUEST,
        lifecycle=Lifecycle(save=None, restore=alone, migrate=alone, clone=alone),
    )


def _vhost(options: QemuOptions) -> bool:
    return isinstance(options, KvmOptions) and options.vhost


def _on(value: bool) -> str:
    return "on" if value else "off"
