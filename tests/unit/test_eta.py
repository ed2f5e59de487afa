"""Recorded runs: the time that was said to be left was right."""

from __future__ import annotations

import gzip
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
RECORDED = sorted((ROOT / "tests/data/journals").glob("*.gz"))


@pytest.fixture(scope="module")
def eta() -> Any:
    """benchmarks/eta.py, which replays a journal."""
    spec = importlib.util.spec_from_file_location("eta", ROOT / "benchmarks/eta.py")
    assert spec is not None
    assert spec.loader is not None
    made = sys.modules["eta"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.name)
def test_from_a_third_of_a_run_on_the_time_left_is_right(eta: Any, path: Path) -> None:
    """Within a quarter of what is left or 15 s, nine times of ten, and never by more than 40 %."""
    found = list(eta.errors(eta.Replay(eta.read(path)), lanes=2))
    assert len(found) > 40
    assert eta.right(found) >= eta.RIGHT
    assert eta.worst(found) <= 0.4


def test_a_wrong_estimate_is_found(eta: Any) -> None:
    assert (eta.LIMIT, eta.FREE_S, eta.FROM, eta.RIGHT) == (0.25, 15.0, 1 / 3, 0.9)
    found = [(0.2, 900.0, 80.0, 10.0), (0.5, 60.0, 50.0, 0.2), (0.9, 24.0, 10.0, 1.4)]
    assert (eta.right(found), eta.worst(found)) == (1.0, 0.0)  # too early, or by less than 15 s
    found.append((0.6, 60.0, 40.0, 0.5))
    assert (eta.right(found), eta.worst(found)) == (2 / 3, 0.5)


def test_a_recorded_run_tells_of_no_machine() -> None:
    for path in RECORDED:
        lines = gzip.decompress(path.read_bytes()).decode().splitlines()
        keys = {key for line in lines for key in json.loads(line)}
        assert keys <= {*("event", "at_s", "series", "lane", "took_s", "boot", "workload", "took"),
                        *("item", "result", "launch", "options")}  # fmt: skip
