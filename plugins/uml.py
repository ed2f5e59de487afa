"""Paravirtualization without hardware or privilege: User-mode Linux.

The kernel is ported to the system calls of another Linux. It runs as ordinary processes, so it is
a type 2 hypervisor and its guest in one.
"""

from vbench.contract.hookspecs import hookimpl
from vbench.hypervisors.uml.backend import UmlBackend
from vbench.model import Fact

BACKEND = UmlBackend(
    name="uml",
    summary="User-mode Linux: a kernel that runs as processes of the host",
    facts={
        "guest_os": Fact("modification required: a port of the kernel to another kernel's calls",
                         "Linux documentation, 'User Mode Linux HOWTO'"),
        "windows": Fact("no: Linux alone was ported",
                        "Linux documentation, 'User Mode Linux HOWTO'"),
        "technology": Fact("system calls and page faults caught by ptrace",
                           "Dike, Linux Showcase 2000"),
        "access": Fact("any user", "Linux documentation, 'User Mode Linux HOWTO'"),
        "usage": Fact("kernel development and tests (KUnit)", "Linux documentation, 'KUnit'"),
    },
)  # fmt: skip


@hookimpl
def vbench_backends() -> list[UmlBackend]:
    return [BACKEND]
