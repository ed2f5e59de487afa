"""Checks prose: short sentences, plain words, the field's terms. `python3 tools/prose.py PATH...`

Reads Markdown. Code blocks, inline code, tables, links' targets and comments are left out. Standard
library only, so that it runs anywhere.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

MAX_WORDS = 28  # of a sentence
# Words of a private dialect, and words that say nothing; each with what to do instead.
WORDS = {
    r"census": "exit histogram",
    r"patience": "timeout, or time limit",
    r"mend(s|ed)?": "fix",
    r"natively done": "done by native",
    r"leaves? (the|a|its) guest|makes? a guest leave": "causes a VM exit",
    r"is said to be|are said to be": "say what it is",
    r"the user's words": "the command line",
    r"settled by|settles it": "removes this difference",
    r"decides nothing": "inconclusive",
    r"simply|obviously|of course|basically|easily|very|quite|just works": "leave it out",
    r"in order to": "to",
    r"utili[sz]es?": "use",
    r"leverag(e|es|ing)": "use",
}
# Prose that states its subject last reads as a riddle.
OPENERS = (
    r"(Of|With it|Beside them|Therein|Thereby|Whence|Hence the)\b[^.]{0,60}\b(it|there) (is|are)\b"
)


def paragraphs(text: str) -> Iterator[tuple[int, str]]:
    """Prose with the line it begins on: paragraphs and list items, without code and tables."""
    fenced, start, lines = False, 0, list[str]()
    for number, raw in enumerate([*text.splitlines(), ""], 1):
        line = raw.strip()
        fence = line.startswith(("```", "~~~"))
        fenced ^= fence
        item = re.match(r"([-*]|\d+\.) ", line)
        skipped = fenced or fence or raw.startswith("    ") or line.startswith(("|", "#", "<!--"))
        if (not line or skipped or item) and lines:
            yield start, " ".join(lines)
            lines = []
        if line and not skipped:
            start = start if lines else number
            lines.append(line[item.end() :] if item else line)


def plain(text: str) -> str:
    """Without inline code, the targets of links, and emphasis."""
    text = re.sub(r"`+[^`]*`+", "CODE", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"[*_]{1,2}|<[^>]+>", "", text)


def faults(text: str) -> Iterator[tuple[int, str]]:
    """(line, what is wrong) of each fault."""
    for line, raw in paragraphs(text):
        prose = plain(raw)
        for sentence in re.split(r"(?<=[.!?;:]) +", prose):
            count = len(re.findall(r"[\w'-]+", sentence))
            if count > MAX_WORDS:
                yield line, f"{count} words in a sentence: {sentence[:60]}..."
            if re.match(OPENERS, sentence):
                yield line, f"say the subject first: {sentence[:60]}..."
        for pattern, better in WORDS.items():
            for found in re.finditer(rf"\b({pattern})\b", prose, flags=re.IGNORECASE):
                yield line, f"{found[0]!r}: {better}"


def pages(path: Path) -> list[Path]:
    """A file, or the Markdown files below a folder."""
    return sorted(path.rglob("*.md")) if path.is_dir() else [path]


def main(paths: list[str]) -> int:
    """Print every fault; 1 if there is any."""
    count = 0
    for path in [page for name in paths for page in pages(Path(name))]:
        for line, what in faults(path.read_text(encoding="utf-8")):
            print(f"{path}:{line}: {what}")
            count += 1
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
