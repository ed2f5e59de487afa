"""Files of earlier schema versions brought up to the present one, step by step. Pure.

What later versions state was known by name then: the tables here hold those names, and nothing
but old files is read by them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from vbench.records import (
    Cause,
    DeviceModel,
    DiskPath,
    Hypervisor,
    HypervisorType,
    NativeReference,
    NetworkPath,
)
from vbench.results.typed import to_json

# History of the format. A change adds a line here and a step to `_STEPS`.
#   1  first: pairs with pair_boots, pair_flags, counters and quantiles per pair
#   2  `exits` of an item: by reason, per unit of work; absent in 1, which counted none
#   3  `counted` of an item, absent before: true; `pair_equal`, absent before: not known. On the
#      instruction base a sample is the median of groups of units where the program times such
#   4  typed records of a guest: `phases` for boot_times_s, `observed` for guest_facts and kernel,
#      `device` with numbers, `capabilities`, `module` of an attestation; `declaration` of a result;
#      `cause` of an item; flag `nat` for `slirp`. `seed`, `sittings`, `planned`, `done` and
#      `stopped` of a run, `digests` of a launch, absent before: not known; `side` of a run
#   5  scenarios: `pair_phases` of an item, absent before: none were timed
SCHEMA_VERSION = 5


def upgraded(whole: Mapping[str, Any], version: int) -> Mapping[str, Any]:
    """The document in the present schema. Raises KeyError, TypeError, ValueError if damaged."""
    for step in _STEPS[version - 1 :]:
        whole = step(whole)
    return whole


def _additions(whole: Mapping[str, Any]) -> Mapping[str, Any]:
    return whole  # versions 2, 3 and 5 only added what the reader takes as absent


def _to_4(whole: Mapping[str, Any]) -> Mapping[str, Any]:
    part = whole["vbench"]
    part = {
        **part,
        "declaration": _declaration(part["variant"], part["launches"]),
        "items": [_item_to_4(item) for item in part["items"]],
        "launches": [_launch_to_4(launch) for launch in part["launches"]],
    }
    return {**whole, "vbench": part}


_STEPS: tuple[Callable[[Mapping[str, Any]], Mapping[str, Any]], ...] = (
    _additions,
    _additions,
    _to_4,
    _additions,
)


def _item_to_4(item: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **item,
        "flags": ["nat" if flag == "slirp" else flag for flag in item["flags"]],
        "cause": to_json(_CAUSES.get(item["workload"])),
    }


def _launch_to_4(launch: Mapping[str, Any]) -> dict[str, Any]:
    facts, device = launch["guest_facts"], dict(launch["device"])
    netdev, native = device.pop("netdev", None), device.pop("native", None)
    attestation = launch["attestation"]
    evidence = dict(attestation["evidence"])
    return {
        **{key: launch[key] for key in ("id", "variant", "boot", "argv", "versions", "image")},
        "attestation": {
            "summary": attestation["summary"],
            "module": evidence.pop("host: KVM provider", ""),
            "evidence": evidence,
        },
        "phases": [
            _phase(name, seconds)
            for name, seconds in launch["boot_times_s"].items()
            if seconds is not None
        ],
        "observed": _observed(facts, launch["kernel"]),
        "device": _device(device),
        "capabilities": None if netdev is None else _capabilities(netdev, native),
    }


def _phase(name: str, seconds: float) -> dict[str, Any]:
    operation, _, phase = name.partition("_to_")
    clock = "guest" if operation == "kernel" else "client"
    return {"operation": operation, "phase": phase, "clock": clock, "seconds": seconds}


def _observed(facts: Mapping[str, str], kernel: str) -> dict[str, Any]:
    names = ("cpu_model", "clocksource", "mitigations", "early")
    bit = facts.get("cpuid_hypervisor")
    return {
        **{name: facts.get(name, "") for name in names},
        "kernel": kernel,
        "hypervisor": facts.get("hypervisor"),
        "vcpus": _number(facts.get("vcpus")),
        "memory_kib": _number(facts.get("memory_kib")),
        "cpuid_hypervisor": None if bit is None else bit == "yes",
        "sys_hypervisor": facts.get("xen", ""),
        "disks": dict(re.findall(r"(\S+?):(\S+)", facts.get("disks", ""))),
        "nics": dict(re.findall(r"(\S+?):(\S+)", facts.get("nics", ""))),
    }


def _device(device: dict[str, str]) -> dict[str, Any]:
    text = {name: device.pop(name, "") for name in ("machine", "start", "cpu", "disk", "nic")}
    numbers = {name: _number(device.pop(name, None)) for name in ("vcpus", "memory_mib")}
    nested = device.pop("nested_paging", None)
    nested_paging = None if nested is None else nested == "on"
    return {**text, **numbers, "nested_paging": nested_paging, "further": device}


def _number(text: str | None) -> int | None:
    return int(text) if text else None


def _capabilities(netdev: str, native: str | None) -> dict[str, Any]:
    nat = netdev == "slirp"
    return {
        "native": NativeReference.PRIVILEGED_GUEST
        if native == "dom0"
        else NativeReference.LAUNCHING_HOST,
        "network": NetworkPath.NAT if nat else NetworkPath.TAP,
        "network_by": "QEMU's user-mode stack" if nat else netdev,
        "disk": DiskPath.IMAGE_FILE,
        "relaunchable": True,
        "pausable": True,
        "usage": None,
        "lifecycle": {},
    }


_MODELS = {
    "ide": DeviceModel.EMULATED,
    "virtio": DeviceModel.PARAVIRTUAL,
    "xen-blkback": DeviceModel.PARAVIRTUAL,
}
_HYPERVISORS = {
    "tcg": Hypervisor("QEMU (TCG)", "QEMU project", HypervisorType.TWO, ""),
    "kvm-": Hypervisor("KVM", "Linux", HypervisorType.HYBRID, ""),
    "xen-": Hypervisor("Xen", "Xen Project", HypervisorType.ONE, ""),
}
_NESTED_OFF = "nested_paging=off"


def _declaration(variant: str, launched: list[Mapping[str, Any]]) -> dict[str, Any]:
    parts = variant.split(",")
    hypervisor = next((h for start, h in _HYPERVISORS.items() if variant.startswith(start)), None)
    shadow = _NESTED_OFF in parts
    own = next((one for one in launched if one["variant"] == variant), None)
    return {
        "hypervisor": to_json(hypervisor),
        "devices": None if own is None else _MODELS.get(own["device"].get("disk", "")),
        "processor_of": "tcg" if variant == "tcg-virtio" else "",
        "contrast_to": ",".join(p for p in parts if p != _NESTED_OFF) if shadow else "",
        "shadow_paging": shadow,
    }


_EMPTY = "exit-control-empty"
_READ = "exit-control-read"
_CAUSES = {
    "exit-cpuid": Cause("CPUID", "CPUID", _EMPTY, reasons=("CPUID",)),
    "exit-hypercall": Cause("hypercall", "hypercall", _EMPTY, reasons=("VMCALL", "VMMCALL")),
    "exit-port-kernel": Cause(
        "port 0x21 (interrupt mask)", "port I/O", _READ, reasons=("port I/O in kernel",)
    ),
    "exit-port-qemu": Cause("port 0x80 (POST)", "port I/O", _READ, reasons=("port I/O in QEMU",)),
    "exit-mmio-qemu": Cause("MMIO (HPET)", "MMIO", _EMPTY, reasons=("MMIO in QEMU",)),
    "exit-rdmsr": Cause("MSR read", "MSR", "exit-control-rdmsr", reasons=("MSR", "MSR_READ")),
    "exit-wrmsr": Cause("MSR write", "MSR", "exit-control-wrmsr", reasons=("MSR", "MSR_WRITE")),
    "exit-interrupt-timer": Cause(
        "timer interrupt", "interrupt", clock=_EMPTY, alone=False,
        reasons=("INTR", "EXTERNAL_INTERRUPT", "PREEMPTION_TIMER"),
    ),
    "exit-interrupt-processor": Cause(
        "interprocessor interrupt", "interrupt between processors", "exit-control-syscall"
    ),
    "exit-halt": Cause("wake-up from HLT", "halt", clock=_EMPTY, reasons=("HLT",), alone=False),
    "exit-pagefault": Cause(
        "page fault (first touch)", "page fault", clock=_EMPTY, alone=False,
        reasons=("EXCP_PF", "EXCEPTION_NMI"),
    ),
    "exit-control-syscall": Cause("control: system call", "control", _EMPTY),
}  # fmt: skip
