"""KVM as a host has it: whether it may be used, and what is behind it."""

from __future__ import annotations

import weakref
from collections.abc import Mapping

from vbench import kvmcheck
from vbench.errors import HostError
from vbench.hosts import Host
from vbench.model import Availability

# Those with a processor's virtualization behind them. Others exist (kvm_pvm), which interpret or
# translate what they are given: not what a KVM column is about.
HARDWARE = ("kvm_amd", "kvm_intel")

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
        return Availability(False, "no KVM: its module is not loaded", kvmcheck.NO_MODULE)
    if host.run(["test", "-r", "/dev/kvm", "-a", "-w", "/dev/kvm"], timeout_s=10).status != 0:
        return Availability(False, "/dev/kvm is absent or not ours to use", kvmcheck.NO_ACCESS)
    if _has_python(host):
        verdict = kvmcheck.verdict(host)
        if not verdict.usable:
            return Availability(
                False, f"/dev/kvm is {verdict.reason}", verdict.remedy or "--host testbed"
            )
    # A host without Python is taken at its word; a launch that stalls there has its deadline.
    if behind not in HARDWARE:
        return Availability(
            False,
            f"/dev/kvm is provided by {behind}, which has no hardware virtualization behind it",
            kvmcheck.NO_HARDWARE,
        )
    return Availability(True)


def _has_python(host: Host) -> bool:
    try:
        return host.run(["python3", "-c", ""], timeout_s=20).status == 0
    except HostError:
        return False


def provider(host: Host) -> str:
    """The module behind /dev/kvm, "" if there is none."""
    found = host.run(["ls", "/sys/module"], timeout_s=10).stdout.split()
    modules = [name for name in found if name.startswith("kvm_")]
    return next((name for name in modules if name in HARDWARE), " ".join(sorted(modules)))


def evidence(host: Host) -> Mapping[str, str]:
    """What the host says of its KVM: the provider and nested paging."""
    behind = provider(host)
    found = {"host: KVM provider": behind or "none"}
    name = {"kvm_amd": "npt", "kvm_intel": "ept"}.get(behind)
    if name:
        try:
            value = host.read(f"/sys/module/{behind}/parameters/{name}").strip()
        except HostError:
            value = "unknown"
        on = {"Y": "on", "1": "on", "N": "off", "0": "off"}.get(value, value)
        found["host: nested paging"] = f"{on} ({name}={value})"
    return found
