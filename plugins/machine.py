"""A machine that is already there: a guest of ESXi, Hyper-V, VMware, Parallels, a cloud.

One backend for each technique, since the hypervisor decides which column it belongs to: a machine
that turns out to run by another one is refused, and the error says by which.
"""

from vbench.contract.hookspecs import hookimpl
from vbench.hypervisors.machine.backend import MachineBackend
from vbench.model import Fact, Technique

FACTS = {
    "technology": Fact("whatever runs it; attested from inside",
                       "CPUID, DMI and /sys/hypervisor of the machine"),
}  # fmt: skip

BACKENDS = [
    MachineBackend(
        name="machine",
        technique=Technique.HARDWARE,
        summary="a virtual machine that is already there, over SSH (needs address=user@machine)",
        facts=FACTS,
    ),
    MachineBackend(
        name="machine-translated",
        technique=Technique.FULL,
        summary="as machine, one that runs by binary translation",
        facts=FACTS,
    ),
    MachineBackend(
        name="machine-paravirtual",
        technique=Technique.PARA,
        summary="as machine, a paravirtualized one",
        facts=FACTS,
    ),
]


@hookimpl
def vbench_backends() -> list[MachineBackend]:
    return BACKENDS
