"""Where the numbers come from: hosts, launches, evidence, and commands that can be run again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from vbench.model import Launch
from vbench.report.document import Block, Fold, Table
from vbench.report.gather import Gathered, Panel
from vbench.results import identity
from vbench.results.formatting import NOTHING, code, plain, plural


def of_panel(panel: Panel) -> list[Block]:
    """Host facts, and a folded part for each variant."""
    facts = _pairs({**panel.host.facts, "image": panel.image}, ("Host fact", "Value"))
    out: list[Block] = [_sentence(panel), Fold(f"Host {code(panel.host.identity)}", facts)]
    for variant in panel.launched():
        launches = [launch for launch in panel.launches if launch.variant == variant]
        if launches:
            boots = len({launch.boot for launch in launches})
            summary = f"{code(variant)}: {plural(boots, 'boot')}"
            if len(launches) > boots:  # a guest was lost on the way
                summary += f", {len(launches)} launches"
            out.append(Fold(summary, _launches(launches)))
    return out


def _sentence(panel: Panel) -> str:
    """How many guests of what these figures come from."""
    variants = {launch.variant for launch in panel.launches}
    return (
        f"{plural(len(panel.launches), 'guest')} of {plural(len(variants), 'variant')} ran on "
        f"{code(panel.host.identity)}, all with the image {code(panel.image[:12])}."
    )


def _launches(launches: list[Launch]) -> list[Block]:
    first = launches[0]
    out: list[Block] = [
        f"Attested: {plain(first.attestation.summary)}",
        *_pairs(first.attestation.evidence, ("Evidence", "Observed")),
        *_pairs(
            {
                "image": first.image,
                **identity.programs(first),
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
            out.append(f"Boot {launch.boot + 1} differs: " + "; ".join(differing))
    return out


def commands(gathered: Gathered) -> str:
    """Every command line of every panel, for a shell: runs, launches, workloads."""
    return "\n".join(line for panel in gathered.panels for line in _commands(panel)) + "\n"


def _commands(panel: Panel) -> list[str]:
    out = [f"## {panel.host.identity}, {panel.host.time_base.value}", ""]
    out += ["# Measured by", *(f"# {run}" for run in panel.runs), ""]
    for variant in panel.launched():
        # ports and private folders differ from boot to boot: every command is shown, each once
        launched: dict[str, list[str]] = {}
        for launch in panel.launches:
            if launch.variant == variant and launch.argv:
                launched.setdefault(shlex.join(launch.argv), []).append(str(launch.boot + 1))
        for argv, boots in launched.items():
            out += [f"# {variant}, launched: boot {', '.join(boots)}", argv, ""]
        for item in panel.items:
            if item.variant == variant:
                for side, command in sorted(item.commands.items()):
                    if command:
                        out += [f"# {variant}, {item.workload}, {side}", command, ""]
    return out


def _can(launch: Launch) -> Mapping[str, str]:
    return {} if launch.capabilities is None else launch.capabilities.rows()


def _differing(first: Launch, launch: Launch) -> list[str]:
    """What a later boot has that the first has not, which readers must know."""
    was, now = identity.programs(first), identity.programs(launch)
    both = (
        ("kernel", first.observed.kernel, launch.observed.kernel),
        ("image", first.image, launch.image),
        ("attested", first.attestation.summary, launch.attestation.summary),
        *((key, was.get(key, "none"), now.get(key, "none")) for key in sorted({*was, *now})),
    )
    return [f"{name} {plain(new)} instead of {plain(old)}" for name, old, new in both if old != new]


def _pairs(facts: Mapping[str, str], headings: tuple[str, str]) -> list[Block]:
    rows = [[plain(name.replace("_", " ")), _value(value)] for name, value in sorted(facts.items())]
    return [Table(headings, rows)] if rows else []


def _value(text: str) -> str:
    return plain(text) if " " in text else code(text) if text else NOTHING
