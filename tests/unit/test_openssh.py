"""What a user's own `ssh` says when it does not log in."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from vbench.errors import Unreachable
from vbench.hosts.openssh import OpenSshConnection


def refused(address: str, timeout_s: float = 20.0) -> Unreachable:
    began = time.monotonic()
    with pytest.raises(Unreachable) as caught:
        OpenSshConnection(address, timeout_s)
    assert time.monotonic() - began < 10
    assert caught.value.remedy.startswith("connect once by hand: ssh ")
    return caught.value


def test_a_name_that_ssh_does_not_take() -> None:
    error = refused("ssh://a;b")
    assert "hostname contains invalid characters" in error.what
    assert error.evidence == "ssh ended with exit status 255"


def test_a_refused_connection_is_told_once() -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        error = refused(f"ssh://root@127.0.0.1:{taken.getsockname()[1]}")
    assert str(error).count("Connection refused") == 1
    assert error.evidence == "ssh ended with exit status 255"


@pytest.mark.parametrize(
    ("script", "what", "evidence"),
    [
        ("exit 3", "ssh ended with exit status 3", ""),
        ("echo one; echo two >&2; exit 4", "two", "one\ntwo\nssh ended with exit status 4"),
        ("exec sleep 100", "no answer within 1 s", ""),
        ("echo why >&2; exec sleep 100", "why", "no answer within 1 s"),
    ],
)
def test_an_ssh_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, what: str, evidence: str
) -> None:
    (tmp_path / "ssh").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    error = refused("ssh://far", 1.0)
    assert error.what == f"no SSH login to ssh://far: {what}"
    assert error.evidence == evidence
