"""The comparison of the techniques at length: every variant, its intervals, sources, evidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vbench.model import Item, Launch, Statistic, Technique
from vbench.records import NetworkPath
from vbench.report import cells, reference, units
from vbench.report.document import Block, Table, link
from vbench.report.gather import Gathered, Panel
from vbench.report.reference import ReferenceSet
from vbench.results import stats
from vbench.results.formatting import (
    NOTHING,
    code,
    interval,
    number,
    plain,
    plural,
    share,
    signed,
    small,
    span,
    times,
    unit_bytes,
)

# Boot time of the overview: the first phase that the launches have. The section has the others.
BOOT_PHASES = ("launch to command", "launch to ready", "kernel to userspace")

Cell = Callable[[Panel, str], str]


def techniques(gathered: Gathered, panel: Panel) -> list[Block]:
    """What each technique is, costs the CPU, and was attested to be, for one panel."""
    rows = [["**Measured as**", *(_measured_as(panel, t) for t in Technique)]]
    rows.append(
        ["**Guest OS modification**", *_stated(gathered, panel, "guest_os", _seen_in_guest)]
    )
    rows += _rows(panel, _cpu_rows())
    rows.append(["**Windows support**", *_stated(gathered, panel, "windows")])
    rows.append(["**Key technology**", *(_technology(gathered, panel, t) for t in Technique)])
    rows.append(["**Current usage**", *_stated(gathered, panel, "usage")])
    return _with_footnotes(rows, panel)


def io(panel: Panel) -> list[Block]:
    """Disk and network of each technique, for one panel."""
    return _with_footnotes(_rows(panel, _io_rows(panel)), panel)


def _rows(panel: Panel, rows: Sequence[tuple[str, Cell]]) -> list[list[str]]:
    return [[f"**{name}**", *(_column(panel, t, cell) for t in Technique)] for name, cell in rows]


def _with_footnotes(rows: list[list[str]], panel: Panel) -> list[Block]:
    headings = ["Aspect", *(t.value[0].upper() + t.value[1:] for t in Technique)]
    return [Table(headings, rows), *_footnotes("".join(map("".join, rows)), panel)]


def _mean_cell(of: ReferenceSet, shown: Callable[[stats.Overhead], str]) -> Cell:
    return lambda panel, variant: _mean(panel, variant, of, shown)


def _cpu_rows() -> list[tuple[str, Cell]]:
    return [
        ("CPU overhead: computing", _mean_cell(reference.COMPUTING, _overhead)),
        ("CPU overhead: memory", _mean_cell(reference.MEMORY, _overhead)),
        ("CPU overhead: system calls", _mean_cell(reference.SYSTEM_CALLS, _overhead)),
    ]


def _io_rows(panel: Panel) -> list[tuple[str, Cell]]:
    if panel.wall:
        rows: list[tuple[str, Cell]] = [
            ("Disk throughput, % of native", _mean_cell(reference.DISK_THROUGHPUT, share)),
            ("Disk time per operation", _mean_cell(reference.DISK_OPERATIONS, _overhead)),
            ("Network throughput, % of native", _mean_cell(reference.NETWORK_THROUGHPUT, share)),
            ("Network time per operation", _mean_cell(reference.NETWORK_OPERATIONS, _overhead)),
        ]
    else:
        rows = [
            ("Disk: extra instructions", lambda p, v: _extra(p, v, "disk")),
            ("Network: extra instructions", lambda p, v: _extra(p, v, "network")),
        ]
    for category in ("disk", "network"):
        costs = [_host_cpu(panel, variant, category) for variant in panel.variants()]
        if all(found is None for found in costs):
            continue
        scale = units.clock(panel.host.time_base)
        counted = [cost for found in costs for cost in found or ()]
        unit, size = scale.choose(counted)
        name = f"Host CPU per {category} operation" + (f", {unit}" if counted else "")
        rows.append((name, _host_cpu_cell(category, scale, size)))
    return rows


def _measured_as(panel: Panel, technique: Technique) -> str:
    lines = []
    for variant in panel.variants(technique):
        boots = {p.boot for i in panel.items if i.variant == variant for p in i.pairs}
        lines.append(f"{code(variant)}, " + (plural(len(boots), "boot") if boots else "no sample"))
    by_reason: dict[str, list[str]] = {}
    for entry in panel.unavailable:
        if entry.technique == technique.value:
            by_reason.setdefault(entry.reason, []).append(entry.backend)
    for reason, backends in sorted(by_reason.items()):
        lines.append(f"{', '.join(map(code, backends))}: not available here: {plain(reason)}")
    return "<br>".join(lines) or "no backend was asked for"


def _column(panel: Panel, technique: Technique, cell: Cell) -> str:
    """What each variant has; one without a figure is left out where another has one."""
    texts: dict[str, list[str]] = {}
    for variant in panel.variants(technique):
        texts.setdefault(cell(panel, variant), []).append(code(variant))
    if len(texts) > 1:
        texts.pop(cells.NOT_MEASURED, None)
    if set(texts) <= {cells.NOT_MEASURED}:
        return cells.NOT_MEASURED
    return "<br>".join(f"{', '.join(variants)} {text}" for text, variants in texts.items())


def _missing(panel: Panel, variant: str, *categories: str) -> str:
    return cells.unmeasured(
        [i for i in panel.items if i.variant == variant and i.category in categories]
    )


def _mean(
    panel: Panel,
    variant: str,
    of: ReferenceSet,
    shown: Callable[[stats.Overhead], str],
) -> str:
    """Geometric mean over the reference workloads of a row, with word and extremes."""
    used = reference.measured(panel, variant, of)
    if not used:
        items = reference.asked(panel, variant, of)
        if not items:
            return _missing(panel, variant, of.category)
        why = cells.NO_RATIO if any(map(cells.no_ratio, items)) else "no ratio"
        return f"{why}<br>{small('the guest alone: ' + link('Every workload'))}"
    mean = stats.geometric_mean(used)
    if mean is None:
        return "no boot has all workloads"
    word = cells.verdict(mean.overhead, used)
    if shown is share and word.startswith("**"):
        word = f"overhead {word}"
    text = cells.undecided(mean.overhead) and _undecided(mean.overhead, shown, used)
    text = text or f"{shown(mean.overhead)} {word}".rstrip()
    low, high = mean.smallest[1], mean.largest[1]
    if shown is share:
        extremes = f"{number(100 / high)} to {number(100 / low)} over "
    else:
        extremes = f"{times(low)} to {times(high)} over "
    extremes = "" if mean.workloads == 1 else extremes
    total = len(of.workloads)
    count = f"{mean.workloads} of " if mean.workloads < total else ""
    return f"{text}<br>" + small(f"{extremes}{count}{plural(total, 'workload')}")


def _undecided(
    value: stats.Overhead, shown: Callable[[stats.Overhead], str], used: Sequence[Item]
) -> str:
    if shown is not share or not value.low or not value.high:
        return cells.undecided(value, used)
    return f"**undecided**, {number(100 / value.high)} to {number(100 / value.low)}"


def _overhead(value: stats.Overhead) -> str:
    return f"{times(value.ratio)} {interval(value)}"


def _is_operations(item: Item) -> bool:
    return unit_bytes(item.unit) is None


def _extra(panel: Panel, variant: str, category: str) -> str:
    """Instructions that the guest needs beyond native, per unit of work of each workload."""
    texts = []
    for item in panel.of(variant, category):
        guest, native = cells.guest_s(item), cells.native_s(item)
        if item.statistic is Statistic.RATIO and guest is not None and native is not None:
            texts.append(f"{signed((guest - native) * 1e9)} per {item.unit} ({item.workload})")
    return "; ".join(texts) if texts else _missing(panel, variant, category)


def _host_cpu(panel: Panel, variant: str, category: str) -> list[float] | None:
    """Seconds of the host's CPUs per operation, sorted; None where no operation was measured."""
    items = [item for item in panel.of(variant, category) if _is_operations(item)]
    known = (cells.counter(item, "host_cpu_s") for item in items)
    return sorted(cost for cost in known if cost is not None) if items else None


def _host_cpu_cell(category: str, scale: units.Scale, size: float) -> Cell:
    def cell(panel: Panel, variant: str) -> str:
        costs = _host_cpu(panel, variant, category)
        if costs is None:
            return _missing(panel, variant, category)
        if not costs:  # by a hypervisor whose CPU time vbench does not know
            return "not counted"
        return span([scale.text(cost / size) for cost in (costs[0], costs[-1])])

    return cell


def boot_times(panel: Panel, variant: str, name: str) -> list[float]:
    """Seconds of this phase in all boots that have it, sorted."""
    return sorted(
        phase.seconds
        for launch in panel.launches
        if launch.variant == variant
        for phase in launch.phases
        if phase.name == name
    )


def _launches(panel: Panel, technique: Technique) -> list[Launch]:
    """The first launch of each variant."""
    found: dict[str, Launch] = {}
    for launch in panel.launches:
        found.setdefault(launch.variant, launch)
    return [found[variant] for variant in panel.variants(technique) if variant in found]


def _seen_in_guest(panel: Panel, technique: Technique) -> str:
    """What the running guests saw of themselves."""
    observed_in: dict[str, list[str]] = {}
    for launch in _launches(panel, technique):
        observed_in.setdefault(_observations(launch), []).append(code(launch.variant))
    for launch in panel.started_otherwise(technique):
        start = plain(launch.device.start or "another way")
        texts = f"{_observations(launch)}; booted by {start}"
        observed_in.setdefault(texts, []).append(code(launch.variant))
    return "<br>".join(
        small(f"observed in {', '.join(variants)}: {texts}")
        for texts, variants in observed_in.items()
    )


def _observations(launch: Launch) -> str:
    observed = launch.observed
    bit = {True: "yes", False: "no", None: ""}[observed.cpuid_hypervisor]
    texts = {
        "/sys/hypervisor": observed.sys_hypervisor,
        "CPUID hypervisor bit": bit,
        "clocksource": observed.clocksource,
        # not who it is: some hypervisors show the interface of another one
        "hypervisor interface": "none" if observed.hypervisor == "" else observed.hypervisor or "",
    }
    parts = [f"{name} {value}" for name, value in texts.items() if value.strip()]
    return plain("; ".join([f"{observed.kernel} booted", *parts]))


def _stated(
    gathered: Gathered,
    panel: Panel,
    row: str,
    observed: Callable[[Panel, Technique], str] = lambda panel, technique: "",
) -> list[str]:
    """A row of stated facts, with what was observed below where there is any."""
    columns = [
        [_stated_cell(gathered, panel, technique, row), observed(panel, technique)]
        for technique in Technique
    ]
    return ["<br>".join(filter(None, lines)) or NOTHING for lines in columns]


def _stated_cell(gathered: Gathered, panel: Panel, technique: Technique, row: str) -> str:
    """Stated facts, marked as such, with their sources, of the backends in this panel or else of
    any; empty if none states it."""
    known = gathered.facts.get(technique, {})
    here = {item.backend for item in panel.items} & known.keys()
    found_as: dict[str, list[str]] = {}
    for backend in sorted(here or known):
        if fact := known[backend].get(row):
            text = f"{plain(fact['text'])}<br>{small('stated: ' + plain(fact['source']))}"
            found_as.setdefault(text, []).append(code(backend))
    if len(found_as) == 1:
        return next(iter(found_as))
    return "<br>".join(f"{', '.join(names)}: {text}" for text, names in found_as.items())


def _technology(gathered: Gathered, panel: Panel, technique: Technique) -> str:
    attested: dict[str, list[str]] = {}
    for launch in _launches(panel, technique):
        attested.setdefault(plain(launch.attestation.summary), []).append(code(launch.variant))
    lines = [f"{', '.join(names)} attested: {summary}" for summary, names in attested.items()]
    return "<br>".join(lines) or _stated_cell(gathered, panel, technique, "technology") or NOTHING


def _footnotes(text: str, panel: Panel) -> list[str]:
    notes = []
    if cells.KERNELS_DIFFER in text:
        notes.append(
            f"*{cells.KERNELS_DIFFER}*: no word, because native ran under another kernel than the "
            "guest, and kernels differ in what this measures. Where the file of the host's kernel "
            "is installed, `--kernel host` removes this difference."
        )
    if cells.NO_RATIO in text:
        notes.append(
            f"*{cells.NO_RATIO}*: the guest's network passes {_whose_nat(panel)}. A ratio would "
            "measure that stack."
        )
    return notes


def _whose_nat(panel: Panel) -> str:
    """What translates the addresses of guests here, as their launches say."""
    found = {
        launch.capabilities.network_by
        for launch in panel.launches
        if launch.capabilities and launch.capabilities.network is NetworkPath.NAT
    }
    return " or ".join(sorted(filter(None, found))) or "a network address translation in user mode"
