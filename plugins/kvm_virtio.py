"""Hardware-assisted virtualization with paravirtual devices: what clouds run."""

from vbench.contract.backend import CountedRun
from vbench.contract.hookspecs import hookimpl
from vbench.hypervisors.qemu.backend import QemuBackend
from vbench.hypervisors.qemu.kvm import can_switch, nested_paging, usable
from vbench.hypervisors.qemu.options import KvmOptions
from vbench.model import Technique
from vbench.plugins.kvm_emulated import FACTS

BACKEND = QemuBackend(
    name="kvm-virtio",
    technique=Technique.HARDWARE,
    summary="QEMU with KVM, virtio-blk disk and virtio-net network card",
    accel="kvm",
    cpu="host",
    disk="virtio",
    nic="virtio-net-pci",
    drivers={"disk": "virtio_blk", "nic": "virtio_net"},
    facts=FACTS,
    options=KvmOptions(),
    usable=usable,
    prepare=nested_paging,
    preparable=can_switch,
    counted=(
        # kvm-emulated boots by firmware for both
        CountedRun(whole=("exit", "app"), quick=True, own_guests=False),
        CountedRun("nested_paging=off", only=("memory",)),
    ),
)


@hookimpl
def vbench_backends() -> list[QemuBackend]:
    return [BACKEND]
