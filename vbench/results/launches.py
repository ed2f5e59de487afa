"""What is recorded of a guest, as JSON and back: launches, declarations, causes. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from vbench.model import Launch
from vbench.records import (
    Attestation,
    Capabilities,
    Cause,
    Clock,
    Declaration,
    DeviceModel,
    DeviceSettings,
    DiskPath,
    Hypervisor,
    HypervisorType,
    Lifecycle,
    NativeReference,
    NetworkPath,
    Observed,
    Phase,
    UsageScope,
)


def launch_to_json(launch: Launch) -> dict[str, Any]:
    """A launch as result files hold it."""
    capabilities = launch.capabilities
    return {
        "id": launch.id,
        "variant": launch.variant,
        "boot": launch.boot,
        "argv": list(launch.argv),
        "versions": dict(launch.versions),
        "image": launch.image,
        "attestation": _attestation_to_json(launch.attestation),
        "phases": [_plain(phase) for phase in launch.phases if math.isfinite(phase.seconds)],
        "observed": _plain(launch.observed),
        "device": _plain(launch.device),
        "capabilities": None if capabilities is None else asdict(capabilities),
    }


def _attestation_to_json(attestation: Attestation) -> dict[str, Any]:
    hypervisor = attestation.hypervisor
    return {
        **_plain(attestation),
        "hypervisor": None if hypervisor is None else asdict(hypervisor),
    }


def _hypervisor(found: Mapping[str, Any] | None) -> Hypervisor | None:
    if found is None:
        return None
    return Hypervisor(**{**found, "type": HypervisorType(found["type"])})


def _plain(record: Any) -> dict[str, Any]:
    """A flat record as JSON: `asdict` cannot copy the read-only mappings that are defaults."""
    values = {name: getattr(record, name) for name in record.__dataclass_fields__}
    return {name: dict(v) if isinstance(v, Mapping) else v for name, v in values.items()}


def launch_from_json(launch: Mapping[str, Any]) -> Launch:
    """Raises KeyError, TypeError or ValueError for what is damaged."""
    capabilities = launch["capabilities"]
    return Launch(
        id=launch["id"],
        variant=launch["variant"],
        boot=launch["boot"],
        argv=tuple(launch["argv"]),
        versions=launch["versions"],
        image=launch["image"],
        attestation=Attestation(
            **{
                **launch["attestation"],
                "hypervisor": _hypervisor(launch["attestation"].get("hypervisor")),
            }
        ),
        phases=tuple(
            Phase(p["operation"], p["phase"], Clock(p["clock"]), p["seconds"])
            for p in launch["phases"]
        ),
        observed=Observed(**launch["observed"]),
        device=DeviceSettings(**launch["device"]),
        capabilities=None if capabilities is None else _capabilities(capabilities),
    )


def _capabilities(found: Mapping[str, Any]) -> Capabilities:
    usage = found["usage"]
    return Capabilities(
        native=NativeReference(found["native"]),
        network=NetworkPath(found["network"]),
        network_by=found["network_by"],
        disk=DiskPath(found["disk"]),
        no_disk=found.get("no_disk", ""),
        relaunchable=found["relaunchable"],
        pausable=found["pausable"],
        usage=None if usage is None else UsageScope(usage),
        lifecycle=Lifecycle(**found["lifecycle"]),
    )


def declaration_to_json(declaration: Declaration) -> dict[str, Any]:
    """What the backend declared of the variant, as result files hold it."""
    return asdict(declaration)


def declaration_from_json(found: Mapping[str, Any]) -> Declaration:
    """Raises KeyError, TypeError or ValueError for what is damaged."""
    devices = None if found["devices"] is None else DeviceModel(found["devices"])
    hypervisor = _hypervisor(found["hypervisor"])
    return Declaration(**{**found, "hypervisor": hypervisor, "devices": devices})


def cause_to_json(cause: Cause | None) -> dict[str, Any] | None:
    """What a workload causes, as result files hold it; null where it states nothing."""
    return None if cause is None else asdict(cause)


def cause_from_json(found: Mapping[str, Any] | None) -> Cause | None:
    """Raises TypeError for what is damaged."""
    return None if found is None else Cause(**{**found, "reasons": tuple(found["reasons"])})
