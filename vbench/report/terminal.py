"""The first screen for a terminal: text without Markdown."""

from __future__ import annotations

import textwrap

from tabulate import tabulate

from vbench.report import absolute, applications, first, sentences
from vbench.report.gather import Gathered
from vbench.results.formatting import unmarked

_WIDTH = 100
_COLUMNS = [14, 24, 24, 24]  # of the table, in characters


def screen(gathered: Gathered) -> str:
    """The answer, the table of the techniques, the applications, and what the numbers are."""
    table = first.comparison(gathered)
    rows = [[unmarked(cell.text) for cell in row] for row in table.cells()]
    drawn = tabulate(rows, list(table.headings), tablefmt="simple", maxcolwidths=_COLUMNS,
                     disable_numparse=True)  # fmt: skip
    answer = sentences.answer(gathered)
    programs = applications.line(gathered)
    values = [unmarked(line) for line in absolute.lines(gathered)]
    notes = [*values, unmarked(programs), first.notes(table, also=answer + programs)]
    below = "\n".join(textwrap.fill(text, _WIDTH) for text in notes)
    return f"{textwrap.fill(unmarked(answer), _WIDTH)}\n\n{drawn}\n\n{below}\n"
