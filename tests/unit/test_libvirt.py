"""libvirt without libvirt: what is taken over of a domain's XML, and what is swapped in."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest

from vbench.contract.host import Scratch
from vbench.errors import UsageError
from vbench.hosts.pinning import Placement
from vbench.hypervisors.libvirt import truth, tuning
from vbench.hypervisors.libvirt.backend import LibvirtOptions
from vbench.hypervisors.libvirt.domain import Supplied, domain
from vbench.plugins.libvirt import BACKENDS
from vbench.records import DeviceModel

# What virt-install 4.1 printed on Debian 12 for: --import --memory 768 --vcpus 2 --iothreads 1
# --memorybacking nosharepages=yes --cputune vcpupin0.vcpu=0,vcpupin0.cpuset=0,...
# --disk path=...,cache=none,io=io_uring,driver.iothread=1 --network network=default
VIRT_INSTALL = Path(__file__).parents[1] / "data/virt-install.xml"
KVM, QEMU = BACKENDS
TAP = Supplied(
    name="vbench-1",
    folder="/run/launch",
    user="0",
    kernel="/image/vmlinux",
    initrd="/run/launch/initrd",
    append=("console=ttyS0", "quiet"),
    scratch=Scratch("/run/scratch", 256),
    console="/run/launch/console",
    tap="vbench-1",
    label=("0", "0"),
)
NAT = dataclasses.replace(TAP, tap="", netdev="user,restrict=on", label=None)
HEAD = "<memory unit='MiB'>512</memory><vcpu>1</vcpu>"


def made(text: str, supplied: Supplied = TAP) -> Element:
    return ElementTree.fromstring(domain(tuning.parse(text.encode(), "my.xml"), supplied))


def devices(text: str) -> str:
    return f"<domain type='kvm'>{HEAD}<devices>{text}</devices></domain>"


def attributes(root: Element, path: str) -> dict[str, str]:
    found = root.find(path)
    assert found is not None, path
    return dict(found.attrib)


def test_a_file_of_virt_install_is_taken_over() -> None:
    plan = tuning.of_file(str(VIRT_INSTALL))
    assert (plan.type, plan.machine, plan.vcpus, plan.memory_mib) == ("qemu", "q35", 2, 768)
    assert (plan.bus, plan.nic, plan.pins) == ("virtio", "virtio", {0: "0", 1: "1"})
    assert {"graphics", "channel", "video", "sound", "input"} <= set(plan.left_out)
    root = ElementTree.fromstring(domain(plan, TAP))
    assert root.find("memoryBacking/nosharepages") is not None
    assert attributes(root, "cputune/vcpupin[@vcpu='1']")["cpuset"] == "1"
    assert root.findtext("iothreads") == "1"
    driver = attributes(root, "devices/disk/driver")
    assert driver == {
        "name": "qemu",
        "type": "raw",
        "cache": "none",
        "io": "io_uring",
        "iothread": "1",
    }
    assert attributes(root, "devices/disk/source") == {"file": "/run/scratch"}
    assert attributes(root, "os/type") == {"arch": "x86_64", "machine": "q35"}
    assert root.findtext("os/kernel") == "/image/vmlinux"
    assert root.findtext("os/cmdline") == "console=ttyS0 quiet"
    assert root.find("os/boot") is None
    assert attributes(root, "devices/interface") == {"type": "ethernet"}
    assert attributes(root, "devices/interface/target") == {"dev": "vbench-1"}
    assert root.find("devices/interface/mac") is None
    assert root.find("devices/graphics") is None
    assert [each.get("type") for each in root.findall("devices/serial")] == ["pipe"]
    assert root.findtext("name") == "vbench-1"
    assert root.find("uuid") is None


def test_without_a_tap_the_card_is_on_qemus_own_network() -> None:
    root = made(devices("<interface type='bridge'><model type='virtio'/></interface>"), NAT)
    assert root.find("devices/interface") is None
    words = [each.get("value") for each in root.iter(f"{{{tuning.QEMU_NAMESPACE}}}arg")]
    assert words[:2] == ["-netdev", "user,restrict=on,id=vbenchnet"]
    assert words[3] == "virtio-net-pci,netdev=vbenchnet,romfile=,addr=0x1c"
    assert root.find("seclabel") is None


def test_the_card_takes_no_slot_that_is_taken() -> None:
    taken = "<rng model='virtio'><address type='pci' bus='0x00' slot='0x1c'/></rng>"
    root = made(devices(taken), NAT)
    assert any("addr=0x1b" in (each.get("value") or "") for each in root.iter())


def test_what_the_user_passes_to_qemu_stays() -> None:
    text = (
        f"<domain type='kvm' xmlns:q='{tuning.QEMU_NAMESPACE}'>{HEAD}"
        "<q:commandline><q:arg value='-mine'/></q:commandline></domain>"
    )
    words = [each.get("value") for each in made(text, NAT).iter(f"{{{tuning.QEMU_NAMESPACE}}}arg")]
    assert words[:2] == ["-mine", "-netdev"]


def test_a_running_domains_xml_loses_what_is_its_own() -> None:
    root = made(
        f"<domain type='kvm' id='7'><name>web</name><uuid>1-2</uuid>{HEAD}"
        "<seclabel type='dynamic' model='dac'/><os><type machine='pc'>hvm</type>"
        "<loader>/OVMF</loader></os><on_reboot>restart</on_reboot></domain>"
    )
    assert root.get("id") is None
    assert root.find("os/loader") is None
    assert root.findtext("on_reboot") == "destroy"
    assert [each.get("relabel") for each in root.findall("seclabel")] == ["no"]


def test_left_out_firmware_is_said() -> None:
    text = f"<domain type='kvm'>{HEAD}<os firmware='efi'><type>hvm</type></os></domain>"
    assert tuning.parse(text.encode(), "my.xml").left_out == ("firmware",)


@pytest.mark.parametrize(
    ("text", "named", "remedy"),
    [
        ("no xml", "my.xml is not one XML document", "--print-xml"),
        ("<domain type='kvm'/>\n<domain type='kvm'/>", "not one XML document", "--print-xml 2"),
        ("<network/>", "my.xml is no domain: its root is <network>", "dumpxml"),
        ("<domain type='xen'/>", "is a domain of type 'xen'", "vbench backends"),
        ("<domain/>", "is a domain of type 'unknown'", "vbench backends"),
        ("<domain type='kvm'><os><type>exe</type></os></domain>", "is a domain of type", ""),
        (devices("<hostdev/>"), "<hostdev> cannot be taken over", "remove <hostdev>"),
        (devices("<filesystem/>"), "<filesystem> cannot", "mounts nothing"),
        (devices("<shmem/>"), "<shmem> cannot", "remove <shmem>"),
        (devices("<disk/><disk/>"), "has 2 <disk> devices", "the disk under test"),
        (devices("<interface/><interface/>"), "has 2 <interface>", "the network card"),
        (
            devices("<disk><target dev='sda' bus='scsi'/></disk>"),
            "the disk sda is on bus scsi",
            "bus='virtio'",
        ),
        (devices("<disk device='lun'><target dev='vda'/></disk>"), "device of the host", ""),
        (
            devices("<interface type='hostdev'><model type='virtio'/></interface>"),
            "the network card has type hostdev",
            "<model type='virtio'/>",
        ),
        (devices("<interface type='network'/>"), "the network card is a rtl8139", ""),
        (f"<domain type='kvm'>{HEAD}<launchSecurity/></domain>", "<launchSecurity>", "encrypted"),
        ("<domain type='kvm'><memory>65536</memory></domain>", "gives the guest 64 MiB", "raise"),
        ("<domain type='kvm'/>", "it has no <memory>", "unit='MiB'"),
    ],
)
def test_what_cannot_be_taken_over_is_named(text: str, named: str, remedy: str) -> None:
    with pytest.raises(UsageError) as caught:
        tuning.parse(text.encode(), "my.xml")
    assert named in caught.value.what
    assert remedy in caught.value.remedy


def test_what_the_disk_and_the_card_lose_is_said() -> None:
    text = devices(
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
        "<source file='/x'/><target dev='vda' bus='virtio'/><serial>1</serial></disk>"
        "<interface type='network'><mac address='52:54:00:00:00:01'/><source network='x'/>"
        "<model type='virtio'/><mtu size='9000'/>"
        "<bandwidth><inbound average='1000'/></bandwidth></interface>"
    )
    assert tuning.parse(text.encode(), "my.xml").left_out == ("qcow2", "mtu", "bandwidth")


def test_media_are_left_out_and_one_disk_stays() -> None:
    root = made(
        devices(
            "<disk device='cdrom'/><disk device='floppy'/>"
            "<disk type='file' device='disk' snapshot='no'><driver type='qcow2' cache='unsafe'/>"
            "<source file='/x'/><target dev='sda' bus='sata'/><serial>1</serial></disk>"
        )
    )
    (disk,) = root.findall("devices/disk")
    assert disk.attrib == {"type": "file", "device": "disk"}
    assert attributes(disk, "driver") == {"name": "qemu", "type": "raw", "cache": "unsafe"}
    assert [each.tag for each in disk] == ["driver", "target", "source"]


def test_a_scratch_device_is_a_block_disk() -> None:
    on_device = dataclasses.replace(TAP, scratch=Scratch("/dev/ram0", 128, device=True))
    root = made(devices(""), on_device)
    assert attributes(root, "devices/disk") == {"type": "block", "device": "disk"}
    assert attributes(root, "devices/disk/source") == {"dev": "/dev/ram0"}


@pytest.mark.parametrize(
    ("memory", "mib"),
    [
        ("<memory>1048576</memory>", 1024),
        ("<memory unit='GB'>1</memory>", 953),
        ("<memory unit='MiB'>900</memory><currentMemory unit='MiB'>600</currentMemory>", 600),
    ],
)
def test_units_of_memory(memory: str, mib: int) -> None:
    text = f"<domain type='kvm'>{memory}</domain>"
    assert tuning.parse(text.encode(), "my.xml").memory_mib == mib


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("<memory>much</memory>", "<memory>"),
        ("<memory>inf</memory>", "<memory>"),
        ("<memory>1048576</memory><vcpu>two</vcpu>", "<vcpu>"),
    ],
)
def test_what_is_no_number_is_named(text: str, named: str) -> None:
    with pytest.raises(UsageError, match=rf"my\.xml.*{named}"):
        tuning.parse(f"<domain type='kvm'>{text}</domain>".encode(), "my.xml")


def test_our_own_domain_is_that_of_the_qemu_backends() -> None:
    places = Placement(vcpus=(2, 3), io=(0, 1))
    plan = tuning.own("kvm", vcpus=2, memory_mib=512, cache="none", aio="threads", places=places)
    assert (plan.machine, plan.cpu, plan.bus, plan.nic) == (
        *("pc", "host-passthrough"),
        *("virtio", "virtio"),
    )
    assert plan.pins == {0: "2", 1: "3"}
    root = ElementTree.fromstring(domain(plan, TAP))
    assert root.get("type") == "kvm"
    assert attributes(root, "cputune/emulatorpin") == {"cpuset": "0,1"}
    assert attributes(root, "devices/interface/driver") == {"name": "qemu"}


def test_each_backend_takes_domains_of_its_type(tmp_path: Path) -> None:
    options = LibvirtOptions(xml=str(VIRT_INSTALL))
    assert QEMU.declare(options).devices is DeviceModel.PARAVIRTUAL
    with pytest.raises(UsageError, match="of type qemu, and libvirt starts those of") as caught:
        KVM.tuning(options)
    assert "--backend libvirt-tcg,xml=" in caught.value.remedy
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        KVM.tuning(LibvirtOptions(xml=str(tmp_path / "none.xml")))


def test_a_file_decides_all_that_options_would() -> None:
    with pytest.raises(ValueError, match="decides vcpus, memory: change it there"):
        LibvirtOptions(xml="my.xml", vcpus=2, memory=1024)
    assert LibvirtOptions(xml="my.xml", uri="qemu:///system").vcpus == 1


@pytest.mark.parametrize(
    ("asked", "live", "lack"),
    [
        ("<d cache='none'/>", "<d cache='none' io='native'/>", []),
        ("<d cache='none'/>", "<d cache='writeback'/>", ["cache='none'"]),
        ("<d><pin v='1' c='2'/></d>", "<d><pin v='0' c='1'/><pin v='1' c='2'/></d>", []),
        ("<d><pin v='1' c='2'/></d>", "<d><pin v='1' c='3'/></d>", ["pin: c='2'"]),
        ("<d><huge/></d>", "<d/>", ["<huge>"]),
        ("<n>4</n>", "<n>2</n>", ["n '4'"]),
    ],
)
def test_what_the_running_domain_lacks(asked: str, live: str, lack: list[str]) -> None:
    assert truth.lacking(ElementTree.fromstring(asked), ElementTree.fromstring(live)) == lack


def test_what_is_gone_altogether_is_lacking_too() -> None:
    assert truth.lacking(ElementTree.fromstring("<memoryBacking/>"), None) == ["<memoryBacking>"]
    assert truth.lacking(ElementTree.fromstring("<cputune/>"), None) == []
    assert truth.lacking(None, None) == []


@pytest.mark.parametrize(
    ("text", "numbers"), [("0-3,^2", [0, 1, 3]), ("1", [1]), ("0-7,^1-6", [0, 7])]
)
def test_libvirts_sets_of_cpus(text: str, numbers: list[int]) -> None:
    assert truth.cpu_set(text) == numbers


@pytest.mark.parametrize(
    ("memory", "said"),
    [
        ("<memory/>", "<memory> is empty"),
        ("<memory>1048576</memory><currentMemory> </currentMemory>", "<currentMemory> is empty"),
        ("<memory unit='XiB'>512</memory>", "has the unit 'XiB'"),
    ],
)
def test_a_domain_that_does_not_say_its_memory(memory: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        tuning.parse(f"<domain type='kvm'>{memory}</domain>".encode(), "my.xml")
    assert "raise" not in caught.value.remedy
    assert caught.value.remedy
