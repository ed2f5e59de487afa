"""The network cards of a guest: one for SSH, and one for measuring where its host has a network."""

from __future__ import annotations

import dataclasses

from vbench.contract.guest import SERVER_PORT
from vbench.contract.host import Network
from vbench.hypervisors.qemu.cmdline import Nic

_MAC = "52:54:00:76:62:{:02x}"  # locally administered, QEMU's prefix
_FIRST, _ADDRESS = 1, "10.0.2.15/24"  # slirp gives its one guest this address
_VHOST = ",vhost=on"


def cards(
    model: str, network: Network | None, *, vhost: bool
) -> tuple[tuple[Nic, ...], tuple[str, ...]]:
    """The cards and their addresses with prefix length. Guests on one bridge have MACs of their
    own: the last byte is that of the address."""
    first = Nic(model, user_network(), _MAC.format(_FIRST))
    if network is None:
        return (first,), (_ADDRESS,)
    address = network.guest_address
    mac = _MAC.format(int(address.partition("/")[0].rpartition(".")[2]))
    second = Nic(model, _tap(network) + _VHOST * vhost, mac)
    return (first, second), (_ADDRESS, address)


def moved(nics: tuple[Nic, ...], network: Network | None) -> tuple[Nic, ...]:
    """The same cards, as the guest sees them, at the tap of another network."""
    if network is None or len(nics) == 1:
        return nics
    vhost = _VHOST * nics[1].netdev.endswith(_VHOST)
    return (nics[0], dataclasses.replace(nics[1], netdev=_tap(network) + vhost))


def _tap(network: Network) -> str:
    """QEMU's -netdev for a host's tap, without its id."""
    if network.tap_fd is not None:
        return f"tap,fd={network.tap_fd}"
    return f"tap,ifname={network.tap},script=no,downscript=no"


def user_network() -> str:
    """QEMU's own network for SSH: forwarded on loopback only, nothing else goes in or out.

    Port 0 lets QEMU pick, so that no one can take a port between our choice and its use. The
    second forward serves network workloads where the host may not make a tap.
    """
    forwards = ",".join(f"hostfwd=tcp:127.0.0.1:0-:{port}" for port in (22, SERVER_PORT))
    return f"user,restrict=on,{forwards}"
