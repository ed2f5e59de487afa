"""A document as Markdown, as GitHub shows it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from vbench.report.document import Block, Document, Fold, Picture, Table
from vbench.results import formatting


def render(document: Document, *, plots: str | None) -> str:
    """The text. `plots` is the folder of the plots as links name it; None leaves them out."""
    out = [f"# {document.title}", *_blocks(document.first, plots)]
    for section in document.sections:
        out.append(f"{'#' * section.level} {section.title}")
        out += _blocks(section.blocks, plots)
    return "\n\n".join(out) + "\n"


def _blocks(blocks: Sequence[Block], plots: str | None) -> list[str]:
    return [text for block in blocks if (text := _block(block, plots))]


def _summary(text: str) -> str:
    """As HTML: GitHub reads no Markdown inside of <summary>."""
    text = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", text)
    return re.sub(r"`+(.+?)`+", lambda found: f"<code>{escape(found[1])}</code>", text)


def _block(block: Block, plots: str | None) -> str:
    if isinstance(block, str):
        return block
    if isinstance(block, Table):
        rows = [[cell.text for cell in row] for row in block.cells()]
        return formatting.table(list(block.headings), rows)
    if isinstance(block, Picture):
        return "" if plots is None else f"![{block.alt}]({plots}/{block.name})"
    assert isinstance(block, Fold)  # noqa: S101 - the last kind
    return formatting.details(_summary(block.summary), "\n\n".join(_blocks(block.blocks, plots)))
