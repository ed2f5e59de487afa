"""A Xen backend as a record: what a plugin declares, and the launch all of them share."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from vbench.contract.backend import CountedRun, OnAskedHost
from vbench.contract.console import kernel_arguments
from vbench.contract.guest import SERVER_PORT, Endpoint, Guest
from vbench.contract.host import Host, Scratch
from vbench.contract.layer import Layer
from vbench.errors import AttestationError, HostError, LaunchError, UsageError
from vbench.guest.booted import BootedGuest
from vbench.guest.launch import (
    LaunchKeys,
    Stopwatch,
    hang_up_at_its_end,
    log_in,
    observe,
    write_initramfs,
)
from vbench.guest.shell import GuestShell
from vbench.hosts import access
from vbench.hosts.room import room
from vbench.hypervisors.xen import dom0
from vbench.hypervisors.xen.config import XlSpec, xl_config
from vbench.hypervisors.xen.life import LIFECYCLE, XenLife
from vbench.hypervisors.xen.machine import XlMachine
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
    UsageScope,
)

BOOT_TIMEOUT_S = 90.0
_MAC = "00:16:3e:76:62:01"  # Xen's prefix
XEN = Hypervisor(
    "Xen", "Xen Project", HypervisorType.ONE, "Barham et al., SOSP 2003: boots before any kernel"
)


@dataclass(frozen=True)
class XenOptions:
    """Options of a Xen backend's variant string; `memory` is in MiB.

    `xen`: another Xen, an unpacked ELF file of this machine's, that the testbed boots. It must be
    one that the tools there can talk to: of the same release.
    """

    vcpus: int = 1
    memory: int = 512
    xen: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.vcpus <= 128:
            raise ValueError("vcpus is 1 to 128")
        if not 256 <= self.memory <= 1 << 20:
            raise ValueError("memory is 256 to 1048576 MiB (the image needs 256)")
        if self.xen and not self.xen.startswith("/"):
            raise ValueError(f"xen is an absolute path, not {self.xen!r}")

    @property
    def layer(self) -> Layer:
        """With what a host is booted for such a domain."""
        return replace(dom0.LAYER, hypervisor=self.xen)


@dataclass(frozen=True)
class XenBackend(OnAskedHost):
    """One kind of domain; its disk and network are Xen's own, front end and back end."""

    name: str
    technique: Technique
    summary: str
    type: str  # "pv" or "pvh", as xl.cfg(5) has it and the guest's /sys/hypervisor/guest_type
    facts: Mapping[str, Fact]
    options: XenOptions = field(default_factory=XenOptions)
    default: bool = True
    counted: tuple[CountedRun, ...] = ()

    def declare(self, options: XenOptions) -> Declaration:
        del options
        return Declaration(
            hypervisor=XEN, devices=DeviceModel.PARAVIRTUAL, packages=("xen-system-amd64",)
        )

    def probe(self, host: Host, options: XenOptions) -> Availability:
        """The host is Xen's dom0, or can be booted as one, and xl answers there.

        Raises UsageError for a Xen that is no ELF file."""
        if options.xen and not dom0.is_elf(options.xen):
            raise UsageError(
                f"{options.xen} is no unpacked Xen: an ELF file is asked for",
                remedy="unpack it: gunzip < xen-4.17-amd64.gz > xen",
            )
        machine = host.with_layer(options.layer)
        if options.xen and machine is host:
            return Availability(
                False,
                f"{host.name} runs on the Xen that it was booted with",
                "boot the other one there, or use --host testbed",
            )
        if not dom0.is_dom0(machine):
            return Availability(
                False,
                "not a Xen dom0: its kernel does not run on Xen as the privileged domain",
                "boot Xen (Debian: install xen-system-amd64 and reboot), or use --host testbed",
            )
        try:
            info = machine.run(["xl", "info"], timeout_s=20)
        except HostError as error:
            return Availability(False, error.what, "install xen-utils")
        if info.status != 0:
            return Availability(
                False,
                f"xl does not work: {(info.stderr.strip() or 'no reason given').splitlines()[-1]}",
                "run as root in dom0, with Xen's services started (xenstored, xenconsoled)",
            )
        said = dom0.parse_info(info.stdout)
        can = said.get("xen_caps", "")
        if self.type != "pv" and "hvm" not in can:
            return Availability(
                False,
                f"Xen has no hardware to run such domains on (xen_caps: {can or 'none'})",
                "enable VT-x or AMD-V in the firmware, or use --host testbed",
            )
        total = said.get("total_memory", "")  # in MiB; dom0's kernel knows its own share alone
        fits = Availability(True)
        return room(machine, options.memory, int(total)) if total.isdecimal() else fits

    def launch(self, host: Host, image: ImageFiles, options: XenOptions) -> BootedGuest:
        """Start a domain and wait until it runs commands. Raises LaunchError."""
        machine = host.with_layer(options.layer)
        files, scratch = machine.upload_image(image), machine.scratch()
        info = dom0.parse_info(machine.run(["xl", "info"], timeout_s=20).stdout)
        bridge = machine.run(["sh", "-c", dom0.MAKE_BRIDGE], timeout_s=20)
        if bridge.status != 0:
            raise LaunchError("cannot make a bridge in dom0", evidence=bridge.stderr)
        address = dom0.GUEST_ADDRESS.split("/")[0]
        with ExitStack() as stack:
            folder, keys = stack.enter_context(machine.workdir()), LaunchKeys.generate()
            initrd = write_initramfs(machine, files, folder, keys)
            spec = self._spec(machine, files, options, initrd)
            probe = f"{files.root}/usr/bin/vbench-probe"
            watch = Stopwatch(machine.clock)
            domain = XlMachine(
                machine,
                spec.name,
                xl_config(spec),
                f"{folder}/config",
                probe,
            )
            stack.callback(domain.close)
            watch.kernel(domain.wait_ready(BOOT_TIMEOUT_S * machine.timeout_scale))
            watch.reached("ready")
            ssh = log_in(machine, address, 22, keys, timeout_s=BOOT_TIMEOUT_S / 2, machine=domain)
            stack.callback(ssh.close)
            shell = GuestShell(domain, ssh, machine)
            observed = observe(shell)
            watch.reached("command")
            guest = BootedGuest(
                shell=shell,
                host=machine,
                reference=host,
                client_prefix=(),
                image=files,
                versions={
                    "xen": info.get("xen_version", "unknown"),
                    "kernel": files.kernel_release,
                },
                digests={
                    "xen (build id)": info.get("build_id", ""),
                    "kernel": files.kernel_digest,
                },
                endpoint=Endpoint(
                    "/dev/xvda", 0, scratch.size_mib, address, SERVER_PORT, options.vcpus
                ),
                capabilities=_capabilities(
                    scratch,
                    NativeReference.LAUNCHING_HOST
                    if machine is not host
                    else NativeReference.PRIVILEGED_GUEST,
                ),
                device=DeviceSettings(
                    machine=f"Xen {self.type.upper()} domain",
                    vcpus=options.vcpus,
                    memory_mib=options.memory,
                    disk="xen-blkback",
                    nic="xen-netback",
                    further={"tsc_mode": spec.tsc_mode},
                ),
                observed=observed,
                phases=watch.phases,
                life=XenLife(spec, keys, probe),
                cleanup=stack.pop_all(),
            )
        hang_up_at_its_end(shell)
        return guest

    def _spec(self, machine: Host, files: ImageFiles, options: XenOptions, initrd: str) -> XlSpec:
        return XlSpec(
            name=f"vbench-{secrets.token_hex(4)}",
            type=self.type,
            kernel=files.kernel,
            ramdisk=initrd,
            cmdline=kernel_arguments("hvc0", [dom0.GUEST_ADDRESS]),
            memory_mib=options.memory,
            vcpus=options.vcpus,
            disk=machine.scratch().path,
            bridge=dom0.BRIDGE,
            mac=_MAC,
        )

    def attest(self, guest: Guest) -> Attestation:
        """Check what the guest and Xen say against the label. Raises AttestationError."""
        observed = guest.observed
        machine = guest.machine
        wanted = f"xen {self.type.upper()}"
        domid = ""
        if isinstance(machine, XlMachine):
            found = guest.host.run(["xl", "domid", machine.name], timeout_s=20)
            domid = found.stdout.strip() if found.status == 0 else ""
        beneath = dom0.is_dom0(guest.host)
        evidence = {
            "xl": f"domain {domid}" if domid else "knows no such domain",
            "host: /sys/hypervisor": "Xen, with the feature dom0" if beneath else "not dom0",
        }
        problems = []
        if not domid:
            problems.append("xl knows no such domain")
        if observed.sys_hypervisor != wanted:
            problems.append(f"/sys/hypervisor says {observed.sys_hypervisor or 'nothing'!r}")
        if not (observed.hypervisor or "").startswith("Xen"):
            problems.append(f"it detected hypervisor {observed.hypervisor or 'none'!r}")
        for what, bound, driver in (
            ("disks", observed.disks, "vbd"),
            ("nics", observed.nics, "vif"),
        ):
            if set(bound.values()) != {driver}:
                problems.append(f"{what} are driven by {' '.join(bound.values()) or 'none'}")
        if problems:
            rows = {**evidence, **observed.rows()}
            raise AttestationError(
                f"this guest is not {self.name}: {'; '.join(problems)}",
                evidence="\n".join(f"{key}: {value}" for key, value in rows.items()),
            )
        return Attestation(
            f"Xen {guest.versions['xen']} {self.type.upper()} domain; "
            "disk xen-blkfront; network xen-netfront",
            evidence,
            ring=dom0.kernel_ring(guest.host, domid),
            place=Place.BENEATH if beneath else None,
            access=access.of_device(guest.host, dom0.DEVICE),
        )


def _capabilities(scratch: Scratch, native: NativeReference) -> Capabilities:
    return Capabilities(
        native=native,
        network=NetworkPath.TAP,
        network_by=f"bridge {dom0.BRIDGE}",
        disk=DiskPath.BLOCK_DEVICE if scratch.device else DiskPath.IMAGE_FILE,
        pausable=True,
        usage=UsageScope.HOST,  # dom0 serves the devices of all domains
        lifecycle=LIFECYCLE,
    )
