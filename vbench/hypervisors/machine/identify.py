"""Which hypervisor a machine runs under, by what it shows from inside. Pure.

The order is that of systemd's detect_vm (src/basic/virt.c), for its reasons: products that borrow
another one's CPUID signature are told by DMI first, and "Microsoft Hv" alone proves nothing,
because QEMU's enlightenments and Xen's viridian mode show it as well. ACPI's tables, which
systemd does not read, come last: only root may read them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from vbench.model import Technique
from vbench.records import Hypervisor, HypervisorType

_SOURCE = "attested from inside: CPUID, DMI, /sys/hypervisor"
_ONE, _TWO, _HYBRID = HypervisorType.ONE, HypervisorType.TWO, HypervisorType.HYBRID


@dataclass(frozen=True)
class Evidence:
    """What a machine shows. `signatures` are CPUID's by leaf, `dmi` the files of
    /sys/class/dmi/id that hold a text."""

    bit: bool = False
    signatures: Mapping[int, str] = field(default_factory=dict)
    dmi: Mapping[str, str] = field(default_factory=dict)
    sys_hypervisor: str = ""  # its `type` and `guest_type`: "xen PV"
    xen_features: int = 0  # of /sys/hypervisor/properties/features
    cpu_vendor: str = ""  # of /proc/cpuinfo
    acpi: tuple[str, ...] = ()  # OEM ids of its tables

    def rows(self) -> dict[str, str]:
        """As text by name, for an attestation."""
        leaves = ", ".join(f"{leaf:#x} {text!r}" for leaf, text in self.signatures.items())
        return {
            "CPUID hypervisor bit": "yes" if self.bit else "no",
            "CPUID signatures": leaves or "none",
            "DMI": "; ".join(f"{name} {text}" for name, text in self.dmi.items()) or "none",
            "/sys/hypervisor": self.sys_hypervisor or "none",
            "ACPI": ", ".join(map(repr, self.acpi)) or "not read",
        }


@dataclass(frozen=True)
class Found:
    """The hypervisor, the technique by which it runs this machine, and what says so."""

    hypervisor: Hypervisor
    technique: Technique
    reason: str


def _hypervisor(name: str, vendor: str, type: HypervisorType) -> Hypervisor:
    return Hypervisor(name, vendor, type, _SOURCE)


KVM = _hypervisor("KVM", "Linux", _HYBRID)
XEN = _hypervisor("Xen", "Xen Project", _ONE)
HYPER_V = _hypervisor("Hyper-V", "Microsoft", _ONE)
# ESXi is of type 1, Workstation and Fusion of type 2; they show a guest the same.
VMWARE = _hypervisor("VMware ESXi, Workstation or Fusion", "VMware", HypervisorType.UNKNOWN)
VIRTUALBOX = _hypervisor("VirtualBox", "Oracle", _TWO)
PARALLELS = _hypervisor("Parallels Desktop", "Parallels", _TWO)
QEMU_TCG = _hypervisor("QEMU (TCG)", "QEMU project", _TWO)
QEMU = _hypervisor("QEMU, with or without KVM", "QEMU project", HypervisorType.UNKNOWN)
UML = _hypervisor("User-mode Linux", "Linux", _TWO)
NITRO = _hypervisor("AWS Nitro (KVM)", "Amazon", _ONE)
GOOGLE = _hypervisor("Google Compute Engine (KVM)", "Google", _ONE)
BHYVE = _hypervisor("bhyve", "FreeBSD", _TWO)

# 12 characters, as they come; systemd's vm_table and the vendors' documents.
_SIGNATURES = {
    "KVMKVMKVM": KVM,
    "Linux KVM Hv": KVM,  # KVM with Hyper-V's interface
    "XenVMMXenVMM": XEN,
    "VMwareVMware": VMWARE,
    "VBoxVBoxVBox": VIRTUALBOX,
    " lrpepyh vr ": PARALLELS,
    "prl hyperv  ": PARALLELS,
    "TCGTCGTCGTCG": QEMU_TCG,
    "bhyve bhyve ": BHYVE,
}
_HYPER_V = "Microsoft Hv"  # borrowed by QEMU and Xen
_DMI_FILES = ("product_name", "sys_vendor", "board_vendor", "bios_vendor", "product_version")
# Beginnings of DMI's texts. Those that come first are believed before CPUID.
_DMI_FIRST = {
    "innotek GmbH": VIRTUALBOX,
    "VirtualBox": VIRTUALBOX,
    "Oracle Corporation": VIRTUALBOX,
    "Xen": XEN,
    "Amazon EC2": NITRO,
    "Parallels": PARALLELS,
    "Google Compute Engine": GOOGLE,
}
_DMI_LATER = {
    "KVM": KVM,
    "OpenStack": KVM,
    "KubeVirt": KVM,
    "QEMU": QEMU,
    "VMware": VMWARE,
    "VMW": VMWARE,
    "Hyper-V": HYPER_V,
    "BHYVE": BHYVE,
}
# Beginnings of the OEM ids of ACPI's tables, as the firmware of each product has them.
_ACPI = {
    "VBOX": VIRTUALBOX,
    "VMWARE": VMWARE,
    "PRLS": PARALLELS,
    "VRTUAL": HYPER_V,
    "Xen": XEN,
    "AMAZON": NITRO,
    "Google": GOOGLE,
    "BHYVE": BHYVE,
    "BOCHS": QEMU,
}
# What systemd-detect-virt calls each, by name; older releases know fewer.
SYSTEMD = {
    KVM.name: ("kvm",),
    XEN.name: ("xen",),
    HYPER_V.name: ("microsoft",),
    VMWARE.name: ("vmware",),
    VIRTUALBOX.name: ("oracle",),
    PARALLELS.name: ("parallels",),
    QEMU_TCG.name: ("qemu",),
    QEMU.name: ("qemu", "kvm", "vm-other"),
    UML.name: ("uml",),
    NITRO.name: ("amazon", "kvm"),
    GOOGLE.name: ("google", "kvm"),
    BHYVE.name: ("bhyve",),
}
# xen/include/public/features.h, XENFEAT_dom0
_DOM0 = 1 << 11


def identify(shown: Evidence) -> Found | None:
    """The hypervisor of this machine; None where nothing shows one, or it is Xen's dom0."""
    if shown.xen_features & _DOM0:
        return None
    return next((found for step in _STEPS if (found := step(shown)) is not None), None)


def _dmi_first(shown: Evidence) -> Found | None:
    hypervisor = _by_dmi(shown, _DMI_FIRST)
    if hypervisor is None or not _is_guest(hypervisor, shown):
        return None
    return _found(hypervisor, shown, "DMI")


def _uml(shown: Evidence) -> Found | None:
    if shown.cpu_vendor != "User Mode Linux":
        return None
    return Found(UML, Technique.PARA, "the CPU vendor in /proc/cpuinfo")


def _xen(shown: Evidence) -> Found | None:
    """A PV domain's CPUID may be that of the machine beneath Xen."""
    return _found(XEN, shown, "/sys/hypervisor") if shown.sys_hypervisor.startswith("xen") else None


def _cpuid(shown: Evidence) -> Found | None:
    """The first signature of a product; "Microsoft Hv" is none."""
    for text in shown.signatures.values():
        hypervisor = _SIGNATURES.get(text) or _SIGNATURES.get(text.strip("\0"))
        if hypervisor is not None:
            return _found(hypervisor, shown, "CPUID")
    return None


def _dmi_later(shown: Evidence) -> Found | None:
    hypervisor = _by_dmi(shown, _DMI_LATER)
    return None if hypervisor is None else _found(hypervisor, shown, "DMI")


def _acpi(shown: Evidence) -> Found | None:
    for id in shown.acpi:
        for start, hypervisor in _ACPI.items():
            if id.startswith(start):
                return _found(hypervisor, shown, "ACPI")
    return None


def _hyper_v(shown: Evidence) -> Found | None:
    """Microsoft's own DMI beside its signature; Surface machines have the first without it."""
    names = ("Microsoft Corporation", "Virtual Machine")
    if (shown.dmi.get("sys_vendor"), shown.dmi.get("product_name")) != names:
        return None
    if _HYPER_V not in shown.signatures.values():
        return None
    return _found(HYPER_V, shown, "CPUID and DMI")


_STEPS = (_dmi_first, _uml, _xen, _cpuid, _dmi_later, _hyper_v, _acpi)


def _is_guest(by_dmi: Hypervisor, shown: Evidence) -> bool:
    """Oracle, Amazon and Google have machines without a hypervisor whose DMI names them, too."""
    return shown.bit or by_dmi is XEN or shown.dmi.get("product_name") == "VirtualBox"


def _by_dmi(shown: Evidence, table: Mapping[str, Hypervisor]) -> Hypervisor | None:
    for file in _DMI_FILES:
        text = shown.dmi.get(file, "")
        for start, hypervisor in table.items():
            if text.startswith(start):
                return hypervisor
    return None


def _found(hypervisor: Hypervisor, shown: Evidence, reason: str) -> Found:
    technique = Technique.HARDWARE
    if hypervisor is QEMU_TCG:
        technique = Technique.FULL
    elif hypervisor is XEN and shown.sys_hypervisor.endswith("PV"):
        technique = Technique.PARA
    return Found(hypervisor, technique, reason)


# Run in the machine. One fact a line; what is not there stays empty.
ASK = r"""
echo "cpuid=$(vbench-probe hypervisor)"
for f in product_name sys_vendor board_vendor bios_vendor product_version; do
  echo "dmi_$f=$(cat /sys/class/dmi/id/$f 2>/dev/null)"
done
h=/sys/hypervisor
echo "sys_hypervisor=$(cat $h/type 2>/dev/null) $(cat $h/guest_type 2>/dev/null)"
echo "xen_features=$(cat $h/properties/features 2>/dev/null)"
for t in /sys/firmware/acpi/tables/[A-Z]*; do
  id=$(head -c 16 "$t" 2>/dev/null | tail -c 6 | tr -cd ' -~')
  case "$acpi" in *";$id"*) ;; *) acpi="$acpi;$id" ;; esac
done
echo "acpi=$acpi"
echo "cpu_vendor=$(sed -n 's/^vendor_id[^:]*: *//p' /proc/cpuinfo | head -n1)"
"""


def evidence(facts: Mapping[str, str]) -> Evidence:
    """What ASK printed, as `parse_facts` read it. Raises ValueError for what is none of it."""
    cpuid = json.loads(facts.get("cpuid") or "{}")
    features = facts.get("xen_features", "")
    return Evidence(
        bit=cpuid.get("bit", False),
        signatures=dict(cpuid.get("leaves", ())),
        dmi={name: text for name in _DMI_FILES if (text := facts.get(f"dmi_{name}", ""))},
        sys_hypervisor=facts.get("sys_hypervisor", ""),
        xen_features=int(features, 16) if re.fullmatch(r"[0-9a-fA-F]+", features) else 0,
        cpu_vendor=facts.get("cpu_vendor", ""),
        acpi=tuple(filter(None, map(str.strip, facts.get("acpi", "").split(";")))),
    )
