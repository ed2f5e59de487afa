"""Binary translation with paravirtual devices: separates what the CPU costs from what I/O costs."""

from vbench.contract.backend import CountedRun
from vbench.contract.hookspecs import hookimpl
from vbench.hypervisors.qemu.backend import QemuBackend
from vbench.model import Technique
from vbench.plugins.tcg import FACTS

BACKEND = QemuBackend(
    name="tcg-virtio",
    technique=Technique.FULL,
    summary="QEMU binary translation, virtio-blk disk and virtio-net network card",
    accel="tcg",
    cpu="max",
    disk="virtio",
    nic="virtio-net-pci",
    drivers={"disk": "virtio_blk", "nic": "virtio_net"},
    facts=FACTS,
    processor_of="tcg",
    # Some 5 M instructions a second, a boot of 90 s; not its boot, which is timed on any machine.
    counted=(
        CountedRun(
            only=("cpu", "memory", "syscall", "disk", "network"),
            boots=1,
            left_out="translation within translation takes minutes, and any machine can time it",
        ),
    ),
)


@hookimpl
def vbench_backends() -> list[QemuBackend]:
    return [BACKEND]
