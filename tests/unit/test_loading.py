"""Folders of results: nothing in them is left out or dropped without a word."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from sample_results import item, pairs, result
from shell_runs import Main, Runs, spin

from vbench.errors import UnreadableError
from vbench.model import Pair, Result
from vbench.results import loading, store
from vbench.results.journal import JOURNAL_NAME


def write(path: Path, of: Result) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(store.dumps(store.document(of)))
    return path


def test_months_of_hosts_are_found_in_one_folder(tmp_path: Path) -> None:
    hosts = [tmp_path / f"fleet/2026-{month}/node1" for month in (10, 11)]
    for number, host in enumerate(hosts):
        host.mkdir(parents=True)
        write(host / "a.json", replace(result(item("cpu-a", pairs(2.0))), started=f"2026-{number}"))
    write(tmp_path / "fleet/2026-10/.hidden/a.json", result(item("cpu-b", pairs(2.0))))
    (tmp_path / "fleet/2026-10/round").symlink_to(tmp_path / "fleet")
    told: list[str] = []
    found = loading.load_all([tmp_path / "fleet"], told.append)
    assert [one.started for one in found] == ["2026-0", "2026-1"]
    assert told == [f"{tmp_path}/fleet/2026-10/round is a link to a folder; left out"]


# ------------------------------------------------------------------ a run whose files are damaged


@pytest.mark.parametrize("content", ["", "{", '{"vbench": {}}', None])
def test_a_damaged_file_of_a_complete_run_is_read_from_its_journal(
    run: Runs, content: str | None
) -> None:
    assert run(spin("cpu_a") + spin("cpu_z"), boots=2) == 0
    whole = loading.load_all([run.out])
    file = run.out / "local-shell.json"
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    told: list[str] = []
    (found,) = loading.load_all([run.out], told.append)
    items = sorted(found.items, key=lambda each: each.name)  # a journal has them as measured
    assert [replace(found, items=tuple(items))] == whole
    assert told == [f"{file} is damaged or gone; its results are those of {run.out / JOURNAL_NAME}"]


def test_the_remedy_for_a_damaged_file_is_true(run: Runs, main: Main) -> None:
    assert run(spin("cpu_a"), boots=2) == 0
    file = run.out / "local-shell.json"
    file.write_text("{")
    status, _, err = main("report", file)
    assert status == 5
    assert f"vbench report {run.out / JOURNAL_NAME}" in err
    status, out, _ = main("report", run.out / JOURNAL_NAME)
    assert status == 0
    assert "cpu-a" in out
    shutil.copy(file, run.folder / "alone.json")
    _, _, err = main("report", run.folder / "alone.json")
    assert "measure again" in err
    assert JOURNAL_NAME not in err


def test_a_damaged_file_that_the_journal_does_not_know_is_named(run: Runs) -> None:
    assert run(spin("cpu_a"), boots=2) == 0
    (run.out / "other.json").write_text("{")
    (run.out / "local-shell.json").write_text("{")
    with pytest.raises(UnreadableError, match=r"1 file of .* cannot be read") as caught:
        loading.load_all([run.out])
    assert "other.json" in caught.value.evidence


# ------------------------------------------------------------------ what is no file


def test_links_to_nothing_and_fifos_are_named(tmp_path: Path) -> None:
    write(tmp_path / "a.json", result(item("a", pairs(1.5))))
    (tmp_path / "gone.json").symlink_to("nowhere")
    (tmp_path / "loop.json").symlink_to("loop.json")
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(UnreadableError, match=r"3 files of .* cannot be read") as caught:
        loading.load_all([tmp_path])
    for told in ("gone.json is a link to nothing", "loop.json is a link", "pipe.json is no file"):
        assert told in caught.value.evidence


# ------------------------------------------------------------------ two files of one run


def test_files_of_one_run_with_other_samples_are_refused(tmp_path: Path) -> None:
    one = result(item("a", pairs(1.5, seed=1)), planned=5, done=5)
    other = result(item("a", pairs(3.0, seed=2)), planned=5, done=5)
    for late in (other, replace(other, done=4)):
        files = write(tmp_path / "a" / "x.json", one), write(tmp_path / "b" / "x.json", late)
        with pytest.raises(UnreadableError, match="have other samples") as caught:
            loading.load_all(files)
        assert all(str(file) in caught.value.what for file in files)
        assert caught.value.exit_status == 5


def test_copies_and_earlier_states_of_one_run_are_read(tmp_path: Path) -> None:
    many = pairs(1.5, boots=4)
    whole = result(item("a", many), planned=12, done=12)
    early = result(item("a", many[:6]), planned=12, done=6)
    nothing = result(planned=12, done=0)
    found = [whole, whole, early, nothing, result(item("a", [Pair(1.0, 2.0, 0)]), started="2027")]
    files = [write(tmp_path / str(i) / "x.json", each) for i, each in enumerate(found)]
    assert len(loading.load_all(files)) == 5


# ------------------------------------------------------------------ damaged journals


def test_damage_of_a_journal_is_named_by_its_line(run: Runs) -> None:
    assert run(spin("cpu_a"), boots=2) == 0
    journal = run.out / JOURNAL_NAME
    lines = journal.read_text().splitlines()
    records = [json.loads(line) for line in lines]
    at = next(i for i, each in enumerate(records) if each["event"] == "pair")
    pair = records[at]
    for wrong, told in (
        ({**pair, "series": "nobody"}, "nothing before it is of a series 'nobody'"),
        ({**pair, "event": "wonder"}, "there is no event 'wonder'"),
        ({**pair, "pair": {**pair["pair"], "boot": -7}}, "pair.boot is -7, not the number of"),
        (pair, "round 1 follows round 1"),
        ({**pair, "round": 3}, "round 3 follows round 1"),
    ):
        damaged = [*lines[: at + 1], json.dumps(wrong), *lines[at + 1 :], ""]
        journal.write_text("\n".join(damaged))
        with pytest.raises(UnreadableError, match="is damaged") as caught:
            loading.load_all([journal])
        assert f"line {at + 2}: {told}" in caught.value.evidence


def test_equal_rounds_of_one_boot_are_rounds(run: Runs) -> None:
    """Two rounds within a hundredth of a second, with the same figures."""
    assert run(spin("cpu_a"), rounds=3) == 0
    journal = run.out / JOURNAL_NAME
    records = [json.loads(line) for line in journal.read_text().splitlines()]
    first = next(each for each in records if each["event"] == "pair")
    for each in records:
        if each["event"] == "pair":
            each |= {"at_s": first["at_s"], "pair": first["pair"]}
    journal.write_text("".join(json.dumps(each) + "\n" for each in records))
    (result,) = loading.load_all([journal])
    assert len(result.items[0].pairs) == 3
    lost = [each for each in records if each.get("round") != 2]
    journal.write_text("".join(json.dumps(each) + "\n" for each in lost))
    with pytest.raises(UnreadableError, match="is damaged") as caught:
        loading.load_all([journal])
    assert "round 3 follows round 1" in caught.value.evidence


def test_a_journal_that_was_cut_before_its_first_pair_says_so(run: Runs) -> None:
    assert run(spin("cpu_a")) == 0
    journal = run.out / JOURNAL_NAME
    whole = journal.read_bytes()
    journal.write_bytes(whole[: whole.index(b'"event": "series"') + 20])
    with pytest.raises(UnreadableError, match=r"holds no measurement: .* or the file is cut"):
        loading.load_all([journal])
    told: list[str] = []
    with pytest.raises(UnreadableError, match="holds no vbench result"):
        loading.load_all([run.out], told.append)
    assert told == [
        f"{journal} holds no measurement: the run ended before its first, or the file is cut"
    ]
