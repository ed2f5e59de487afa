"""VmSpec -> the commands that make a virtual machine of it, and its disk: pure, so tested without
VirtualBox."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

SECTOR_BYTES = 512
CONTROLLER = "sata"
# VirtualBox's names of network cards.
NICS = {"virtio": "virtio", "e1000": "82540EM"}


@dataclass(frozen=True)
class VmSpec:
    """A virtual machine. All paths are the host's; `folder` is for what VirtualBox writes."""

    name: str
    folder: str
    medium: str  # the ISO that it boots
    disk: str  # a VMDK descriptor
    console: str  # what its serial port writes to
    ports: Mapping[int, int]  # of the host's loopback: by its own port, the one forwarded to it
    mac: str  # of its network card, with colons: a restored machine has it again
    bridge: str = ""  # the interface of the host that it is bridged to; "": NAT
    nic: str = "virtio"  # one of NICS
    vcpus: int = 1
    memory_mib: int = 512
    nested_paging: bool = True
    paravirt: str = "kvm"
    tsc_mode: str = "RealTSCOffset"
    host_hz_max: int = 1000


def commands(spec: VmSpec) -> tuple[tuple[str, ...], ...]:
    """Arguments of VBoxManage, in order; the options are those of VirtualBox 7."""
    return (
        (
            *("createvm", "--name", spec.name, "--ostype", "Linux_64"),
            *("--basefolder", spec.folder, "--register"),
        ),
        (
            *("modifyvm", spec.name),
            *("--cpus", str(spec.vcpus), "--memory", str(spec.memory_mib)),
            # a cache of its own for disks that bypass the host's; it writes back
            *("--iocache", "off"),
            *("--nested-paging", _on(spec.nested_paging), "--paravirt-provider", spec.paravirt),
            *("--graphicscontroller", "vboxvga", "--vram", "9", "--mouse", "ps2"),
            *("--audio-enabled", "off", "--vrde", "off"),
            *("--usb-ohci", "off", "--usb-ehci", "off", "--usb-xhci", "off"),
            *("--boot1", "dvd", "--bios-boot-menu", "disabled", "--rtc-use-utc", "on"),
            # its logo takes longer than the kernel
            *("--bios-logo-fade-in", "off", "--bios-logo-fade-out", "off"),
            *("--bios-logo-display-time", "0"),
            *("--uart1", "0x3F8", "4", "--uart-mode1", "file", spec.console),
            *("--nic-type1", NICS[spec.nic], "--mac-address1", spec.mac.replace(":", "")),
            *(
                ("--nic1", "bridged", "--bridge-adapter1", spec.bridge)
                if spec.bridge
                else ("--nic1", "nat", "--nat-localhostreachable1", "off")
            ),
            *chain.from_iterable(
                ("--nat-pf1", f"port{own},tcp,127.0.0.1,{port},,{own}")
                for own, port in spec.ports.items()
            ),
        ),
        (
            *("storagectl", spec.name, "--name", CONTROLLER, "--add", "sata"),
            *("--controller", "IntelAhci", "--portcount", "2", "--hostiocache", "off"),
        ),
        _attach(spec, 0, "hdd", spec.disk),
        _attach(spec, 1, "dvddrive", spec.medium),
        *(
            ("setextradata", spec.name, f"VBoxInternal/TM/{key}", value)
            for key, value in _clock(spec).items()
        ),
    )


def _attach(spec: VmSpec, port: int, kind: str, path: str) -> tuple[str, ...]:
    where = ("--storagectl", CONTROLLER, "--port", str(port), "--device", "0")
    return ("storageattach", spec.name, *where, "--type", kind, "--medium", path)


def _clock(spec: VmSpec) -> dict[str, str]:
    """Settings of the time manager that differ from its own."""
    return {
        **({"TSCMode": spec.tsc_mode} if spec.tsc_mode else {}),
        **({"HostHzMax": str(spec.host_hz_max)} if spec.host_hz_max else {}),
    }


def raw_disk(path: str, size_mib: int, *, device: bool) -> str:
    """A VMDK descriptor for a raw file or a block device (VMware, Virtual Disk Format 1.1).

    Raises ValueError for a path that it cannot hold.
    """
    if '"' in path or "\n" in path:
        raise ValueError(f"a VMDK descriptor cannot hold the path {path!r}")
    kind = "fullDevice" if device else "monolithicFlat"
    return (
        "# Disk DescriptorFile\n"
        f'version=1\nCID=76626e63\nparentCID=ffffffff\ncreateType="{kind}"\n'
        f'RW {(size_mib << 20) // SECTOR_BYTES} FLAT "{path}" 0\n'
        'ddb.virtualHWVersion = "4"\nddb.adapterType="ide"\n'
        f'ddb.geometry.cylinders="{(size_mib << 20) // SECTOR_BYTES // (16 * 63)}"\n'
        'ddb.geometry.heads="16"\nddb.geometry.sectors="63"\n'
    )


def _on(value: bool) -> str:
    return "on" if value else "off"
