"""A run that ended early: read back from its journal, reported as partial, continued."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from shell_runs import Runs, bench, spin

import vbench
from vbench import report
from vbench.errors import ConnectionLost, UnreadableError, UsageError
from vbench.hosts.local import LocalHost
from vbench.model import ImageFiles, Result, Status
from vbench.results import loading, recovery
from vbench.results.history import SCHEMA_VERSION
from vbench.results.journal import JOURNAL_NAME
from vbench.run import opening, runner

STOP = "import os, pathlib\n" + bench(
    "cpu_stop",
    "if measure.boot == 1 and not pathlib.Path('go-on').exists(): os.kill(os.getpid(), 2)\n"
    """    measure(lambda n, e: "echo '{\\"elapsed_ns\\": 300000000}'", read=parsers.probe)""",
)
TEXT = spin("cpu_a") + STOP + spin("cpu_z")


def interrupted(run: Runs, **changes: Any) -> None:
    assert run(TEXT, boots=3, **changes) == 130


def samples(folder: Path) -> Mapping[tuple[str, int], int]:
    """Pairs by item and boot."""
    return Counter(
        (item.name, pair.boot)
        for result in loading.load_all([folder])
        for item in result.items
        for pair in item.pairs
    )


ALL = {(f"cpu-{name}[shell]", boot): 2 for name in ("a", "stop", "z") for boot in range(3)}


def test_an_interrupted_run_is_continued(run: Runs, capfd: pytest.CaptureFixture[str]) -> None:
    interrupted(run)
    assert "vbench run --resume" in capfd.readouterr().err
    assert "**Partial report.**" in (run.out / "report.md").read_text()
    assert "it was interrupted" in (run.out / "report.md").read_text()
    (before,) = loading.load_all([run.out])
    assert before.partial

    records = map(json.loads, (run.out / JOURNAL_NAME).read_text().splitlines())
    begun = sum(each["event"] == "begin" and each["boot"] == 1 for each in records)

    (run.folder / "go-on").touch()
    assert runner.resume(run.out) == 0
    assert samples(run.out) == ALL  # of the boot that was broken off nothing is left
    (result,) = loading.load_all([run.out])
    assert (result.planned, result.done, result.stopped) == (9, 9, "")
    assert (result.seed, result.started) == (before.seed, before.started)
    assert len(result.sittings) == 1
    assert len({launch.id for launch in result.launches}) == 3
    assert [item.reason for item in result.items] == [""] * 3
    assert "Partial report" not in (run.out / "report.md").read_text()
    err = capfd.readouterr().err
    assert "3 of 9 measurements are kept" in err
    assert f"boot 2 of local-shell was not complete: what it measured of {begun} workload" in err
    assert f"is measured anew; the old samples stay in {JOURNAL_NAME}" in err

    assert runner.resume(run.out) == 0
    assert "is complete" in capfd.readouterr().err


def test_native_is_warm_before_it_is_sampled_in_the_new_sitting(run: Runs) -> None:
    """The machine may have been off since: its programs are in no memory any more."""
    text = "import os, pathlib\n" + bench(
        "cpu_stop",
        "if measure.boot == 1 and not pathlib.Path('go-on').exists(): os.kill(os.getpid(), 2)\n"
        "    def command(n, e):\n"
        "        if e.scratch != '/dev/null':\n"
        "            with open('natives', 'a') as file:\n"
        "                file.write(f'{measure.boot} ')\n"
        """        return "echo '{\\"elapsed_ns\\": 300000000}'"\n"""
        "    measure(command, read=parsers.probe)",
    )
    assert run(text, boots=3, rounds=1) == 130
    (run.folder / "go-on").touch()
    assert runner.resume(run.out) == 0
    boots = Counter((run.folder / "natives").read_text().split())
    assert (boots["1"], boots["2"]) == (2, 1)


def test_a_journal_tells_what_the_files_tell(run: Runs) -> None:
    text = "from vbench.errors import Unsupported\n" + TEXT
    text += bench("cpu_rare", 'raise Unsupported("no such instruction")') + bench("cpu_bug", "1/0")
    (run.folder / "go-on").touch()
    assert run(text, boots=2) == 1
    (of_files,) = loading.load_all([run.out])
    (of_journal,) = loading.load_all([run.out / JOURNAL_NAME])
    order = sorted(of_journal.items, key=lambda item: item.name)
    assert dataclasses.replace(of_journal, items=tuple(order)) == of_files


def test_a_run_that_was_killed_is_reported_and_continued(run: Runs) -> None:
    """Wherever it was killed: its journal ends there, perhaps in the middle of a line."""
    (run.folder / "go-on").touch()
    assert run(TEXT, boots=3) == 0
    whole = (run.out / JOURNAL_NAME).read_bytes()
    begin = whole.index(b'"event": "series"')
    for part in (0.2, 0.6, 0.95):
        killed = run.folder / f"killed-{part}"
        shutil.copytree(run.out, killed)
        journal = killed / JOURNAL_NAME
        journal.write_bytes(whole[: begin + round(part * (len(whole) - begin))])
        results = loading.load_all([killed]) if recovery.read(journal).series else []
        if results:
            assert results[0].partial
            assert results[0].stopped == recovery.NO_END
            assert "killed or still goes on" in report.render(results, plots_dir=None).markdown
        assert runner.resume(killed) == 0
        assert samples(killed) == ALL


def test_a_boot_that_was_not_finished_counts_for_the_report(run: Runs) -> None:
    """Killed right after a pair: the pair is in the report."""
    (run.folder / "go-on").touch()
    assert run(TEXT, boots=1) == 0
    journal = run.out / JOURNAL_NAME
    lines = journal.read_bytes().splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if json.loads(line)["event"] == "pair")
    journal.write_bytes(b"".join(lines[: at + 1]))
    (result,) = loading.load_all([run.out])
    (item,) = result.items
    assert (item.status, len(item.pairs)) == (Status.OK, 1)
    assert item.reason == "boot 1: the run ended here"


def test_a_run_that_lacks_only_its_end(run: Runs) -> None:
    (run.folder / "go-on").touch()
    assert run(TEXT, boots=1) == 0
    before = samples(run.out)
    journal = run.out / JOURNAL_NAME
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-1]))
    assert not loading.load_all([run.out])[0].partial
    assert runner.resume(run.out) == 0
    assert samples(run.out) == before
    assert not recovery.unfinished(journal)


def refused(run: Runs) -> str:
    (run.folder / "go-on").touch()
    before = (run.out / JOURNAL_NAME).read_bytes()
    with pytest.raises(UsageError, match="cannot be continued") as caught:
        runner.resume(run.out)
    assert (run.out / JOURNAL_NAME).read_bytes() == before
    assert caught.value.remedy
    return caught.value.what


def test_a_run_goes_on_only_as_it_began(
    run: Runs, monkeypatch: pytest.MonkeyPatch, image: ImageFiles
) -> None:
    interrupted(run)
    with monkeypatch.context() as patch:
        patch.setattr(vbench, "__version__", "99")
        assert "version of vbench" in refused(run)
    with monkeypatch.context() as patch:
        other = dataclasses.replace(image, digest="other")
        patch.setattr(opening, "ensure_image", lambda *_: other)
        assert "image (`d1935c` against `other`)" in refused(run)
    facts = LocalHost.facts

    def of_another_machine(self: LocalHost) -> Any:
        known = facts(self)
        return dataclasses.replace(known, facts={**known.facts, "kernel": "1.2.3"})

    with monkeypatch.context() as patch:
        patch.setattr(LocalHost, "facts", of_another_machine)
        assert "kernel (" in refused(run)
    workloads = run.folder / "bench_given.py"
    workloads.write_text(workloads.read_text() + "SIZE = 1\n")
    assert "workload cpu-a" in refused(run)
    journal = run.out / JOURNAL_NAME
    journal.write_bytes(
        journal.read_bytes().replace(b'"plan: target_s": "0.2"', b'"plan: target_s": "9"')
    )
    assert "plan: target_s (`9` against `0.2`)" in refused(run)


def test_another_hypervisor(
    run: Runs, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its version is known once a guest is up: nothing of it is mixed with what was before."""
    interrupted(run)
    (run.folder / "go-on").touch()
    versions = sys.modules["vbench_plugin_file_shell_backend"].VERSIONS
    load = opening.load_plugins

    def later(files: Any) -> Any:
        registry = load(files)
        sys.modules["vbench_plugin_file_shell_backend"].VERSIONS["sh"] = "2"
        return registry

    monkeypatch.setattr(opening, "load_plugins", later)
    assert versions == {"sh": "1"}
    assert runner.resume(run.out) == 1
    assert "version of sh (`1` against `2`)" in capfd.readouterr().err
    assert all(boot == 0 for _, boot in samples(run.out))


def test_a_guest_that_cannot_be_relaunched_is_measured_anew(
    run: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All its rounds are one boot, so what was measured of it is one boot that is not complete."""
    load = opening.load_plugins

    def given(files: Any) -> Any:
        registry = load(files)
        backend = sys.modules["vbench_plugin_file_shell_backend"]
        backend.GUESTS.capabilities = dataclasses.replace(backend.CAN, relaunchable=False)
        return registry

    monkeypatch.setattr(opening, "load_plugins", given)
    assert run(TEXT, boots=2) == 0
    journal = run.out / JOURNAL_NAME
    journal.write_bytes(journal.read_bytes()[: round(0.8 * journal.stat().st_size)])
    assert runner.resume(run.out) == 0
    assert samples(run.out) == {(name, 0): 4 for name, _ in ALL}


VALUES = {
    "run": ("started", "seed", "same"),
    "series": ("series", "result.image"),
    "launch": ("launch.versions", "launch.boot"),
    "begin": ("boot", "item.work_unit"),
    "pair": ("workload", "pair.guest_s"),
    "end": ("complete", "sizes.native", "problems"),
    "stopped": ("why",),
}


def test_a_journal_with_a_wrong_or_missing_value_is_damaged(run: Runs) -> None:
    assert run(TEXT, boots=1) == 0
    journal = run.out / JOURNAL_NAME
    lines = journal.read_text().splitlines()
    for event, key in [(event, key) for event, keys in VALUES.items() for key in keys]:
        for wrong, told in (([[2]], key), (None, f"{key} is missing")):
            records = [json.loads(line) for line in lines]
            part = next(each for each in records if each["event"] == event)
            *way, last = key.split(".")
            for name in way:
                part = part[name]
            part[last] = wrong
            if wrong is None:
                del part[last]
            journal.write_text("".join(json.dumps(each) + "\n" for each in records))
            for read in (lambda: loading.load_all([journal]), lambda: runner.resume(run.out)):
                with pytest.raises(UnreadableError, match="damaged") as caught:
                    read()
                assert told in caught.value.evidence


def test_a_journal_with_an_option_of_a_wrong_type_is_not_continued(run: Runs) -> None:
    interrupted(run)
    journal = run.out / JOURNAL_NAME
    first, *others = journal.read_text().splitlines()
    for option in ("hosts", "boots", "plugins", "kernel"):
        head = json.loads(first)
        head["options"][option] = {"a": 2}
        journal.write_text("\n".join([json.dumps(head), *others, ""]))
        with pytest.raises(UnreadableError, match="damaged") as caught:
            runner.resume(run.out)
        assert f"options.{option}" in caught.value.evidence


def test_a_line_that_is_no_record_is_damage(run: Runs) -> None:
    interrupted(run)
    journal = run.out / JOURNAL_NAME
    whole = journal.read_text()
    for line in ("[]", "7", "null", "{}", '{"event": 3}', '"event"'):
        for text in (f"{line}\n{whole}", f"{whole}{line}\n"):
            journal.write_text(text)
            for read in (lambda: loading.load_all([run.out]), lambda: runner.resume(run.out)):
                with pytest.raises(UnreadableError, match="it has no text `event`"):
                    read()


def test_nothing_to_continue(run: Runs, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no journal\.jsonl"):
        runner.resume(tmp_path)
    (tmp_path / JOURNAL_NAME).write_text('{"event": "launch"}\n')
    with pytest.raises(UnreadableError, match="of an older vbench"):
        runner.resume(tmp_path)
    (tmp_path / JOURNAL_NAME).write_text('{"event": "run", "schema_version": 99}\n')
    with pytest.raises(UnreadableError, match="has schema version 99"):
        runner.resume(tmp_path)
    head = f'{{"event": "run", "schema_version": {SCHEMA_VERSION}}}\n'
    (tmp_path / JOURNAL_NAME).write_text(head + '{"event": "launch"}\n')
    with pytest.raises(UnreadableError, match="is damaged"):
        runner.resume(tmp_path)


def test_a_run_that_failed_is_not_forgotten(run: Runs) -> None:
    (run.folder / "go-on").touch()
    assert run(TEXT + bench("cpu_bug", "1 / 0"), boots=2) == 1
    journal = run.out / JOURNAL_NAME
    lines = journal.read_bytes().splitlines(keepends=True)
    boots = [i for i, line in enumerate(lines) if json.loads(line)["event"] == "launch"]
    journal.write_bytes(b"".join(lines[: boots[1]]))
    assert runner.resume(run.out) == 1


def test_what_failed_is_measured_anew(run: Runs, capfd: pytest.CaptureFixture[str]) -> None:
    """Its cause, such as a full disk, may be mended."""
    fails = "    if not pathlib.Path('mended').exists() and measure.boot: 1/0\n"
    (run.folder / "go-on").touch()
    assert run(TEXT + fails, boots=3) == 1
    for status in (1, 0, 0):
        assert runner.resume(run.out) == status
        (run.folder / "mended").touch()
    err = capfd.readouterr().err
    assert "boot 2 of local-shell had failures: what it measured of 3 workloads" in err
    assert "boot 1 of local-shell" not in err
    assert err.count("is complete") == 1
    assert samples(run.out) == ALL


LOST = "the connection to ssh://far is gone"
FAR = (
    "import pathlib\nfrom vbench.errors import ConnectionLost\n"
    + bench(
        "cpu_far",
        "if measure.boot == 1 and not pathlib.Path('go-on').exists(): "
        f"raise ConnectionLost('{LOST}')\n"
        """    measure(lambda n, e: "echo '{\\"elapsed_ns\\": 300000000}'", read=parsers.probe)""",
    )
    + spin("cpu_z")
)  # fmt: skip
ALL_FAR = {(f"cpu-{name}[shell]", boot): 2 for name in ("far", "z") for boot in range(3)}


def test_a_boot_whose_connection_was_lost_is_measured_when_the_run_is_continued(
    run: Runs, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(FAR, boots=3) == 1
    assert f"a connection was lost; `vbench run --resume {run.out}`" in capfd.readouterr().err
    (before,) = loading.load_all([run.out])
    assert before.stopped == LOST
    assert ("cpu-far[shell]", 2) in samples(run.out), "it was there again for the third boot"
    (run.folder / "go-on").touch()
    assert runner.resume(run.out) == 0
    assert samples(run.out) == ALL_FAR
    (result,) = loading.load_all([run.out])
    assert (result.done, result.stopped) == (6, "")
    assert [item.reason for item in result.items] == ["", ""]


def test_a_host_that_is_gone_is_asked_no_further(
    run: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = LocalHost.run

    def gone(self: LocalHost, argv: Sequence[str], **options: Any) -> Any:
        if list(argv) == ["true"]:
            raise ConnectionLost(LOST)
        return real(self, argv, **options)

    with monkeypatch.context() as patch:
        patch.setattr(LocalHost, "run", gone)
        assert run(FAR, boots=3) == 1
    assert not [boot for _, boot in samples(run.out) if boot == 2], "it was not tried again"
    (run.folder / "go-on").touch()
    assert runner.resume(run.out) == 0
    assert samples(run.out) == ALL_FAR


def test_a_complete_run_is_not_locked_again(run: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(spin("cpu_a")) == 0
    monkeypatch.setattr(runner, "measuring_alone", None)
    assert runner.resume(run.out) == 0


def test_a_partial_report_says_so_once_for_each_run(run: Runs) -> None:
    interrupted(run, variants=("shell", "shell,vcpus=2"))
    results = loading.load_all([run.out])
    assert len(results) == 2
    markdown = report.render(results, plots_dir=None).markdown
    assert markdown.count("Partial report") == 1
    assert f"made {results[0].done} of 18 planned measurements" in markdown
    assert "To measure the rest" not in markdown  # it may still come
    whole: list[Result] = [dataclasses.replace(each, planned=0, done=0) for each in results]
    assert "Partial report" not in report.render(whole, plots_dir=None).markdown
