"""How often a KVM guest left for the host, by kind: QMP query-stats (QEMU 7.1 and later)."""

from collections.abc import Mapping

from vbench.guest import Guest
from vbench.hookspecs import hookimpl

# The kernel's Documentation/virt/kvm/api.rst, KVM_GET_STATS_FD. `exits` counts all of them.
NAMES = (
    *("exits", "io_exits", "mmio_exits", "halt_exits", "irq_exits", "irq_window_exits"),
    *("signal_exits", "request_irq_exits", "hypercalls", "fpu_reload", "insn_emulation"),
    *("pf_taken", "tlb_flush", "host_state_reload"),
)


@hookimpl
def vbench_counters(guest: Guest) -> Mapping[str, int]:
    """Sums over the vCPUs; nothing where there is no KVM."""
    found = guest.machine.query(
        "query-stats",
        {"target": "vcpu", "providers": [{"provider": "kvm", "names": list(NAMES)}]},
    )
    sums: dict[str, int] = {}
    for vcpu in found or ():
        for stat in vcpu["stats"]:
            sums[stat["name"]] = sums.get(stat["name"], 0) + int(stat["value"])
    return sums
