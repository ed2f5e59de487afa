"""Hardware-assisted virtualization with devices that are emulations of real ones.

The guest's own instructions run on the CPU; what leaves it goes to KVM, and for a device on to
QEMU, which plays an Intel PIIX3 IDE controller and an Intel 82540EM network card.
"""

from vbench.contract.backend import CountedRun
from vbench.contract.hookspecs import hookimpl
from vbench.hypervisors.qemu.backend import QemuBackend
from vbench.hypervisors.qemu.kvm import can_switch, nested_paging, usable
from vbench.hypervisors.qemu.options import KvmOptions
from vbench.model import Fact, Technique

FACTS = {
    "guest_os": Fact("modification not required", "stock Debian kernel boots unchanged"),
    "windows": Fact("yes", "KVM's guest support status, linux-kvm.org: Windows 95 to Server 2022"),
    "technology": Fact("exit to root mode on privileged instructions (VT-x, AMD-V)",
                       "Intel SDM volume 3, chapter 24; AMD APM volume 2, chapter 15"),
    "access": Fact("group kvm: the device /dev/kvm is open to it",
                   "udev, 50-udev-default.rules"),
    "usage": Fact("the usual way today: KVM, Hyper-V, ESXi, Xen HVM",
                  "the kernel's Documentation/virt/kvm"),
}  # fmt: skip

BACKEND = QemuBackend(
    name="kvm-emulated",
    technique=Technique.HARDWARE,
    summary="QEMU with KVM, emulated IDE disk and e1000 network card",
    accel="kvm",
    cpu="host",
    disk="ide",
    nic="e1000",
    drivers={"disk": "ata_piix", "nic": "e1000"},
    facts=FACTS,
    options=KvmOptions(),
    usable=usable,
    prepare=nested_paging,
    preparable=can_switch,
    # the processor is that of kvm-virtio, and so is what an exit costs
    counted=(CountedRun(only=("disk", "network", "boot"), apart=True),),
)


@hookimpl
def vbench_backends() -> list[QemuBackend]:
    return [BACKEND]
