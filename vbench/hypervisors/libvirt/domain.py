"""Tuning + what vbench supplies -> the XML of a domain: pure, so that it is tested without libvirt.

Swapped in: the image's kernel and initramfs, the scratch disk, the network, the console. The
network card and the disk keep their model, driver settings and place on the bus.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from vbench.contract.host import Scratch
from vbench.hypervisors.libvirt.tuning import QEMU_NAMESPACE, Tuning

# By which a domain of ours is known: an element of its metadata. `folder` is the working directory
# of its launch: it is gone when whoever made it is.
NAMESPACE = "urn:vbench:launch"
LAUNCH = f"{{{NAMESPACE}}}launch"
NAME_PREFIX = "vbench-"
ElementTree.register_namespace("qemu", QEMU_NAMESPACE)
ElementTree.register_namespace("vbench", NAMESPACE)

_DISK_KEPT = {"driver", "target", "iotune", "blockio", "address"}
_NIC_KEPT = {"model", "driver", "tune", "coalesce", "address"}
_NIC_DEVICE = {"virtio": "virtio-net-pci", "e1000": "e1000"}
_GONE = ("name", "uuid", "title", "description", "metadata", "seclabel", "genid", "sysinfo")


@dataclass(frozen=True)
class Supplied:
    """What a launch supplies. Paths are the host's.

    `console`: two FIFOs of this name, ending in .in and .out. `tap` is made by libvirt; where it is
    "", the card is on QEMU's own network, and `netdev` is that, without its id. `label`: user and
    group that QEMU runs as, None where it has to be ours anyway.
    """

    name: str
    folder: str
    user: str
    kernel: str
    initrd: str
    append: tuple[str, ...]
    scratch: Scratch
    console: str
    tap: str = ""
    netdev: str = ""
    label: tuple[str, str] | None = None


def domain(tuning: Tuning, supplied: Supplied) -> str:
    """The XML for `virsh create`."""
    root = copy.deepcopy(tuning.root)
    root.attrib.pop("id", None)  # of a running domain
    _remove(root, (*_GONE, "on_poweroff", "on_reboot", "on_crash"))
    SubElement(root, "name").text = supplied.name
    launch = SubElement(SubElement(root, "metadata"), LAUNCH)
    launch.attrib.update(user=supplied.user, folder=supplied.folder)
    # A guest that reboots or panics is lost, never silently started anew.
    for event in ("poweroff", "reboot", "crash"):
        SubElement(root, f"on_{event}").text = "destroy"
    _start(root, supplied)
    devices = root.find("devices")
    assert devices is not None  # noqa: S101 - tuning.py has seen to it
    _disk(devices, supplied.scratch)
    _network(root, devices, tuning.nic, supplied)
    _remove(devices, ("serial", "console"))
    serial = SubElement(devices, "serial", type="pipe")
    SubElement(serial, "source", path=supplied.console)
    SubElement(serial, "target", port="0")
    SubElement(SubElement(devices, "video"), "model", type="none")
    if supplied.label:
        # No file changes its owner, and QEMU may read what we may.
        label = SubElement(root, "seclabel", type="static", model="dac", relabel="no")
        SubElement(label, "label").text = "+{}:+{}".format(*supplied.label)
    return ElementTree.tostring(root, encoding="unicode")


def _start(root: Element, supplied: Supplied) -> None:
    system = root.find("os")
    kind = None if system is None else system.find("type")
    _remove(root, ("os",))
    system = SubElement(root, "os")
    if kind is None:
        SubElement(system, "type").text = "hvm"
    else:
        system.append(kind)
    SubElement(system, "kernel").text = supplied.kernel
    SubElement(system, "initrd").text = supplied.initrd
    SubElement(system, "cmdline").text = " ".join(supplied.append)


def _disk(devices: Element, scratch: Scratch) -> None:
    disk = devices.find("disk")
    if disk is None:
        disk = SubElement(devices, "disk")
        SubElement(disk, "target", dev="vda", bus="virtio")
    _keep(disk, _DISK_KEPT, ("model",))
    disk.attrib.update(type="block" if scratch.device else "file", device="disk")
    driver = disk.find("driver")
    if driver is None:
        driver = SubElement(disk, "driver")
    driver.attrib.update(name="qemu", type="raw")
    SubElement(disk, "source", {"dev" if scratch.device else "file": scratch.path})


def _network(root: Element, devices: Element, model: str, supplied: Supplied) -> None:
    interface = devices.find("interface")
    if not supplied.tap:
        if interface is not None:
            devices.remove(interface)
        # libvirt's own card of QEMU's network has neither forwards nor a way to shut it off
        card = f"{_NIC_DEVICE[model]},netdev=vbenchnet,romfile=,addr={_free_slot(devices):#x}"
        _pass(root, "-netdev", f"{supplied.netdev},id=vbenchnet", "-device", card)
        return
    if interface is None:
        interface = SubElement(devices, "interface")
        SubElement(interface, "model", type=model)
    _keep(interface, _NIC_KEPT, ())
    interface.set("type", "ethernet")
    SubElement(interface, "target", dev=supplied.tap)
    SubElement(interface, "rom", enabled="no")


def _pass(root: Element, *words: str) -> None:
    """Arguments for QEMU that libvirt has no elements for."""
    command = root.find(f"{{{QEMU_NAMESPACE}}}commandline")
    if command is None:
        command = SubElement(root, f"{{{QEMU_NAMESPACE}}}commandline")
    for word in words:
        SubElement(command, f"{{{QEMU_NAMESPACE}}}arg", value=word)


def _free_slot(devices: Element) -> int:
    """A slot of the first PCI bus that nobody has asked for; libvirt numbers from the lowest."""
    taken = {
        int(address.get("slot", "0"), 0)
        for address in devices.iter("address")
        if address.get("type") == "pci" and int(address.get("bus", "0"), 0) == 0
    }
    return next(slot for slot in range(0x1C, 0, -1) if slot not in taken)


def _remove(parent: Element, tags: Collection[str]) -> None:
    for child in [each for each in parent if each.tag in tags]:
        parent.remove(child)


def _keep(element: Element, tags: Collection[str], attributes: Collection[str]) -> None:
    for child in [each for each in element if each.tag not in tags]:
        element.remove(child)
    for name in set(element.attrib) - set(attributes):
        del element.attrib[name]
