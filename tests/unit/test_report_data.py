"""The report for programs: its figures as data, in other programs' formats, and as HTML."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import pytest
from sample_results import LOCAL, full_run, item, launch, pairs, result
from test_report_exits import kvm_result

from vbench import report
from vbench.cli.main import main
from vbench.model import Result
from vbench.records import Clock, Phase
from vbench.results import history, loading, stats, store

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "docs" / "report.schema.json").read_text())
RESULTS = json.loads((ROOT / "docs" / "results.schema.json").read_text())
SHIPPED = ROOT / "reports" / "development-machine"


@pytest.mark.parametrize(
    "results",
    [
        full_run,
        lambda: [kvm_result()],
        lambda: loading.load_all([SHIPPED]),
        lambda: [result(item("a", ()))],
    ],
)
def test_the_figures_as_json_keep_to_their_schema(results: Callable[[], list[Result]]) -> None:
    made = json.loads(report.text(results(), "json"))
    jsonschema.validate(made, SCHEMA, jsonschema.Draft202012Validator)


@pytest.mark.parametrize("made", full_run(), ids=lambda made: made.variant)
def test_result_files_keep_to_their_schema(made: Result) -> None:
    document = json.loads(store.dumps(store.document(made)))
    jsonschema.validate(document, RESULTS, jsonschema.Draft202012Validator)


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.json")), ids=lambda path: path.stem)
def test_shipped_result_files_keep_to_their_schema(path: Path) -> None:
    jsonschema.validate(json.loads(path.read_text()), RESULTS, jsonschema.Draft202012Validator)


def test_the_schema_of_results_refuses_a_pair_without_a_guest() -> None:
    document = json.loads(store.dumps(store.document(full_run()[0])))
    document["benchmarks"][0]["extra_info"]["vbench"]["pairs"][0][1] = None
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, RESULTS, jsonschema.Draft202012Validator)


def test_the_schema_of_results_wants_the_records_of_the_present_version() -> None:
    document = json.loads(store.dumps(store.document(full_run()[0])))
    del document["vbench"]["launches"][0]["phases"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, RESULTS, jsonschema.Draft202012Validator)


def test_the_format_s_page_names_the_present_version() -> None:
    page = (ROOT / "docs" / "results-format.md").read_text()
    assert f"now {history.SCHEMA_VERSION};" in page


def test_the_schema_refuses_what_the_report_never_says() -> None:
    made = json.loads(report.text(full_run(), "json"))
    made["panels"][0]["series"][0]["overhead"]["word"] = "awful"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(made, SCHEMA, jsonschema.Draft202012Validator)


def test_the_figures_are_those_of_the_report() -> None:
    made = json.loads(report.text(full_run(), "json"))
    panel = made["panels"][0]
    of = {(one["workload"], one["variant"]): one for one in panel["series"]}
    sample = next(i for i in full_run()[0].items if i.workload == "cpu-prime")
    value = stats.overhead_of(sample)
    assert value is not None
    assert of["cpu-prime", "tcg"]["overhead"]["ratio"] == value.ratio
    assert of["memory-pagefault", "tcg"]["overhead"]["word"] is None  # the kernels differ
    assert of["syscall-getppid", "tcg"]["status"] == "failed"
    assert of["syscall-getppid", "tcg"]["guest_s"] is None
    mean = next(m for m in panel["means"] if (m["mean_of"], m["variant"]) == ("computing", "tcg"))
    assert (mean["workloads"], mean["of"]) == (["cpu-prime", "cpu-sha256"], 4)


def test_the_figures_hold_boot_times_and_what_was_left_out() -> None:
    took = (Phase("launch", "command", Clock.CLIENT, 7.0),)
    launches = [launch("tcg", boot, phases=took) for boot in range(2)]
    made = result(item("cpu-aes", pairs(2.0)), launches=launches, reduced_to=("cpu-aes",))
    (panel,) = json.loads(report.text([made], "json"))["panels"]
    assert panel["boot_times"] == [
        {
            "variant": "tcg",
            "phase": "launch to command",
            "boots": 2,
            "median_s": 7.0,
            "least_s": 7.0,
            "most_s": 7.0,
        }
    ]
    (left,) = panel["left_out"]
    assert (left["variant"], left["measured"]) == ("tcg", ["cpu-aes"])
    assert left["reason"].startswith("a run with --quick")
    assert left["remedy"] == "vbench run --backend tcg"


def test_costs_that_drown_are_null() -> None:
    drowned = kvm_result()
    items = [
        replace(i, pairs=tuple(replace(p, quantiles={"p50": (None, 90e-9)}) for p in i.pairs))
        if i.workload == "exit-cpuid"
        else i
        for i in drowned.items
    ]
    made = json.loads(report.text([replace(drowned, items=tuple(items))], "json"))
    costs = {one["workload"]: one["cost_s"] for one in made["panels"][0]["event_costs"]}
    assert costs["exit-cpuid"] is None
    assert costs["exit-port-qemu"] == pytest.approx(5e-6)


def test_bencher_gets_bounds_and_one_entry_for_each_series() -> None:
    made = json.loads(report.text(full_run(), "bencher"))
    entry = made["cpu-prime[tcg] @ local:myserver"]
    assert entry["overhead"]["lower_value"] < entry["overhead"]["value"]
    assert entry["overhead"]["value"] < entry["overhead"]["upper_value"]
    assert entry["latency"]["value"] == pytest.approx(1.44e6, rel=0.1)  # ns: 1.8 times 0.8 ms
    assert "instructions" in made["cpu-prime[kvm-virtio] @ testbed:myserver"]
    assert "network-rr[tcg] @ local:myserver" not in made  # it has no ratio
    moved = [replace(r, image="sha256:other") for r in full_run()[:1]]
    both = json.loads(report.text([*full_run()[:1], *moved], "bencher"))
    assert len([name for name in both if name.startswith("cpu-prime[tcg]")]) == 2


def test_hosts_of_one_name_are_told_apart_and_the_inventory_names_them() -> None:
    def named(**facts: str) -> Result:
        host = replace(LOCAL, facts={**LOCAL.facts, **facts})
        return replace(result(item("cpu-prime", pairs(2.0))), host=host)

    n = "0123456789abcde"  # they differ in what a short form leaves out
    same = [named(machine_id=f"{n}a"), named(machine_id=f"{n}b")]
    alone = [named(machine_id="1", inventory_name="node1")]
    kernels = [named(kernel=each, inventory_name="node2") for each in ("5", "6")]
    names = set(json.loads(report.text([*same, *alone, *kernels], "bencher")))
    of = "cpu-prime[tcg] @"
    assert names == {
        f"{of} local:myserver, machine id {n}a",
        f"{of} local:myserver, machine id {n}b",
        f"{of} node1",
        f"{of} node2, kernel 5",
        f"{of} node2, kernel 6",
    }
    text = report.text([*same, *alone, *kernels], "openmetrics")
    labels = [line.rpartition("}")[0] for line in text.splitlines() if line[0] != "#"]
    assert len(set(labels)) == len(labels) == 15
    rows = csv.DictReader(io.StringIO(report.text([*same, *alone, *kernels], "csv")))
    assert len({row["host"] for row in rows}) == 5


def test_openmetrics_is_well_formed() -> None:
    odd = result(item('a"b\\c', pairs(2.0)))
    text = report.text([*full_run(), odd], "openmetrics")
    lines = text.splitlines()
    assert lines[-1] == "# EOF"
    assert lines[0] == "# TYPE vbench_overhead_ratio gauge"
    label = r'[a-z_]+="(?:[^"\\\n]|\\["\\n])*"'
    for line in lines[2:-1]:
        assert re.fullmatch(rf"vbench_overhead_ratio\{{{label}(?:,{label})*\}} \d\S*", line), line
    assert len(set(lines)) == len(lines)


def test_csv_has_a_row_for_each_series_and_nothing_for_what_is_missing() -> None:
    rows = list(csv.DictReader(io.StringIO(report.text(full_run(), "csv"))))
    assert len(rows) == sum(len(r.items) for r in full_run())
    failed = next(r for r in rows if r["status"] == "failed")
    assert (failed["overhead"], failed["guest_s"], failed["pairs"]) == ("", "", "0")


class Balanced(HTMLParser):
    """Notes tags that are not closed in order, and addresses of anything that would be loaded."""

    VOID = frozenset({"meta", "br", "link", "img", "input", "hr"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.loaded += [f"{tag} {n}" for n, _ in attrs if n in ("src", "srcset", "data", "action")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_html_is_one_file_that_loads_nothing_and_says_the_same() -> None:
    page = report.html_page(full_run())
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert parser.loaded == []
    assert page.count("<h2") == report.render(full_run(), plots_dir=None).markdown.count("\n## ")
    assert page.count("<svg") == len(report.render(full_run(), plots_dir="p").plots)
    assert page == report.html_page(full_run()[::-1])
    assert "probe cpu-prime --native" in page.partition("<summary>Every command line</summary>")[2]


def test_text_from_outside_cannot_act_in_html() -> None:
    nasty = "</script><script>alert(1)</script>"
    made = result(item(nasty, pairs(2.0), reason=nasty, unit=nasty))
    page = report.html_page([made])
    assert "<script>alert" not in page
    assert page.count("</script>") == 2  # the data's and the program's own ends


def test_the_command_writes_each_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "r.json"
    source.write_bytes(store.dumps(store.document(full_run()[0])))
    assert main(["report", str(source), "--html", str(tmp_path / "r.html")]) == 0
    assert (tmp_path / "r.html").read_text().startswith("<!DOCTYPE html>")
    assert capsys.readouterr().out == ""
    assert main(["report", str(source), "--format", "csv"]) == 0
    assert capsys.readouterr().out.startswith("host,time_base,variant")
    assert main(["report", str(source), "--format", "json", "-o", str(tmp_path / "t.json")]) == 0
    assert json.loads((tmp_path / "t.json").read_text())["panels"]


def test_a_report_never_overwrites_a_result(tmp_path: Path) -> None:
    source = tmp_path / "r.json"
    source.write_bytes(before := store.dumps(store.document(full_run()[0])))
    for what in (str(source), str(tmp_path)):
        assert main(["report", what, "--format", "json", "-o", str(source)]) == 2
        assert main(["report", what, "--html", str(source)]) == 2
    assert source.read_bytes() == before
