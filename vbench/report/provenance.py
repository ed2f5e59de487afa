"""Where the numbers come from: hosts, launches as commands that can be run again, evidence."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from html import escape

from vbench.model import Launch
from vbench.report.gather import Panel
from vbench.results.formatting import NOTHING, block, code, details, plain, plural, table


def of_panel(panel: Panel) -> list[str]:
    """Host facts, the runs, and a folded part for each variant."""
    out = [_pairs({**panel.host.facts, "image": panel.image}, ("Host fact", "Value"))]
    if panel.runs:
        out.append("Measured by:\n\n" + block("\n".join(panel.runs)))
    for variant in panel.launched():
        launches = [launch for launch in panel.launches if launch.variant == variant]
        if launches:
            boots = plural(len(launches), "boot")
            summary = f"<code>{escape(variant)}</code>: {boots}"
            out.append(details(summary, "\n\n".join(_launches(panel, variant, launches))))
    return out


def _launches(panel: Panel, variant: str, launches: list[Launch]) -> list[str]:
    first = launches[0]
    out = [
        f"Attested: {plain(first.attestation.summary)}",
        _pairs(first.attestation.evidence, ("Evidence", "Observed")),
        _pairs(
            {
                "image": first.image,
                **{f"version of {name}": value for name, value in first.versions.items()},
                **{f"device: {name}": value for name, value in first.device.rows().items()},
                **{f"guest: {name}": value for name, value in first.observed.rows().items()},
                **{f"capability: {name}": value for name, value in _can(first).items()},
            },
            ("Launch fact", "Value"),
        ),
    ]
    for launch in launches[1:]:
        differing = _differing(first, launch)
        if differing:
            out.append(f"Boot {launch.boot} differs: " + "; ".join(differing))
    # ports and private folders differ from boot to boot: every command is shown, each once
    commands: dict[str, list[str]] = {}
    for launch in launches:
        commands.setdefault(shlex.join(launch.argv), []).append(str(launch.boot))
    lines = [f"# boot {', '.join(boots)}\n{argv}" for argv, boots in commands.items() if argv]
    if lines:
        out += ["Launched as:", block("\n".join(lines), "sh")]
    runs = [
        f"# {item.workload}, {side}\n{command}"
        for item in panel.items
        if item.variant == variant
        for side, command in sorted(item.commands.items())
        if command
    ]
    if runs:
        out += ["Workloads as run:", block("\n".join(runs), "sh")]
    return [part for part in out if part]


def _can(launch: Launch) -> Mapping[str, str]:
    return {} if launch.capabilities is None else launch.capabilities.rows()


def _differing(first: Launch, launch: Launch) -> list[str]:
    """What a later boot has that the first has not, which readers must know."""
    both = (
        ("kernel", first.observed.kernel, launch.observed.kernel),
        ("image", first.image, launch.image),
        ("attested", first.attestation.summary, launch.attestation.summary),
        *(
            (name, first.versions.get(name, "none"), launch.versions.get(name, "none"))
            for name in sorted({*first.versions, *launch.versions})
        ),
    )
    return [f"{name} {plain(new)} instead of {plain(old)}" for name, old, new in both if old != new]


def _pairs(facts: Mapping[str, str], headings: tuple[str, str]) -> str:
    rows = [[plain(name.replace("_", " ")), _value(value)] for name, value in sorted(facts.items())]
    return table(headings, rows) if rows else ""


def _value(text: str) -> str:
    return plain(text) if " " in text else code(text) if text else NOTHING
