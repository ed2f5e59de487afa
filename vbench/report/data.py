"""The report's tables as data, and the samples behind its figures. Pure.

Durations are seconds per unit of work; on the instruction base a second is 10⁹ instructions. What
is missing is null. The form is described in docs/results-format.md.
"""

from __future__ import annotations

import statistics
from typing import Any

from vbench.model import SCENARIOS, Item, Status, Technique
from vbench.records import Place
from vbench.report import (
    attribution,
    cells,
    claims,
    exits,
    hypervisors,
    overview,
    reference,
    scenarios,
    sentences,
    units,
    unmeasured,
)
from vbench.report.gather import Gathered, Panel
from vbench.report.hypervisors import Measured
from vbench.report.verdicts import Finding, verdict
from vbench.results import stats
from vbench.results.formatting import plural, times, unmarked

VERSION = 1


def report(gathered: Gathered) -> dict[str, Any]:
    """All that the report's tables show."""
    return {
        "report_version": VERSION,
        "answer": unmarked(sentences.answer(gathered)),
        "panels": [_panel(panel) for panel in gathered.panels],
        "hypervisors": [_hypervisor(each) for each in hypervisors.measured(gathered.panels)],
        "claims": _claims(gathered),
        "refused": list(gathered.refused),
    }


def _hypervisor(each: Measured) -> dict[str, Any]:
    counted, timed = each.installation, each.first_command()
    return {
        "name": each.kind.name,
        "vendor": each.kind.vendor,
        "type": each.kind.type.value,
        "source": each.kind.source,
        "place": each.place,
        "module": each.module,
        "asked": list(counted.asked) if counted else [],
        "release": counted.release if counted else None,
        "packages": counted.packages if counted else None,
        "disk_mib": counted.disk_mib if counted else None,
        "not_counted": counted.reason if counted else "no packages are declared",
        "reboot": None if each.place is None else each.place is Place.BENEATH,
        "first_command_s": timed.median_s if timed else None,
    }


def _panel(panel: Panel) -> dict[str, Any]:
    return {
        "number": panel.number,
        "host": panel.host.identity,
        "host_kind": panel.host.kind.value,
        "time_base": panel.host.time_base.value,
        "facts": dict(sorted(panel.host.facts.items())),
        "image": panel.image,
        "series": [_series(panel, item) for item in panel.items],
        "means": _means(panel),
        "event_costs": _event_costs(panel),
        "explained": [_explained(one) for one in attribution.attributions(panel)],
        "unavailable": [
            {
                "backend": each.backend,
                "technique": each.technique,
                "reason": each.reason,
                "remedy": each.remedy,
            }
            for each in panel.unavailable
        ],
        "left_out": [_left_out(panel, variant) for variant in sorted(panel.reduced_to)],
        "boot_times": _boot_times(panel),
    }


def _left_out(panel: Panel, variant: str) -> dict[str, Any]:
    """Of a variant that measured only some workloads; those that failed are in the series."""
    only = panel.reduced_to[variant]
    _, why, how = unmeasured.left_out(panel, variant, only)
    return {"variant": variant, "measured": list(only), "reason": why, "remedy": how}


def _boot_times(panel: Panel) -> list[dict[str, Any]]:
    """Seconds of each phase that was timed at the boots of a variant."""
    names = sorted({phase.name for launch in panel.launches for phase in launch.phases})
    return [
        {
            "variant": variant,
            "phase": name,
            "boots": len(seconds),
            "median_s": statistics.median(seconds),
            "least_s": seconds[0],
            "most_s": seconds[-1],
        }
        for variant in panel.launched()
        for name in names
        if (seconds := overview.boot_times(panel, variant, name))
    ]


def _series(panel: Panel, item: Item) -> dict[str, Any]:
    value = panel.overheads.get(item.name)
    return {
        "workload": item.workload,
        "category": item.category,
        "unit": item.unit,
        "variant": item.variant,
        "technique": item.technique.value,
        "status": item.status.value,
        "reason": item.reason,
        "native_s": cells.native_s(item),
        "guest_s": cells.guest_s(item),
        "overhead": _overhead(value, value if stats.judged(item) else None),
        "host_cpu_s": cells.counter(item, "host_cpu_s"),
        "vcpu_wait_s": cells.counter(item, "vcpu_wait_s"),
        "exits": {name: n for name, n in sorted(item.exits.items()) if n > 0},
        "boots": len({pair.boot for pair in item.pairs}),
        "pairs": len(item.pairs),
        "disturbed": dict(panel.flags[item.name]),
        "conditions": sorted(panel.conditions[item.name]),
        "phases": scenarios.phases(item),
        "counts": scenarios.medians(item) if item.category in SCENARIOS else {},
    }


def _overhead(value: stats.Overhead | None, judged: stats.Overhead | None) -> dict[str, Any] | None:
    if value is None:
        return None
    return {
        "ratio": value.ratio,
        "low": value.low,
        "high": value.high,
        "boots": value.boots,
        "word": None if judged is None else stats.word(judged),
    }


def _means(panel: Panel) -> list[dict[str, Any]]:
    """Of each reference set and variant that measured any of it."""
    out = []
    for each in reference.ALL:
        for variant in panel.variants():
            items = reference.measured(panel, variant, each)
            mean = stats.geometric_mean(items)
            if mean is None:
                continue
            judged = mean.overhead if all(map(stats.judged, items)) else None
            out.append(
                {
                    "mean_of": each.title,
                    "variant": variant,
                    "workloads": [item.workload for item in items],
                    "of": len(each.workloads),
                    "overhead": _overhead(mean.overhead, judged),
                }
            )
    return out


def _event_costs(panel: Panel) -> list[dict[str, Any]]:
    """What one event costs; null where the subtraction leaves nothing to be told from none."""
    out = []
    for found in exits.all_costs(panel):
        shown = not found.drowned
        out.append(
            {
                "workload": found.item.workload,
                "event": found.item.cause.event if found.item.cause else None,
                "variant": found.item.variant,
                "cost_s": found.net if shown else None,
                "low_s": found.low if shown else None,
                "high_s": found.high if shown else None,
                "boots": found.boots,
                "tsc_ticks": found.ticks if shown and panel.wall else None,
                "exits": exits.left(found.item)
                if found.item.exits and found.item.technique is Technique.HARDWARE
                else None,
            }
        )
    return out


def _explained(one: attribution.Attribution) -> dict[str, Any]:
    return {
        "workload": one.item.workload,
        "variant": one.item.variant,
        "measured_s": one.measured,
        "exits_s": one.predicted,
        "io_threads_s": one.io_threads,
        "rest_s": one.rest,
        "by_reason_s": dict(one.parts),
    }


def _claims(gathered: Gathered) -> list[dict[str, Any]]:
    out = []
    for claim in claims.CLAIMS:
        for panel, found in claim.findings(gathered):
            finding = found if isinstance(found, Finding) else None
            untested = finding.untested if finding else found
            out.append(
                {
                    "claim": claim.key,
                    "statement": claim.statement,
                    "panel": panel.number,
                    "verdict": verdict(panel, finding) if finding and not untested else None,
                    "evidence": finding.evidence if finding else None,
                    "not_measured": untested or None,
                }
            )
    return out


def samples(gathered: Gathered) -> dict[str, dict[str, Any]]:
    """Every pair of every measured series, as text to be shown."""
    return {
        panel.series(item): _sampled(panel, item)
        for panel in gathered.panels
        for item in panel.items
        if item.status is Status.OK
    }


def _sampled(panel: Panel, item: Item) -> dict[str, Any]:
    scale = units.clock(panel.host.time_base)
    rows: list[list[units.Figures | str]] = [
        [
            str(pair.boot + 1),
            units.Figures([pair.native_s], scale),
            units.Figures([pair.guest_s], scale),
            times(pair.guest_s / pair.native_s) if pair.native_s else "—",
            ", ".join(pair.flags) or "—",
        ]
        for pair in item.pairs
    ]
    table = units.table(["Boot", "Native", "Guest", "Guest / native", "Flags"], rows, alike=True)
    return {
        "name": f"{item.workload} on {item.variant}, {panel.host.identity}",
        "about": f"{plural(len(rows), 'pair')} in the order of measuring, per {item.unit}.",
        "headings": list(table.headings),
        "rows": [[cell.text for cell in row] for row in table.cells()],
    }
