"""Whether direct I/O on the scratch disk reaches a device: proven by the device's own counters."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from dataclasses import dataclass

from vbench.contract.host import Host, Scratch
from vbench.errors import Unsupported

# File systems that are memory. tmpfs accepts O_DIRECT since Linux 6.6 and ignores it.
IN_MEMORY = ("tmpfs", "ramfs", "devtmpfs", "hugetlbfs")
_PIECE_MIB = 16
_TRIES = 3
# Sectors of /sys/block have 512 bytes (Documentation/block/stat.rst). Not all: btrfs reads a first
# block, into memory that was not touched before, through the page cache.
_MIN_SECTORS = 0.9 * _PIECE_MIB * (1 << 20) / 512

# Sectors that all devices with hardware behind them (no loop, RAM or mapped device) have read and
# written so far: fields 3 and 7 of their statistics.
_COUNTED = """
counted() {
  for folder in /sys/block/*; do
    [ -e "$folder/device" ] && cat "$folder/stat"
  done | { r=0 w=0; while read -r _ _ a _ _ _ b _; do r=$((r+a)) w=$((w+b)); done; echo $r $w; }
}
"""
# $1 scratch file. A line with its device and the type of its file system; then the counters before
# and after each of the direct reads and writes.
_PROVE = rf"""{_COUNTED}
df -PT "$1" | tail -n 1
counted
for try in $(seq {_TRIES}); do
  dd if="$1" of=/dev/null bs=1M count={_PIECE_MIB} iflag=direct 2>/dev/null || exit
  counted
  dd if=/dev/urandom of="$1" bs=1M count={_PIECE_MIB} oflag=direct conv=notrunc iflag=fullblock \
    2>/dev/null || exit
  counted
done
"""


@dataclass(frozen=True)
class DiskPath:
    """Where the scratch disk lies. `problem`: why figures from it may be the host's memory's."""

    device: str
    file_system: str
    problem: str = ""


_known: weakref.WeakKeyDictionary[Host, tuple[Scratch, DiskPath]] = weakref.WeakKeyDictionary()


def disk_path(host: Host) -> DiskPath:
    """The scratch disk of `host`, filled before, with the proof; asked once for each.

    Raises Unsupported where its file system
    is memory, HostError.
    """
    scratch = host.scratch()
    if host not in _known or _known[host][0] != scratch:
        _known[host] = scratch, _ask(host, scratch)
    path = _known[host][1]
    if path.file_system in IN_MEMORY:
        raise Unsupported(
            f"the scratch disk is on {path.file_system}, which is memory: set VBENCH_TMP to a "
            "folder on a disk"
        )
    return path


def _ask(host: Host, scratch: Scratch) -> DiskPath:
    if scratch.in_memory:
        return DiskPath(scratch.path, "none")
    out = host.run(["sh", "-c", _PROVE, "vbench-disk", scratch.path], timeout_s=60)
    device, file_system = "unknown", "unknown"
    lines = out.stdout.splitlines()
    if lines and len(lines[0].split()) > 1:
        device, file_system, *_ = lines.pop(0).split()
    return DiskPath(device, file_system, problem(_counts(lines)))


def guest_problem(host: Host, read: Callable[[int], object]) -> str:
    """As `problem`, for a guest of `host`: `read(MIB)` reads from its disk by direct I/O, the same
    at each call. Behind a cache of the host the second time would reach no device."""
    if host.scratch().in_memory:
        return ""
    before = _counted(host)
    for _ in range(_TRIES):
        read(_PIECE_MIB)
        after = _counted(host)
        if after - before < _MIN_SECTORS:
            return "what the guest read by direct I/O did not reach a device of its host"
        before = after
    return ""


def _counted(host: Host) -> int:
    out = host.run(["sh", "-c", f"{_COUNTED}counted"], timeout_s=20)
    return _counts(out.stdout.splitlines())[0][0]


def _counts(lines: list[str]) -> list[tuple[int, int]]:
    return [(int(read), int(written)) for read, written in map(str.split, lines)]


def problem(counts: list[tuple[int, int]]) -> str:
    """Judge sectors (read, written) so far, before and after reads and writes in turn."""
    if len(counts) < 2 * _TRIES + 1:
        return "its file system refuses direct I/O"
    if counts[-1] == (0, 0):
        return "no device of this host can be seen, so nothing proves that direct I/O reaches one"
    for step, (before, after) in enumerate(itertools.pairwise(counts)):
        side = step % 2
        if after[side] - before[side] < _MIN_SECTORS:
            what = ("read", "written")[side]
            return f"what was {what} by direct I/O did not reach a device of this host"
    return ""
