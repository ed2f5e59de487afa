"""Whether a guest fits into a host's memory."""

from __future__ import annotations

from vbench.contract.host import Host
from vbench.model import Availability
from vbench.system.facts import memory_mib


def room(host: Host, wanted_mib: int, total_mib: int | None = None) -> Availability:
    """Whether a guest of `wanted_mib` is no larger than its host; what is in use now may be free
    when it is launched. `total_mib`: what the host has, where its kernel does not know it. A host
    that does not tell is believed to have it."""
    total = memory_mib(host, "MemTotal") if total_mib is None else total_mib
    if total is None or wanted_mib <= total:
        return Availability(True)
    return Availability(
        False,
        f"a guest of {wanted_mib:,} MiB does not fit: the host has {total:,} MiB of memory",
        f"memory=N with fewer MiB than the host's {total:,}, and with room for what else runs",
    )
