"""A machine that is already there: which hypervisor it shows, and what is made of it."""

from __future__ import annotations

import pytest

from vbench.contract.registry import Registry
from vbench.errors import UsageError
from vbench.guest.target import parse_facts
from vbench.hosts.local import LocalHost
from vbench.hypervisors.machine import identify as known
from vbench.hypervisors.machine.identify import Evidence, evidence, identify
from vbench.model import Technique
from vbench.records import HypervisorType
from vbench.run.lock import machines
from vbench.run.opening import find_host
from vbench.run.options import RunOptions

LEAF, NEXT = 0x40000000, 0x40000100


def dmi(vendor: str, product: str) -> dict[str, str]:
    return {"sys_vendor": vendor, "product_name": product}


def cpuid(*signatures: str) -> dict[int, str]:
    return {LEAF + 0x100 * number: text for number, text in enumerate(signatures)}


# What guests of each product show, as the vendors' documents, systemd's tables and the kernel's
# detection code have it: CPUID's signatures, DMI's vendor and product.
KVM, MICROSOFT, XEN, VMWARE = "KVMKVMKVM\0\0\0", "Microsoft Hv", "XenVMMXenVMM", "VMwareVMware"
SHOWN = {
    "VMware ESXi": (known.VMWARE, [VMWARE], "VMware, Inc.", "VMware7,1"),
    "VMware Workstation": (known.VMWARE, [VMWARE], "VMware, Inc.", "VMware Virtual Platform"),
    "VMware Fusion": (known.VMWARE, [VMWARE], "VMware, Inc.", "VMware20,1"),
    "Hyper-V": (known.HYPER_V, [MICROSOFT], "Microsoft Corporation", "Virtual Machine"),
    "Xen HVM": (known.XEN, [XEN], "Xen", "HVM domU"),
    "Xen with viridian": (known.XEN, [MICROSOFT, XEN], "Xen", "HVM domU"),
    "KVM": (known.KVM, [KVM], "QEMU", "Standard PC (Q35 + ICH9, 2009)"),
    "KVM with enlightenments": (known.KVM, [MICROSOFT, KVM], "QEMU", "Standard PC"),
    "QEMU that hides KVM": (known.QEMU, [], "QEMU", "Standard PC (i440FX + PIIX, 1996)"),
    "QEMU TCG": (known.QEMU_TCG, ["TCGTCGTCGTCG"], "QEMU", "Standard PC"),
    "VirtualBox": (known.VIRTUALBOX, ["VBoxVBoxVBox"], "innotek GmbH", "VirtualBox"),
    "VirtualBox that plays KVM": (known.VIRTUALBOX, [KVM], "innotek GmbH", "VirtualBox"),
    "Parallels": (known.PARALLELS, [" lrpepyh vr "], "Parallels International GmbH.", "Parallels"),
    "AWS Nitro": (known.NITRO, [KVM], "Amazon EC2", "m5.large"),
    "Google": (known.GOOGLE, [KVM], "Google", "Google Compute Engine"),
    "bhyve": (known.BHYVE, ["bhyve bhyve "], "BHYVE", "BHYVE"),
}
PRODUCTS = {
    **{
        product: (Evidence(True, cpuid(*signatures), dmi(*names)), hypervisor)
        for product, (hypervisor, signatures, *names) in SHOWN.items()
    },
    "Xen HVM by sysfs": (Evidence(True, sys_hypervisor="xen HVM"), known.XEN),
    "Xen PV in a KVM guest": (Evidence(True, cpuid(KVM), sys_hypervisor="xen PV"), known.XEN),
    "VirtualBox without an interface": (
        Evidence(False, {}, dmi("innotek GmbH", "VirtualBox")),
        known.VIRTUALBOX,
    ),
    "User-mode Linux": (Evidence(cpu_vendor="User Mode Linux"), known.UML),
    "a machine whose firmware alone tells": (
        Evidence(False, {}, dmi("A Maker", "A Server"), acpi=("INTEL", "BOCHS")),
        known.QEMU,
    ),
    "Hyper-V with other DMI": (
        Evidence(True, cpuid("Microsoft Hv"), dmi("A Maker", "A Server"), acpi=("VRTUAL",)),
        known.HYPER_V,
    ),
}


@pytest.mark.parametrize("product", PRODUCTS)
def test_each_product_has_a_name_in_systemd(product: str) -> None:
    assert known.SYSTEMD[PRODUCTS[product][1].name]


def test_a_signature_goes_before_the_firmware_s_tables() -> None:
    found = identify(Evidence(True, cpuid("KVMKVMKVM"), acpi=("BOCHS",)))
    assert found is not None
    assert (found.hypervisor, found.reason) == (known.KVM, "CPUID")


@pytest.mark.parametrize("product", PRODUCTS)
def test_each_product_is_known_by_what_it_shows(product: str) -> None:
    seen, hypervisor = PRODUCTS[product]
    found = identify(seen)
    assert found is not None
    assert found.hypervisor is hypervisor


@pytest.mark.parametrize(
    "seen",
    [
        Evidence(),
        Evidence(False, {}, dmi("Dell Inc.", "PowerEdge R740")),
        Evidence(False, {}, dmi("Oracle Corporation", "ORACLE SERVER X8-2")),
        Evidence(False, {}, dmi("Amazon EC2", "m5.metal")),
        Evidence(False, {}, dmi("Microsoft Corporation", "Surface Pro")),
        Evidence(False, {}, dmi("Dell Inc.", "PowerEdge R740"), acpi=("DELL", "INTEL")),
        Evidence(True, cpuid("Microsoft Hv")),  # anybody's enlightenments
        Evidence(True, cpuid("SomethingNew")),
        Evidence(sys_hypervisor="xen PV", xen_features=1 << 11),  # dom0
    ],
)
def test_what_proves_nothing_is_no_hypervisor(seen: Evidence) -> None:
    assert identify(seen) is None


def test_the_technique_goes_with_what_was_found() -> None:
    techniques = {
        product: found.technique
        for product, (seen, _) in PRODUCTS.items()
        if (found := identify(seen))
    }
    assert techniques.pop("QEMU TCG") is Technique.FULL
    assert techniques.pop("Xen PV in a KVM guest") is Technique.PARA
    assert techniques.pop("User-mode Linux") is Technique.PARA
    assert set(techniques.values()) == {Technique.HARDWARE}


def test_what_a_guest_cannot_tell_has_no_type() -> None:
    """ESXi and Workstation show the same, so a table of types must not place them."""
    assert known.VMWARE.type is HypervisorType.UNKNOWN


def test_the_answer_of_a_machine_is_read() -> None:
    text = (
        'cpuid={"bit": true, "leaves": [[1073741824, "Microsoft Hv"], '
        '[1073742080, "KVMKVMKVM\\u0000\\u0000\\u0000"]]}\n'
        "dmi_sys_vendor=QEMU\ndmi_product_name=\nsys_hypervisor= \nxen_features=\n"
        "cpu_vendor=AuthenticAMD\nacpi=;BOCHS ;VBOX\n"
    )
    seen = evidence(parse_facts(text))
    assert seen.signatures == {LEAF: "Microsoft Hv", NEXT: "KVMKVMKVM\0\0\0"}
    assert seen.dmi == {"sys_vendor": "QEMU"}
    assert seen.acpi == ("BOCHS", "VBOX")
    assert (seen.bit, seen.sys_hypervisor, seen.xen_features) == (True, "", 0)
    assert identify(seen) is not None
    with pytest.raises(ValueError, match=r".+"):
        evidence({"cpuid": "greetings from .bashrc"})


def test_a_machine_belongs_to_its_reference_or_to_itself() -> None:
    registry, local = Registry.load(), LocalHost()

    def placed(text: str) -> str:
        variant = registry.variant(text)
        host = variant.backend.placed(local, variant.options)
        host.close()
        return host.name

    assert placed("machine,address=root@vm") == "ssh://root@vm"
    assert placed("machine,address=ssh://root@vm:2222") == "ssh://root@vm:2222"
    assert placed("machine,address=root@vm,reference=ssh://root@metal") == "ssh://root@metal"
    assert placed("machine,address=root@vm,reference=local") == "local"
    with pytest.raises(UsageError, match="needs an address"):
        placed("machine")
    with pytest.raises(UsageError, match="reference is local or ssh://"):
        placed("machine,address=root@vm,reference=metal")
    assert not any(b.default for name, b in registry.backends.items() if "machine" in name)


def test_a_run_locks_the_machines_that_it_measures() -> None:
    registry = Registry.load()

    def measured_on(*texts: str, hosts: tuple[str, ...] = ()) -> list[str]:
        return machines(hosts, [registry.variant(text) for text in texts])

    assert measured_on() == ["local"]
    assert measured_on("tcg", hosts=("ssh://a", "local")) == ["ssh://a", "local"]
    assert measured_on("tcg,destination=ssh://b", hosts=("ssh://a",)) == ["ssh://a", "ssh://b"]
    assert measured_on("machine,address=root@vm") == ["ssh://root@vm"]
    assert measured_on("machine,address=ssh://root@vm,reference=ssh://metal", "tcg") == [
        *("ssh://metal", "ssh://root@vm", "local")
    ]
    assert measured_on("machine,address=a,reference=local", "machine,address=b") == [
        *("local", "ssh://a", "ssh://b")
    ]


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("address=ftp://x", "address is user@machine[:port]"),
        ("address=vm:99999", "address is user@machine[:port]"),
        ("address=vm:0", "address is user@machine[:port]"),
        ("address=-x", "address is user@machine[:port]"),
        ("address=vm,reference=ssh://-x", "reference is local or ssh://user@host[:port]"),
        ("address=vm,reference=ssh://a/b", "reference is local or ssh://user@host[:port]"),
        ("address=vm,network=a:99999", "network is an address or a name"),
    ],
)
def test_the_remedy_names_the_option_that_is_wrong(text: str, remedy: str) -> None:
    with pytest.raises(UsageError, match="backend 'machine' does not take") as caught:
        Registry.load().variant(f"machine,{text}")
    assert caught.value.remedy.startswith(remedy)


@pytest.mark.parametrize("port", ["99999", "0", "x"])
def test_a_host_or_a_destination_with_a_wrong_port(port: str) -> None:
    with pytest.raises(UsageError, match="there is no host") as caught:
        find_host(f"ssh://a:{port}", RunOptions())
    assert "--host local, ssh://" in caught.value.remedy
    with pytest.raises(UsageError) as caught:
        Registry.load().variant(f"tcg,destination=ssh://a:{port}")
    assert caught.value.remedy == "destination is ssh://user@host[:port]"
