"""KVM as a host has it: whether it may be used, and what is behind it."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vbench.contract.host import Host
from vbench.contract.layer import Addition, Layer
from vbench.contract.undo import undone
from vbench.errors import HostError, LaunchError
from vbench.model import Availability
from vbench.system import kvm_probe
from vbench.system.facts import kvm_modules
from vbench.system.kvm_probe import HARDWARE

# What a host may hint at (`Host.launch_hints`): what a guest must have in its CPU model or do
# without, as QEMU's -cpu takes it.
HINT_CPU = "kvm.cpu"

# What the x86 machine types load: the BIOS (also behind -kernel), PVH's and multiboot's loaders
# (Xen is a multiboot kernel). Network cards are given no ROM.
_BIOS = ("bios-256k.bin", "bios-microvm.bin")
_ROMS = ("kvmvapic.bin", "pvh.bin", "multiboot_dma.bin", "linuxboot_dma.bin")
FIRMWARE = (*_BIOS, *_ROMS)

# With which the testbed is booted for KVM's guests.
LAYER = Layer(
    Addition(
        "QEMU",
        programs={"qemu-system-x86_64": "qemu-system-x86", "ip": "iproute2"},
        folders={
            "usr/lib/x86_64-linux-gnu/qemu": ("accel-tcg-x86_64.so",),  # TCG is a module
            "usr/share/seabios": _BIOS,
            "usr/share/qemu": _ROMS,
        },
    ),
    ("kvm_amd", "tun", "veth", "vhost_net"),
)

# Asking takes up to 3 s, and every KVM backend asks.
_known: weakref.WeakKeyDictionary[Host, Availability] = weakref.WeakKeyDictionary()


def usable(host: Host) -> Availability:
    """Whether KVM on `host` runs guests by the processor's virtualization."""
    if host not in _known:
        _known[host] = _usable(host)
    return _known[host]


def _usable(host: Host) -> Availability:
    behind = provider(host)
    if not behind:
        return Availability(False, "no KVM: its module is not loaded", kvm_probe.NO_MODULE)
    if host.run(["test", "-r", "/dev/kvm", "-a", "-w", "/dev/kvm"], timeout_s=10).status != 0:
        # No group helps where nothing is behind the device.
        remedy = kvm_probe.NO_ACCESS if behind in HARDWARE else kvm_probe.NO_HARDWARE
        return Availability(False, "/dev/kvm is absent or this user may not open it", remedy)
    if _has_python(host):
        verdict = kvm_probe.verdict(host)
        if not verdict.usable:
            return Availability(
                False, f"/dev/kvm is {verdict.reason}", verdict.remedy or "--host testbed"
            )
    # A host without Python is taken at its word; a launch that stalls there has its deadline.
    if behind not in HARDWARE:
        return Availability(
            False,
            f"/dev/kvm is provided by {behind}, which has no hardware virtualization behind it",
            kvm_probe.NO_HARDWARE,
        )
    return Availability(True)


def _has_python(host: Host) -> bool:
    try:
        return host.run(["python3", "-c", ""], timeout_s=20).status == 0
    except HostError:
        return False


def provider(host: Host) -> str:
    """The module behind /dev/kvm, "" if there is none."""
    return kvm_probe.provider_among(kvm_modules(host))


# The module's parameter that switches nested paging, by provider.
_PARAMETER = {"kvm_amd": "npt", "kvm_intel": "ept"}

# `modprobe -r` fails while a machine uses KVM: nobody else's guest is ever harmed.
_SWITCH_REMEDY = (
    "run as root with no other virtual machine running, use --host testbed, or measure what is "
    "there with nested_paging=on or off"
)
# Guests that have just been killed hold the module for a moment.
_RELOAD = """
for try in {tries}; do
  [ $try = 1 ] || sleep 1
  modprobe -r {module} && exec modprobe {module} {parameter}={value}
done
exit 1
"""


@contextmanager
def nested_paging(host: Host, options: Any) -> Iterator[bool]:
    """Nested paging as `options.nested_paging` says while the context lasts, or we live; whether
    it was switched for that.

    Needs root there, and no other machine that uses KVM. Raises LaunchError, and HostError where
    it cannot be switched back.
    """
    module = provider(host)
    was = _nested(host, module)
    wanted: bool = options.nested_paging
    if was is wanted or (was is None and wanted):
        yield False
        return
    possible = can_switch(host, options)
    if was is None or not possible.ok:
        raise LaunchError(possible.reason, remedy=possible.remedy)

    def reload(on: bool, tries: str = "1") -> str:
        parameter = _PARAMETER[module]
        return _RELOAD.format(module=module, parameter=parameter, value=int(on), tries=tries)

    timeout_s = 30 * host.timeout_scale
    with undone(host, reload(was, "1 2 3 4 5 6 7 8 9 10"), timeout_s=timeout_s):
        done = host.run(["sh", "-c", reload(wanted)], timeout_s=timeout_s)
        if done.status != 0 or _nested(host, module) is not wanted:
            raise LaunchError(
                f"nested paging cannot be switched {'on' if wanted else 'off'} on {host.name}",
                evidence=f"{reload(wanted)}\n{done.stderr.strip()}",
                remedy=_SWITCH_REMEDY,
            )
        yield True


def can_switch(host: Host, options: Any) -> Availability:
    """Whether nested paging is as `options.nested_paging` says, or we may switch it."""
    module = provider(host)
    was = _nested(host, module)
    wanted: bool = options.nested_paging
    if was is wanted or (was is None and wanted):
        return Availability(True)
    if was is None:
        return Availability(False, f"{module or 'KVM'} does not say whether it pages nested")
    if host.run(["id", "-u"], timeout_s=10).stdout.strip() != "0":
        return Availability(
            False,
            f"nested paging is {'on' if was else 'off'}, and only root may load {module} anew",
            _SWITCH_REMEDY,
        )
    return Availability(True)


def _nested(host: Host, module: str) -> bool | None:
    """Whether `module` uses nested paging; None where that is unknown."""
    return {"Y": True, "1": True, "N": False, "0": False}.get(_parameter(host, module))


def _parameter(host: Host, module: str) -> str:
    """The text of the parameter that switches nested paging, "" where there is none."""
    try:
        return host.read(f"/sys/module/{module}/parameters/{_PARAMETER[module]}").strip()
    except (HostError, KeyError):
        return ""


def nested_paging_of(host: Host) -> tuple[bool | None, str]:
    """Whether the host's KVM uses nested paging, None where that is unknown; and how it says so."""
    module = provider(host)
    on = _nested(host, module)
    name = _PARAMETER.get(module, "no parameter")
    word = {True: "on", False: "off", None: "unknown"}[on]
    return on, f"{word} ({name}={_parameter(host, module) or 'unknown'})"
