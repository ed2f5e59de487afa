"""How to read a report, and what its words mean."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from vbench.model import Item
from vbench.report import cells, reference
from vbench.report.document import Block, Table, link
from vbench.report.gather import Panel
from vbench.report.types_table import HYBRID
from vbench.results import stats
from vbench.results.formatting import TIMES, code, interval, per_unit, plain, plural, times

TITLE = "How to read this"
GLOSSARY = "Words and flags"

_WORDS = (
    ("native", "the same binaries on the host itself, without a guest"),
    ("guest", "a virtual machine that vbench started, or was given"),
    ("overhead", f"guest / native, per unit of work; {TIMES}1.00 is free"),
    (
        "technique",
        "full virtualization, paravirtualization, or hardware-assisted virtualization",
    ),
    (
        "type 1, type 2, hybrid",
        "a hypervisor directly on the hardware, one in a host's operating system, and one that is "
        f"both. {HYBRID}",
    ),
    (
        "binary translation",
        "the hypervisor rewrites the guest's instructions into safe ones; QEMU's translator is "
        "called TCG",
    ),
    (
        "paravirtualization",
        "the guest's kernel knows its hypervisor and calls it (a hypercall) instead of using "
        "privileged instructions",
    ),
    (
        "hardware-assisted",
        "the CPU runs the guest itself (Intel VT-x, AMD-V) and hands over to the hypervisor when "
        "it must: a VM exit",
    ),
    ("VM exit", "the switch from guest to hypervisor, with the guest's state saved"),
    (
        "EPT, NPT",
        "nested paging: the CPU translates a guest's addresses in hardware; without it the "
        "hypervisor keeps shadow page tables. NPF is a nested page fault",
    ),
    ("VirtIO", "paravirtual disks and network cards, made to need few exits"),
    ("PVH", "a way to start a kernel directly, without firmware"),
    ("slirp", "QEMU's network stack in user mode; it distorts what it carries"),
    (
        "testbed",
        "an emulated machine with AMD-V in which real hypervisors run; its clock counts "
        "instructions, so it says how much code runs and never how long it takes",
    ),
    (
        "boot, round",
        "a guest is booted several times; on each boot a workload runs one or more rounds, each "
        "natively and in the guest within the same seconds",
    ),
    (
        "±",
        "how far the upper bound of the interval is above the figure. The lower bound is as far "
        "below it by division. From 100 % on it is a factor: factor 2 is from half to twice",
    ),
    (f"boots {TIMES} rounds", "how many boots, of how many rounds each"),
    (
        "undecided",
        f"the interval holds {TIMES}1.00 and a high overhead as well, so the figure says nothing",
    ),
    (
        "native → guest",
        "what one unit of work takes: geometric means over boots, so that their quotient is the "
        "overhead",
    ),
    (
        "Host CPU",
        "CPU time per unit of work of all that serves the guest: the QEMU process, or Xen's domain "
        "and dom0",
    ),
    ("vCPU wait", "how long the guest's vCPUs were ready to run and had no CPU, per unit of work"),
    (
        "equal groups",
        "in the testbed: the share of groups of units that equal their median within 0.1 %. The "
        "median is the figure shown; *mean above it* is by how much the mean is larger",
    ),
    ("instr.", "instructions executed by guest and hypervisor together, in the testbed"),
)


def section(panels: Sequence[Panel]) -> list[Block]:
    """The rules behind the numbers, with one figure of this report worked out."""
    return [
        _meaning(panels),
        *_example(panels),
        f"**Words.** *low*: the whole interval is at or below {stats.LOW_MAX:.2f}. *medium*: above "
        f"that, at or below {stats.MEDIUM_MAX:g}. *high*: above {stats.MEDIUM_MAX:g}. *between*: "
        "the interval crosses a bound. *near native*: guest and native are equivalent within "
        f"{stats.LOW_MAX - 1:.0%} (two one-sided tests at 2.5 % each). No word is given for one "
        "boot, nor for kernel code where guest and host run different kernels, nor for counted "
        "disk and network, because a count has no time of devices in it. In the first table each "
        "figure has its own word; one that all figures of a cell share stands once.",
        "**Means.** The mean of a row is the geometric mean over named reference workloads, and "
        "says how many of them were measured. All other workloads stand in the tables per "
        "workload.",
        f"Unknown words are in the {link(GLOSSARY, 'glossary')}.",
    ]


def _meaning(panels: Sequence[Panel]) -> str:
    """What a ratio is by each clock that this report has."""
    timed = any(panel.wall for panel in panels)
    takes = "takes twice as long as" if timed else "executes twice as many instructions as"
    text = (
        f"An overhead of {TIMES}2.00 means that the guest {takes} the host itself for the same "
        "work with the same program."
    )
    if timed and not all(panel.wall for panel in panels):
        text += (
            " Where instructions were counted, it executes twice as many, and brackets hold "
            f"{_COUNTED_BRACKETS}."
        )
    return text


def _example(panels: Sequence[Panel]) -> list[Block]:
    """The first reference workload with an interval over boots, step by step."""
    for panel in panels:
        named = (reference.measured(panel, v, *reference.ALL) for v in panel.variants())
        for item in chain.from_iterable(named):
            value = panel.overheads.get(item.name)
            if value is None or value.low is None or value.boots < 2:
                continue
            return [_worked(panel, item, value)]
    return []


_COUNTED_BRACKETS = "the least and the most of all boots, because counts do not vary at random"


def _worked(panel: Panel, item: Item, value: stats.Overhead) -> str:
    base = panel.host.time_base
    native = per_unit(cells.native_s(item), item.unit, item.category, base)
    guest = per_unit(cells.guest_s(item), item.unit, item.category, base)
    meaning = (
        "the 95 % interval over boots: of a hundred such intervals about 95 hold the true ratio"
        if panel.wall
        else _COUNTED_BRACKETS
    )
    return (
        f"**Example.** {plain(item.workload)} under {code(item.variant)}: {native} natively, "
        f"{guest} in the guest. The ratio is {times(value.ratio)}, from "
        f"{plural(value.n, 'pair')} of runs on {plural(value.boots, 'boot')}. The brackets "
        f"{interval(value)} hold {meaning}. Rounds of a boot are averaged first, because boots "
        "differ from each other more than rounds do."
    )


def glossary() -> list[Block]:
    return [
        "The words of this report, in the sense in which it uses them.",
        Table(["Word", "Meaning"], [[f"**{word}**", meaning] for word, meaning in _WORDS]),
    ]
