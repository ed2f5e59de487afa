"""What the pages for contributors name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_every_path_that_a_page_names_exists(page: str) -> None:
    paths = re.findall(
        r"`((?:vbench|docs|tests|plugins|workloads)/[\w./*-]*)`", (ROOT / page).read_text()
    )
    assert paths
    assert [path for path in paths if not list(ROOT.glob(path))] == []


def test_the_picture_has_every_folder() -> None:
    picture = (ROOT / "docs/architecture.md").read_text()
    folders = {path.parent.name for path in (ROOT / "vbench").glob("*/__init__.py")}
    assert {folder for folder in folders if f"{folder}/ ·" not in picture} == set()
