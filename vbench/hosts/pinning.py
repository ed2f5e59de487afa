"""Which CPUs of a host serve a guest, its native counterpart, and what works for them.

The vCPUs of a guest and native have the same CPUs. QEMU's other threads have others, and so do
the clients of network workloads, where there are others.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from vbench.contract.host import Host

# Prints the names of nodes, and files with their text: which threads share a core, how fast it is.
# cpu_capacity or cpuinfo_max_freq tells the kinds of a hybrid machine's cores apart.
_TOPOLOGY = """
cd /sys/devices/system/cpu && ls -d cpu[0-9]*/node[0-9]* &&
grep -Hs '' cpu[0-9]*/topology/thread_siblings_list cpu[0-9]*/cpu_capacity \\
  cpu[0-9]*/cpufreq/cpuinfo_max_freq
"""
_NODE = re.compile(r"^cpu(\d+)/node(\d+)$", re.MULTILINE)
_CORE = re.compile(r"^cpu(\d+)/topology/\w+:(\S+)$", re.MULTILINE)
_SPEED = re.compile(r"^cpu(\d+)/cpu\w+(?:/\w+)?:(\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Cpu:
    """One CPU of the kernel. `core` names the threads that share a core, `node` its memory."""

    number: int
    node: int
    core: str
    speed: int


@dataclass(frozen=True)
class Placement:
    """CPU numbers. Empty: not pinned, for the reason in `why`."""

    vcpus: tuple[int, ...] = ()  # one for each vCPU
    io: tuple[int, ...] = ()  # threads of the hypervisor that are no vCPU
    clients: tuple[int, ...] = ()
    why: str = ""


UNPINNED = Placement(why="pin=off")

_known: weakref.WeakKeyDictionary[Host, list[Cpu]] = weakref.WeakKeyDictionary()


def placement(host: Host, vcpus: int) -> Placement:
    """The CPUs of `host` for guests with `vcpus`, the same at each call. Raises HostError."""
    return place(_allowed(host), vcpus)


def overcommitted(host: Host, vcpus: int) -> str:
    """That a guest's `vcpus` are more than the CPUs of `host`; else empty. Raises HostError."""
    count = len(_allowed(host))
    return f"{vcpus} vCPUs share {count} CPU{'s' if count > 1 else ''}" if vcpus > count else ""


def beside(host: Host, cpus: Collection[int]) -> Placement:
    """As `placement`, for a guest whose vCPUs somebody else put on `cpus`: native gets those of
    them that we may use, clients get the others. Raises HostError."""
    numbers = [cpu.number for cpu in _allowed(host)]
    return Placement(
        vcpus=tuple(number for number in numbers if number in cpus),
        clients=tuple(number for number in numbers if number not in cpus),
    )


def _allowed(host: Host) -> list[Cpu]:
    if host not in _known:
        _known[host] = _cpus(host)
    return _known[host]


def place(cpus: Sequence[Cpu], vcpus: int) -> Placement:
    """Choose among the CPUs that may be used: whole cores of one kind in one node if possible.

    The core of the lowest number is taken last, because it takes most interrupts.
    """
    if len(cpus) == 1:
        return Placement(why="the host has one CPU")
    if vcpus > len(cpus):
        return Placement(why=f"{vcpus} vCPUs, but the host has {len(cpus)} CPUs")
    chosen = _choose(cpus, vcpus)
    cores, node = {cpu.core for cpu in chosen}, chosen[0].node
    free = [cpu for cpu in cpus if cpu not in chosen]
    # the best first: another core of the same node, any other core, another thread of a core
    apart = [cpu for cpu in free if cpu.core not in cores]
    near = [cpu for cpu in apart if cpu.node == node]
    others = [cpu.number for cpu in near or apart or free]
    half = (len(others) + 1) // 2
    return Placement(
        vcpus=tuple(cpu.number for cpu in chosen),
        io=tuple(others[:half]),
        clients=tuple(others[half:] or others),
        why="" if others else "all CPUs are taken by vCPUs",
    )


def _choose(cpus: Sequence[Cpu], count: int) -> list[Cpu]:
    first_core = min(cpus, key=lambda cpu: cpu.number).core
    preferred = sorted(cpus, key=lambda cpu: (cpu.core == first_core, cpu.number))
    nodes = [_in_node(preferred, node) for node in dict.fromkeys(cpu.node for cpu in preferred)]
    fastest = max(cpu.speed for cpu in cpus)
    for group in (*nodes, preferred):
        whole = _one_per_core(cpu for cpu in group if cpu.speed == fastest)
        if len(whole) >= count:
            return whole[:count]
    for group in (*nodes, preferred):
        if len(group) >= count:
            return sorted(group, key=lambda cpu: -cpu.speed)[:count]
    raise AssertionError("the caller has checked that there are enough CPUs")


def _in_node(cpus: Iterable[Cpu], node: int) -> list[Cpu]:
    return [cpu for cpu in cpus if cpu.node == node]


def _one_per_core(cpus: Iterable[Cpu]) -> list[Cpu]:
    cores: dict[str, Cpu] = {}
    for cpu in cpus:
        cores.setdefault(cpu.core, cpu)
    return list(cores.values())


def _cpus(host: Host) -> list[Cpu]:
    """The CPUs that a process started on `host` may use."""
    allowed = ""
    for line in host.read("/proc/self/status").splitlines():
        if line.startswith("Cpus_allowed_list:"):
            allowed = line.partition(":")[2]
    numbers = parse_list(allowed)
    text = host.run(["sh", "-c", _TOPOLOGY], timeout_s=20).stdout
    nodes, cores, speeds = (dict(each.findall(text)) for each in (_NODE, _CORE, _SPEED))
    return [
        Cpu(
            number,
            node=int(nodes.get(str(number), 0)),
            core=cores.get(str(number), str(number)),
            speed=int(speeds.get(str(number), 0)),
        )
        for number in numbers
    ]


def parse_list(text: str) -> list[int]:
    """The numbers of the kernel's list format: "0-2,7" is 0, 1, 2, 7."""
    numbers: list[int] = []
    for part in text.strip().split(","):
        low, _, high = part.partition("-")
        if low:
            numbers.extend(range(int(low), int(high or low) + 1))
    return numbers
