"""What more vCPUs bring or cost."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sample_results import item, pairs, result

from vbench.model import Item, Result
from vbench.report import several
from vbench.report.document import Table
from vbench.report.gather import gather
from vbench.results import stats
from vbench.results.formatting import TIMES


def lock(vcpus: int, native_s: float, overhead: float, *flags: str, spread: float = 0.0) -> Result:
    variant = f"tcg,vcpus={vcpus},memory=1024"
    made = pairs(overhead, native_s, boots=3, rounds=1, spread=spread, seed=vcpus)
    one: Item = item("smp-lock", made, category="smp", variant=variant)
    return result(replace(one, flags=flags))


def table(*results: Result) -> list[list[str]]:
    (panel,) = gather(results).panels
    found = [each for each in several.blocks(panel) if isinstance(each, Table)]
    return [[cell.text for cell in row] for one in found for row in one.cells()]


def test_each_side_is_compared_with_itself_with_the_fewest_vcpus() -> None:
    rows = table(lock(2, 1e-7, 2.0), lock(4, 2e-7, 10.0, "overcommitted"), lock(3, 1.5e-7, 2.0))
    assert [row[:2] for row in rows] == [["smp-lock", "`tcg,memory=1024`"]] * 2
    assert [row[2] for row in rows] == ["3, beside 2", "4, overcommitted, beside 2"]
    assert [row[3].split()[0] for row in rows] == [f"{TIMES}1.50", f"{TIMES}2.00"]
    assert [row[4].split()[0] for row in rows] == [f"{TIMES}1.50", f"{TIMES}10.0"]


def test_nothing_is_told_of_one_number_of_vcpus() -> None:
    assert table(lock(2, 1e-7, 2.0)) == []


def test_the_quotient_of_independent_boots_has_an_interval_as_wide_as_both() -> None:
    few, many = (stats.log_guest(lock(n, 1e-7, n, spread=0.05).items[0].pairs) for n in (2, 4))
    found = stats.quotient(many, few)
    assert found is not None
    assert found.ratio == pytest.approx(2, rel=0.1)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.ratio * 0.9 < found.ratio * 1.1 < found.high
    assert stats.quotient(many, {}) is None
