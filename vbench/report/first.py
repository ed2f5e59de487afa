"""The first screen: the answer, the comparison table, the two types, and what to do next.

One short line a cell: a word where one may be given, the numbers, the backend, and a mark for what
was counted. All of it is said at length in the chapters below.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from vbench.model import HostKind, Status, Technique
from vbench.report import absolute, applications, sentences, types_table
from vbench.report.choice import (
    COUNTED,
    CPU,
    DOUBTFUL,
    PART,
    UNDECIDED,
    WORDLESS,
    WORDS,
    Choice,
    choose,
)
from vbench.report.document import Block, Table
from vbench.report.gather import Gathered, Panel
from vbench.report.reference import DISK_OPERATIONS, NETWORK_OPERATIONS
from vbench.results import stats
from vbench.results.formatting import NOTHING, TIMES, code, plain

_NONE = "not measured"
_MEASURES = (
    f"CPU overhead: computing / memory / system calls, guest ÷ native ({TIMES}1.00 is free). "
    "I/O: time per small operation (disk: 4 KiB at random; net: request and reply)."
)
_LIMITS = (
    f"Words: low up to {TIMES}{stats.LOW_MAX:.2f}, medium up to {TIMES}{stats.MEDIUM_MAX:g}, high "
    "above."
)
_MARKS = {
    COUNTED: f"{COUNTED} counted: instructions in an emulated machine, not time; do not compare "
    f"them with figures without {COUNTED}.",
    PART: f"{PART} over a part of its workloads.",
    WORDLESS: f"{WORDLESS} no word: host and guest run different kernels, which may be a part of "
    "the cost, or the interval crosses a limit.",
    NOTHING: f"{NOTHING} not measured, or not possible.",
    DOUBTFUL: f"{DOUBTFUL} not certain: one boot, or an interval that holds {TIMES}1.00 or reaches "
    "further than a factor of 2.",
    UNDECIDED: f"{UNDECIDED}: the interval holds {TIMES}1.00 and a high overhead.",
}
_TESTBED = re.compile(r",? or (use )?--host testbed$")  # no advice for what was counted there
_HOSTS = 4  # so many are named on the first screen


def screen(gathered: Gathered, contents: str) -> list[Block]:
    """From the answer to the links to the chapters, which fit one screen; then the types."""
    table, types = comparison(gathered), types_table.table(gathered)
    programs, answer = applications.line(gathered), sentences.answer(gathered)
    return [
        answer,
        table,
        "<br>".join(
            [
                programs,
                notes(table, also=answer + programs),
                *_sources(gathered),
                *_hosts(gathered.panels),
            ]
        ),
        *absolute.blocks(gathered),
        *_next_steps(gathered),
        contents,
        types,
        "<br>".join(
            filter(None, [types_table.HYBRID, types_table.starts(gathered), _marks(types)])
        ),
    ]


def comparison(gathered: Gathered) -> Table:
    """The introduction's table of the three techniques, as it has it: six rows, three columns."""
    headings = ["Aspect", "Full virtualization", "Paravirtualization", "Hardware-assisted"]
    rows = (
        ("Guest OS modification", [_guest_os(gathered, t) for t in Technique]),
        ("CPU overhead", [_cpu(gathered, t) for t in Technique]),
        ("I/O performance", [_io(gathered, t) for t in Technique]),
        ("Windows support", [_stated(gathered, t, "windows") for t in Technique]),
        ("Key technology", [_technology(gathered, t) for t in Technique]),
        ("Current usage", [_stated(gathered, t, "usage") for t in Technique]),
    )
    return Table(headings, [[f"**{name}**", *cells] for name, cells in rows])


def _marked(choice: Choice, text: str) -> str:
    mark = "" if choice.panel.wall else f" {COUNTED}"
    return f"{text} {code(choice.variant)}{mark}"


def _cpu(gathered: Gathered, technique: Technique) -> str:
    found = choose(gathered.panels, technique, CPU)
    return _unrated(gathered, technique) if found is None else cpu_cell(found)


def _unrated(gathered: Gathered, technique: Technique) -> str:
    """In place of ratios: not measured, or without a reference."""
    found = absolute.machines(gathered.panels)
    of = [code(variant) for panel, variant in found if variant in panel.variants(technique)]
    return f"{absolute.NO_REFERENCE}: {', '.join(of)}" if of else _NONE


def cpu_cell(choice: Choice) -> str:
    """The ratios of computing, memory and system calls, with their words."""
    return _marked(choice, choice.worded())


def _io(gathered: Gathered, technique: Technique) -> str:
    """Time per small operation: the one measure that both clocks have."""
    sets = {"disk": DISK_OPERATIONS, "net": NETWORK_OPERATIONS}
    found = choose(gathered.panels, technique, sets.values())
    if found is None:
        return _unrated(gathered, technique)
    texts = (f"{name} {found.ratio(of)}" for name, of in sets.items())
    return _marked(found, ", ".join(texts))


def _short(text: str) -> str:
    """A fact up to its first explanation."""
    for end in (":", ";", ","):
        text = text.partition(end)[0]
    return plain(text.removeprefix("modification "))


def _stated(gathered: Gathered, technique: Technique, row: str, variant: str = "") -> str:
    """Of the backend of this variant, or of the one that stands for the technique: others of the
    technique may state the opposite. Of all where that one states nothing."""
    known = gathered.facts.get(technique, {})
    if not variant and (found := _standing(gathered, technique)) is not None:
        variant = found.variant
    own = known.get(variant.partition(",")[0], {})
    of = [own] if row in own else [facts for facts in known.values() if row in facts]
    return ", ".join(dict.fromkeys(_short(facts[row]["text"]) for facts in of)) or NOTHING


def _standing(gathered: Gathered, technique: Technique) -> Choice | None:
    """The variant whose overhead the table shows, or one that ran at all."""
    found = choose(gathered.panels, technique, CPU)
    ran = (
        Choice(panel, variant)
        for panel in gathered.panels
        for variant in panel.variants(technique)
        if panel.launch(variant) is not None
    )
    return found or next(ran, None)


def _guest_os(gathered: Gathered, technique: Technique) -> str:
    """What is stated, and what was observed of it in a guest."""
    for panel in gathered.panels:
        for launch in panel.started_otherwise(technique):
            start = plain(launch.device.start.partition(",")[0])
            text = _stated(gathered, technique, "guest_os", launch.variant)
            return f"{text}: {start} boots {code(launch.variant.partition(',')[0])}"
    text = _stated(gathered, technique, "guest_os")
    found = _standing(gathered, technique)
    if found is not None and found.launch is not None:
        interface = found.launch.observed.hypervisor
        if interface:
            return f"{text}: reports {plain(interface)} {code(found.variant)}"
    return text


def _technology(gathered: Gathered, technique: Technique) -> str:
    found = _standing(gathered, technique)
    if found is None or found.launch is None:
        return _stated(gathered, technique, "technology")
    return f"{plain(found.launch.attestation.summary.partition(';')[0])} {code(found.variant)}"


def notes(*tables: Table, also: str = "") -> str:
    """What the numbers and the marks of these tables are, and of the text below them."""
    return " ".join(filter(None, [_MEASURES, _limits(tables), _marks(*tables, also=also)]))


def _limits(tables: Sequence[Table]) -> str:
    """What the words say, where there is one."""
    texts = [cell.text for table in tables for row in table.cells() for cell in row]
    return _LIMITS if any(f"**{word}**" in text for word in WORDS for text in texts) else ""


def _marks(*tables: Table, also: str = "") -> str:
    cells = (cell.text for table in tables for row in table.cells() for cell in row)
    shown = " ".join([*cells, also])
    return " ".join(text for mark, text in _MARKS.items() if mark in shown)


def _next_steps(gathered: Gathered) -> list[Block]:
    """What to do to measure the rest: each remedy once. What was counted alone has its mark. None
    for a part of a run, which may still measure it."""
    if gathered.partial:
        return []
    measured = [
        (panel.wall, item.backend)
        for panel in gathered.panels
        for item in panel.items
        if item.status is Status.OK
    ]
    timed = {backend for wall, backend in measured if wall}
    counted = {backend for wall, backend in measured if not wall}
    remedies: dict[str, list[str]] = {}
    for panel in gathered.panels:
        for entry in panel.unavailable:
            if entry.backend in timed:
                continue
            command = entry.remedy.startswith("vbench ")
            names = remedies.setdefault((code if command else plain)(entry.remedy), [])
            name = code(entry.backend) + (f" {COUNTED}" if entry.backend in counted else "")
            if name not in names:
                names.append(name)
    lines = [
        f"- {those}: {_TESTBED.sub('', text) if COUNTED in those else text}."
        for text, backends in remedies.items()
        if text and (those := ", ".join(backends))
    ]
    if not lines:
        return []
    marked = any(COUNTED in line for line in lines)
    known = f" ({COUNTED}: counted in the testbed, not timed)" if marked else ""
    return [f"**To measure the rest{known}:**\n" + "\n".join(lines)]


def _sources(gathered: Gathered) -> list[str]:
    """Which machine each column was timed on, where there are several."""
    if len({panel.host.identity for panel in gathered.panels if panel.wall}) < 2:
        return []
    timed = [
        f"{technique.value} on {plain(found.panel.host.identity)}"
        for technique in Technique
        if (found := choose(gathered.panels, technique, CPU)) is not None and found.panel.wall
    ]
    return [f"Timed: {', '.join(timed)}. The chapters have every machine."] if timed else []


def _hosts(panels: Sequence[Panel]) -> list[str]:
    """Each host in a sentence; of many the first."""
    of = list({panel.host.identity: panel for panel in reversed(panels)}.values())[::-1]
    shown = [machine(panel) for panel in of[:_HOSTS]]
    return [*shown, f"And {len(of) - _HOSTS} more machines."] if len(of) > _HOSTS else shown


def machine(panel: Panel) -> str:
    """The host in one sentence."""
    facts = panel.host.facts
    texts = [plain(facts.get("cpu_model", "unknown CPU"))]
    if "cpus" in facts:
        texts.append("1 CPU" if facts["cpus"] == "1" else f"{plain(facts['cpus'])} CPUs")
    if "kernel" in facts:
        texts.append(f"Linux {plain(facts['kernel'])}")
    if "physical_host" in facts:
        texts.append(f"on the physical machine {plain(facts['physical_host'])}")
    under = "testbed" if panel.host.kind is HostKind.TESTBED else facts.get("virtualization", "")
    sentence = f"**{plain(panel.host.identity)}**: {', '.join(texts)}"
    if under == "none":
        return f"{sentence}, on bare hardware."
    if under == "testbed":
        return f"{sentence}; an emulated machine on the real one."
    if under in ("", "unknown"):
        return f"{sentence}; whether it is itself virtualized is unknown."
    variants = panel.variants()
    if variants and all(absolute.alone(panel, variant) for variant in variants):
        return f"{sentence}; **a virtual machine** ({plain(under)}), measured as it is."
    return (
        f"{sentence}; **itself a virtual machine** ({plain(under)}), so native is not bare metal."
    )
