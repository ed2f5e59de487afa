"""What real programs lose in a guest: a line of the first screen, a chapter, an answer. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from vbench.model import Technique
from vbench.report import sentences, units
from vbench.report.choice import COUNTED, DOUBTFUL, UNDECIDED, Choice, brief, choose, doubt
from vbench.report.document import Block, link
from vbench.report.gather import Gathered, Panel
from vbench.report.reference import APPLICATIONS, DATABASES, PROGRAMS, asked, measured
from vbench.results import stats
from vbench.results.formatting import NOTHING, code, plain
from vbench.results.stats import Overhead

TITLE = "Applications"
HOW_TO = "vbench run --workload 'app*'"
_WHAT = (
    "redis is a database in memory, SQLite one on the disk that syncs each transaction, nginx a "
    "web server. The C compiler starts many processes. zstd compresses."
)


def line(gathered: Gathered) -> str:
    """What each application loses, of the variant that stands for each technique; or how to
    measure it."""
    texts = []
    for found in chosen(gathered.panels):
        each = ", ".join(f"{title} {_ratio(value)}" for title, value in _values(found))
        mark = "" if found.panel.wall else f" {COUNTED}"
        texts.append(f"{each} {code(found.variant)}{mark}")
    if texts:
        return f"**Applications** (guest ÷ native): {'; '.join(texts)}."
    names = f"Applications ({', '.join(PROGRAMS.values())})"
    if gathered.partial:
        return f"{names} were not measured so far."
    return f"{names} were not measured: {code(HOW_TO)}."


def section(panel: Panel) -> list[Block]:
    """A row for each variant: overhead of each application, native and guest as they are."""
    of = {variant: asked(panel, variant, APPLICATIONS) for variant in panel.variants()}
    per = {item.workload: plain(item.unit) for items in of.values() for item in items}
    headings = [f"{title}, per {per.get(name, '')}" for name, title in PROGRAMS.items()]
    rows: list[list[units.Figures | str]] = []
    for variant, items in of.items():
        known = {item.workload: item for item in items}
        cells = [
            units.compared(panel, known[name]) if name in known else NOTHING for name in PROGRAMS
        ]
        if items:
            rows.append([code(variant), *cells])
    if not rows:
        return []
    return [
        _sentence(panel),
        units.table(["Variant", *headings], rows),
        f"Guest ÷ native with its interval; below, native → guest. {_WHAT} What disturbed them "
        f"stands in {link('Every workload')}.",
    ]


def _sentence(panel: Panel) -> str:
    """Opens the chapter: who loses most and least under each variant."""
    texts = []
    for variant in panel.variants():
        known = [each for each in _values(Choice(panel, variant)) if not stats.undecided(each[1])]
        if known:
            known.sort(key=lambda each: each[1].ratio)
            (least, low), (most, high) = known[0], known[-1]
            text = f"under {code(variant)} {most} {sentences.cost(high, wall=panel.wall)}"
            if least != most:
                text += f", {least} {sentences.cost(low, wall=panel.wall)}"
            texts.append(text)
    return (
        sentences.sentence(texts) if texts else "No application has a figure that says something."
    )


def databases(choice: Choice) -> str:
    """`redis takes 2 times as long, SQLite 8 % longer`: of those that were measured."""
    known = dict(_values(choice))
    return ", ".join(
        f"{title} {sentences.cost(known[title], wall=choice.panel.wall)}"
        for title in (PROGRAMS[name] for name in DATABASES)
        if title in known
    )


def chosen(panels: Iterable[Panel]) -> list[Choice]:
    """The variant that stands for each technique that measured an application."""
    panels = list(panels)
    found = (choose(panels, technique, (APPLICATIONS,)) for technique in Technique)
    return [each for each in found if each is not None]


def _values(choice: Choice) -> list[tuple[str, Overhead]]:
    """Each application that has an overhead, as people call it."""
    items = measured(choice.panel, choice.variant, APPLICATIONS)
    return [(PROGRAMS[item.workload], choice.panel.overheads[item.name]) for item in items]


def _ratio(value: Overhead) -> str:
    if stats.undecided(value):
        return UNDECIDED
    return brief(value.ratio) + (DOUBTFUL if doubt(value) else "")
