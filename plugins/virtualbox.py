"""Hardware-assisted virtualization by an application of a host's operating system: VirtualBox.

A hypervisor of type 2 with a kernel module of its own. Its disk is an emulated one. Its network
card is virtio, or with `nic=e1000` an emulated one.
"""

from vbench.contract.backend import CountedRun
from vbench.contract.hookspecs import hookimpl
from vbench.hypervisors.virtualbox.backend import VirtualBoxBackend
from vbench.model import Fact

BACKEND = VirtualBoxBackend(
    name="virtualbox",
    summary="Oracle VirtualBox, emulated AHCI disk and virtio-net network card",
    facts={
        "guest_os": Fact("modification not required", "VirtualBox manual, 'First Steps'"),
        "windows": Fact("yes", "VirtualBox manual, 'Supported Guest Operating Systems'"),
        "technology": Fact("VT-x, AMD-V", "VirtualBox manual, 'Technical Background'"),
        "access": Fact("any user: VBoxHeadless is setuid root", "Debian's package virtualbox"),
        "usage": Fact("the usual way today: on desktops, for development and tests",
                      "VirtualBox manual, 'First Steps'"),
    },
    # what shadow page tables cost is judged by KVM's, and shown beside them
    counted=(CountedRun(), CountedRun("nested_paging=off", only=("memory",), boots=1)),
)  # fmt: skip


@hookimpl
def vbench_backends() -> list[VirtualBoxBackend]:
    return [BACKEND]
