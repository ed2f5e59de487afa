"""A network for measuring on this machine, as root, or where user namespaces are allowed.

    namespace A ("peer")                         namespace B ("native")
      clients run here                             native servers run here
      tap0  10.77.0.1/24 -- the guest's NIC
      veth0 10.78.0.1/24 -------------------------- veth1 10.78.0.2/24

A holder process keeps both namespaces; its end, or ours, removes everything. QEMU stays
outside and gets the tap as an open file descriptor.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from vbench.contract.host import Network
from vbench.system.process import TIED

# Each end with its prefix length; the guest's is in the tap's network, native's at the veth.
TAP_END, GUEST_END = "10.77.0.1/24", "10.77.0.2/24"
VETH_END, NATIVE_END = "10.78.0.1/24", "10.78.0.2/24"
_START_TIMEOUT_S = 10.0

# Runs in a new network namespace. Prints nothing but its two process ids, sends the tap, then waits
# for its standard input to end.
_HOLDER = r"""
import array, fcntl, os, socket, struct, subprocess, sys, time
def ip(*words):
    subprocess.run(["ip", *words], check=True)
channel, tap_end, veth_end, native_end, *tied = sys.argv[1:]
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
tap = os.open("/dev/net/tun", os.O_RDWR)
# linux/if_tun.h: TUNSETIFF; IFF_TAP | IFF_NO_PI | IFF_VNET_HDR (offloads, for virtio-net)
fcntl.ioctl(tap, 0x400454CA, struct.pack("16sH22x", b"tap0", 0x0002 | 0x1000 | 0x4000))
ip("addr", "add", tap_end, "dev", "tap0")
ip("link", "set", "tap0", "up")
channel = socket.socket(fileno=int(channel))
socket.send_fds(channel, [f"{os.getpid()} {other.pid}".encode()], [tap])
os.close(tap)
sys.stdin.read()
"""


# How the holder is started, and what enters a namespace of it. Root needs no user namespace, and
# may be on a host that forbids them.
_WAYS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("unshare", "-n"), ()),
    (("unshare", "-Urn"), ("-U", "--preserve-credentials")),
)


@contextmanager
def local_network() -> Iterator[Network | None]:
    """The network while the context lasts; None where the kernel or its policy forbids it."""
    with ExitStack() as stack:
        for way, entry in _WAYS:
            made = stack.enter_context(_network(way, entry))
            if made is not None:
                yield made
                return
        yield None


@contextmanager
def _network(way: tuple[str, ...], entry: tuple[str, ...]) -> Iterator[Network | None]:
    own_end, childs_end = socket.socketpair()
    own_end.settimeout(_START_TIMEOUT_S)
    try:
        holder = subprocess.Popen(
            [
                *(*TIED, *way, "--", sys.executable, "-I", "-c", _HOLDER),
                *(str(childs_end.fileno()), TAP_END, VETH_END, NATIVE_END, *TIED),
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

    def into(pid: str) -> tuple[str, ...]:
        return ("nsenter", "-t", pid, *entry, "-n", "--")

    try:
        try:
            message, fds, _, _ = socket.recv_fds(own_end, 100, 1)
        except OSError:
            message = b""
        if not fds:
            yield None
            return
        peer, native = message.decode().split()
        yield Network(
            tap="tap0",
            tap_fd=fds[0],
            peer_prefix=into(peer),
            native_prefix=into(native),
            guest_address=GUEST_END,
            native_address=NATIVE_END.partition("/")[0],
        )
    finally:
        for fd in fds:
            os.close(fd)
        own_end.close()
        holder.kill()  # its child goes with it by the parent-death signal
        holder.wait()
        if holder.stdin:
            holder.stdin.close()
