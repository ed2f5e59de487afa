"""A guest that is larger than its host is refused before anything is launched, by every backend."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, cast

import pytest

from vbench.contract.backend import Backend
from vbench.contract.host import Host
from vbench.contract.registry import Registry
from vbench.errors import HostError, UsageError
from vbench.hosts.room import room
from vbench.hypervisors.libvirt import backend as libvirt
from vbench.hypervisors.qemu import binary, truth
from vbench.hypervisors.virtualbox import host as vbox
from vbench.model import Availability, Output

MIB = 2000
FILES = {
    "/proc/meminfo": f"MemTotal:       {MIB * 1024 + 5} kB\nMemFree:  1 kB\n",
    "/sys/hypervisor/type": "xen",
    "/sys/hypervisor/properties/features": "00000800",
}
SAID = {
    "xl": "total_memory           : 3000\nxen_caps : xen-3.0-x86_64 hvm-3.0-x86_64\n",
    "linux.uml": "6.1.94",
    "env": "Unable to mount root fs",
    "sh": "0 0",
}


class Small:
    """A host of MIB on which every hypervisor is there; under Xen the machine has 3000."""

    name = "small"
    launch_hints: dict[str, str] = {}  # noqa: RUF012 - a protocol's attribute

    def read(self, path: str) -> str:
        if path not in FILES:
            raise HostError(f"cannot read {path}")
        return FILES[path]

    def run(self, argv: Sequence[str], **_: Any) -> Output:
        return Output(0, SAID.get(argv[0], ""), "")

    def with_layer(self, _: object) -> Small:
        return self

    def workdir(self) -> AbstractContextManager[str]:
        return nullcontext("/tmp/folder")

    def network(self) -> object:
        return object()


@pytest.fixture(autouse=True)
def there(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((binary, "usable"), (truth, "engine"), (vbox, "available"),
                         (libvirt, "usable")):  # fmt: skip
        monkeypatch.setattr(module, name, lambda *_: Availability(True))
    monkeypatch.setattr(libvirt.Virsh, "able", lambda *_: Availability(True))


@pytest.fixture(scope="module", params=("tcg", "xen-pv", "xen-pvh", "uml", "virtualbox", "libvirt"))
def backend(request: pytest.FixtureRequest) -> Backend:
    return Registry.load(()).backends[request.param]


def test_a_guest_is_not_larger_than_its_host(backend: Backend) -> None:
    host = cast(Host, Small())
    most = 3000 if backend.name.startswith("xen") else MIB

    def asked(memory: int) -> Availability:
        return backend.probe(host, replace(backend.options, memory=memory))

    assert asked(most).ok
    refused = asked(most + 1)
    assert not refused.ok
    assert refused.reason.startswith(f"a guest of {most + 1:,} MiB does not fit")
    assert f"{most:,} MiB of memory" in refused.reason
    assert "memory=N" in refused.remedy


def test_a_host_that_does_not_tell_its_memory_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FILES, "/proc/meminfo", "")
    assert room(cast(Host, Small()), 1 << 20).ok


@pytest.mark.parametrize("option", ["memory=0", "memory=-5", "memory=255", "memory=1048577",
                                    "vcpus=0", "vcpus=-1", "vcpus=256"])  # fmt: skip
def test_sizes_that_no_guest_can_have_are_usage_errors(backend: Backend, option: str) -> None:
    with pytest.raises(UsageError):
        Registry.load(()).variant(f"{backend.name},{option}")
