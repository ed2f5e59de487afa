"""The commands that read results: report and compare."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from sample_results import LOCAL, TESTBED, item, pairs, result
from shell_runs import Main

from vbench.model import Pair
from vbench.results import store


def written(path: Path, overhead: float = 1.5) -> Path:
    """A result file."""
    path.write_bytes(store.dumps(store.document(result(item("cpu-x", pairs(overhead))))))
    return path


def test_report(main: Main, tmp_path: Path) -> None:
    file = written(tmp_path / "a.json")
    status, out, _ = main("report", file)
    assert status == 0
    assert "cpu-x" in out
    status, out, _ = main("report", tmp_path, "-o", tmp_path / "report.md")
    assert (status, out) == (0, "")
    assert "cpu-x" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"benchmarks": []}', '{"vbench": 3}', "\0\xff"]
)
@pytest.mark.parametrize("command", ["report", "compare"])
def test_a_damaged_file_is_named(main: Main, tmp_path: Path, command: str, text: str) -> None:
    file = tmp_path / "damaged.json"
    file.write_text(text)
    status, out, err = main(command, *([file] if command == "report" else [file, file]))
    assert status == 5
    assert "damaged.json" in err
    assert "Traceback" not in err
    assert out == ""


@pytest.mark.parametrize("command", ["report", "compare"])
def test_what_is_no_result_is_left_out_by_name(main: Main, tmp_path: Path, command: str) -> None:
    written(tmp_path / "a.json")
    (tmp_path / "foreign.json").write_text('{"a": 1}')
    status, _, err = main(command, *[tmp_path] * (1 if command == "report" else 2))
    assert status == 0
    assert f"{tmp_path / 'foreign.json'} is not a result of vbench; left out" in err
    assert "a.json" not in err


def test_a_missing_file_is_named(main: Main, tmp_path: Path) -> None:
    status, _, err = main("report", tmp_path / "absent.json")
    assert status == 5
    assert "absent.json" in err


def test_a_report_that_cannot_be_written(main: Main, tmp_path: Path) -> None:
    status, _, err = main("report", written(tmp_path / "a.json"), "-o", "/proc/vbench/report.md")
    assert status == 1
    assert "/proc/vbench" in err
    assert "Traceback" not in err


def test_compare(main: Main, tmp_path: Path) -> None:
    base, worse = written(tmp_path / "a.json"), written(tmp_path / "b.json", 3.0)
    status, out, _ = main("compare", base, base, "--fail-above", "10")
    assert (status, "passed" in out) == (0, True)
    status, out, _ = main("compare", base, worse, "--fail-above", "10")
    assert status == 1
    assert "cpu-x" in out


def counted(path: Path, instructions: float, exits: float) -> Path:
    """A result file of the testbed: two boots that differ in nothing."""
    where = {"host": TESTBED.identity, "host_kind": TESTBED.kind, "time_base": TESTBED.time_base}
    samples = [Pair(None, instructions * 1e-9, boot) for boot in (0, 1)]
    measured = item("disk-x", samples, exits={"MSR": 2.0, "IOIO": exits}, **where)
    path.write_bytes(store.dumps(store.document(result(measured, host=TESTBED))))
    return path


@pytest.mark.parametrize(
    ("instructions", "exits", "status", "said"),
    [
        (88_956 * 1.02, 1.0, 1, "no exit reason changed"),
        (88_956 * 1.02, 2.0, 1, "exits: port I/O in kernel 1.00 now 2.00"),
        (88_956 * 1.0056, 1.0, 0, "slower, within the limit"),
        (88_956 * 1.0011, 1.0, 0, "slower, within the limit"),
        (88_956 * 0.9925, 1.0, 0, "improvement"),
        (88_956 * 1.0009, 1.0, 0, "no difference"),
    ],
)
def test_compare_counts_exactly(
    main: Main, tmp_path: Path, instructions: float, exits: float, status: int, said: str
) -> None:
    """Any change above 0.1 % is reported, with the exit reasons; one above the limit fails."""
    base = counted(tmp_path / "base.json", 88_956, 1.0)
    new = counted(tmp_path / "new.json", instructions, exits)
    found, out, _ = main("compare", base, new, "--fail-above", "1")
    assert found == status
    assert said in out


def test_compare_fails_where_it_could_not_compare(main: Main, tmp_path: Path) -> None:
    base, other = written(tmp_path / "a.json"), tmp_path / "b.json"
    items = [item("cpu-y", pairs(1.5)), item("cpu-z", pairs(1.5))]
    other.write_bytes(store.dumps(store.document(result(*items))))
    status, out, _ = main("compare", base, other)
    assert status == 4
    assert "no series could be compared" in out
    both = result(item("cpu-x", pairs(1.5)), *items)
    other.write_bytes(store.dumps(store.document(both)))
    assert main("compare", other, base, "--fail-above", "10")[0] == 4
    assert main("compare", other, base, "--fail-above", "10", "--allow-missing")[0] == 0
    assert main("compare", other, base)[0] == 0


def test_compare_across_machines(main: Main, tmp_path: Path) -> None:
    base, other = written(tmp_path / "a.json"), tmp_path / "b.json"
    kernel = replace(LOCAL, facts={**LOCAL.facts, "kernel": "6.12"})
    moved = result(item("cpu-x", pairs(1.5)), host=kernel)
    other.write_bytes(store.dumps(store.document(moved)))
    assert main("compare", base, other, "--fail-above", "10")[0] == 4
    assert main("compare", base, other, "--fail-above", "10", "--across", "kernel")[0] == 0
    status, _, err = main("compare", base, other, "--across", "name")
    assert status == 2
    assert "cpu-model" in err


def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    """`vbench report | head`: no traceback."""
    file = written(tmp_path / "a.json")
    process = subprocess.Popen(
        [sys.executable, "-m", "vbench.cli", "report", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, stderr = process.communicate()
    assert process.returncode == 1
    assert stderr == b""


@pytest.mark.parametrize("name", ["", "result.json", "journal.jsonl", "cut.json"])
@pytest.mark.parametrize("option", ["-o", "--html"])
def test_a_report_takes_the_place_of_no_result(
    main: Main, tmp_path: Path, name: str, option: str
) -> None:
    out = tmp_path / "results"
    out.mkdir()
    written(out / "result.json")
    (out / "journal.jsonl").touch()
    (out / "cut.json").write_text("{")
    before = {path: path.read_bytes() for path in out.iterdir()}
    status, _, err = main("report", out / "result.json", option, out / name)
    assert status == 2
    assert ("name a file" if not name else f"name another file with {option}") in err
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_what_a_machine_says_of_itself_cannot_change_the_terminal(
    main: Main, tmp_path: Path
) -> None:
    """Its firmware names the CPU."""
    wild = "AMD \u202eEPYC\n| x | \x1b[31m"
    host = replace(LOCAL, identity=f"local:{wild}", facts={**LOCAL.facts, "cpu_model": wild})
    made = result(replace(item("cpu-x", pairs(1.5)), host=host.identity), host=host)
    text = store.dumps(store.document(made)).decode()
    file = tmp_path / "a.json"
    for there, raw in (("\\\\u202e", "\\u202e"), ("\\\\n", "\\n"), ("\\\\x1b", "\\u001b")):
        assert there in text
        text = text.replace(there, raw)
    file.write_text(text)
    for words in (("report", file), ("compare", file, file)):
        status, out, err = main(*words)
        assert (status, err) == (0, "")
        assert not {"\u202e", "\x1b"} & set(out)
        assert "\n| x |" not in out
        assert "EPYC" in out
