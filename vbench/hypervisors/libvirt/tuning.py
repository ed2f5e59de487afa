"""Domain XML as a tuning: vbench's own, or a file of the user's. Pure but for reading the file.

What a person tuned is kept: vCPUs and their pins, memory and its backing, CPU model, machine type,
clock, I/O threads, cache and queues of the disk, model and queues of the network card. What vbench
must supply (image, scratch disk, network, console) is swapped in by domain.py. What serves a person
or another host's resource is left out by name, and what can neither be swapped nor left out is
refused by name.
"""

from __future__ import annotations

import functools
import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from vbench.errors import UsageError
from vbench.hosts.pinning import UNPINNED, Placement
from vbench.system.files import XML_MOST_BYTES, read_file

QEMU_NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"
TYPES = ("kvm", "qemu")
MEMORY_LEAST_MIB = 256  # what the image needs

# Of a domain, and of its <devices>: kept as they are.
_KEPT = {
    *("memory", "currentMemory", "maxMemory", "memoryBacking", "memtune", "numatune"),
    *("vcpu", "vcpus", "cputune", "cpu", "iothreads", "iothreadids", "defaultiothread"),
    *("blkiotune", "resource", "features", "clock", "pm", "perf", "throttlegroups"),
}
_KEPT_DEVICES = {"emulator", "controller", "memballoon", "rng", "iommu", "panic"}
# Made anew for each launch.
_REPLACED = {
    *("name", "uuid", "title", "description", "metadata", "seclabel", "genid", "os", "devices"),
    *("on_poweroff", "on_reboot", "on_crash", "sysinfo"),
}
_REPLACED_DEVICES = {"disk", "interface", "serial", "console"}
# For a person who looks, or state that is kept on the host: no part of what is measured.
_LEFT_OUT_DEVICES = {
    *("graphics", "video", "sound", "audio", "input", "channel", "redirdev", "redirfilter"),
    *("smartcard", "parallel", "hub", "tpm", "watchdog", "vsock", "lease"),
}
# Of a disk and a network card, what is lost with their sources and has to do with their speed.
_LEFT_OUT_OF = {
    "disk": {"encryption", "throttlefilters"},
    "interface": {"bandwidth", "mtu", "filterref", "vlan", "virtualport"},
}
_REMEDY = {
    "hostdev": "a device of the host cannot be taken along: remove <hostdev> from a copy of the "
    "file, and measure what it replaces",
    "filesystem": "remove <filesystem> from a copy of the file: the guest boots vbench's image "
    "and mounts nothing",
    "launchSecurity": "remove <launchSecurity> from a copy of the file: the kernel is booted "
    "directly, which encrypted guests do not allow",
}
# What the image has drivers of, by the bus of a disk and by the model of a network card.
DISK_DRIVERS = {"virtio": "virtio_blk", "ide": "ata_piix", "sata": "ahci"}
NIC_DRIVERS = {"virtio": "virtio_net", "e1000": "e1000"}
_UNIT_BYTES = {"b": 1, "bytes": 1, "k": 1 << 10} | {
    f"{letter}{suffix}": base**power
    for power, letter in enumerate("KMGT", 1)
    for suffix, base in (("", 1 << 10), ("iB", 1 << 10), ("B", 10**3))
}


@dataclass(frozen=True, eq=False)
class Tuning:
    """A domain's XML before anything is swapped, and what is known of it."""

    root: Element
    type: str  # "kvm" or "qemu"
    machine: str  # as it is written; "" where libvirt chooses
    vcpus: int
    memory_mib: int
    bus: str  # of the disk
    nic: str  # model
    left_out: tuple[str, ...] = ()
    digest: str = ""  # of the user's file

    @property
    def disk(self) -> Element:
        """The <driver> of the disk: cache, io, iothread, queues. Empty where none is written."""
        return _driver(self.root, "devices/disk")

    @property
    def network(self) -> Element:
        """The <driver> of the network card: name (vhost or qemu), queues."""
        return _driver(self.root, "devices/interface")

    @property
    def cpu(self) -> str:
        cpu = self.root.find("cpu")
        if cpu is None:
            return "libvirt's default"
        return cpu.findtext("model") or cpu.get("mode") or "custom"

    @property
    def pins(self) -> dict[int, str]:
        """The host CPUs of each pinned vCPU, as libvirt writes a set: "0-3,^2"."""
        return {
            int(pin.get("vcpu", "-1")): pin.get("cpuset", "")
            for pin in self.root.iterfind("cputune/vcpupin")
        }


def _driver(root: Element, path: str) -> Element:
    found = root.find(f"{path}/driver")
    return Element("driver") if found is None else found


def own(
    kind: str, *, vcpus: int, memory_mib: int, cache: str, aio: str, places: Placement = UNPINNED
) -> Tuning:
    """The domain that vbench's own QEMU guests correspond to: the same devices."""
    pins = "".join(
        f"<vcpupin vcpu='{vcpu}' cpuset='{cpu}'/>" for vcpu, cpu in enumerate(places.vcpus)
    )
    if places.io:
        pins += f"<emulatorpin cpuset='{','.join(map(str, places.io))}'/>"
    cpu = "host-passthrough" if kind == "kvm" else "maximum"
    text = f"""
<domain type='{kind}'>
  <memory unit='MiB'>{memory_mib}</memory>
  <vcpu>{vcpus}</vcpu>
  <cputune>{pins}</cputune>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <features><acpi/><apic/></features>
  <cpu mode='{cpu}'/>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw' cache='{cache}' io='{aio}'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <interface type='ethernet'><model type='virtio'/><driver name='qemu'/></interface>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    <panic model='isa'/>
  </devices>
</domain>"""
    return parse(text.encode(), "vbench's own domain")


@functools.cache
def of_file(path: str) -> Tuning:
    """The tuning in a file, which is read once for all guests. Raises UsageError."""
    try:
        data = read_file(Path(path).expanduser(), XML_MOST_BYTES)
    except OSError as error:
        raise UsageError(
            f"the domain's XML {path} cannot be read: {error.strerror}",
            remedy="xml= takes a file with a domain's XML",
        ) from error
    return parse(data, path)


def parse(data: bytes, source: str) -> Tuning:
    """Raises UsageError that names what of the domain `source` cannot be taken over."""
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        several = data.count(b"<domain ") > 1
        raise UsageError(
            f"{source} is not one XML document: {error}",
            remedy="of the several that virt-install prints, keep one: --print-xml 2, or --import"
            if several
            else "`virsh dumpxml DOMAIN` or `virt-install --import --print-xml` makes such a file",
        ) from error
    if root.tag != "domain":
        raise UsageError(
            f"{source} is no domain: its root is <{root.tag}>",
            remedy="`virsh dumpxml DOMAIN` writes a domain's XML",
        )
    kind, system = root.get("type", ""), root.find("os/type")
    if kind not in TYPES or (system is not None and system.text != "hvm"):
        raise UsageError(
            f"{source} is a domain of type {kind or 'unknown'!r}: vbench starts kvm and qemu",
            remedy="xl, VirtualBox and others have backends of their own: `vbench backends`",
        )
    left_out = _sorted_out(root, source)
    disk, nic = root.find("devices/disk"), root.find("devices/interface")
    return Tuning(
        root=root,
        type=kind,
        machine="" if system is None else system.get("machine", ""),
        vcpus=_vcpus(root, source),
        memory_mib=_memory_mib(root, source),
        bus="virtio" if disk is None else _bus(disk, source),
        nic="virtio" if nic is None else _model(nic, source),
        left_out=left_out,
        digest=hashlib.sha256(data).hexdigest()[:12],
    )


def _sorted_out(root: Element, source: str) -> tuple[str, ...]:
    """Remove from `root` what is no part of what is measured; its names. Raises UsageError."""
    devices = root.find("devices")
    if devices is None:
        devices = ElementTree.SubElement(root, "devices")
    removed = []
    for each in list(devices):
        if each.tag in _LEFT_OUT_DEVICES or _is_medium(each):
            devices.remove(each)
            removed.append(each.get("device", each.tag))
        elif each.tag not in _KEPT_DEVICES | _REPLACED_DEVICES:
            raise _refusal(each.tag, source)
    for each in root:
        # qemu:commandline and its like are tuning, too
        if each.tag not in _KEPT | _REPLACED and not each.tag.startswith(f"{{{QEMU_NAMESPACE}}}"):
            raise _refusal(each.tag, source)
    system = root.find("os")
    if system is not None:
        firmware = {"loader", "nvram"} & {each.tag for each in system}
        removed += ["firmware"] if firmware or system.get("firmware") else []
    for tag, what in (("disk", "the disk under test"), ("interface", "the network card")):
        if (count := len(devices.findall(tag))) > 1:
            raise UsageError(
                f"{source} has {count} <{tag}> devices, and vbench swaps in one",
                remedy=f"in a copy of the file keep the <{tag}> that is to be {what}",
            )
    if (disk := devices.find("disk")) is not None:
        form = _driver(root, "devices/disk").get("type", "raw")
        removed += [form] * (form != "raw") + _lost_of(disk)
    if (interface := devices.find("interface")) is not None:
        removed += _lost_of(interface)
    return tuple(dict.fromkeys(removed))


def _lost_of(device: Element) -> list[str]:
    return [each.tag for each in device if each.tag in _LEFT_OUT_OF[device.tag]]


def _is_medium(device: Element) -> bool:
    return device.tag == "disk" and device.get("device") in ("cdrom", "floppy")


def _refusal(tag: str, source: str) -> UsageError:
    name = tag.rpartition("}")[2]
    return UsageError(
        f"{source}: <{name}> cannot be taken over or swapped",
        remedy=_REMEDY.get(name, f"remove <{name}> from a copy of the file"),
    )


def _bus(disk: Element, source: str) -> str:
    target = disk.find("target")
    named = "" if target is None else target.get("dev", "")
    bus = ("" if target is None else target.get("bus", "")) or {"v": "virtio", "h": "ide"}.get(
        named[:1], "scsi"
    )
    passed = disk.get("device", "disk") != "disk" or disk.get("type") in ("nvme", "vhostuser")
    if passed or bus not in DISK_DRIVERS:
        how = "is a device of the host" if passed else f"is on bus {bus}"
        raise UsageError(
            f"{source}: the disk {named} {how}, and vbench swaps in a disk on "
            f"{', '.join(DISK_DRIVERS)}",
            remedy="in a copy of the file change its <target>: dev='vda' bus='virtio'; remove "
            "its <address>",
        )
    return bus


def _model(interface: Element, source: str) -> str:
    model = interface.find("model")
    # rtl8139 is what libvirt takes where none is named
    name = "rtl8139" if model is None else model.get("type", "")
    kind = interface.get("type", "")
    passed = kind in ("hostdev", "vhostuser", "vdpa")
    if passed or name.removesuffix("-non-transitional") not in NIC_DRIVERS:
        how = f"has type {kind}" if passed else f"is a {name}"
        raise UsageError(
            f"{source}: the network card {how}, and vbench swaps in a tap for a card of model "
            f"{' or '.join(NIC_DRIVERS)}",
            remedy="in a copy of the file: <interface type='network'><model type='virtio'/>",
        )
    return name.removesuffix("-non-transitional")


def _vcpus(root: Element, source: str) -> int:
    vcpu = root.find("vcpu")
    if vcpu is None:
        return 1
    return int(_number(vcpu.get("current") or vcpu.text or "1", "vcpu", source))


def _memory_mib(root: Element, source: str) -> int:
    memory = root.find("currentMemory")
    if memory is None:
        memory = root.find("memory")
    text = "" if memory is None else (memory.text or "").strip()
    if memory is None or not text:
        raise UsageError(
            f"{source} does not say how much memory the guest has: "
            + ("it has no <memory>" if memory is None else f"<{memory.tag}> is empty"),
            remedy="in a copy of the file write <memory unit='MiB'>512</memory>",
        )
    unit = memory.get("unit", "KiB")
    if unit not in _UNIT_BYTES:
        raise UsageError(
            f"{source}: <{memory.tag}> has the unit {unit!r}, which libvirt does not have",
            remedy=f"one of {', '.join(_UNIT_BYTES)}",
        )
    mib = int(_number(text, memory.tag, source) * _UNIT_BYTES[unit]) >> 20
    if mib < MEMORY_LEAST_MIB:
        raise UsageError(
            f"{source} gives the guest {mib} MiB, and the image needs {MEMORY_LEAST_MIB}",
            remedy="in a copy of the file raise <memory> and <currentMemory>",
        )
    return mib


def _number(text: str, tag: str, source: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.inf
    if not math.isfinite(number):
        raise UsageError(
            f"{source}: <{tag}> is {text!r}, which is no number",
            remedy="`virsh dumpxml DOMAIN` writes a domain's XML",
        )
    return number
