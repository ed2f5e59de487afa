"""Full virtualization as the document means it: every instruction is translated.

QEMU's TCG rewrites guest code into host code, block by block; the devices are emulations of
real ones (an Intel PIIX3 IDE controller, an Intel 82540EM network card), so an unmodified
operating system of 2000 would run as well.
"""

from vbench.contract.hookspecs import hookimpl
from vbench.hypervisors.qemu.backend import QemuBackend
from vbench.model import Fact, Technique

FACTS = {
    "guest_os": Fact("modification not required", "stock Debian kernel boots unchanged"),
    "windows": Fact("yes", "QEMU documentation, 'Invocation': -accel tcg runs any x86 system"),
    "technology": Fact("binary translation (QEMU TCG; VMware's translator before 2006)",
                       "Adams and Agesen, ASPLOS 2006"),
    "access": Fact("any user",
                   "QEMU documentation, 'Introduction': a process of the host's system"),
    "usage": Fact("legacy; today for foreign architectures and where KVM is missing",
                  "QEMU documentation, 'Introduction'"),
}  # fmt: skip

BACKEND = QemuBackend(
    name="tcg",
    technique=Technique.FULL,
    summary="QEMU binary translation, emulated IDE disk and e1000 network card",
    accel="tcg",
    cpu="max",
    disk="ide",
    nic="e1000",
    drivers={"disk": "ata_piix", "nic": "e1000"},
    facts=FACTS,
)


@hookimpl
def vbench_backends() -> list[QemuBackend]:
    return [BACKEND]
