"""Results as a Markdown report with SVG plots. Pure: the same results give the same bytes.

Knows no backend and no workload by name: columns are techniques, the rest is data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vbench.errors import StoreError
from vbench.model import HostKind, Result
from vbench.report import attribution, claims, exits, plots, provenance, published, sections
from vbench.report.gather import Panel, gather
from vbench.report.overview import comparison
from vbench.results.formatting import plain
from vbench.results.journal import write_atomic

_TITLE = "What virtualization costs on this machine"
_INSTRUCTIONS = (
    "Here the guest's host was itself an emulated machine whose clock counts instructions, so a "
    "figure says how many more instructions the software path executes: which events leave the "
    "guest, how often, and how much hypervisor code each runs. It says nothing about time: "
    "microcode of a world switch, TLB misses, page walks and caches cost no instruction, so every "
    "verdict on a cost reads *counted, not timed*."
)


@dataclass(frozen=True)
class Report:
    """The report's Markdown, and its plots as SVG files by name."""

    markdown: str
    plots: Mapping[str, bytes] = field(default_factory=dict)


def render(results: Sequence[Result], *, plots_dir: str | None) -> Report:
    """The report of `results`, in any order. `plots_dir` is the folder of the plots as links
    name it, relative to the report; None leaves them out. Raises StoreError without results."""
    if not results:
        raise StoreError("there is no result to report", remedy="measure something: vbench run")
    gathered = gather(results)
    drawn: dict[str, bytes] = {}

    def picture(panel: Panel, kind: str, svg: str | None, alt: str) -> list[str]:
        if svg is None or plots_dir is None:
            return []
        number = gathered.panels.index(panel) + 1
        slug = re.sub(r"[^a-z0-9]+", "-", panel.host.identity.lower()).strip("-")
        name = f"{kind}-{number}-{slug}.svg"
        drawn[name] = svg.encode()
        return [f"![{alt}]({plots_dir}/{name})"]

    out = [f"# {_TITLE}", *map(_machine, _machines(gathered.panels))]
    for panel in gathered.panels:
        out += [f"## {_heading(panel)}", comparison(gathered, panel)]
        if not panel.wall:
            out += [_INSTRUCTIONS, published.INTRODUCTION, published.figures()]
    out += [sections.how_to_read(gathered.panels)]
    out += [f"## {claims.TITLE}", *claims.section(gathered)]
    for panel in gathered.panels:
        out.append(f"## Overhead per workload: {_name(panel)}")
        alt = f"Overhead of each workload by variant, {_name(panel)}: the figures of the tables"
        out += picture(panel, "overhead", plots.overheads(panel), alt)
        out += sections.workloads(panel) + sections.quantiles(panel) + sections.counters(panel)
        alt = f"Overhead explained by exits, {_name(panel)}: the figures of the table"
        told = [*exits.costs(panel), *exits.per_operation(panel), *attribution.told(panel)]
        told += picture(panel, "exits", plots.explained(panel), alt)
        title = "VM exits" if any(item.exits for item in panel.items) else "What events cost"
        out += [f"## {title}: {_name(panel)}", *told] if told else []
        times = sections.boots(panel)
        if times:
            of = "Boot times" if panel.wall else "Boot times in the testbed's own clock"
            out += [f"## {of}: {_name(panel)}"]
            if not panel.wall:
                out.append(
                    "A second here is 10⁹ instructions, or a second of waiting: no time of a real "
                    "machine, and not to be compared with one."
                )
            alt = f"Boot times by variant, {_name(panel)}: the figures of the table"
            out += [*picture(panel, "boot", plots.boots(panel), alt), *times]
    out += ["## What could not be measured", *sections.unmeasured(gathered)]
    if gathered.refused:
        out += ["## What was not put together", *sections.refused(gathered)]
    out += ["## Flags", *sections.flags(gathered)]
    out += ["## Provenance"]
    for panel in gathered.panels:
        out += [f"### {_name(panel)}", *provenance.of_panel(panel)]
    return Report("\n\n".join(out) + "\n", drawn)


def write(results: Sequence[Result], path: Path) -> None:
    """Write the report to `path` and its plots beside it, in `<name>-plots`. Raises StoreError."""
    folder = path.with_name(f"{path.stem}-plots")
    report = render(results, plots_dir=folder.name)
    if report.plots:
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"{folder} cannot be made: {error.strerror}", remedy="write elsewhere with -o"
            ) from error
    for name, svg in report.plots.items():
        write_atomic(folder / name, svg)
    write_atomic(path, report.markdown)


def _machines(panels: Sequence[Panel]) -> list[Panel]:
    """A panel of each host."""
    return list({panel.host.identity: panel for panel in reversed(panels)}.values())[::-1]


def _machine(panel: Panel) -> str:
    """The host in one sentence."""
    facts = panel.host.facts
    told = [plain(facts.get("cpu_model", "unknown CPU"))]
    if "cpus" in facts:
        told.append("1 CPU" if facts["cpus"] == "1" else f"{plain(facts['cpus'])} CPUs")
    if "kernel" in facts:
        told.append(f"Linux {plain(facts['kernel'])}")
    under = "testbed" if panel.host.kind is HostKind.TESTBED else facts.get("virtualization", "")
    sentence = f"**{plain(panel.host.identity)}** ({panel.host.kind.value}): {', '.join(told)}"
    if under == "none":
        return f"{sentence}, on bare hardware."
    if under == "testbed":
        return f"{sentence}; an emulated machine on the real one."
    if under in ("", "unknown"):
        return f"{sentence}; whether it is itself virtualized is unknown."
    return (
        f"{sentence}; **itself a virtual machine** ({plain(under)}), so native is not bare metal."
    )


def _name(panel: Panel) -> str:
    return f"{plain(panel.host.identity)}, {'wall clock' if panel.wall else 'counted, not timed'}"


def _heading(panel: Panel) -> str:
    return ("By the clock: " if panel.wall else "Counted, not timed: ") + plain(panel.host.identity)
