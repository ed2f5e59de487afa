"""`vbench history`: series over the runs of months."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.sample_results import LOCAL, TESTBED, item, launch, pairs, result
from vbench import report
from vbench.cli.main import main
from vbench.errors import StoreError
from vbench.model import HostFacts, Pair, Result, Statistic, Status
from vbench.report import markdown
from vbench.report.timeline import Timeline
from vbench.report.timeline_page import spark
from vbench.results import store


def run(day: int, overhead: float = 2.0, *, qemu: str = "7.2", host: HostFacts = LOCAL) -> Result:
    launched = launch("tcg", 0, versions={"qemu": qemu}, digests={})
    common: dict[str, object] = {"host": host.identity, "launches": ("tcg-0",)}
    return result(
        item("cpu-prime", pairs(overhead, seed=day, spread=0.01), **common),
        item("cpu-sha256", pairs(1.5, seed=f"b{day}", spread=0.01), **common),
        host=host,
        started=f"2026-{1 + day // 28:02}-{1 + day % 28:02}T03:04:05Z",
        launches=(launched,),
    )


def months(change: float = 1.15, at: int = 25) -> Iterator[Result]:
    for day in range(40):
        later = day >= at
        yield run(day, 2.0 * (change if later else 1), qemu="8.0" if later else "7.2")


def text(results: Iterator[Result] | list[Result], *, by_class: bool = False) -> str:
    return markdown.render(report.timeline(results, by_class=by_class).document, plots=None)


def test_a_change_is_found_with_its_size_and_with_what_changed_beside_it() -> None:
    lines = {line.name.workload: line for line in Timeline(months()).lines}
    (turn,) = lines["cpu-prime"].turns
    assert turn.at == 25
    assert turn.percent == pytest.approx(15, abs=1.5)
    assert turn.changed == ["version of qemu (`7.2` against `8.0`)"]
    assert lines["cpu-sha256"].turns == []
    page = text(months())
    assert "**1 change of level** in 1 series" in page
    row = next(line for line in page.splitlines() if line.startswith("| 2026-01-26T03:04:05Z |"))
    assert "`7.2` against `8.0`" in row


def test_without_a_change_none_is_found() -> None:
    page = text(months(change=1.0))
    assert "**No series changed its level.**" in page
    assert "version of qemu (`7.2` against `8.0`)" in page, "but the new version is named"


def test_another_clock_of_the_machine_is_named() -> None:
    hosts = [replace(LOCAL, facts={**LOCAL.facts, "clocksource": of}) for of in ("tsc", "hpet")]
    page = text([run(day, host=hosts[day >= 5]) for day in range(10)])
    assert "clocksource (`tsc` against `hpet`)" in page


def test_a_point_has_its_interval_and_a_line_its_marks() -> None:
    (line, _) = Timeline(months()).lines
    assert all(point.low < point.value < point.high for point in line.points)  # type: ignore[operator]
    bars = spark(line)
    assert len(bars) == 41
    assert bars[25] == "│"
    (_, other) = Timeline(months()).lines
    assert spark(other)[25] == ":"


def test_the_order_of_files_does_not_matter_and_a_copy_counts_once() -> None:
    forwards, backwards = [*months()], [*months()][::-1]
    assert text(forwards) == text(backwards) == text(forwards + backwards)


def test_another_definition_is_another_series() -> None:
    new = [run(day) for day in range(10)]
    changed = [
        replace(one, items=tuple(replace(i, definition="new") for i in one.items))
        for one in new[5:]
    ]
    assert len(Timeline(new[:5] + changed).lines) == 4


def test_machines_are_apart_unless_their_class_is_asked_for() -> None:
    runners = [run(day, host=replace(LOCAL, identity=f"local:runner{day}")) for day in range(10)]
    assert "`--by-class` takes" in text(runners)
    (line, _) = Timeline(runners, by_class=True).lines
    assert len(line.points) == 10
    assert "--by-class" not in text(runners, by_class=True)


def test_machines_of_one_name_are_apart() -> None:
    def on(machine: str) -> list[Result]:
        host = replace(LOCAL, facts={**LOCAL.facts, "machine_id": machine})
        return [run(day, host=host) for day in range(3)]

    lines = Timeline([*on("one"), *on("two")]).lines
    assert {(line.name.host, len(line.points)) for line in lines} == {
        ("local:myserver, machine id one", 3),
        ("local:myserver, machine id two", 3),
    }


def test_counts_are_compared_to_a_tenth_of_a_per_cent() -> None:
    counted: dict[str, object] = {
        "host": TESTBED.identity, "host_kind": TESTBED.kind, "time_base": TESTBED.time_base,
    }  # fmt: skip
    results = [
        result(
            item("cpu-prime", [Pair(1e-7, 1e-7 * (1.004 if day >= 6 else 1), 0)], **counted),
            host=TESTBED,
            started=f"2026-01-{day + 1:02}T00:00:00Z",
            launches=(),
        )
        for day in range(12)
    ]
    (line,) = Timeline(results).lines
    assert line.name.what == "instructions"
    assert [turn.at for turn in line.turns] == [6]


def test_what_failed_has_no_point_and_boots_are_seconds() -> None:
    one = result(
        item("disk-read", (), status=Status.FAILED, reason="no"),
        item("boot", pairs(6.0, None, rounds=1), category="boot", statistic=Statistic.ABSOLUTE),
    )
    (line,) = Timeline([one]).lines
    assert line.name.what == "seconds"
    with pytest.raises(StoreError, match="nothing was measured"):
        report.timeline([replace(one, items=one.items[:1])], by_class=False)


def test_the_command_writes_markdown_html_csv_and_otavas_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, each in enumerate(months()):
        folder = tmp_path / "runs" / f"run{number}"
        folder.mkdir(parents=True)
        (folder / "tcg.json").write_bytes(store.dumps(store.document(each)))
    words = ["history", str(tmp_path / "runs")]
    assert main(words) == 0
    assert capsys.readouterr().out == text(months())
    page, points, otava = (tmp_path / name for name in ("page.html", "points.csv", "otava"))
    assert main([*words, "--html", str(page), "--csv", str(points), "--otava", str(otava)]) == 0
    assert "cpu-prime" in page.read_text()
    rows = list(csv.DictReader(io.StringIO(points.read_text())))
    assert len(rows) == 80
    assert [row["started"] for row in rows if row["change"]] == ["2026-01-26T03:04:05Z"]
    tests = json.loads((otava / "otava.yaml").read_text())["tests"]
    assert len(tests) == 2
    for name, test in tests.items():
        assert name == test["file"].removesuffix(".csv")
        columns = next(csv.reader(io.StringIO((otava / test["file"]).read_text())))
        assert {test["time_column"], *test["attributes"], "value"} == set(columns)
    assert main([*words, "--otava", str(otava)]) == 2, "a folder that is there is left alone"
    assert main([*words, "--csv", str(tmp_path / "runs/run0/tcg.json")]) == 2


def test_of_too_few_runs_nobody_can_tell() -> None:
    page = text([run(day) for day in range(7)])
    assert "No series changed" not in page
    assert "2 series have too few runs to tell whether the level changed: fewer than 8." in page
    assert "0 of 0 series" not in " ".join(page.split())
    assert "too few" not in text([run(day) for day in range(8)])
