"""Which KVM may be used: by what is behind it, not by its device. Nested paging is switched."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from vbench.errors import LaunchError
from vbench.hypervisors.qemu import kvm
from vbench.model import Output
from vbench.system import kvm_probe


class FakeHost(SimpleNamespace):
    """A host with the given modules, with or without /dev/kvm and Python."""

    def __hash__(self) -> int:
        return id(self)

    def run(self, argv: Sequence[str], **_: Any) -> Output:
        if argv[0] == "sh" and "ls -A" in argv[2]:
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
    said = kvm_probe.KvmVerdict(good, "usable" if good else "interprets", 1.0, "", reason, "remedy")
    monkeypatch.setattr(kvm_probe, "verdict", lambda _: said)


@pytest.mark.parametrize("name", ["kvm_amd", "kvm_intel"])
def test_hardware_is_taken_at_its_word_where_there_is_no_python(name: str) -> None:
    assert usable(["kvm", name]).ok


def test_another_provider_is_refused_even_if_it_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    judged(monkeypatch, good=True)
    said = usable(["kvm", "kvm_pvm"], python=True)
    assert not said.ok
    assert "kvm_pvm" in said.reason
    assert "--host testbed" in said.remedy


@pytest.mark.parametrize(
    ("provider", "remedy"), [("kvm_amd", kvm_probe.NO_ACCESS), ("kvm_pvm", kvm_probe.NO_HARDWARE)]
)
def test_a_group_is_advised_only_where_hardware_is_behind_it(provider: str, remedy: str) -> None:
    assert usable(["kvm", provider], device=False).remedy == remedy


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


def test_nested_paging_as_the_host_says_it() -> None:
    path = "/sys/module/kvm_amd/parameters/npt"
    host: Any = FakeHost(modules=["kvm", "kvm_amd"], files={path: "N\n"})
    assert kvm.nested_paging_of(host) == (False, "off (npt=N)")
    unknown: Any = FakeHost(modules=["kvm", "kvm_pvm"], files={})
    assert kvm.nested_paging_of(unknown) == (None, "unknown (no parameter=unknown)")


# ---------------------------------------------------------------- nested paging


class PagingHost(SimpleNamespace):
    """A host whose module has a parameter that a reload sets."""

    name, timeout_scale = "fake", 1.0

    def run(self, argv: list[str], **_: object) -> Output:
        if argv[0] == "sh" and "ls -A" in argv[2]:
            return Output(0, "kvm\nkvm_amd", "")
        if argv[0] == "id":
            return Output(0, self.uid, "")
        self.scripts.append(argv[-1])
        if self.busy:
            return Output(1, "", "Module kvm_amd is in use.")
        self.npt = "Y" if argv[-1].endswith("=1") else "N"
        return Output(0, "", "")

    def read(self, path: str) -> str:
        return self.npt


def paging_host(**changes: Any) -> Any:
    return PagingHost(**{"npt": "Y", "uid": "0", "busy": False, "scripts": [], **changes})


def test_nested_paging_is_switched_and_switched_back() -> None:
    host = paging_host()
    undo = kvm.nested_paging(host, SimpleNamespace(nested_paging=False))
    assert host.npt == "N"
    undo()
    assert host.npt == "Y"
    assert host.scripts == [
        "modprobe -r kvm_amd && modprobe kvm_amd npt=0",
        "modprobe -r kvm_amd && modprobe kvm_amd npt=1",
    ]


def test_what_is_as_asked_for_is_left_alone() -> None:
    host = paging_host(uid="1000")
    kvm.nested_paging(host, SimpleNamespace(nested_paging=True))()
    assert host.scripts == []


def test_a_module_in_use_is_an_error_with_its_words_and_a_remedy() -> None:
    with pytest.raises(LaunchError, match="cannot be switched off") as caught:
        kvm.nested_paging(paging_host(busy=True), SimpleNamespace(nested_paging=False))
    assert "in use" in str(caught.value)


def test_without_root_it_is_unavailable_beforehand() -> None:
    options = SimpleNamespace(nested_paging=False)
    assert not kvm.can_switch(paging_host(uid="1000"), options).ok
    assert kvm.can_switch(paging_host(), options).ok
    assert kvm.can_switch(paging_host(uid="1000", npt="N"), options).ok
