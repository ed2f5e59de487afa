"""Cells that several tables share, and the rules for when a number gets no word or no ratio."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence

from vbench.model import TAKEN_OFF, Item, Pair, Statistic, Status, TimeBase
from vbench.results import stats
from vbench.results.exactness import inexact
from vbench.results.formatting import NOTHING, TIMES, duration, interval, number, plural, times
from vbench.results.stats import Overhead

NOT_MEASURED = "not measured"
# In place of a word, and of a ratio; below the table stands why.
KERNELS_DIFFER = "kernels differ"
NO_RATIO = "no ratio: NAT"
ONE_INSTRUCTION_S = 1e-9  # on the instruction base
CPU = (
    "cpu",
    "memory",
    "syscall",
)  # categories whose cost is code that runs, so a count may judge it

# What each flag means. Plugins may set others; those are listed without an explanation.
FLAGS = {
    "budget": "the item's time budget ended before all its rounds were taken",
    "clock": "the clock that timed this round disagreed with vbench's own beyond the limit",
    "cpu-pressure": "tasks waited for a CPU of the host during this round. In every round: "
    "the workload's own processes share a CPU, or the host is always busy",
    "huge_pages_differ": "the guest and native got transparent huge pages by different rules",
    "idle": "the testbed was idle in part of this round, so the speed of the machine beneath it is "
    "in the figure",
    "io_not_pinned": "a thread of the host's kernel that serves the guest's network could run on "
    "the CPUs of the vCPUs, and only root may move it",
    "kernel_differs": "native ran under another kernel than the guest, so all that runs kernel "
    "code differs by more than the virtualization",
    "limits_differ": "native inherited a limit, mask or personality that the guest does not have",
    "native_once": "native was counted once for all variants and boots of the machine, because it "
    "is an exact count",
    "native_is_dom0": "native ran in Xen's dom0, itself a paravirtual domain",
    "not_direct": "direct I/O on the scratch disk was not proven to reach a device, so the figures "
    "may be those of memory: no word",
    "not_exact": "the instructions of this workload are no exact count, because it waits, its "
    "program gives a total, few of its groups are equal, or its boots differ: the table says which",
    "one_boot": "measured on one boot; the interval says nothing about the next boot",
    "outlier": "pairs further than 3.5 robust standard deviations from the median (modified "
    "z-score of the logarithm, Iglewicz and Hoaglin 1993); they are counted in, not dropped",
    "seccomp": "a seccomp filter, as containers have it, slows system calls natively and not in "
    "the guest",
    "other_machine": "native ran on the machine that the user named as reference",
    "reference_is_guest": "the reference that the user named is itself a virtual machine: the "
    "ratio is to that, not to a machine without a hypervisor",
    "cpu_differs": "native ran on another CPU model than the guest: no word",
    "cpus_differ": "the guest's vCPUs are pinned to CPUs that native may not use: no word",
    "disk_differs": "native and guest used disks of their own: no word",
    "file_system_differs": "the guest and native had their files on unlike file systems: no word",
    "nat": "the guest's network passed a network address translation in user mode, which distorts "
    "results: no ratio; the launch facts say whose",
    "overcommitted": "the guest has more vCPUs than its host has CPUs, so one that others wait for "
    "may have none. Workloads of several CPUs had as many threads natively, on the same CPUs",
    "own_network": "packets crossed what lies between the machine and its client, where nothing "
    "native is: no ratio; the launch facts say where the client was",
    "steal": "the host's own hypervisor took CPU time away during this round",
    "tcp_differs": "TCP is set differently in the guest and beside it: no word",
    "tcp_reno": "TCP used reno on both sides, because the host's kernel allows the guest's own "
    "congestion control in no network namespace",
    "cpu_group": "the guest has a CPU control group of its own, as libvirt makes one, and native "
    "is in another: where others want the same CPU, the kernel shares it out by groups",
    "throttled": "a CPU quota of vbench's control group, or of one above it, held it back during "
    "this round",
}


def no_ratio(item: Item) -> bool:
    """Whether a ratio would compare a NAT in user mode with the kernel's network stack."""
    return item.category in ("network", "app") and "nat" in item.flags


def overhead(item: Item) -> Overhead | None:
    """The item's overhead where one may be shown. Worked out once: see `Panel.overheads`."""
    return None if no_ratio(item) else stats.overhead_of(item)


def word(value: Overhead, items: Iterable[Item]) -> str:
    """The verdict on an overhead of these items: bold, or why there is none."""
    items = list(items)
    if any(item.time_base is TimeBase.INSTRUCTIONS and item.category not in CPU for item in items):
        return ""  # the time of devices is not in the count
    if any(map(stats.no_word, items)):
        return KERNELS_DIFFER
    unlike = sorted({flag for item in items for flag in item.flags if flag in stats.UNLIKE})
    if unlike:
        return f"no word ({', '.join(unlike)})"
    found = stats.word(value)
    return f"**{found}**" if found else ""


def verdict(value: Overhead, items: Iterable[Item]) -> str:
    """The word, and where the interval holds 1.00 whether that proves anything."""
    texts = [word(value, items)]
    if stats.equivalent(value):
        texts.append("near native")
    elif value.boots > 1 and not value.significant:
        few = value.boots < stats.MIN_BOOTS
        texts.append("too few boots to tell" if few else "not decided")
    return ", ".join(filter(None, texts))


def undecided(value: Overhead, items: Sequence[Item] = ()) -> str:
    """In place of a figure whose interval says nothing, that and the interval; else empty. Of one
    item, what differed between its boots rather than the interval."""
    if not stats.undecided(value) or value.low is None or value.high is None:
        return ""
    if len(items) == 1 and (sides := _between_boots(items[0])):
        return f"**undecided**: {sides} between boots"
    return f"**undecided**, {times(value.low)} to {times(value.high)}"


def boots_differ(item: Item, value: Overhead) -> bool:
    """Whether its overhead is undecided because a side differs between boots."""
    return stats.undecided(value) and bool(_between_boots(item))


def _between_boots(item: Item) -> str:
    """`natively 47.3 us to 2.68 ms`: the least and the most mean of a boot, of each side on which
    one is more than MEDIUM_MAX times another; empty where neither differs so."""
    texts = []
    for side, logs in (
        ("natively", stats.log_native(item.pairs)),
        ("in the guest", stats.log_guest(item.pairs)),
    ):
        boots = [math.exp(math.fsum(values) / len(values)) for values in logs.values()]
        if boots and max(boots) > stats.MEDIUM_MAX * min(boots):
            ends = [duration(seconds, item.time_base) for seconds in (min(boots), max(boots))]
            texts.append(f"{side} {ends[0]} to {ends[1]}")
    return ", ".join(texts)


def ratio(value: Overhead) -> str:
    """The ratio with its interval, or that it is undecided."""
    return undecided(value) or f"{times(value.ratio)} {interval(value)}"


def overhead_cell(item: Item, value: Overhead | None) -> str:
    """Overhead of one workload with interval and word, or why there is none."""
    if item.statistic is Statistic.ABSOLUTE:
        return f"{NOTHING} (no native counterpart)"
    if no_ratio(item):
        return f"{NOTHING} ({NO_RATIO})"
    if value is None:
        return f"{NOTHING} (no native partner)"
    return undecided(value, [item]) or f"{ratio(value)} {verdict(value, [item])}".strip()


def rounds(pairs: Sequence[Pair]) -> str:
    """`5 (TIMES) 3`, boots times rounds; `5 boots, 14 pairs` where their rounds differ."""
    by_boot: dict[int, int] = {}
    for pair in pairs:
        by_boot[pair.boot] = by_boot.get(pair.boot, 0) + 1
    counts = set(by_boot.values())
    if len(counts) == 1:
        return f"{len(by_boot)} {TIMES} {counts.pop()}"
    return f"{plural(len(by_boot), 'boot')}, {plural(len(pairs), 'pair')}"


def half_width(item: Item, value: Overhead | None) -> str:
    """How far the interval reaches to either side, in per cent, from 100 % on as a factor.
    Empty for less than two boots, where nothing is decided, and where boots differ by less than one
    instruction."""
    if value is None or value.boots < 2 or not value.half_width or stats.undecided(value):
        return NOTHING
    counted = item.time_base is TimeBase.INSTRUCTIONS
    if counted and value.half_width * (guest_s(item) or 0.0) < ONE_INSTRUCTION_S:
        return NOTHING
    if value.half_width >= 1:
        return f"factor {number(1 + value.half_width)}"
    percent = 100 * value.half_width
    return number(percent) if percent >= 1 else f"{percent:.2f}"


def flags(item: Item) -> dict[str, str]:
    """What disturbed some of an item's rounds, with how many, and how many are outliers."""
    found = {}
    steady = conditions(item)
    for flag in {flag for pair in item.pairs for flag in pair.flags} - steady:
        count = sum(flag in pair.flags for pair in item.pairs)
        found[flag] = f"{count} of {len(item.pairs)}"
    if item.statistic is not Statistic.QUANTILES:
        outliers = len(stats.outliers(item.pairs))
        if outliers:
            found["outlier"] = f"{outliers} of {len(item.pairs)}"
    return dict(sorted(found.items()))


def conditions(item: Item) -> frozenset[str]:
    """Flags that hold for the item as a whole or in every one of its rounds: no disturbance, but
    what it was measured under."""
    every = [set(pair.flags) for pair in item.pairs]
    found = set(item.flags) | (set.intersection(*every) if every else set())
    if item.time_base is TimeBase.INSTRUCTIONS and inexact(item):
        found.add("not_exact")
    if item.status is Status.OK and len({pair.boot for pair in item.pairs}) == 1:
        found.add("one_boot")
    return frozenset(found)


def counter(item: Item, name: str) -> float | None:
    """Mean of a counter per unit of work: mean per boot, then over boots.

    None if not counted, or if in a boot it drowns in what was taken off for starting the program:
    it is below 0, or, where time and chance are in what is counted, less than what was taken off.
    """
    means = _boot_means(item, name)
    if not means or min(means) < 0:
        return None
    if item.time_base is TimeBase.WALL:
        taken_off = _boot_means(item, name + TAKEN_OFF)
        if any(less > mean for less, mean in zip(taken_off, means, strict=False)):
            return None
    return sum(means) / len(means)


def counter_names(item: Item) -> frozenset[str]:
    """What was counted beside the time."""
    names = {name for pair in item.pairs for name in pair.counters}
    return frozenset(name for name in names if not name.endswith(TAKEN_OFF))


def _boot_means(item: Item, name: str) -> list[float]:
    boots: dict[int, list[float]] = {}
    for pair in item.pairs:
        if name in pair.counters:
            boots.setdefault(pair.boot, []).append(pair.counters[name])
    return [sum(values) / len(values) for _, values in sorted(boots.items())]


def native_s(item: Item) -> float | None:
    """Typical native seconds per unit of work."""
    return stats.typical(stats.log_native(item.pairs))


def guest_s(item: Item) -> float | None:
    """Typical guest seconds per unit of work. Over the pairs that have a native partner if any
    has, so that guest / native is the overhead shown."""
    paired = [pair for pair in item.pairs if pair.native_s is not None]
    return stats.typical(stats.log_guest(paired or item.pairs))


def exactness(item: Item) -> tuple[str, str]:
    """Of counted instructions: how many groups of units are equal to their median, on the side
    with fewer, and how much more the mean is, which interrupts and the kernel's housekeeping
    add; both in per cent. Nothing by the wall clock."""
    if item.time_base is TimeBase.WALL:
        return NOTHING, NOTHING
    why = inexact(item)
    grouped = [pair for pair in item.pairs if _grouped(pair)]
    if not item.counted or not grouped:
        return (f"no exact count: {why}" if why else "a total: interrupts are in it"), NOTHING
    shares = [share for pair in grouped for share in pair.equal or () if share is not None]
    equal = f"{100 * min(shares):.0f}"
    if why:
        return f"{equal}: no exact count, {why}", NOTHING
    return equal, f"{100 * _mean_above(grouped):+.1f}"


def _mean_above(grouped: Sequence[Pair]) -> float:
    return statistics.median(pair.quantiles["mean"][1] / pair.guest_s - 1 for pair in grouped)


def means(items: Iterable[Item]) -> float | None:
    """The guest's mean of all groups of units over native's, minus 1: unlike their medians, it has
    in it what interrupts and the kernel's housekeeping take on both sides. The most of any of these
    items; None where no groups were counted on both sides."""
    found = [
        statistics.median(ratios)
        for item in items
        if not inexact(item) and (ratios := [*_of_means(item.pairs)])
    ]
    return max(found, default=None)


def _of_means(pairs: Iterable[Pair]) -> Iterator[float]:
    for pair in pairs:
        native, guest = pair.quantiles["mean"] if _grouped(pair) else (None, None)
        if native and guest:
            yield guest / native - 1


def _grouped(pair: Pair) -> bool:
    return pair.equal is not None and "mean" in pair.quantiles


def unmeasured(items: Sequence[Item]) -> str:
    """Why a cell has no number: how many items failed or are unsupported."""
    counts = [
        (sum(item.status is status for item in items), status.value)
        for status in (Status.FAILED, Status.UNSUPPORTED)
    ]
    texts = ", ".join(f"{plural(n, 'workload')} {what}" for n, what in counts if n)
    return f"{NOT_MEASURED}: {texts}" if texts else NOT_MEASURED
