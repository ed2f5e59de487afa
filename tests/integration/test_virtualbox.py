"""VirtualBox, for real: the testbed with its module, guests in it, and what becomes of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from vbench import image
from vbench.contract.guest import Guest
from vbench.errors import AttestationError
from vbench.hypervisors.virtualbox.host import LAYER
from vbench.hypervisors.virtualbox.machine import VirtualBoxMachine
from vbench.plugins.virtualbox import BACKEND
from vbench.testbed import TestbedHost

pytestmark = pytest.mark.virtualbox


@pytest.fixture(scope="module")
def machine(testbed: TestbedHost) -> TestbedHost:
    """The testbed with VirtualBox; Debian's archive has to have it."""
    found = BACKEND.probe(testbed, BACKEND.options)
    if not found.ok:
        pytest.skip(found.reason)
    return testbed.with_layer(LAYER)


@pytest.fixture(scope="module")
def guest(testbed: TestbedHost, machine: TestbedHost) -> Iterator[Guest]:
    with BACKEND.launch(testbed, image.ensure(), BACKEND.options) as each:
        yield each


def test_attested(guest: Guest) -> None:
    seen = BACKEND.attest(guest)
    assert "AMD-V, nested paging" in seen.summary
    assert seen.module == "vboxdrv"
    assert seen.ring == 0
    assert "innotek GmbH" in seen.evidence["DMI"]
    assert "KVMKVMKVM" in seen.evidence["CPUID signatures"]
    assert seen.evidence["VBox.log: host's TSC"] == "Invariant"
    assert seen.evidence["disk: direct"] == "yes"
    assert guest.observed.disks == {"sda": "ahci"}
    assert guest.observed.early.startswith("breakpoint")
    assert guest.versions["virtualbox"].startswith("7.")


def test_a_wrong_label_is_refused(guest: Guest) -> None:
    assert isinstance(guest.machine, VirtualBoxMachine)
    spec = guest.machine.spec
    try:
        guest.machine.spec = dataclasses.replace(spec, nested_paging=False)
        with pytest.raises(AttestationError, match="nested paging is on"):
            BACKEND.attest(guest)
    finally:
        guest.machine.spec = spec
