"""A report as data: sections of text, tables, plots and folded parts.

markdown.py, html.py and data.py render it. Text is Markdown already (see `formatting.plain`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Cell:
    """A cell of a table. `value` is the number it shows, by which a reader may sort; `series` the
    name of the series whose samples are behind it: see `series_key`."""

    text: str
    value: float | None = None
    series: str = ""


@dataclass(frozen=True)
class Table:
    """Headings with their units, and rows of as many cells."""

    headings: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]

    def cells(self) -> Iterator[Sequence[Cell]]:
        for row in self.rows:
            yield [cell if isinstance(cell, Cell) else Cell(cell) for cell in row]


@dataclass(frozen=True)
class Picture:
    """An SVG plot, the name of its file, and what it shows in words."""

    name: str
    svg: str
    alt: str


@dataclass(frozen=True)
class Fold:
    """Blocks that are folded away until asked for. `summary` is Markdown."""

    summary: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Commands:
    """Where every command line is: `Document.commands`, in a file or folded."""


Block = str | Table | Picture | Fold | Commands


@dataclass(frozen=True)
class Section:
    """A heading with what is below it; `level` 2 is a chapter."""

    title: str
    blocks: Sequence[Block]
    level: int = 2

    @property
    def anchor(self) -> str:
        return slug(self.title)


@dataclass(frozen=True)
class Document:
    """The whole report: the first screen, then chapters. `commands` is the text of the file with
    every command line."""

    title: str
    first: Sequence[Block]
    sections: Sequence[Section] = field(default_factory=tuple)
    commands: str = ""

    def pictures(self) -> list[Picture]:
        return [b for s in self.sections for b in _flat(s.blocks) if isinstance(b, Picture)]


def _flat(blocks: Sequence[Block]) -> Iterator[Block]:
    for block in blocks:
        yield block
        if isinstance(block, Fold):
            yield from _flat(block.blocks)


def slug(title: str) -> str:
    """The anchor that GitHub gives a heading: small letters, no punctuation, hyphens for blanks."""
    text = re.sub(r"[`*_\\]|&\w+;", "", title).lower()
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", text).strip())


def link(title: str, text: str = "") -> str:
    """A link to the section of that title."""
    return f"[{text or title}](#{slug(title)})"
