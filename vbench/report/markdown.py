"""A document as Markdown, as GitHub shows it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from urllib.parse import quote

from vbench.report.document import Block, Commands, Document, Fold, Picture, Table
from vbench.results import formatting

_NO_FILE = "`vbench report` with `-o FILE` writes every command line into a file beside the report."


@dataclass(frozen=True)
class _Links:
    """What lies beside the report, as links name it; None: it is not written."""

    plots: str | None
    commands: str | None


def render(document: Document, *, plots: str | None, commands: str | None = None) -> str:
    """The text. `plots` is the folder of the plots as links name it, `commands` the file of the
    command lines; None leaves them out."""
    links = _Links(plots, commands)
    out = [f"# {document.title}", *_blocks(document.first, links)]
    for section in document.sections:
        out.append(f"{'#' * section.level} {section.title}")
        out += _blocks(section.blocks, links)
    return "\n\n".join(out) + "\n"


def _blocks(blocks: Sequence[Block], links: _Links) -> list[str]:
    return [text for block in blocks if (text := _block(block, links))]


def _summary(text: str) -> str:
    """As HTML: GitHub reads no Markdown inside of <summary>."""
    text = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", text)
    return re.sub(r"`+(.+?)`+", lambda found: f"<code>{escape(found[1])}</code>", text)


def _block(block: Block, links: _Links) -> str:
    if isinstance(block, str):
        return block
    if isinstance(block, Table):
        rows = [[cell.text for cell in row] for row in block.cells()]
        return formatting.table(list(block.headings), rows)
    if isinstance(block, Picture):
        return "" if links.plots is None else f"![{block.alt}]({links.plots}/{block.name})"
    if isinstance(block, Commands):
        if not links.commands:
            return _NO_FILE
        return f"Every command line is in [{links.commands}]({quote(os.fsencode(links.commands))})."
    assert isinstance(block, Fold)  # noqa: S101 - the last kind
    return formatting.details(_summary(block.summary), "\n\n".join(_blocks(block.blocks, links)))
