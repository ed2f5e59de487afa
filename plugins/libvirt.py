"""Guests that libvirt starts: vbench's own domain, or one tuned by the user (xml=FILE).

A backend for each type of domain, since that decides the technique.
"""

from collections.abc import Iterable

from vbench.contract.hookspecs import hookimpl
from vbench.contract.host import Host
from vbench.hypervisors.libvirt.backend import LibvirtBackend
from vbench.hypervisors.libvirt.doctor import checks
from vbench.model import Check, Technique
from vbench.plugins.kvm_emulated import FACTS as KVM_FACTS
from vbench.plugins.tcg import FACTS as TCG_FACTS

BACKENDS = [
    LibvirtBackend(
        name="libvirt",
        technique=Technique.HARDWARE,
        type="kvm",
        summary="a KVM domain of libvirt: as kvm-virtio, or tuned by your own XML (xml=FILE)",
        facts=KVM_FACTS,
        other="libvirt-tcg",
    ),
    LibvirtBackend(
        name="libvirt-tcg",
        technique=Technique.FULL,
        type="qemu",
        summary="as libvirt, a domain of type qemu: binary translation",
        facts=TCG_FACTS,
        other="libvirt",
    ),
]


@hookimpl
def vbench_backends() -> list[LibvirtBackend]:
    return BACKENDS


@hookimpl
def vbench_doctor(host: Host) -> Iterable[Check]:
    return checks(host)
