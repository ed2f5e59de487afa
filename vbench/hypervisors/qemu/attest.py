"""What proves that a guest of QEMU's is what its label says."""

from __future__ import annotations

from collections.abc import Mapping

from vbench.contract.guest import Guest
from vbench.errors import AttestationError
from vbench.hosts import access
from vbench.hypervisors.qemu import truth
from vbench.hypervisors.qemu.cmdline import MACHINES, Disk
from vbench.hypervisors.qemu.kvm import nested_paging_of, provider
from vbench.hypervisors.qemu.machine import QemuMachine
from vbench.records import Attestation, DeviceSettings, Place
from vbench.system.kvm_probe import HARDWARE


def attest(guest: Guest, name: str, accel: str, drivers: Mapping[str, str]) -> Attestation:
    """Check accelerator and bound drivers against the label `name`. Raises AttestationError.

    `drivers`: what must drive "disk" and "nic", unless the machine type decides it."""
    observed = guest.observed
    machine = guest.machine
    if not isinstance(machine, QemuMachine):
        raise AttestationError(f"this guest is not {name}: QEMU does not run it")
    kvm = machine.query("query-kvm") or {}
    evidence, problems = _look(machine, guest.device)
    evidence |= {
        "started by": guest.device.start,
        "query-kvm": f"enabled={kvm.get('enabled')} present={kvm.get('present')}",
    }
    module = ""
    if accel == "kvm":
        module = provider(guest.host)
        if module not in HARDWARE:
            problems.append(f"the host's KVM is provided by {module or 'no module'}")
        on, about = nested_paging_of(guest.host)
        evidence["host: nested paging"] = about
        if None not in (on, guest.device.nested_paging) and on != guest.device.nested_paging:
            problems.append(f"the host's nested paging is {about}")
        if not observed.cpuid_hypervisor:
            problems.append("the guest's CPU does not show a hypervisor (CPUID 1, ECX bit 31)")
    if bool(kvm.get("enabled")) != (accel == "kvm"):
        problems.append(f"QEMU says kvm enabled={kvm.get('enabled')}")
    place = Place.MODULE if evidence["process: /dev/kvm"] == "open" else Place.PROCESS
    if (place is Place.MODULE) != (accel == "kvm"):
        problems.append(f"its process has /dev/kvm {evidence['process: /dev/kvm']}")
    hidden = guest.device.start.startswith("firmware")
    if (observed.hypervisor == "KVM") != (accel == "kvm" and not hidden):
        problems.append(f"the guest detected hypervisor {observed.hypervisor or 'none'!r}")
    wanted = {**drivers, **_drivers(guest.device, drivers)}
    for role, bound in (("disk", observed.disks), ("nic", observed.nics)):
        if set(bound.values()) != {wanted[role]}:
            found = " ".join(bound.values()) or "none"
            problems.append(f"{role} driver is {found}, not {wanted[role]}")
    if problems:
        rows = {**evidence, **observed.rows()}
        raise AttestationError(
            f"this guest is not {name}: {'; '.join(problems)}",
            evidence="\n".join(f"{key}: {value}" for key, value in rows.items()),
        )
    how = "QEMU TCG (binary translation)" if accel == "tcg" else "KVM"
    summary = f"{how}; disk {wanted['disk']}; network {wanted['nic']}"
    may = access.of_process(machine.host, machine.pid)
    return Attestation(summary, evidence, module, machine.kernel_ring(), place=place, access=may)


def _drivers(device: DeviceSettings, declared: Mapping[str, str]) -> dict[str, str]:
    """What must drive an emulated disk, where the machine type decides that."""
    found = {each.disk: {"disk": each.driver} for each in MACHINES.values() if each.disk}
    emulated = {each["disk"] for each in found.values()}
    return found.get(device.disk, {}) if declared["disk"] in emulated else {}


def _look(machine: QemuMachine, device: DeviceSettings) -> tuple[dict[str, str], list[str]]:
    """What QEMU really uses for disk, network and CPUs; what of it is not as asked."""
    asked = device.further
    disk = Disk(
        "",
        device.disk,
        asked["cache"],
        asked["aio"],
        queues=int(asked["queues"]),
        iothread=asked["iothread"] == "on",
    )
    process = truth.Process.of(machine.host, machine.pid, machine.kernel_threads)
    evidence, problems = truth.look(
        disk,
        "disk0",
        vhost=asked["vhost"] == "on",
        process=process,
        query=machine.query,
        log=machine.console(),
    )
    placed = (machine.places, machine.vcpu_threads, machine.kernel_threads)
    places, misplaced = truth.pinned(process, *placed)
    return {**evidence, **places}, [*problems, *misplaced]
