"""What a bare Debian would install, by real apt and a real archive."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from vbench.image import bare, debian

UML = ("", ("user-mode-linux",))
QEMU = ("", ("qemu-system-x86",))
NONE = ("", ("no-such-package",))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VBENCH_CACHE", str(tmp_path))


def test_packages_are_counted_and_a_count_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    found = bare.count([UML, QEMU, NONE])
    assert found[UML].packages == 1  # libc is all that it needs
    assert (found[UML].disk_mib or 0) > 10
    assert 20 < (found[QEMU].packages or 0) < 200
    assert found[QEMU].release == debian.SUITE
    assert found[QEMU].counted
    assert (found[NONE].packages, found[NONE].disk_mib) == (None, None)
    assert "Unable to locate package no-such-package" in found[NONE].reason

    unreachable(monkeypatch)
    again = bare.count([UML, QEMU, NONE])
    assert (again[UML], again[QEMU]) == (found[UML], found[QEMU])
    assert again[NONE].reason != found[NONE].reason  # a failure is tried again


def test_an_archive_that_cannot_be_reached_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    unreachable(monkeypatch)
    (found,) = bare.count([UML]).values()
    assert found.packages is None
    assert found.reason


def test_a_damaged_count_is_counted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unreachable(monkeypatch)
    (tmp_path / "counted").mkdir()
    for text in ("", "[]", '{"release": 1}'):
        for key in (UML, QEMU):
            file = bare.kept_in(key)
            assert file is not None
            file.write_text(text)
        assert all(each.reason for each in bare.count([UML, QEMU]).values())


@pytest.mark.parametrize("name", ["127.0.0.1", "no-such-host.invalid"])
def test_an_archive_that_does_not_answer_holds_up_no_run(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """As with a network that drops packets: a connection is made, and nothing comes."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as silent:
        uri = f"http://{name}:{silent.getsockname()[1]}/debian"
        monkeypatch.setattr(debian, "sources", lambda suite: [f"{uri} {suite}"] * 3)
        began = time.monotonic()
        found = bare.count([UML, QEMU, ("sid", ("virtualbox",))])
        assert time.monotonic() - began < 10
    assert len(found) == 3
    assert all("InRelease cannot be had" in each.reason for each in found.values())


def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens on the port of discard."""
    monkeypatch.setattr(debian, "sources", lambda suite: [f"http://127.0.0.1:9/debian {suite}"])
