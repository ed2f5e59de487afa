"""Whether a host can run VirtualBox's machines, by what it says and by a made-up VBoxManage."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vbench.errors import ImageError
from vbench.hosts.local import LocalHost
from vbench.hypervisors.virtualbox import host as vbox
from vbench.plugins.virtualbox import BACKEND

FINE = {
    "status": "0",
    "version": "7.2.22_Debianr170000",
    "kernel": "6.1.0-56-amd64",
    "loaded": "7.2.22_Debian r170000 (0x00340003)",
    "built": "6.1.0-56-amd64",
    "device": "yes",
    "hardware": "svm",
}


@pytest.mark.parametrize(
    ("changed", "reason", "remedy"),
    [
        ({"version": "6.1.50r161033"}, "of version 6.1.50r161033", "7.0 or later"),
        ({"version": "", "said": ""}, "does not work: .* status 0 and said: nothing", "anew"),
        (
            {"status": "1", "said": "\x1b[2J\x07"},
            r"does not work: .* status 1 and said: \\x1b\[2J\\x07$",
            "anew",
        ),
        ({"hardware": ""}, "shows neither", "firmware"),
        ({"loaded": None}, "is not loaded", "`modprobe vboxdrv`"),
        ({"loaded": None, "built": ""}, "is not loaded", "vboxconfig"),
        (
            {"loaded": None, "built": "6.1.0-41-amd64"},
            "built for 6.1.0-41-amd64, and the kernel that runs is 6.1.0-56-amd64",
            "vboxconfig",
        ),
        ({"loaded": "7.1.4 r165100 (0x1)"}, "is of VirtualBox 7.1.4", "modprobe -r"),
        ({"device": None}, "/dev/vboxdrv", "vboxconfig"),
    ],
)
def test_why_not(changed: dict[str, str | None], reason: str, remedy: str) -> None:
    assert vbox.judge(answer(FINE)).ok
    found = vbox.judge(answer({**FINE, **changed}))
    assert not found.ok
    assert re.search(reason, found.reason)
    assert remedy in found.remedy


def answer(facts: dict[str, Any]) -> str:
    return "".join(f"{key}={value}\n" for key, value in facts.items() if value is not None)


def test_no_virtualbox_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    if (Path("/usr/bin") / "VBoxManage").exists():
        pytest.skip("VirtualBox is installed")
    here = LocalHost()
    found = BACKEND.probe(here, BACKEND.options)
    assert (found.ok, "no VBoxManage" in found.reason) == (False, True)
    assert "--host testbed" in found.remedy


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exec sleep 100", r"VBoxManage or its service VBoxSVC hangs: no answer within 12 s"),
        (r"printf '7.1\033[2J\377\n'; exit 1", r"status 1 and said: 7.1\\x1b\[2J"),
        ("echo WARNING >&2; echo 6.1.50r161033", "is of version 6.1.50r161033"),
    ],
)
def test_what_a_virtualbox_that_does_not_work_says(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    reason: str,
) -> None:
    monkeypatch.setattr(vbox, "ASK_TIMEOUT_S", 1.0)
    (tmp_path / "VBoxManage").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "VBoxManage").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = BACKEND.probe(LocalHost(), BACKEND.options)
    assert not found.ok
    assert re.search(reason, found.reason)
    assert found.remedy
    assert found.reason.isprintable()


def test_packages_that_cannot_be_had() -> None:
    class Testbed:
        def with_layer(self, layer: object) -> Any:
            def run(argv: object, timeout_s: float) -> None:
                raise ImageError("mmdebstrap failed with exit status 25", remedy="a network")

            return SimpleNamespace(run=run)

    host: Any = Testbed()
    found = vbox.available(host)
    assert (found.ok, found.remedy) == (False, "a network")
    assert "mmdebstrap failed" in found.reason
