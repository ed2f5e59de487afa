"""A chapter about several machines: what holds of all is said once, what was found of each."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from vbench.model import Result
from vbench.report import chapters, published
from vbench.report.document import Section, Table
from vbench.report.gather import gather
from vbench.results import loading

SHIPPED = Path(__file__).parents[2] / "reports" / "development-machine"


def elsewhere(result: Result) -> Result:
    """The same, measured on another machine."""
    name = f"{result.host.identity}2"
    facts = {**result.host.facts, "machine_id": "other", "address": "other"}
    items = tuple(replace(item, host=name) for item in result.items)
    return replace(result, host=replace(result.host, identity=name, facts=facts), items=items)


def sections() -> list[Section]:
    one = loading.load_all([SHIPPED])
    return list(chapters.document(gather([*one, *map(elsewhere, one)])).sections)


def test_notes_of_several_machines_stand_once_above_their_parts() -> None:
    found = sections()
    for at, chapter in enumerate(found):
        if chapter.level != 2 or not found[at + 1 :] or found[at + 1].level != 3:
            continue
        parts = [s for s in found[at + 1 :] if s.title.startswith(f"{chapter.title}: ")]
        ends = [s.blocks[i] for s in parts for i in range(1, len(s.blocks))
                if not isinstance([*s.blocks, None][i + 1], Table)]  # fmt: skip
        texts = Counter(block for block in ends if isinstance(block, str))
        assert not [text for text, count in texts.items() if count > 1], chapter.title
    applications = next(s for s in found if s.title == "Applications")
    assert "".join(map(str, applications.blocks)).count("redis is a database in memory") == 1


def test_each_part_still_opens_with_what_was_found_there() -> None:
    parts = [s for s in sections() if s.title.startswith("Techniques: ")]
    assert len(parts) == 4
    assert all("computing" in str(part.blocks[0]) for part in parts)


def test_published_figures_stand_once() -> None:
    found = [b for s in sections() for b in s.blocks if b == published.INTRODUCTION]
    assert len(found) == 1


def test_what_the_page_s_script_marks_has_a_style() -> None:
    folder = files("vbench.report")
    script, style = ((folder / name).read_text() for name in ("page.js", "page.css"))
    marks = re.findall(r'classList\.toggle\("(\w+)"', script)
    assert set(marks) == {"wide", "more"}
    assert all(f".scroll.{mark}" in style for mark in marks)
