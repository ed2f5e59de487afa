"""The document of a report: its first screen and its chapters, in the order of reading. Pure."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from vbench.report import (
    applications,
    attribution,
    claims,
    consolidation,
    exit_counts,
    exits,
    first,
    isolation,
    overview,
    plots,
    provenance,
    published,
    questions,
    reading,
    scenarios,
    sections,
    sentences,
    several,
    types_chapter,
    unmeasured,
)
from vbench.report.document import Block, Commands, Document, Picture, Section, Table, link
from vbench.report.gather import Gathered, Panel
from vbench.results.formatting import code, plain

PanelBlocks = Callable[[Panel], list[Block]]

TITLE = "What virtualization costs on this machine"
_INSTRUCTIONS = (
    "In the testbed the guest's host is itself an emulated machine whose clock counts "
    "instructions. A figure says how many more instructions the software path executes: which "
    "events exit, how often, and how much hypervisor code each runs. It says nothing about time: "
    "the microcode of a world switch, TLB misses, page walks and caches cost no instruction."
)


def document(gathered: Gathered) -> Document:
    """The whole report."""
    chapters = [
        *_chapter(questions.TITLE, questions.section(gathered)),
        *_chapter(reading.TITLE, reading.section(gathered.panels)),
        *_per_panel("Techniques", gathered, lambda p: _techniques(gathered, p)),
        *_chapter(types_chapter.TITLE, types_chapter.section(gathered)),
        *_per_panel(applications.TITLE, gathered, applications.section),
        *_per_panel("Disk and network", gathered, _io),
        *_per_panel("VM exits", gathered, _exits),
        *_published(gathered),
        *_per_panel("Boot times", gathered, _boots),
        *_per_panel(scenarios.TITLE, gathered, _scenarios),
        *_chapter(claims.TITLE, claims.section(gathered)),
        *_per_panel("Every workload", gathered, _workloads),
        *_chapter("Not measured", unmeasured.section(gathered)),
        *_chapter("Results that were not merged", unmeasured.refused(gathered)),
        *_chapter(reading.GLOSSARY, [*reading.glossary(), *sections.flags(gathered)]),
        *_provenance(gathered),
    ]
    # "How to read this" leads to the glossary
    named = [each.title for each in chapters if each.level == 2 and each.title != reading.GLOSSARY]
    contents = " · ".join(map(link, named))
    return Document(
        TITLE,
        [*gathered.partial, *first.screen(gathered, f"**Read on:** {contents}")],
        chapters,
        provenance.commands(gathered),
    )


def _chapter(title: str, blocks: Sequence[Block]) -> list[Section]:
    return [Section(title, blocks)] if blocks else []


def _per_panel(title: str, gathered: Gathered, of: PanelBlocks) -> list[Section]:
    """A chapter with a part for each panel that has something to say."""
    parts = [(panel, blocks) for panel in gathered.panels if (blocks := of(panel))]
    if not parts:
        return []
    if len(gathered.panels) == 1:
        return [Section(title, parts[0][1])]
    notes = _notes([blocks for _, blocks in parts])
    return [
        Section(title, notes),
        *(
            Section(f"{title}: {name(panel)}", [b for b in blocks if b not in notes], 3)
            for panel, blocks in parts
        ),
    ]


def _notes(parts: Sequence[Sequence[Block]]) -> list[Block]:
    """What several parts of a chapter say alike, to be said once above them: paragraphs that open
    no part, as its answer does, and no table."""
    seen: Counter[str] = Counter()
    for blocks in parts:
        after = [*blocks[2:], None]
        pairs = zip(blocks[1:], after, strict=True) if blocks else ()
        seen.update({b for b, then in pairs if isinstance(b, str) and not isinstance(then, Table)})
    return [text for text in dict.fromkeys(seen) if seen[text] > 1]


def _provenance(gathered: Gathered) -> list[Section]:
    chapter, *rest = _per_panel("Provenance", gathered, provenance.of_panel)
    opened, more = chapter.blocks[:1], chapter.blocks[1:]
    return [replace(chapter, blocks=[*opened, Commands(), *more]), *rest]


def _techniques(gathered: Gathered, panel: Panel) -> list[Block]:
    more: list[Block] = [] if panel.wall else [_INSTRUCTIONS]
    return [sentences.techniques(panel), *overview.techniques(gathered, panel), *more]


def _io(panel: Panel) -> list[Block]:
    return [sentences.io(panel), *overview.io(panel)]


def _exits(panel: Panel) -> list[Block]:
    blocks = [*exits.costs(panel), *exit_counts.per_operation(panel), *attribution.table(panel)]
    if not blocks:
        return []
    alt = f"Overhead explained by exits, {name(panel)}: the figures of the table"
    return [exits.sentence(panel), *blocks, *_picture(panel, "exits", plots.explained(panel), alt)]


def _published(gathered: Gathered) -> list[Section]:
    """Beside counts of exits: what others timed."""
    if not any(not panel.wall and _exits(panel) for panel in gathered.panels):
        return []
    return [Section(published.TITLE, [published.INTRODUCTION, published.figures()], 3)]


def _boots(panel: Panel) -> list[Block]:
    tables = sections.boots(panel)
    if not tables:
        return []
    medians = {
        variant: statistics.median(seconds)
        for variant in panel.launched()
        for key in overview.BOOT_PHASES[:1]
        if (seconds := overview.boot_times(panel, variant, key))
    }
    alt = f"Boot times by variant, {name(panel)}: the figures of the table"
    blocks: list[Block] = [sentences.boots(panel, medians)] if medians else []
    if not panel.wall:
        blocks.append(
            "A second of the testbed's clock is 10⁹ instructions, or a second of waiting: it is no "
            "time of a real machine, and not to be compared with one."
        )
    return [*blocks, *_picture(panel, "boot", plots.boots(panel), alt), *tables]


def _scenarios(panel: Panel) -> list[Block]:
    crowds, neighbours = consolidation.blocks(panel), isolation.blocks(panel)
    blocks = [*scenarios.tables(panel), *crowds]
    alt = f"Consolidation, {name(panel)}: the figures of the table"
    blocks += [*_picture(panel, "consolidation", consolidation.plot(panel), alt), *neighbours]
    if not blocks:
        return []
    left = [
        f"{each.KIND} by {code(each.HOW)}"
        for each, found in ((consolidation, crowds), (isolation, neighbours))
        if not found
    ]
    blocks = [sentences.of_scenarios(panel), *blocks]
    return [*blocks, *([f"Not measured unless asked for: {'; '.join(left)}."] if left else [])]


def _workloads(panel: Panel) -> list[Block]:
    alt = f"Overhead of each workload by variant, {name(panel)}: the figures of the tables"
    blocks = [
        *_picture(panel, "overhead", plots.overheads(panel), alt),
        *sections.workloads(panel),
        *several.blocks(panel),
        *sections.quantiles(panel),
        *sections.counters(panel),
    ]
    return [sections.sentence(panel), *blocks] if blocks else []


def _picture(panel: Panel, kind: str, svg: str | None, alt: str) -> list[Block]:
    if svg is None:
        return []
    slug = re.sub(r"[^a-z0-9]+", "-", panel.host.identity.lower()).strip("-")
    return [Picture(f"{kind}-{panel.number}-{slug}.svg", svg, alt)]


def name(panel: Panel) -> str:
    """A panel in a heading: its host and its clock."""
    return f"{plain(panel.host.identity)}, {'by the clock' if panel.wall else 'counted'}"
