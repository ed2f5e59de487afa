"""A document as one HTML file: no network, no other file, readable on a phone and in the dark.

Tables sort by a click on a heading; plots have tooltips; figures link to their samples. Without
JavaScript all of the text is there. markdown-it-py reads the Markdown of the document's texts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from markdown_it import MarkdownIt

from vbench.report.document import Block, Cell, Commands, Document, Fold, Picture, Section, Table
from vbench.results.formatting import unmarked

_MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable("table")
# Nothing is loaded from anywhere: what the browser enforces need not be believed.
_STACKED = 6  # columns of text
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def render(document: Document, samples: Mapping[str, Any]) -> str:
    """The page. `samples` by the names of series, as `data.samples` makes them."""
    body = "\n".join(
        [
            f"<h1>{escape(document.title)}</h1>",
            *map(_block, document.first),
            *(part for each in document.sections for part in _section(each, document.commands)),
        ]
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(document.title)}</title>\n<style>\n{_file('page.css')}</style></head>\n"
        f'<body id="top"><main>\n{body}\n</main>\n'
        '<a class="top" href="#top" aria-label="To the first screen">&uarr;</a>\n'
        '<dialog id="samples"><form method="dialog">'
        '<button aria-label="Close">&times;</button></form>'
        '<div id="samples-body"></div></dialog>\n'
        f'<script type="application/json" id="data">{_embedded(samples)}</script>\n'
        f"<script>\n{_file('page.js')}</script>\n</body></html>\n"
    )


def _file(name: str) -> str:
    return (files("vbench.report") / name).read_text(encoding="utf-8")


def _embedded(data: Mapping[str, Any]) -> str:
    """JSON that cannot end the element it stands in."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _section(section: Section, commands: str) -> list[str]:
    heading = _MARKDOWN.renderInline(section.title)
    level = section.level
    blocks = [_all(commands) if isinstance(b, Commands) else _block(b) for b in section.blocks]
    return [f'<h{level} id="{section.anchor}">{heading}</h{level}>', *blocks]


def _all(commands: str) -> str:
    """Every command line, folded."""
    return (
        "<details><summary>Every command line</summary>\n"
        f'<div class="scroll"><pre>{escape(commands, quote=False)}</pre></div>\n</details>'
    )


def _block(block: Block) -> str:
    if isinstance(block, str):
        return str(_MARKDOWN.render(block))
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Picture):
        caption = f"<figcaption>{escape(block.alt)}</figcaption>"
        return f'<figure><div class="scroll">{block.svg}</div>{caption}</figure>'
    assert isinstance(block, Fold)  # noqa: S101 - the last kind
    inner = "\n".join(map(_block, block.blocks))
    summary = _MARKDOWN.renderInline(block.summary)
    return f"<details><summary>{summary}</summary>\n{inner}\n</details>"


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{_MARKDOWN.renderInline(h)}</th>' for h in table.headings)
    numbers = any(cell.value is not None for row in table.cells() for cell in row)
    # on a phone the cells of a row stand below each other, each with its heading
    stacked = not numbers and 2 < len(table.headings) <= _STACKED
    names = [unmarked(heading) if stacked else "" for heading in table.headings]
    rows = "\n".join(f"<tr>{_cells(row, names)}</tr>" for row in table.cells())
    kind = ' class="sortable"' if numbers else ' class="stacked"' if stacked else ""
    return (
        f'<div class="scroll"><table{kind}><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _cells(row: Sequence[Cell], headings: Sequence[str]) -> str:
    return "".join(map(_cell, row, headings))


def _cell(cell: Cell, heading: str) -> str:
    text = _MARKDOWN.renderInline(cell.text)
    if cell.series:
        text += f' <a class="more" href="#samples={escape(cell.series, quote=True)}">samples</a>'
    value = "" if cell.value is None else f' data-value="{cell.value!r}"'
    name = f' data-heading="{escape(heading, quote=True)}"' if heading else ""
    return f"<td{value}{name}>{text}</td>"
