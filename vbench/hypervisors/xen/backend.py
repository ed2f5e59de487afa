"""A Xen backend as a record: what a plugin declares, and the launch all of them share."""

from __future__ import annotations

import dataclasses
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from vbench.contract.host import Host
from vbench.errors import AttestationError, HostError, LaunchError
from vbench.guest.launch import Guest, bring_up
from vbench.guest.target import NATIVE_PORT, Endpoint
from vbench.hypervisors.xen import dom0
from vbench.hypervisors.xen.config import XlSpec, xl_config
from vbench.hypervisors.xen.machine import XlMachine
from vbench.model import Attestation, Availability, Fact, ImageFiles, Technique

BOOT_TIMEOUT_S = 90.0
_MAC = "00:16:3e:76:62:01"  # Xen's prefix
# What Xen's front-end drivers call themselves on their bus.
DRIVERS = {"disks": "vbd", "nics": "vif"}


@dataclass(frozen=True)
class XenOptions:
    """Options of a Xen backend's variant string; `memory` is in MiB."""

    vcpus: int = 1
    memory: int = 512

    def __post_init__(self) -> None:
        if not 1 <= self.vcpus <= 128:
            raise ValueError("vcpus is 1 to 128")
        if not 256 <= self.memory <= 1 << 20:
            raise ValueError("memory is 256 to 1048576 MiB (the image needs 256)")


@dataclass(frozen=True)
class XenBackend:
    """One kind of domain; its disk and network are Xen's own, front end and back end."""

    name: str
    technique: Technique
    summary: str
    type: str  # "pv" or "pvh", as xl.cfg(5) has it and the guest's /sys/hypervisor/guest_type
    facts: Mapping[str, Fact]
    options: XenOptions = field(default_factory=XenOptions)

    def probe(self, host: Host, options: XenOptions) -> Availability:
        """The host is Xen's dom0, or can be booted as one, and xl answers there."""
        del options
        machine = host.with_hypervisor("xen")
        if not dom0.is_dom0(machine):
            return Availability(
                False,
                "not a Xen dom0: its kernel does not run on Xen as the privileged domain",
                "boot Xen (Debian: install xen-system-amd64 and reboot), or use --host testbed",
            )
        try:
            said = machine.run(["xl", "info"], timeout_s=20)
        except HostError as error:
            return Availability(False, error.what, "install xen-utils")
        if said.status != 0:
            return Availability(
                False,
                f"xl does not work: {(said.stderr.strip() or 'no reason given').splitlines()[-1]}",
                "run as root in dom0, with Xen's services started (xenstored, xenconsoled)",
            )
        can = dom0.parse_info(said.stdout).get("xen_caps", "")
        if self.type != "pv" and "hvm" not in can:
            return Availability(
                False,
                f"Xen has no hardware to run such domains on (xen_caps: {can or 'none'})",
                "enable VT-x or AMD-V in the firmware, or use --host testbed",
            )
        return Availability(True)

    def launch(self, host: Host, image: ImageFiles, options: XenOptions) -> Guest:
        """Start a domain and wait until it runs commands. Raises LaunchError."""
        machine = host.with_hypervisor("xen")
        files, scratch = machine.upload_image(image), machine.scratch()
        info = dom0.parse_info(machine.run(["xl", "info"], timeout_s=20).stdout)
        bridge = machine.run(["sh", "-c", dom0.MAKE_BRIDGE], timeout_s=20)
        if bridge.status != 0:
            raise LaunchError("cannot make a bridge in dom0", evidence=bridge.stderr)
        spec = XlSpec(
            name=f"vbench-{secrets.token_hex(4)}",
            type=self.type,
            kernel=files.kernel,
            ramdisk="",
            cmdline=(
                *("console=hvc0", "quiet", "panic=-1", "net.ifnames=0", "cryptomgr.notests"),
                f"vbench.eth0={dom0.GUEST_ADDRESS}",
            ),
            memory_mib=options.memory,
            vcpus=options.vcpus,
            disk=scratch.path,
            bridge=dom0.BRIDGE,
            mac=_MAC,
        )
        address = dom0.GUEST_ADDRESS.split("/")[0]

        def start(initrd: str) -> XlMachine:
            config = xl_config(dataclasses.replace(spec, ramdisk=initrd))
            path = initrd.replace("/initrd", "/config")
            return XlMachine(machine, spec.name, config, path, f"{files.root}/usr/bin/vbench-probe")

        guest = bring_up(
            host=machine,
            image=files,
            start=start,
            reach=lambda _: (address, 22),
            endpoint=Endpoint(
                "/dev/xvda", 0, scratch.size_mib, address, NATIVE_PORT, options.vcpus
            ),
            device={
                "machine": f"Xen {self.type.upper()} domain",
                "vcpus": str(options.vcpus),
                "memory_mib": str(options.memory),
                "disk": "xen-blkback",
                "nic": "xen-netback",
                "netdev": f"bridge {dom0.BRIDGE}",
                "tsc_mode": spec.tsc_mode,
                "native": "the same machine booted without Xen" if machine is not host else "dom0",
            },
            versions={"xen": info.get("xen_version", "unknown")},
            boot_timeout_s=BOOT_TIMEOUT_S,
        )
        guest.peer_prefix = ()
        threading.Thread(target=_hang_up, args=(guest,), daemon=True).start()
        return guest

    def attest(self, guest: Guest) -> Attestation:
        """Check what the guest and Xen say against the label. Raises AttestationError."""
        seen = guest.observed
        machine = guest.machine
        wanted = f"xen {self.type.upper()}"
        domid = ""
        if isinstance(machine, XlMachine):
            said = guest.host.run(["xl", "domid", machine.name], timeout_s=20)
            domid = said.stdout.strip() if said.status == 0 else ""
        evidence = {
            "xl": f"domain {domid}" if domid else "knows no such domain",
            "guest: /sys/hypervisor": seen.get("xen", ""),
            **guest.view(),
        }
        problems = []
        if not domid:
            problems.append("xl knows no such domain")
        if seen.get("xen", "").strip() != wanted:
            problems.append(f"/sys/hypervisor says {seen.get('xen', '').strip() or 'nothing'!r}")
        if not seen.get("hypervisor", "").startswith("Xen"):
            problems.append(f"it detected hypervisor {seen.get('hypervisor') or 'none'!r}")
        for key, driver in DRIVERS.items():
            bound = {word.partition(":")[2] for word in seen.get(key, "").split()}
            if bound != {driver}:
                problems.append(f"{key} are driven by {' '.join(sorted(bound)) or 'none'}")
        if problems:
            raise AttestationError(
                f"this guest is not {self.name}: {'; '.join(problems)}",
                evidence="\n".join(f"{key}: {value}" for key, value in evidence.items()),
            )
        return Attestation(
            f"Xen {guest.versions['xen']} {self.type.upper()} domain; "
            "disk xen-blkfront; network xen-netfront",
            evidence,
        )


def _hang_up(guest: Guest) -> None:
    """Close the connection to a domain once it has ended.

    A domain that is gone answers nothing, not even that it is gone: TCP would wait for minutes.
    """
    while guest.ssh.alive:
        if not guest.machine.alive:
            guest.ssh.close()
        time.sleep(0.2)
