"""The tap of a domain: libvirt makes it, and it moves into vbench's measuring network.

QEMU holds its descriptor, so that it serves the guest in any namespace, and is gone with QEMU.
"""

from __future__ import annotations

from vbench.contract.host import Host, Network
from vbench.errors import LaunchError
from vbench.hypervisors.libvirt.virsh import Virsh

HOST_ADDRESS, GUEST_ADDRESS = "10.80.0.1/24", "10.80.0.2/24"
# $1 tap, $2 address, the others enter the measuring network. `ip` takes a process for the name of
# its namespace: one that waits there.
_PLACE = r"""
tap=$1 address=$2; shift 2
[ $# = 0 ] || "$@" sh -c 'echo $$; exec sleep 20' | {
  read -r inside
  ip link set "$tap" netns "$inside"; moved=$?
  kill "$inside"
  exit $moved
} || exit
"$@" ip address add "$address" dev "$tap" && "$@" ip link set "$tap" up
"""


def usable(virsh: Virsh) -> Network | None:
    """The measuring network, if a domain of libvirt can have a tap in it: root's daemon makes it,
    and root alone may move it."""
    return virsh.host.network() if virsh.privileged and virsh.user == "0" else None


def place(host: Host, network: Network, tap: str) -> None:
    """Move the tap of a running domain into the measuring network. Raises LaunchError."""
    argv = ["sh", "-c", _PLACE, "vbench-tap", tap, HOST_ADDRESS, *network.peer_prefix]
    done = host.run(argv, timeout_s=20)
    if done.status != 0:
        raise LaunchError(
            "the domain's tap cannot be moved into the measuring network", evidence=done.stderr
        )
