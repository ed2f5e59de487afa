"""What real programs lose in a guest: a line of the first screen, and a table. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from vbench.model import Technique
from vbench.report.choice import COUNTED, DOUBTFUL, UNDECIDED, Choice, brief, choose, doubt
from vbench.report.document import Table
from vbench.report.gather import Gathered
from vbench.report.reference import APPLICATIONS, PROGRAMS, measured
from vbench.results import stats
from vbench.results.formatting import NOTHING, code

HOW_TO = "vbench run --workload 'app*'"


def line(gathered: Gathered) -> str:
    """What each application loses, of the variant that stands for each technique; or how to
    measure it."""
    texts = []
    for technique in Technique:
        found = choose(gathered.panels, technique, (APPLICATIONS,))
        if found is not None:
            known = _ratios(found)
            each = ", ".join(
                f"{title} {known[name]}" for name, title in PROGRAMS.items() if name in known
            )
            mark = "" if found.panel.wall else f" {COUNTED}"
            texts.append(f"{each} {code(found.variant)}{mark}")
    if texts:
        return f"**Applications** (guest ÷ native): {'; '.join(texts)}."
    return f"Applications ({', '.join(PROGRAMS.values())}) were not measured: {code(HOW_TO)}."


def table(names: Sequence[str], chosen: Sequence[Choice]) -> Table:
    """A row for each choice, which `names` has names for: guest / native of each application."""
    rows = []
    for name, choice in zip(names, chosen, strict=True):
        known = _ratios(choice)
        rows.append([name, *(known.get(workload, NOTHING) for workload in PROGRAMS)])
    return Table(["Guest ÷ native", *PROGRAMS.values()], rows)


def _ratios(choice: Choice) -> dict[str, str]:
    found = {}
    for item in measured(choice.panel, choice.variant, APPLICATIONS):
        value = choice.panel.overheads[item.name]
        text = brief(value.ratio) + (DOUBTFUL if doubt(value) else "")
        found[item.workload] = UNDECIDED if stats.undecided(value) else text
    return found
