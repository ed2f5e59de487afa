"""Hardware-assisted virtualization under Xen, with devices that are rings shared with dom0.

No QEMU and no emulated device: what differs from xen-pv is who guards the guest's kernel and its
page tables, and what differs from kvm-virtio is the hypervisor.
"""

from vbench.contract.backend import CountedRun
from vbench.contract.hookspecs import hookimpl
from vbench.hypervisors.xen.backend import XenBackend
from vbench.model import Fact, Technique

FACTS = {
    "guest_os": Fact("a kernel with an entry point for PVH and Xen's drivers; Linux has both",
                     "xen/docs/misc/pvh.pandoc; Linux: CONFIG_PVH, CONFIG_XEN_PVH"),
    "windows": Fact("no: there is no firmware and no emulated device; HVM domains have them",
                    "xl.cfg(5), type"),
    "technology": Fact("VT-x, AMD-V; devices by rings shared with dom0", "xl.cfg(5), type"),
    "access": Fact("root", "xl(1): most commands of xl need root"),
    "usage": Fact("the usual way today: KVM, Hyper-V, ESXi, Xen HVM",
                  "the kernel's Documentation/virt/kvm"),
}  # fmt: skip

BACKEND = XenBackend(
    name="xen-pvh",
    technique=Technique.HARDWARE,
    summary="Xen PVH domain: hardware-assisted, PV disk and PV network card",
    type="pvh",
    facts=FACTS,
    # beside KVM on the same machine: a hypervisor of type 1 by the same technique
    counted=(CountedRun(),),
)


@hookimpl
def vbench_backends() -> list[XenBackend]:
    return [BACKEND]
