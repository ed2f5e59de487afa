"""Which KVM may be used: by what is behind it, not by its device."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from vbench import kvmcheck
from vbench.model import Output
from vbench.qemu import kvm


class FakeHost(SimpleNamespace):
    """A host with the given modules, with or without /dev/kvm and Python."""

    def __hash__(self) -> int:
        return id(self)

    def run(self, argv: Sequence[str], **_: Any) -> Output:
        if argv[0] == "ls":
            return Output(0, "\n".join(self.modules), "")
        if argv[0] == "test":
            return Output(0 if self.device else 1, "", "")
        return Output(0 if self.python else 127, "", "")

    def read(self, path: str) -> str:
        return str(self.files[path])


def usable(modules: Sequence[str], *, device: bool = True, python: bool = False) -> Any:
    host: Any = FakeHost(modules=modules, device=device, python=python)
    return kvm.usable(host)


def judged(monkeypatch: pytest.MonkeyPatch, *, good: bool, reason: str = "") -> None:
    said = kvmcheck.KvmVerdict(good, "usable" if good else "interprets", 1.0, "", reason, "remedy")
    monkeypatch.setattr(kvmcheck, "verdict", lambda _: said)


@pytest.mark.parametrize("name", ["kvm_amd", "kvm_intel"])
def test_hardware_is_taken_at_its_word_where_there_is_no_python(name: str) -> None:
    assert usable(["kvm", name]).ok


def test_another_provider_is_refused_even_if_it_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    judged(monkeypatch, good=True)
    said = usable(["kvm", "kvm_pvm"], python=True)
    assert not said.ok
    assert "kvm_pvm" in said.reason
    assert "--host testbed" in said.remedy


def test_one_that_interprets_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    judged(monkeypatch, good=False, reason="present, but interprets")
    said = usable(["kvm", "kvm_intel"], python=True)
    assert (said.ok, said.reason) == (False, "/dev/kvm is present, but interprets")


def test_one_that_runs_code_on_hardware_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    judged(monkeypatch, good=True)
    assert usable(["kvm", "kvm_intel"], python=True).ok


def test_no_module_and_no_device() -> None:
    assert "module is not loaded" in usable(["ext4"]).reason
    assert "/dev/kvm" in usable(["kvm", "kvm_amd"], device=False).reason


def test_evidence() -> None:
    path = "/sys/module/kvm_amd/parameters/npt"
    host: Any = FakeHost(modules=["kvm", "kvm_amd"], files={path: "N\n"})
    found = kvm.evidence(host)
    assert found == {"host: KVM provider": "kvm_amd", "host: nested paging": "off (npt=N)"}
