"""What a running QEMU really uses for the disk and the network, and what a host allows it to use.

QEMU replaces some of what it is asked for by something slower, with no more than a line on
standard error: an I/O engine by threads, vhost by its own code. A label must not survive that.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vbench.contract.host import Host
from vbench.errors import HostError
from vbench.hosts.pinning import Placement, parse_list
from vbench.hypervisors.qemu.binary import find
from vbench.hypervisors.qemu.bundle import Binary
from vbench.hypervisors.qemu.cmdline import Disk
from vbench.model import Availability

Query = Callable[..., Any]  # a QMP command, its arguments; None where QEMU does not know it

# QEMU's block/file-posix.c since 9.0 (raw_check_linux_io_uring, raw_check_linux_aio)
_FALLS_BACK = "falling back to thread pool"
_IO_URING = "anon_inode:[io_uring]"
_LINUX_AIO = "[aio]"  # the kernel's name for the mapped ring of io_setup(2)
_VHOST = "/dev/vhost-net"
_KVM = "/dev/kvm"

# One read by the engine in question from a file that is there on every host: QEMU itself.
# $1 how, $2 QEMU's file, the rest what starts it
_TRY_ENGINE = """
how=$1 file=$(command -v "$2"); shift 2
printf '%s\\n' 'qemu-io probed "read 0 512"' quit | timeout 30 "$@" -machine none -nodefaults \\
  -no-user-config -display none -monitor stdio \\
  -blockdev "driver=file,node-name=probed,filename=$file,read-only=on,$how"
"""
# $1 a process: its file descriptors, its mapped memory, the CPUs of its threads; of further ones
# those only
_LOOK = """
for descriptor in /proc/$1/fd/*; do readlink "$descriptor"; done
echo
cat /proc/$1/maps || exit
echo
for process in "$@"; do grep -H ^Cpus_allowed_list: /proc/$process/task/*/status; done
"""
_ALLOWED = re.compile(r"/task/(\d+)/status:Cpus_allowed_list:\s*(\S+)")
_REMEDY = {
    "io_uring": "`sysctl kernel.io_uring_disabled` must be 0 and no seccomp filter may refuse it, "
    "as those of containers do; or use aio=threads",
    "native": "`sysctl fs.aio-max-nr` may be exhausted; or use aio=threads",
}

_engines: weakref.WeakKeyDictionary[Host, dict[tuple[str, str], Availability]] = (
    weakref.WeakKeyDictionary()
)


def engine(host: Host, aio: str, qemu: str = "") -> Availability:
    """Whether QEMU on `host` (`qemu`: another than the installed) can use the I/O engine `aio`,
    found by using it once."""
    if aio == "threads":
        return Availability(True)
    known = _engines.setdefault(host, {})
    if (qemu, aio) not in known:
        known[qemu, aio] = _engine(host, aio, find(host, qemu))
    return known[qemu, aio]


def _engine(host: Host, aio: str, binary: Binary) -> Availability:
    how = f"aio={aio}" + (",cache.direct=on" if aio == "native" else "")
    script = ["sh", "-c", _TRY_ENGINE, "vbench-engine", how, binary.path, *binary.command]
    done = host.run(script, timeout_s=40 * host.timeout_scale)
    if done.status == 0 and _FALLS_BACK not in done.stderr:
        return Availability(True)
    lines = done.stderr.strip().splitlines()
    why = lines[-1].rpartition("Unable to use ")[2] if lines else f"exit status {done.status}"
    return Availability(False, f"aio={aio} cannot be used here: {why}", _REMEDY[aio])


def vhost(host: Host, nic: str) -> Availability:
    """Whether QEMU on `host` may let the kernel serve a network card of model `nic` (vhost-net)."""
    if not nic.startswith("virtio"):
        return Availability(False, f"vhost serves virtio network cards only, not {nic}")
    remedy = "`modprobe vhost_net` as root, and access to /dev/vhost-net; or use vhost=off"
    if host.run(["test", "-r", _VHOST, "-a", "-w", _VHOST], timeout_s=10).status != 0:
        return Availability(False, f"{_VHOST} is absent or not ours to use", remedy)
    if host.network() is None:
        return Availability(
            False,
            "vhost needs a tap, and vbench can make none on this host",
            "allow user namespaces and access to /dev/net/tun; or use vhost=off",
        )
    return Availability(True)


def direct(host: Host) -> Availability:
    """Whether the file system of the scratch disk takes direct I/O (cache=none)."""
    path = host.scratch().path
    read = ["dd", f"if={path}", "of=/dev/null", "bs=4096", "count=1", "iflag=direct"]
    done = host.run(read, timeout_s=20)
    if done.status == 0:
        return Availability(True)
    return Availability(
        False,
        f"the scratch disk {path} cannot be read by direct I/O: "
        f"{done.stderr.strip().rpartition(': ')[2]}",
        "set VBENCH_TMP to a folder on a disk, or use cache=writeback",
    )


@dataclass(frozen=True)
class Process:
    """A QEMU process as the kernel of its host sees it."""

    descriptors: tuple[str, ...]  # what its file descriptors are
    maps: str
    cpus: Mapping[int, str]  # by thread, the CPUs that it may use, in the kernel's list format

    @classmethod
    def of(cls, host: Host, pid: int, kernel_threads: Sequence[int] = ()) -> Process:
        """`kernel_threads` serve it. Raises HostError where the kernel does not tell."""
        argv = ["sh", "-c", _LOOK, "vbench-look", str(pid), *map(str, kernel_threads)]
        done = host.run(argv, timeout_s=20)
        if done.status != 0:
            raise HostError(f"cannot look at process {pid}", evidence=done.stderr)
        descriptors, maps, cpus = done.stdout.split("\n\n", 2)
        found = {int(thread): allowed for thread, allowed in _ALLOWED.findall(cpus)}
        return cls(tuple(descriptors.splitlines()), maps, found)

    @property
    def vhost(self) -> int:
        """How many devices are served by vhost."""
        return self.descriptors.count(_VHOST)

    @property
    def kvm(self) -> bool:
        """Whether it asks the kernel's KVM; else it is a process like any other."""
        return _KVM in self.descriptors

    @property
    def engines(self) -> frozenset[str]:
        """I/O engines of the kernel that it has set up."""
        found = {"native"} if _LINUX_AIO in self.maps else set()
        return frozenset(found | ({"io_uring"} if _IO_URING in self.descriptors else set()))


def look(
    disk: Disk, name: str, *, vhost: bool, process: Process, query: Query, log: str
) -> tuple[dict[str, str], list[str]]:
    """What QEMU uses for disk `name` and the network, and what of it was not asked for.

    `log` is all that it wrote to standard error.
    """
    cache = _cache(query, name)
    thread, queues = (_property(query, name, key) for key in ("iothread", "num-queues"))
    evidence = {
        "disk: cache": " ".join(f"{key}={_on(cache[key])}" for key in sorted(cache)),
        "disk: I/O engines set up": " ".join(sorted(process.engines)) or "none of the kernel's",
        "disk: I/O thread": thread or "none",
        "disk: queues": queues or "one",
        "network: devices served by vhost": str(process.vhost),
        "process: /dev/kvm": "open" if process.kvm else "not open",
    }
    problems = [line.strip() for line in log.splitlines() if _FALLS_BACK in line]
    problems += _unlike(
        {
            "cache.direct": (disk.cache == "none", cache.get("direct", False)),
            "cache.no-flush": (disk.cache == "unsafe", cache.get("no-flush", False)),
            "vhost": (vhost, process.vhost > 0),
            "the disk's I/O thread": (disk.iothread, bool(thread)),
        }
    )
    if queues not in ("", str(disk.queues)):
        problems.append(f"the disk has {queues} queues, not {disk.queues}")
    if disk.aio != "threads" and disk.aio not in process.engines:
        problems.append(f"aio={disk.aio} was not set up")
    return evidence, problems


def floating(host: Host, pid: int, places: Placement, kernel_threads: Sequence[int]) -> str:
    """Whether a thread of the kernel that serves the network of process `pid` may run on the CPUs
    of its vCPUs."""
    if not kernel_threads or not places.io:
        return ""
    cpus = Process.of(host, pid, kernel_threads).cpus
    allowed = {cpus.get(thread, "unknown") for thread in kernel_threads}
    wrong = [each for each in allowed if each == "unknown" or set(parse_list(each)) - {*places.io}]
    return f"vhost's thread may run on CPUs {' '.join(wrong)}" if wrong else ""


def pinned(
    process: Process,
    places: Placement,
    vcpu_threads: Sequence[int],
    kernel_threads: Sequence[int] = (),
) -> tuple[dict[str, str], list[str]]:
    """Where threads may run, and what of it is not as `places` says. A user who is not root cannot
    move the kernel's: that is told, and flagged, and no reason to measure nothing."""
    if not places.vcpus:
        return {"CPUs": f"not pinned: {places.why}"}, []
    allowed = [process.cpus.get(thread, "unknown") for thread in vcpu_threads]
    own = {*vcpu_threads, *kernel_threads}
    others = sorted({cpus for thread, cpus in process.cpus.items() if thread not in own})
    placement = {"CPUs": f"vCPUs {' '.join(allowed)}; other threads {' '.join(others)}"}
    for thread in kernel_threads:
        placement["CPUs"] += f"; the kernel's for vhost {process.cpus.get(thread, 'unknown')}"
    problems = []
    if allowed != [str(cpu) for cpu in places.vcpus]:
        problems.append(f"vCPUs are on CPUs {' '.join(allowed)}, not {places.vcpus}")
    if places.io and any(set(parse_list(cpus)) != set(places.io) for cpus in others):
        problems.append(f"other threads are on CPUs {' '.join(others)}, not {places.io}")
    return placement, problems


def _unlike(settings: Mapping[str, tuple[bool, bool]]) -> list[str]:
    return [
        f"{name} is {_on(real)}, not {_on(asked)}"
        for name, (asked, real) in settings.items()
        if real is not asked
    ]


def _on(value: bool) -> str:
    return "on" if value else "off"


def _cache(query: Query, node: str) -> Mapping[str, bool]:
    nodes = query("query-named-block-nodes", {"flat": True}) or []
    found: Mapping[str, bool] = next((n["cache"] for n in nodes if n["node-name"] == node), {})
    return found


def _property(query: Query, disk: str, name: str) -> str:
    """A property of the disk's device, "" where it has none."""
    path = f"/machine/peripheral/{disk}dev"
    listed = query("qom-list", {"path": path}) or []
    if name not in {each["name"] for each in listed}:
        return ""
    return str(query("qom-get", {"path": path, "property": name}) or "")
