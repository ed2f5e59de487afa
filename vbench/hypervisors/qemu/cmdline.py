"""GuestSpec -> argv, and nothing else: pure, so that it is tested without QEMU."""

from __future__ import annotations

from dataclasses import dataclass, field

from vbench.system.facts import QEMU


@dataclass(frozen=True)
class MachineType:
    """A machine type of QEMU's. `virtio`: the bus of its virtio devices, "pci" or "mmio". `disk`:
    the model of its emulated disk, and `driver` what drives that; empty where it has no bus for
    emulated devices."""

    option: str
    virtio: str = "pci"
    disk: str = ""
    driver: str = ""


MACHINES = {
    # i440FX + PIIX3: has IDE, and virtio beside it for a fair comparison
    "pc": MachineType("pc", disk="ide", driver="ata_piix"),
    # ICH9: PCI Express, and its disks are SATA behind AHCI
    "q35": MachineType("q35", disk="ahci", driver="ahci"),
    # Without the old interrupt controller and timer: ACPI tells the kernel that there are none, so
    # it masks neither, and the timer's first tick, 55 ms after QEMU has started, is a divide error.
    "microvm": MachineType("microvm,pic=off,pit=off", virtio="mmio"),
}


@dataclass(frozen=True)
class Disk:
    """The disk under test. `model` is "ide", "ahci" or "virtio"; `cache`, `aio` as QEMU's
    -blockdev."""

    path: str
    model: str
    cache: str = "none"
    aio: str = "threads"
    read_only: bool = False
    queues: int = 1
    iothread: bool = False
    device: bool = False  # `path` is a block device


@dataclass(frozen=True)
class Nic:
    """`model` is a QEMU device ("e1000", "virtio-net-pci"), `netdev` a backend without its id."""

    model: str
    netdev: str
    mac: str


@dataclass(frozen=True)
class GuestSpec:
    """Everything that decides how QEMU is called. Names are QEMU's own."""

    accel: str  # "tcg", "kvm"
    cpu: str
    kernel: str
    initrd: str
    append: tuple[str, ...]
    command: tuple[str, ...] = (QEMU,)
    machine: str = "pc"  # one of MACHINES
    vcpus: int = 1
    memory_mib: int = 512
    disks: tuple[Disk, ...] = ()
    nics: tuple[Nic, ...] = ()
    extra: tuple[str, ...] = field(default=())


def escape(value: str) -> str:
    """A value inside a comma-separated QEMU option: commas are doubled."""
    return value.replace(",", ",,")


def argv(spec: GuestSpec) -> list[str]:
    """The command line. QMP is its standard input and output, the console its standard error,
    so one form serves every host and can be pasted into a terminal."""
    machine = MACHINES[spec.machine]
    line = [
        *spec.command,
        *("-accel", spec.accel),
        *("-machine", machine.option),
        *("-cpu", spec.cpu),
        *("-smp", str(spec.vcpus)),
        *("-m", f"{spec.memory_mib}M"),
        "-nodefaults",
        "-no-user-config",
        *("-display", "none"),
        # A guest that reboots or panics is lost, never silently started anew.
        "-no-reboot",
        *("-action", "panic=exit-failure"),
        *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny"),
        *("-chardev", "stdio,id=qmp,signal=off"),
        *("-mon", "chardev=qmp,mode=control"),
        *("-chardev", "file,id=console,path=/dev/stderr"),
        *("-serial", "chardev:console"),
        # By which a panic ends QEMU with an error; a reset ends it without one. It is on the ISA
        # bus of a PC.
        *(("-device", "pvpanic") if machine.virtio == "pci" else ()),
        *("-kernel", spec.kernel),
        *("-initrd", spec.initrd),
        *("-append", " ".join(spec.append)),
    ]
    for number, disk in enumerate(spec.disks):
        line += _disk(number, disk, machine)
    for number, nic in enumerate(spec.nics):
        # romfile= : no boot ROM, nobody boots from the network
        rom = ",romfile=" if machine.virtio == "pci" else ""
        line += [
            *("-netdev", f"{nic.netdev},id=net{number}"),
            *("-device", f"{nic_device(nic.model, machine)},netdev=net{number},mac={nic.mac}{rom}"),
        ]
    return [*line, *spec.extra]


def nic_device(model: str, machine: MachineType) -> str:
    """QEMU's name of the network card `model` on the buses of `machine`."""
    if machine.virtio == "mmio" and model.startswith("virtio"):
        return f"{model.removesuffix('-pci')}-device"
    return model


def _disk(number: int, disk: Disk, machine: MachineType) -> list[str]:
    name = f"disk{number}"
    cache = {
        "none": "cache.direct=on,cache.no-flush=off",
        "writeback": "cache.direct=off,cache.no-flush=off",
        "unsafe": "cache.direct=off,cache.no-flush=on",
    }[disk.cache]
    driver = "host_device" if disk.device else "file"
    line = [
        *("-blockdev", f"driver={driver},node-name={name}f,filename={escape(disk.path)},"
          f"aio={disk.aio},{cache},read-only={_on(disk.read_only)},locking=off"),
        *("-blockdev", f"driver=raw,node-name={name},file={name}f,{cache},"
          f"read-only={_on(disk.read_only)}"),
    ]  # fmt: skip
    if disk.model == "ide":
        place = f"bus=ide.{number // 2},unit={number % 2}"
        return [*line, "-device", f"ide-hd,id={name}dev,drive={name},{place}"]
    if disk.model == "ahci":
        return [*line, "-device", f"ide-hd,id={name}dev,drive={name},bus=ide.{number},unit=0"]
    model = "virtio-blk-pci" if machine.virtio == "pci" else "virtio-blk-device"
    device = f"{model},id={name}dev,drive={name},num-queues={disk.queues}"
    if disk.iothread:
        line += ["-object", f"iothread,id={name}io"]
        device += f",iothread={name}io"
    return [*line, "-device", device]


def _on(value: bool) -> str:
    return "on" if value else "off"
