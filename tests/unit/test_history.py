"""Files of earlier schema versions load as what they were."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vbench.errors import StoreError
from vbench.records import (
    Clock,
    DeviceModel,
    HypervisorType,
    NativeReference,
    NetworkPath,
    Phase,
)
from vbench.results.history import SCHEMA_VERSION
from vbench.results.loading import load

COMMITTED = Path(__file__).parents[1] / "data/version2"


def old(path: Path, name: str, **changes: object) -> Path:
    """A committed file of version 2, its launches' records changed."""
    whole = json.loads((COMMITTED / f"{name}.json").read_text())
    assert whole["vbench"]["schema_version"] == 2
    for launch in whole["vbench"]["launches"]:
        for record, values in changes.items():
            launch[record].update(values)
    made = path / "old.json"
    made.write_text(json.dumps(whole))
    return made


def test_records_of_a_guest_are_typed(tmp_path: Path) -> None:
    found = load(old(tmp_path, "testbed-kvm-virtio,nested_paging=off"))
    launch = found.launches[0]
    assert launch.attestation.module == "kvm_amd"
    assert launch.observed.kernel == "6.1.0-56-amd64"
    assert (launch.observed.vcpus, launch.observed.cpuid_hypervisor) == (1, True)
    assert launch.observed.disks == {"vda": "virtio_blk"}
    assert (launch.device.memory_mib, launch.device.nested_paging) == (512, False)
    assert launch.device.further["cache"] == "none"
    assert Phase("kernel", "userspace", Clock.GUEST, 1.32) in launch.phases
    assert launch.capabilities is not None
    assert launch.capabilities.network is NetworkPath.TAP
    declared = found.declaration
    assert declared.shadow_paging
    assert (declared.contrast_to, declared.devices) == ("kvm-virtio", DeviceModel.PARAVIRTUAL)
    assert declared.hypervisor is not None
    assert declared.hypervisor.type is HypervisorType.HYBRID


def test_a_nat_has_its_owner(tmp_path: Path) -> None:
    found = load(old(tmp_path, "local-tcg", device={"netdev": "slirp"}))
    can = found.launches[0].capabilities
    assert can is not None
    assert (can.network, can.network_by) == (NetworkPath.NAT, "QEMU's user-mode stack")


def test_native_in_dom0_is_known(tmp_path: Path) -> None:
    found = load(old(tmp_path, "testbed-xen-pv", device={"native": "dom0"}))
    assert found.launches[0].capabilities is not None
    assert found.launches[0].capabilities.native is NativeReference.PRIVILEGED_GUEST


def test_events_of_exits_are_known_by_their_workloads(tmp_path: Path) -> None:
    items = load(old(tmp_path, "testbed-kvm-virtio")).items
    events = {item.workload: item.cause.event for item in items if item.cause}
    assert events["exit-port-qemu"] == "port 0x80 (POST)"
    assert "exit-control-empty" not in events


@pytest.mark.parametrize("version", [0, -1, SCHEMA_VERSION + 1, "2", None])
def test_no_other_version_is_read(tmp_path: Path, version: object) -> None:
    path = old(tmp_path, "local-tcg")
    whole = json.loads(path.read_text())
    whole["vbench"]["schema_version"] = version
    path.write_text(json.dumps(whole))
    with pytest.raises(StoreError, match=r"schema.version"):
        load(path)
