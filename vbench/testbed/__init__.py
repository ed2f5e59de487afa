"""An emulated machine as a host: see `host`."""

from vbench.hypervisors.qemu.kvm import LAYER as KVM
from vbench.hypervisors.xen.dom0 import LAYER as XEN
from vbench.testbed.host import MACHINES_MAX, MEMORY_MIB, TestbedHost

# What an exported image holds for it. VirtualBox is built where it is wanted: its release moves.
EXPORTED = (KVM.addition, XEN.addition)

__all__ = ["EXPORTED", "MACHINES_MAX", "MEMORY_MIB", "TestbedHost"]
