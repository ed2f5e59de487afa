"""Overheads for other programs: Bencher, OpenMetrics, CSV. Pure."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

from vbench.model import HostFacts, Item, TimeBase
from vbench.report import cells
from vbench.report.gather import Gathered, Panel
from vbench.results import identity, stats


def _rated(gathered: Gathered) -> Iterator[tuple[Panel, Item, stats.Overhead]]:
    for panel in gathered.panels:
        for item in panel.items:
            if item.name in panel.overheads:
                yield panel, item, panel.overheads[item.name]


def _names(gathered: Gathered) -> Callable[[HostFacts], str]:
    """A panel is of one machine with one system and one image: so are the names."""
    keys = ["machine id", "network address", "CPU model", "CPUs", "kernel", "memory", "time base"]
    return identity.names([panel.host for panel in gathered.panels], keys)


def bencher(gathered: Gathered) -> str:
    """Bencher Metric Format: by `series @ host`, the overhead with the bounds of its 95 % interval,
    and the guest's own time in ns (or its instructions) per unit of work."""
    out: dict[str, Any] = {}
    called = _names(gathered)
    for panel, item, value in _rated(gathered):
        measures: dict[str, dict[str, float]] = {"overhead": {"value": value.ratio}}
        if value.low is not None and value.high is not None:
            measures["overhead"] |= {"lower_value": value.low, "upper_value": value.high}
        guest = cells.guest_s(item)
        if guest is not None:
            timed = panel.host.time_base is TimeBase.WALL
            measures["latency" if timed else "instructions"] = {"value": guest * 1e9}
        name = f"{item.name} @ {called(panel.host)}"
        out[name if name not in out else f"{name}, image {panel.image[:19]}"] = measures
    return json.dumps(out, indent=2, allow_nan=False) + "\n"


def openmetrics(gathered: Gathered) -> str:
    """OpenMetrics 1.0 text: the overhead of each series and its bounds as gauges."""
    lines = [
        "# TYPE vbench_overhead_ratio gauge",
        "# HELP vbench_overhead_ratio Guest time / native time per unit of work.",
    ]
    called = _names(gathered)
    for panel, item, value in _rated(gathered):
        of = {
            "workload": item.workload,
            "category": item.category,
            "variant": item.variant,
            "technique": item.technique.value,
            "host": called(panel.host),
            "time_base": panel.host.time_base.value,
            "image": panel.image[:19],
        }
        for bound, number in (("", value.ratio), ("low", value.low), ("high", value.high)):
            if number is not None:
                labels = of | ({"bound": bound} if bound else {})
                texts = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items())
                lines.append(f"vbench_overhead_ratio{{{texts}}} {number!r}")
    return "\n".join([*lines, "# EOF", ""])


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


_COLUMNS = (
    "host", "time_base", "variant", "technique", "category", "workload", "unit", "status",
    "overhead", "low", "high", "boots", "pairs", "native_s", "guest_s", "word", "conditions",
)  # fmt: skip


def table(gathered: Gathered) -> str:
    """CSV: a row for each series, with what was not measured left empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    called = _names(gathered)
    for panel in gathered.panels:
        for item in panel.items:
            value = panel.overheads.get(item.name)
            word = stats.word(value) if value is not None and stats.judged(item) else None
            writer.writerow(
                [
                    called(panel.host),
                    panel.host.time_base.value,
                    item.variant,
                    item.technique.value,
                    item.category,
                    item.workload,
                    item.unit,
                    item.status.value,
                    *([None] * 3 if value is None else [value.ratio, value.low, value.high]),
                    len({pair.boot for pair in item.pairs}),
                    len(item.pairs),
                    cells.native_s(item),
                    cells.guest_s(item),
                    word,
                    " ".join(sorted(panel.conditions[item.name])),
                ]
            )
    return out.getvalue()
