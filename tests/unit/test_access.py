"""Who may launch guests: by the modes of the devices that a launch opened."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from vbench.hosts import access
from vbench.hosts.local import LocalHost

KVM, OURS = "crw-rw---- root kvm /dev/kvm", "crw------- root root /dev/vboxdrv"
TUN = "crw-rw-rw- root root /dev/net/tun"


@pytest.mark.parametrize(
    ("listed", "who", "evidence"),
    [
        ("", "any user", "nothing"),
        (TUN, "any user", "nothing"),
        (f"{TUN}\n{KVM}", "group kvm", KVM),
        (f"{KVM}\n{OURS}", "root", f"{KVM}; {OURS}"),
        ("crw-rw---- root root /dev/x", "root", "crw-rw---- root root /dev/x"),
        ("crw-r--r-- root kvm /dev/x", "root", "crw-r--r-- root kvm /dev/x"),
    ],
)
def test_the_most_that_a_device_asks_for_decides(listed: str, who: str, evidence: str) -> None:
    found = access.judged(listed, "nothing")
    assert (found.who, found.evidence) == (who, evidence)


def test_devices_of_a_process_are_looked_at() -> None:
    with Path("/dev/null").open("rb"), closing(LocalHost()) as host:
        assert access.of_process(host, os.getpid()).who == access.ANY_USER


def test_a_device_that_is_not_there_tells_nothing(tmp_path: Path) -> None:
    private = tmp_path / "device"
    private.touch(mode=0o600)
    with closing(LocalHost()) as host:
        found = access.of_device(host, str(private))
        assert found is not None
        assert found.who == access.ROOT
        assert str(private) in found.evidence
        assert access.of_device(host, f"{private}s") is None
