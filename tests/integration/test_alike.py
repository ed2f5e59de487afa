"""What else than virtualization tells a guest from native, made alike or named, in namespaces."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from vbench.guest import conditions, tcp
from vbench.guest.native import Native
from vbench.guest.target import succeed
from vbench.hosts.local import LocalHost
from vbench.model import ImageFiles


@pytest.fixture
def sides(
    files: ImageFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[Native]]:
    """A stand-in for a guest in a network namespace of its own, native and a client in others."""
    monkeypatch.setenv("VBENCH_TMP", str(tmp_path))
    with ExitStack() as stack:
        prefixes = []
        for _ in range(2):
            host = LocalHost()
            stack.callback(host.close)
            network = host.network()
            if network is None:
                pytest.skip("no network namespace may be made here")
            prefixes.append((network.native_prefix, network.peer_prefix))
        (guest, _), others = prefixes
        yield [Native(host, files, prefix=prefix) for prefix in (guest, *others)]


def setting(target: Native, name: str) -> str:
    return " ".join(succeed(target, f"cat /proc/sys/net/ipv4/{name}", timeout_s=20).split())


def test_native_and_clients_have_the_guest_s_tcp(sides: list[Native]) -> None:
    guest, native, client = sides
    for name, value in (("tcp_congestion_control", "reno"), ("tcp_rmem", "4096 8192 3332128")):
        succeed(guest, f"echo {value} >/proc/sys/net/ipv4/{name}", timeout_s=20)
    assert tcp.align(guest, [native, client]) == ("reno", "")
    for target in (native, client):
        assert setting(target, "tcp_congestion_control") == "reno"
        assert setting(target, "tcp_rmem") == "4096 8192 3332128"


def of_another_kernel(
    monkeypatch: pytest.MonkeyPatch, guest: Native, name: str, value: str
) -> None:
    """The guest's kernel tells a value of a setting that this machine's kernel does not take."""
    known = tcp._set

    def elsewhere(target: Native, wanted: Mapping[str, str]) -> Mapping[str, str]:
        found = known(target, wanted)
        return {**found, name: value} if target is guest and name not in wanted else found

    monkeypatch.setattr(tcp, "_set", elsewhere)


def test_a_congestion_control_that_is_not_allowed_gives_way_to_reno(
    sides: list[Native], monkeypatch: pytest.MonkeyPatch
) -> None:
    guest, native, client = sides
    of_another_kernel(monkeypatch, guest, "tcp_congestion_control", "nobody-has-this")
    assert tcp.align(guest, [native, client]) == ("reno", "")
    assert {setting(target, "tcp_congestion_control") for target in sides} == {"reno"}


def test_what_cannot_be_set_is_named(sides: list[Native], monkeypatch: pytest.MonkeyPatch) -> None:
    guest, native, _ = sides
    of_another_kernel(monkeypatch, guest, "tcp_ecn", "99")
    own = setting(native, "tcp_ecn")
    assert tcp.align(guest, [native])[1] == f"tcp_ecn is 99 in the guest, {own} beside it"


@pytest.fixture
def alone(files: ImageFiles) -> Iterator[LocalHost]:
    host = LocalHost()
    yield host
    host.close()


def test_alike_targets_have_no_flag(alone: LocalHost, files: ImageFiles) -> None:
    one, other = Native(alone, files), Native(alone, files)
    assert conditions.differences(one, other, "memory") == {}


def test_an_inherited_difference_is_named(alone: LocalHost, files: ImageFiles) -> None:
    limited = Native(alone, files, prefix=("prlimit", "--nofile=200:200"))
    found = conditions.differences(limited, Native(alone, files), "cpu")
    assert found == {"limits_differ": "ulimit_n is 200 natively, 1024 there"}


def test_an_inherited_personality_is_named(alone: LocalHost, files: ImageFiles) -> None:
    fixed = Native(alone, files, prefix=("setarch", "-R"))
    found = conditions.differences(fixed, Native(alone, files), "cpu")
    assert set(found) == {"limits_differ"}
    assert "personality" in found["limits_differ"]


# Runs its arguments under a seccomp filter that allows everything, as containers run what they hold
# under one that allows most: prctl(2), linux/filter.h, linux/seccomp.h.
FILTERED = """
import ctypes, os, struct, sys
program = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7FFF0000))
header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 1, ctypes.addressof(program)))
libc = ctypes.CDLL(None)
libc.prctl(38, 1, 0, 0, 0)
if libc.prctl(22, 2, header): sys.exit("no seccomp")
os.execvp(sys.argv[1], sys.argv[1:])
"""


def test_a_seccomp_filter_that_slows_native_only_is_named(
    alone: LocalHost, files: ImageFiles
) -> None:
    if "Seccomp:\t0" not in Path("/proc/self/status").read_text():
        pytest.skip("this machine puts a filter on everything")
    filtered = Native(alone, files, prefix=(sys.executable, "-c", FILTERED))
    found = conditions.differences(filtered, Native(alone, files), "syscall")
    assert found == {"seccomp": "seccomp is 2 natively, 0 there"}
