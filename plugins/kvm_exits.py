"""How often a KVM guest left for the host: by kind without privileges, by reason where the
kernel's tracepoints may be used."""

import contextlib
import re
import shlex
from collections.abc import Callable, Iterator, Mapping

from vbench.contract.guest import Guest
from vbench.contract.hookspecs import hookimpl
from vbench.contract.undo import undone
from vbench.errors import ConnectionLost, HostError
from vbench.hypervisors.libvirt.machine import LibvirtMachine
from vbench.hypervisors.qemu.machine import QemuMachine
from vbench.results import exit_reasons

# The kernel's Documentation/virt/kvm/api.rst, KVM_GET_STATS_FD. `exits` counts all of them.
NAMES = (
    *("exits", "io_exits", "mmio_exits", "halt_exits", "irq_exits", "irq_window_exits"),
    *("signal_exits", "request_irq_exits", "hypercalls", "fpu_reload", "insn_emulation"),
    *("pf_taken", "tlb_flush", "host_state_reload"),
)

_MACHINES = (QemuMachine, LibvirtMachine)  # those that answer QMP

TRACING = "/sys/kernel/tracing"
# Documentation/trace/histogram.rst: counted in the kernel, nothing is recorded event by event.
HISTOGRAMS = {
    "kvm_exit": "hist:keys=common_pid,isa,exit_reason:size=4096",
    "kvm_userspace_exit": "hist:keys=common_pid,reason:size=4096",
}
# What is mounted stays: without a trigger it costs nothing.
_READY = f"""
test -d {TRACING}/events || mount -t tracefs t {TRACING} || exit
test -w {TRACING}/events/kvm/kvm_exit/trigger
"""
_TIMEOUT_S = 20.0


@hookimpl
def vbench_counters(guest: Guest) -> Mapping[str, int]:
    """Sums over the vCPUs by QMP query-stats (QEMU 7.1 and later); nothing without KVM."""
    if not isinstance(guest.machine, _MACHINES):
        return {}
    found = guest.machine.query(
        "query-stats",
        {"target": "vcpu", "providers": [{"provider": "kvm", "names": list(NAMES)}]},
    )
    sums: dict[str, int] = {}
    for vcpu in found or ():
        for stat in vcpu["stats"]:
            sums[stat["name"]] = sums.get(stat["name"], 0) + int(stat["value"])
    return sums


@hookimpl
def vbench_exit_histogram(
    guest: Guest,
) -> contextlib.AbstractContextManager[Callable[[], Mapping[str, int]]] | None:
    """Exits by reason, counted by the kernel's tracepoints; None without KVM or permission."""
    machine = guest.machine
    if not isinstance(machine, _MACHINES):
        return None
    if not (machine.query("query-kvm") or {}).get("enabled"):
        return None
    threads = [int(cpu["thread-id"]) for cpu in machine.query("query-cpus-fast") or ()]
    if not threads or not _shell(guest, _READY):
        return None
    return _counting(guest, frozenset(threads))


@contextlib.contextmanager
def _counting(guest: Guest, threads: frozenset[int]) -> Iterator[Callable[[], Mapping[str, int]]]:
    files = {name: f"{TRACING}/events/kvm/{name}" for name in HISTOGRAMS}

    def trigger(name: str, sign: str = "") -> str:
        return f"echo {shlex.quote(sign + HISTOGRAMS[name])} >{files[name]}/trigger"

    def read() -> Mapping[str, int]:
        paths = [f"{path}/hist" for path in files.values()]
        done = guest.host.run(["cat", *paths], timeout_s=_TIMEOUT_S)
        if done.status != 0:
            raise HostError("the kernel's histogram cannot be read", evidence=done.stderr)
        text = done.stdout
        dropped = sum(map(int, re.findall(r"^ *Dropped: *(\d+)", text, re.MULTILINE)))
        if dropped:
            raise HostError(f"the kernel left {dropped} exits out of its histogram")
        return parse(text, threads)

    # one by one: what was set before another failed is removed as well
    remove = "\n".join(f"{trigger(name, '!')} 2>/dev/null || :" for name in HISTOGRAMS)
    with undone(guest.host, remove):
        if not _shell(guest, " && ".join(map(trigger, HISTOGRAMS))):
            raise HostError(
                "the kernel refuses to count exits", remedy="another tracer may be active"
            )
        yield read


def parse(text: str, threads: frozenset[int]) -> dict[str, int]:
    """Both histograms' text to exits by name, of these threads (other guests are not ours)."""
    counts: dict[str, int] = {}
    for keys, hits in re.findall(r"^\{ (.*?) \} hitcount: *(\d+)", text, re.MULTILINE):
        fields = {name: int(value) for name, value in re.findall(r"(\w+): *(\d+)", keys)}
        if fields.get("common_pid") not in threads:
            continue
        if "exit_reason" in fields:
            name = exit_reasons.reason(fields["isa"], fields["exit_reason"])
        else:
            name = exit_reasons.to_qemu(fields["reason"])
        counts[name] = counts.get(name, 0) + int(hits)
    return counts


def _shell(guest: Guest, script: str) -> bool:
    try:
        return guest.host.run(["sh", "-c", script], timeout_s=_TIMEOUT_S).status == 0
    except (HostError, ConnectionLost):
        return False
