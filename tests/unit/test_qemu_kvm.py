"""Which KVM may be used: by what is behind it, not by its device. Nested paging is switched."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vbench.errors import HostError, LaunchError
from vbench.hosts.local import LocalHost
from vbench.hypervisors.qemu import backend, kvm
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
    judged(monkeypatch, good=False, reason="present, but emulates each instruction")
    said = usable(["kvm", "kvm_intel"], python=True)
    assert (said.ok, said.reason) == (False, "/dev/kvm is present, but emulates each instruction")


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


class PagingHost(LocalHost):
    """This machine with another `modprobe`, whose module has a parameter that a load sets."""

    def __init__(self, folder: Path, uid: str = "0") -> None:
        super().__init__()
        self.loaded, self.busy, self.npt = folder / "loads", folder / "busy", folder / "npt"
        self.npt.write_text("Y")
        self.loaded.touch()
        commands = {
            "modprobe": f"""
              [ "$1" = -r ] && {{ [ ! -e {self.busy} ] || {{ echo in use >&2; exit 1; }}; exit 0; }}
              echo "$*" >>{self.loaded}
              case $2 in *=1) echo Y ;; *) echo N ;; esac >{self.npt}""",
            "id": f"echo {uid}",
            "sleep": "",
        }
        for name, script in commands.items():
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)

    def run(self, argv: Sequence[str], *, timeout_s: float, stdin: bytes = b"") -> Output:
        if "ls -A" in " ".join(argv):
            return Output(0, "kvm\nkvm_amd", "")
        return super().run(argv, timeout_s=timeout_s, stdin=stdin)

    def read(self, path: str) -> str:
        return self.npt.read_text() if path.startswith("/sys/module") else super().read(path)


@pytest.fixture
def paging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PagingHost]:
    monkeypatch.setenv("VBENCH_TMP", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    host = PagingHost(tmp_path)
    yield host
    host.close()


OFF, ON = SimpleNamespace(nested_paging=False), SimpleNamespace(nested_paging=True)


def test_nested_paging_is_switched_and_switched_back(paging: PagingHost) -> None:
    with kvm.nested_paging(paging, OFF):
        assert paging.npt.read_text() == "N\n"
    assert paging.npt.read_text() == "Y\n"
    assert paging.loaded.read_text().splitlines() == ["kvm_amd npt=0", "kvm_amd npt=1"]


def test_what_is_as_asked_for_is_left_alone(paging: PagingHost) -> None:
    with kvm.nested_paging(paging, ON):
        pass
    assert paging.loaded.read_text() == ""


def test_a_guest_for_which_it_was_switched_is_not_restored_after_its_end(
    paging: PagingHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its memory would be paged otherwise: the switch goes back with the guest that was saved."""
    monkeypatch.setattr(PagingHost, "network", lambda self: None)
    for options in (ON, OFF):
        with kvm.nested_paging(paging, options) as switched:
            life = backend._capabilities(paging, switched).lifecycle
        assert (life.restore is None) is (life.migrate is None) is (options is ON)
        assert life.save is None


def test_a_module_in_use_is_an_error_with_its_words_and_a_remedy(paging: PagingHost) -> None:
    paging.busy.touch()
    with (
        pytest.raises(LaunchError, match="cannot be switched off") as caught,
        kvm.nested_paging(paging, OFF),
    ):
        raise AssertionError("it was not switched")
    assert "in use" in str(caught.value)
    assert caught.value.remedy


def test_a_module_that_cannot_be_switched_back_is_an_error(paging: PagingHost) -> None:
    with (
        pytest.raises(HostError, match="could not be switched back") as caught,
        kvm.nested_paging(paging, OFF),
    ):
        paging.busy.touch()
    assert "in use" in str(caught.value)


def test_without_root_it_is_unavailable_beforehand(paging: PagingHost, tmp_path: Path) -> None:
    assert kvm.can_switch(paging, OFF).ok
    user = PagingHost(tmp_path, uid="1000")
    assert not kvm.can_switch(user, OFF).ok
    assert kvm.can_switch(user, ON).ok
    user.npt.write_text("N")
    assert kvm.can_switch(user, OFF).ok
