"""Numbers as people read them."""

from __future__ import annotations

import pytest

from vbench.model import TimeBase
from vbench.results import formatting
from vbench.results.stats import Overhead


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (0.0999999999, "0.100"),
        (0.01234, "0.0123"),
        (1.834, "1.83"),
        (9.999, "10.0"),
        (99.96, "100"),
        (12345, "12,300"),
        (-3.456, "-3.46"),
        (float("nan"), "—"),
    ],
)
def test_number(value: float, shown: str) -> None:
    assert formatting.number(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(1.0049, "1.005"), (1.83, "1.83"), (12.34, "12.3"), (1234.5, "1,234")]
)
def test_ratio(value: float, shown: str) -> None:
    assert formatting.ratio(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "—"),
        (2.5, "2.50 s"),
        (0.0123, "12.3 ms"),
        (9.999e-7, "1.00 µs"),
        (9.98e-7, "998 ns"),
        (3e-13, "0.300 ps"),
        (-3.35e-3, "-3.35 ms"),
    ],
)
def test_duration(seconds: float | None, shown: str) -> None:
    assert formatting.duration(seconds, TimeBase.WALL) == shown


def test_instructions_are_nanoseconds_of_the_counting_clock() -> None:
    assert formatting.duration(2745e-9, TimeBase.INSTRUCTIONS) == "2,740 instr."
    assert formatting.duration(0.9, TimeBase.INSTRUCTIONS) == "900 million instr."


def test_rates() -> None:
    assert formatting.per_unit(1 / 2**30, "byte", "disk", TimeBase.WALL) == "1.00 GiB/s"
    assert formatting.per_unit(1.0, "byte", "disk", TimeBase.WALL) == "1.00 B/s"
    assert formatting.per_unit(1e-4, "read", "disk", TimeBase.WALL) == "100 µs (10,000/s)"
    assert formatting.per_unit(1e-4, "event", "cpu", TimeBase.WALL) == "100 µs"
    assert formatting.per_unit(None, "event", "cpu", TimeBase.WALL) == "—"


def test_intervals() -> None:
    assert formatting.interval(Overhead(1.83, 1.791, 1.876, 15, 5)) == "[1.79, 1.88]"
    assert formatting.interval(Overhead(1.83, 1.791, 1.876, 3, 1)) == "[1.79, 1.88] this boot only"
    assert formatting.interval(Overhead(1.83, None, None, 1, 1)) == "one pair: no interval"
    assert formatting.share(Overhead(2.0, 1.6, 2.5, 15, 5)) == "50.0 [40.0, 62.5]"


def test_foreign_text_stays_in_its_cell() -> None:
    assert formatting.plain("a|b\n<c> *d*") == "a\\|b &lt;c&gt; \\*d\\*"
    assert formatting.code("a|b") == "`a\\|b`"
    assert formatting.code("a`b") == "``a`b``"
    assert formatting.block("```\nx").startswith("````\n")


def test_a_share_above_all_has_a_word() -> None:
    assert "(faster than native)" in formatting.share(Overhead(0.8, 0.7, 0.9, 10, 5))
    assert "(as fast, within the interval)" in formatting.share(Overhead(0.8, 0.6, 1.1, 10, 5))
    assert "fast" not in formatting.share(Overhead(1.2, 1.1, 1.3, 10, 5))


def test_text_without_its_marks() -> None:
    made = f"**{formatting.plain('a_b | c*')}** {formatting.code('x')}"
    assert formatting.unmarked(made) == "a_b | c* x"
