"""A QEMU backend as a record: what a plugin declares, and the launch all of them share."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vbench.contract.host import Host
from vbench.errors import AttestationError, LaunchError, Unsupported
from vbench.guest.launch import Guest, bring_up
from vbench.guest.target import NATIVE_PORT, Endpoint
from vbench.hypervisors.qemu.cmdline import Disk, GuestSpec, Nic, argv
from vbench.hypervisors.qemu.kvm import evidence as kvm_evidence
from vbench.hypervisors.qemu.machine import QemuMachine
from vbench.model import Attestation, Availability, Fact, ImageFiles, Technique
from vbench.system.facts import QEMU, qemu_version
from vbench.system.kvm_probe import HARDWARE

# Some ten times what a guest takes on a busy machine (translated 4-10 s), by accelerator.
BOOT_TIMEOUT_S = {"tcg": 90.0, "kvm": 40.0}
_MACS = ("52:54:00:76:62:01", "52:54:00:76:62:02")  # locally administered, QEMU's prefix


@dataclass(frozen=True)
class QemuOptions:
    """Options of a QEMU backend's variant string, in QEMU's words.

    `memory` is in MiB; `cpu` empty means the backend's own model; `cache` and `aio` are those of
    the disk under test. `firmware`: start as on a real machine, the distribution's own kernel file
    through the BIOS, and hide KVM's paravirtual features (clock, hypercalls).
    """

    vcpus: int = 1
    memory: int = 512
    cpu: str = ""
    cache: str = "none"
    aio: str = "threads"
    firmware: bool = False

    def __post_init__(self) -> None:
        allowed = {
            "cache": ("none", "writeback", "unsafe"),
            "aio": ("threads", "native", "io_uring"),
        }
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise ValueError(f"{name} is one of {', '.join(values)}")
        if not 1 <= self.vcpus <= 255:
            raise ValueError("vcpus is 1 to 255")
        if not 256 <= self.memory <= 1 << 20:
            raise ValueError("memory is 256 to 1048576 MiB (the image needs 256)")
        if self.aio == "native" and self.cache != "none":
            raise ValueError("aio=native needs cache=none")


@dataclass(frozen=True)
class KvmOptions(QemuOptions):
    """Further options of a KVM backend. `nested_paging` off: KVM keeps shadow page tables, as
    all hypervisors did before EPT and NPT; its module is loaded anew for that."""

    nested_paging: bool = True


@dataclass(frozen=True)
class QemuBackend:
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
    # brings the host into the state that the options ask for; returns what undoes it
    prepare: Callable[[Host, Any], Callable[[], None]] | None = None
    preparable: Callable[[Host, Any], Availability] | None = None  # whether that may be done
    iothread: bool = False  # the disk's requests are served in a thread of their own
    multiqueue: bool = False  # the disk has a queue for each vCPU
    vhost: bool = False  # the tap is served by the host's kernel, where it can be

    def probe(self, host: Host, options: QemuOptions) -> Availability:
        """QEMU is there, knows the accelerator, and the accelerator can be used."""
        if not qemu_version(host):
            return Availability(False, f"{QEMU} is not installed", "run `vbench setup`")
        usable = Availability(True) if self.usable is None else self.usable(host)
        if usable.ok and self.preparable is not None:
            return self.preparable(host, options)
        return usable

    def launch(self, host: Host, image: ImageFiles, options: QemuOptions) -> Guest:
        """Start a guest and wait until it runs commands. Raises LaunchError."""
        if self.prepare is None:
            return self._launch(host, image, options)
        undo = self.prepare(host, options)
        try:
            guest = self._launch(host, image, options)
        except BaseException:
            undo()
            raise
        guest.at_end(undo)
        nested = getattr(options, "nested_paging", None)
        if nested is not None:
            guest.device = {**guest.device, "nested_paging": "on" if nested else "off"}
        return guest

    def _launch(self, host: Host, image: ImageFiles, options: QemuOptions) -> Guest:
        files = host.upload_image(image)
        scratch, network = host.scratch(), host.network()
        cpu = options.cpu or self.cpu
        if self.accel == "kvm":
            cpu = ",".join((cpu, *host.kvm_cpu, *(("kvm=off",) if options.firmware else ())))
        if options.firmware and not files.bzimage:
            raise Unsupported(
                "the image's kernel came unpacked (vmlinux): firmware starts a bzImage only"
            )
        if options.firmware and self.accel == "tcg" and host.timeout_scale > 1:
            raise Unsupported(
                "to unpack a kernel by translated code on an emulated host takes ten minutes"
            )
        nics = [Nic(self.nic, _user_net(), _MACS[0])]
        append = [
            *("console=ttyS0", "quiet", "panic=-1", "net.ifnames=0"),
            "cryptomgr.notests",  # a tenth of a second of self-tests, and nothing measured
            "vbench.eth0=10.0.2.15/24",
        ]
        vhost = self.vhost and network is not None and _has_vhost(host)
        if network is not None:
            netdev = f"{network.netdev},vhost=on" if vhost else network.netdev
            nics.append(Nic(self.nic, netdev, _MACS[1]))
            append.append(f"vbench.eth1={network.guest_address}")
        spec = GuestSpec(
            accel=self.accel,
            cpu=cpu,
            kernel=files.bzimage if options.firmware else files.kernel,
            initrd="",
            append=tuple(append),
            vcpus=options.vcpus,
            memory_mib=options.memory,
            disks=(
                Disk(
                    scratch.path,
                    self.disk,
                    options.cache,
                    options.aio,
                    queues=options.vcpus if self.multiqueue else 1,
                    iothread=self.iothread,
                ),
            ),
            nics=tuple(nics),
        )

        def start(initrd: str) -> QemuMachine:
            return QemuMachine(
                host,
                argv(dataclasses.replace(spec, initrd=initrd)),
                network.pass_fds if network else (),
            )

        def reach(machine: object) -> tuple[str, int]:
            assert isinstance(machine, QemuMachine)  # noqa: S101 - made by `start` above
            return "127.0.0.1", machine.forwarded_port(22)

        guest = bring_up(
            host=host,
            image=files,
            start=start,
            reach=reach,
            endpoint=Endpoint(
                scratch="",
                scratch_offset_mib=0,
                scratch_size_mib=scratch.size_mib,
                address=network.guest_address.split("/")[0] if network else "127.0.0.1",
                port=NATIVE_PORT,
                vcpus=options.vcpus,
            ),
            device={
                "machine": spec.machine,
                "start": "firmware, bzImage" if options.firmware else "PVH, vmlinux",
                "cpu": cpu,
                "vcpus": str(options.vcpus),
                "memory_mib": str(options.memory),
                "disk": self.disk,
                "cache": options.cache,
                "aio": options.aio,
                "nic": self.nic,
                "netdev": "tap" if network else "slirp",
                "vhost": "on" if vhost else "off",
                "iothread": "on" if self.iothread else "off",
            },
            versions={"qemu": qemu_version(host) or "unknown"},
            boot_timeout_s=BOOT_TIMEOUT_S[self.accel],
            early=host.kvm_guest if self.accel == "kvm" else "",
        )
        try:
            disk = guest.observed.get("disks", "").split(":")[0]
            if not disk:
                raise LaunchError("the guest sees no disk", evidence=guest.machine.evidence())
            port = guest.endpoint.port
            if network is None:
                assert isinstance(guest.machine, QemuMachine)  # noqa: S101
                port = guest.machine.forwarded_port(NATIVE_PORT)
            else:
                guest.peer_prefix = network.peer_prefix
            guest.endpoint = dataclasses.replace(guest.endpoint, scratch=f"/dev/{disk}", port=port)
            if self.accel == "kvm" and host.kvm_guest:
                told = guest.observed.get("early", "") or "as they are"
                guest.device = {**guest.device, "interrupts": told}
        except BaseException:
            guest.close()
            raise
        return guest

    def attest(self, guest: Guest) -> Attestation:
        """Check accelerator and bound drivers against the label. Raises AttestationError."""
        seen = guest.observed
        kvm = guest.machine.query("query-kvm") or {}
        evidence: dict[str, str] = {
            "started by": guest.device.get("start", ""),
            "query-kvm": f"enabled={kvm.get('enabled')} present={kvm.get('present')}",
            **guest.view(),
        }
        problems = []
        if self.accel == "kvm":
            about = kvm_evidence(guest.host)
            evidence |= about
            behind = about["host: KVM provider"]
            if behind not in HARDWARE:
                problems.append(f"the host's KVM is provided by {behind}")
            paging = about.get("host: nested paging", "unknown").split()[0]
            if paging != "unknown" and paging != guest.device.get("nested_paging", paging):
                problems.append(f"the host's nested paging is {paging}")
            if seen.get("cpuid_hypervisor") != "yes":
                problems.append("the guest's CPU does not show a hypervisor (CPUID 1, ECX bit 31)")
        if bool(kvm.get("enabled")) != (self.accel == "kvm"):
            problems.append(f"QEMU says kvm enabled={kvm.get('enabled')}")
        hidden = guest.device.get("start", "").startswith("firmware")
        kvm_seen = seen.get("hypervisor") == "KVM"
        if kvm_seen != (self.accel == "kvm" and not hidden):
            problems.append(f"the guest detected hypervisor {seen.get('hypervisor') or 'none'!r}")
        for role, key in (("disk", "disks"), ("nic", "nics")):
            drivers = re.findall(r":(\S+)", seen.get(key, ""))
            if not drivers or set(drivers) != {self.drivers[role]}:
                problems.append(
                    f"{role} driver is {' '.join(drivers) or 'none'}, not {self.drivers[role]}"
                )
        if problems:
            raise AttestationError(
                f"this guest is not {self.name}: {'; '.join(problems)}",
                evidence="\n".join(f"{key}: {value}" for key, value in evidence.items()),
            )
        how = "QEMU TCG (binary translation)" if self.accel == "tcg" else "KVM"
        return Attestation(
            f"{how}; disk {self.drivers['disk']}; network {self.drivers['nic']}", evidence
        )


def _user_net() -> str:
    """QEMU's own network for SSH: forwarded on loopback only, nothing else goes in or out.

    Port 0 lets QEMU pick, so that no one can take a port between our choice and its use. The
    second forward serves network workloads where the host may not make a tap.
    """
    forwards = ",".join(f"hostfwd=tcp:127.0.0.1:0-:{port}" for port in (22, NATIVE_PORT))
    return f"user,restrict=on,{forwards}"


def _has_vhost(host: Host) -> bool:
    test = ["test", "-r", "/dev/vhost-net", "-a", "-w", "/dev/vhost-net"]
    return host.run(test, timeout_s=10).status == 0
