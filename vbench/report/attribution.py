"""Where a hardware-assisted guest's overhead goes: exits times their cost, what serves its devices
beside its vCPU, and the rest."""

from __future__ import annotations

from dataclasses import dataclass

from vbench import exits as words
from vbench import stats
from vbench.model import Item, Statistic, Status, Technique
from vbench.report import cells, exits
from vbench.report.gather import Panel
from vbench.text import NOTHING, TIMES, code, duration, plain, small, table

# Below this ratio to native there is no overhead to explain: a share of it would be noise.
WORTH_EXPLAINING = 1.05
BESIDE = "beside the vCPU"


@dataclass(frozen=True)
class Attribution:
    """Where an item's overhead goes, in seconds per unit of work.

    `parts` are exit reasons with count times price, largest first; `beside` is the CPU time of
    what serves the guest's devices: QEMU's threads that are no vCPU, or dom0. `measured` is guest
    less native.
    """

    item: Item
    native: float
    parts: tuple[tuple[str, float], ...]
    beside: float
    measured: float

    @property
    def predicted(self) -> float:
        return sum(value for _, value in self.parts)

    @property
    def rest(self) -> float:
        """What neither explains; negative where they explain too much."""
        return self.measured - self.predicted - self.beside

    def share(self, seconds: float) -> float:
        """As a share of the measured overhead."""
        return seconds / self.measured


def attributions(panel: Panel) -> list[Attribution]:
    """Of each hardware-assisted item with counted exits and a native partner, where exits have a
    price."""
    out = []
    for item in panel.items:
        if item.status is not Status.OK or item.statistic is not Statistic.RATIO or not item.exits:
            continue
        if item.technique is not Technique.HARDWARE:
            continue  # no price was measured for each of Xen's entries
        guest, native = cells.guest_s(item), cells.native_s(item)
        cheapest = exits.cost(panel, item.variant, words.CHEAPEST)
        if guest is None or native is None or cheapest is None or cells.no_ratio(item):
            continue
        parts = []
        for reason, count in words.split(dict(item.exits)).items():
            if reason.startswith(words.INSIDE):
                continue
            price = exits.cost(panel, item.variant, words.PRICES.get(reason, words.CHEAPEST))
            parts.append((reason, count * max((price or cheapest).net, 0.0)))
        parts.sort(key=lambda part: (-part[1], part[0]))
        host, vcpu = (cells.counter(item, name) for name in ("host_cpu_s", "vcpu_cpu_s"))
        # an older file does not tell them apart
        beside = 0.0 if host is None or vcpu is None else max(host - vcpu, 0.0)
        out.append(Attribution(item, native, tuple(parts), beside, guest - native))
    return out


def worth_explaining(panel: Panel) -> list[Attribution]:
    """Those with an overhead to explain."""
    return [
        one
        for one in attributions(panel)
        if (value := panel.overheads.get(one.item.name)) is not None
        and value.ratio > WORTH_EXPLAINING
    ]


def dependence(panel: Panel) -> tuple[stats.Correlation, int] | None:
    """Whether overhead rises with exits times cost, both over native time, and over how many
    workloads and variants; None where there are too few to tell."""
    found = attributions(panel)
    correlation = stats.rank_correlation(
        [(one.predicted / one.native, one.measured / one.native) for one in found]
    )
    return None if correlation is None else (correlation, len(found))


def told(panel: Panel) -> list[str]:
    """The table of all of them."""
    found = attributions(panel)
    if not found:
        return []
    worth = {one.item.name for one in worth_explaining(panel)}

    def signed(seconds: float) -> str:
        sign = "-" if seconds < 0 else "+"
        return f"{sign}{duration(abs(seconds), panel.host.time_base)}" if seconds else "0"

    rows = [
        [
            f"{plain(one.item.workload)}<br>{small('per ' + plain(one.item.unit))}",
            code(one.item.variant),
            *map(signed, (one.measured, one.predicted, one.beside, one.rest)),
            f"{one.share(one.predicted):.0%}, {one.share(one.predicted + one.beside):.0%}"
            if one.item.name in worth
            else NOTHING,
            "; ".join(f"{plain(n)} {signed(v)}" for n, v in one.parts[:3] if v > 0) or NOTHING,
        ]
        for one in found
    ]
    headings = [
        "Workload",
        "Variant",
        "Measured overhead",
        f"Exits {TIMES} cost",
        f"B{BESIDE[1:]}",
    ]
    body = table([*headings, "Rest", "Explained", "Largest exits"], rows)
    note = (
        "Measured is guest less native. Beside the vCPU: CPU time of QEMU's other threads, for Xen "
        "of dom0, which do the input and output of the guest's devices; on a CPU of their own they "
        "delay nothing, and the rest is that much too small. Explained: by exits, and by both, "
        f"where the overhead is more than {WORTH_EXPLAINING - 1:.0%} of native. A reason "
        "that none of the events above makes by itself is priced as the cheapest exit, CPUID. So "
        "the rest holds what dearer exits cost beyond that and device models inside an exit, the "
        "host's kernel, waiting, caches and TLB. A negative rest: more is explained than there is, "
        "as the prices were taken one by one."
    )
    return ["**Overhead explained by exits**", body, note]
