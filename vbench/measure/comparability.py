"""What else than virtualization tells the two sides of a pair apart: made alike, or flagged."""

from __future__ import annotations

from collections.abc import Iterable

from vbench.contract.guest import Target
from vbench.contract.host import Host
from vbench.guest import conditions, tcp
from vbench.guest.native import Native
from vbench.hosts.disk import disk_path


def check(
    category: str,
    guest: Target,
    native: Native | None,
    clients: Iterable[Native],
    disks: Iterable[Host],
) -> dict[str, str]:
    """Flags for a workload of `category`, each with a sentence; called before it is measured.

    `clients` and `native` are in network namespaces of ours where the workload needs a network;
    `disks` are the hosts whose scratch disks it uses, filled before. Raises Unsupported where the
    figure could not be one of a disk, WorkloadError, GuestLost, HostError.
    """
    found: dict[str, str] = {}
    if native is None:
        return found
    found |= conditions.differences(native, guest, category)
    if category == "network":
        _, differs = tcp.align(guest, [native, *clients])
        if differs:
            found["tcp_differs"] = differs
    for host in disks:
        path = disk_path(host)
        if path.problem:
            found["not_direct"] = f"{path.problem} ({path.file_system} on {path.device})"
    return found
