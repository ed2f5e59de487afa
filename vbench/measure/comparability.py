"""What else than virtualization tells the two sides of a pair apart: made alike, or flagged."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence

from vbench.contract.guest import Guest
from vbench.contract.host import Host
from vbench.guest import conditions, tcp
from vbench.guest.native import Native
from vbench.guest.target import succeed
from vbench.hosts.disk import disk_path, guest_problem
from vbench.hosts.pinning import overcommitted
from vbench.model import WorkloadInfo
from vbench.records import DiskPath, NativeReference
from vbench.system.cgroups import cpu_group

# What a workload that needs files on the disk makes there; natively it uses the host's.
GUESTS_FILE_SYSTEM = "ext4"

_known: weakref.WeakKeyDictionary[Guest, str] = weakref.WeakKeyDictionary()
# Whose settings of TCP a target has, and what came of giving it them.
_like: weakref.WeakKeyDictionary[Native, tuple[weakref.ref[Guest], tuple[str, str]]]
_like = weakref.WeakKeyDictionary()


def check(
    info: WorkloadInfo,
    guest: Guest,
    native: Native | None,
    clients: Iterable[Native],
    disks: Iterable[Host],
) -> dict[str, str]:
    """Flags for a workload, each with a sentence; called before it is measured.

    `clients` and `native` are in network namespaces of ours where the workload needs a network;
    `disks` are the hosts whose scratch disks it uses, filled before. Raises Unsupported where the
    figure could not be one of a disk, WorkloadError, GuestLost, HostError.
    """
    found: dict[str, str] = {}
    if native is None:
        return found
    found |= conditions.differences(native, guest, info.category)
    theirs, ours = (sorted(of) for of in (guest.endpoint.cpus, native.cpus))
    if theirs and theirs != ours:
        found["cpus_differ"] = f"the guest's vCPUs may run on CPUs {theirs}, native on {ours}"
    if guest.capabilities.native is NativeReference.LAUNCHING_HOST and (
        shared := overcommitted(native.host, guest.endpoint.vcpus)
    ):
        found["overcommitted"] = shared
    group = guest.endpoint.cpu_group
    if group and group != cpu_group(native.host.read("/proc/self/cgroup")):
        found["cpu_group"] = "the guest's threads are in a control group that native is not in"
    if info.device == "network":
        used, differs = _aligned(guest, [native, *clients])
        own = guest.observed.tcp_congestion_control
        if own not in ("", used):
            found["tcp_reno"] = f"{used} in place of the guest's {own}"
        if differs:
            found["tcp_differs"] = differs
        if guest.endpoint.floating:
            found["io_not_pinned"] = guest.endpoint.floating
    for host in disks:
        path = disk_path(host)
        if path.problem:
            found["not_direct"] = f"{path.problem} ({path.file_system} on {path.device})"
        files = info.category != "disk" and host is native.host and not host.scratch().device
        if files and path.file_system != GUESTS_FILE_SYSTEM:
            found["file_system_differs"] = (
                f"{path.file_system} natively, {GUESTS_FILE_SYSTEM} in the guest"
            )
    if info.device == "disk" and "not_direct" not in found and (problem := _disk_problem(guest)):
        found["not_direct"] = problem
    return found


def _aligned(guest: Guest, others: Sequence[Native]) -> tuple[str, str]:
    """As `tcp.align`; those that were given this guest's settings last are not asked again."""
    had = [last[1] for other in others if (last := _like.get(other)) and last[0]() is guest]
    if others and len(had) == len(others):
        return had[0]
    found = tcp.align(guest, others)
    _like.update(dict.fromkeys(others, (weakref.ref(guest), found)))
    return found


def _disk_problem(guest: Guest) -> str:
    """Why the guest's disk may be memory of its host; asked once for each guest."""
    if guest.capabilities.disk not in (DiskPath.IMAGE_FILE, DiskPath.BLOCK_DEVICE):
        return ""
    if guest not in _known:

        def read(mebibytes: int) -> None:
            disk = f"if={guest.endpoint.scratch} of=/dev/null iflag=direct"
            succeed(guest, f"dd {disk} bs=1M count={mebibytes} 2>/dev/null", timeout_s=60)

        _known[guest] = guest_problem(guest.host, read)
    return _known[guest]
