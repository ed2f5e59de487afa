"""A network for measuring on this machine, as root, or where user namespaces are allowed.

    namespace A ("peer")                         namespace B ("native")
      clients run here                             native servers run here
      tap0  10.77.0.1/24 -- the guest's NIC
      veth0 10.78.0.1/24 -------------------------- veth1 10.78.0.2/24

A holder process keeps both namespaces; its end, or ours, removes everything. QEMU stays
outside and gets the tap as an open file descriptor.

Guests that shall reach each other, or move, are on taps of a bridge in a namespace of its own:

    bridge  10.79.0.1/24 -- port0, port1...  the guests' NICs, 10.79.0.2/24, 10.79.0.3/24...
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from vbench.contract.host import Network
from vbench.system.process import TIED

# Each end with its prefix length; the guest's is in the tap's network, native's at the veth.
TAP_END, GUEST_END = "10.77.0.1/24", "10.77.0.2/24"
VETH_END, NATIVE_END = "10.78.0.1/24", "10.78.0.2/24"
# A bridge's own address; guests have the next ones. Its MAC is given, because it would else take
# the lowest of its ports, and change it when a port is added: guests would send to the old one.
BRIDGE_END = "10.79.0.1/24"
BRIDGE_MAC = "52:54:00:76:62:ff"
PORTS_MAX = 64
_START_TIMEOUT_S = 10.0

# What follows runs in a new network namespace, sends its process ids and taps, and waits for its
# standard input to end.
_COMMON = r"""
import fcntl, os, socket, struct, subprocess, sys, time
def ip(*words):
    subprocess.run(["ip", *words], check=True)
def tap(name):
    made = os.open("/dev/net/tun", os.O_RDWR)
    # linux/if_tun.h: TUNSETIFF; IFF_TAP | IFF_NO_PI | IFF_VNET_HDR (offloads, for virtio-net)
    fcntl.ioctl(made, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x0002 | 0x1000 | 0x4000))
    return made
def hold(pids, taps):
    sender = socket.socket(fileno=int(channel))
    socket.send_fds(sender, [" ".join(map(str, pids)).encode()], taps)
    for each in taps:
        os.close(each)
    sys.stdin.read()
channel = sys.argv[1]
"""
_TAP_AND_VETH = (
    _COMMON
    + r"""
tap_end, veth_end, native_end, *tied = sys.argv[2:]
here = os.readlink("/proc/self/ns/net")
other = subprocess.Popen([*tied, "unshare", "-n", "sleep", "infinity"], stdin=subprocess.DEVNULL)
while os.readlink(f"/proc/{other.pid}/ns/net") == here:
    time.sleep(0.005)
into = ["nsenter", "-t", str(other.pid), "-n", "ip"]
ip("link", "set", "lo", "up")
ip("link", "add", "veth0", "type", "veth", "peer", "name", "veth1", "netns", str(other.pid))
ip("addr", "add", veth_end, "dev", "veth0")
ip("link", "set", "veth0", "up")
for words in (["link", "set", "lo", "up"], ["addr", "add", native_end, "dev", "veth1"],
              ["link", "set", "veth1", "up"]):
    subprocess.run([*into, *words], check=True)
made = tap("tap0")
ip("addr", "add", tap_end, "dev", "tap0")
ip("link", "set", "tap0", "up")
hold([os.getpid(), other.pid], [made])
"""
)
_BRIDGE = (
    _COMMON
    + r"""
address, mac, ports = sys.argv[2:]
ip("link", "set", "lo", "up")
ip("link", "add", "bridge", "address", mac, "type", "bridge")
ip("addr", "add", address, "dev", "bridge")
ip("link", "set", "bridge", "up")
taps = []
for number in range(int(ports)):
    taps.append(tap(f"port{number}"))
    ip("link", "set", f"port{number}", "master", "bridge", "up")
hold([os.getpid()], taps)
"""
)


# How the holder is started, and what enters a namespace of it. Root needs no user namespace, and
# may be on a host that forbids them.
_WAYS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("unshare", "-n"), ()),
    (("unshare", "-Urn"), ("-U", "--preserve-credentials")),
)


def ports(count: int, taps: Sequence[int | None], prefix: tuple[str, ...]) -> tuple[Network, ...]:
    """The networks of the ports of a bridge: their clients run beside it, nothing natively."""
    address, _, length = BRIDGE_END.partition("/")
    subnet = address.rpartition(".")[0]
    return tuple(
        Network(
            tap=f"port{number}",
            tap_fd=tap,
            peer_prefix=prefix,
            native_prefix=(),
            guest_address=f"{subnet}.{number + 2}/{length}",
            native_address="",
        )
        for number, tap in zip(range(count), taps, strict=True)
    )


@contextmanager
def local_network() -> Iterator[Network | None]:
    """The network while the context lasts; None where the kernel or its policy forbids it."""
    with _held(_TAP_AND_VETH, TAP_END, VETH_END, NATIVE_END, *TIED) as held:
        if held is None:
            yield None
            return
        (into_peer, into_native), (tap,) = held.prefixes, held.taps
        yield Network(
            tap="tap0",
            tap_fd=tap,
            peer_prefix=into_peer,
            native_prefix=into_native,
            guest_address=GUEST_END,
            native_address=NATIVE_END.partition("/")[0],
        )


@contextmanager
def local_bridge(count: int) -> Iterator[tuple[Network, ...]]:
    """The ports of a bridge while the context lasts; none where the kernel forbids it."""
    with _held(_BRIDGE, BRIDGE_END, BRIDGE_MAC, str(count)) as held:
        yield () if held is None else ports(count, held.taps, held.prefixes[0])


@dataclass(frozen=True)
class _Held:
    """What a holder keeps: argv prefixes that enter its namespaces, and the taps."""

    prefixes: list[tuple[str, ...]]
    taps: list[int]


@contextmanager
def _held(script: str, *words: str) -> Iterator[_Held | None]:
    """What a holder that runs `script` keeps while the context lasts; None where none could."""
    with ExitStack() as stack:
        for way, entry in _WAYS:
            made = stack.enter_context(_holder(way, entry, script, words))
            if made is not None:
                yield made
                return
        yield None


@contextmanager
def _holder(
    way: tuple[str, ...], entry: tuple[str, ...], script: str, words: Sequence[str]
) -> Iterator[_Held | None]:
    own_end, childs_end = socket.socketpair()
    own_end.settimeout(_START_TIMEOUT_S)
    try:
        holder = subprocess.Popen(
            [
                *(*TIED, *way, "--", sys.executable, "-I", "-c", script),
                *(str(childs_end.fileno()), *words),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[childs_end.fileno()],
            start_new_session=True,
        )
    except OSError:  # no setpriv: doctor says so
        own_end.close()
        childs_end.close()
        yield None
        return
    childs_end.close()
    fds: list[int] = []
    try:
        try:
            message, fds, _, _ = socket.recv_fds(own_end, 100, PORTS_MAX)
        except OSError:
            message = b""
        pids = message.decode().split()
        prefixes = [("nsenter", "-t", pid, *entry, "-n", "--") for pid in pids]
        yield _Held(prefixes, fds) if fds else None
    finally:
        for fd in fds:
            os.close(fd)
        own_end.close()
        holder.kill()  # its children go with it by the parent-death signal
        holder.wait()
        if holder.stdin:
            holder.stdin.close()
