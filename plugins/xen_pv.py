"""Paravirtualization as the document means it: a kernel that knows, and asks by hypercall.

Xen runs the guest's kernel in the CPU's user mode beside its programs; page tables are checked
by Xen, and what was a privileged instruction is a call to Xen. Disk and network are a ring
buffer shared with dom0.
"""

from vbench.contract.backend import CountedRun
from vbench.contract.hookspecs import hookimpl
from vbench.hypervisors.xen.backend import XenBackend
from vbench.model import Fact, Technique

FACTS = {
    "guest_os": Fact("modification required: the kernel is ported to Xen's interface",
                     "Barham et al., SOSP 2003, section 2.1; Linux: CONFIG_XEN_PV"),
    "windows": Fact("no: a Windows kernel needs Xen's HVM mode",
                    "Xen project wiki, 'Xen Project Software Overview'"),
    "technology": Fact("hypercalls, and a kernel that runs deprivileged (Xen PV)",
                       "Barham et al., SOSP 2003; xen/include/public/xen.h"),
    "access": Fact("root", "xl(1): most commands of xl need root"),
    "usage": Fact("legacy on servers; where there is no hardware virtualization",
                  "Xen project wiki, 'Xen Project Software Overview'"),
}  # fmt: skip

BACKEND = XenBackend(
    name="xen-pv",
    technique=Technique.PARA,
    summary="Xen paravirtualized domain, PV disk and PV network card",
    type="pv",
    facts=FACTS,
    counted=(CountedRun(quick=True),),
)


@hookimpl
def vbench_backends() -> list[XenBackend]:
    return [BACKEND]
