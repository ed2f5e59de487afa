"""Whole runs of `vbench run`, with shells for guests."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import shell_backend
from shell_runs import Runs, bench, in_guest, spin

from vbench.errors import StoreError, UsageError
from vbench.hosts.local import LocalHost
from vbench.model import Status
from vbench.results import loading
from vbench.run import book, runner


def test_a_good_run(run: Runs, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(spin("cpu_a") + spin("cpu_b"), boots=2) == 0
    assert run.pairs() == {"cpu-a[shell]": 4, "cpu-b[shell]": 4}
    (result,) = loading.load_all([run.out])
    assert [item.status for item in result.items] == [Status.OK] * 2
    assert len(result.launches) == 2
    entry = run.document()["benchmarks"][0]
    assert entry["name"] == entry["fullname"] == "cpu-a[shell]"
    assert entry["stats"]["data"] == [pair.guest_s for pair in result.items[0].pairs]
    assert run.document()["machine_info"]["node"] == result.host.identity
    assert "cpu-a" in (run.out / "report.md").read_text()
    said = capfd.readouterr()
    assert "Full virtualization" in said.out  # the first screen, and nothing else
    assert "[4/4] 0:00 left" in said.err
    assert "cpu-b: x1.0" in said.err


def test_boots_interleave_the_variants(run: Runs) -> None:
    variants = ("shell", "shell,speed=half")
    assert run(spin("cpu_a") + spin("cpu_b"), variants=variants, rounds=1, boots=2) == 0
    speeds = [guest.device.further["speed"] for guest in run.guests.made]
    assert [set(speeds[:2]), set(speeds[2:])] == [{"full", "half"}] * 2
    assert len(speeds) == 4  # both workloads share a guest
    assert {path.name for path in run.out.glob("*.json")} == {
        "local-shell.json",
        "local-shell,speed=half.json",
    }


def test_a_host_that_takes_long_is_announced(
    run: Runs, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The testbed: there was no word for 78 s."""
    monkeypatch.setattr(LocalHost, "timeout_scale", 2.0)
    assert run(spin("cpu_a"), rounds=1) == 0
    said = capfd.readouterr().err
    assert said.index("vbench: local comes up, which takes a minute") < said.index("[1/1]")


def test_a_time_that_is_none_ends_no_run(run: Runs, capfd: pytest.CaptureFixture[str]) -> None:
    """It fails the workload alone, whatever file it would have spoilt."""
    text = bench("cpu_nan", "measure.absolute(float('nan'))") + spin("cpu_z")
    assert run(text, rounds=1) == 1
    assert run.pairs() == {"cpu-z[shell]": 1}
    assert "the workload says it took nan s" in capfd.readouterr().err


def test_globs_choose(run: Runs) -> None:
    assert run(spin("cpu_a") + spin("cpu_b"), workloads=("cpu-b",)) == 0
    assert set(run.pairs()) == {"cpu-b[shell]"}
    shutil.rmtree(run.out)
    assert run(spin("cpu_a") + spin("cpu_b"), workloads=("cpu/cpu-[a]",)) == 0
    assert set(run.pairs()) == {"cpu-a[shell]"}


def test_a_file_that_is_given_twice_is_measured_once(run: Runs) -> None:
    again = run.folder / "again"
    again.symlink_to(run.folder)
    files = (run.folder / "bench_given.py", again / "bench_given.py")
    assert run(spin("cpu_a"), files=files, boots=1, rounds=1) == 0
    assert run.pairs() == {"cpu-a[shell]": 1}


def test_a_quick_run_launches_no_guest_for_one_workload_unless_named(run: Runs) -> None:
    text = '@workload(options="vcpus=2")\n' + spin("cpu_a") + spin("cpu_b")
    assert run(text, quick=True) == 0
    assert set(run.pairs()) == {"cpu-b[shell]"}
    shutil.rmtree(run.out)
    assert run(text, quick=True, workloads=("cpu-a",)) == 0
    assert set(run.pairs()) == {"cpu-a[shell]"}


def test_an_unknown_workload(run: Runs) -> None:
    with pytest.raises(UsageError) as caught:
        run(spin("cpu_alpha"), workloads=("cpu-alhpa",))
    assert "no workload is called 'cpu-alhpa'; did you mean 'cpu-alpha'?" in caught.value.what
    assert not run.out.exists()


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("echo oh no >&2; exit 7", "status 7"),
        ("echo nonsense", "cannot be read"),
        ("die", "the guest's machine ended"),
    ],
)
def test_one_bad_workload_spoils_no_other(
    run: Runs, capfd: pytest.CaptureFixture[str], command: str, reason: str
) -> None:
    assert run(spin("cpu_a") + in_guest("cpu_bad", command) + spin("cpu_z")) == 1
    assert run.pairs() == {"cpu-a[shell]": 2, "cpu-z[shell]": 2}
    items = {item["workload"]: item for item in run.document()["vbench"]["items"]}
    assert items["cpu-bad"]["status"] == "failed"
    assert reason in items["cpu-bad"]["reason"]
    assert reason in capfd.readouterr().err
    assert "cpu-bad" in (run.out / "report.md").read_text()


def test_unsupported_is_no_failure(run: Runs) -> None:
    text = "from vbench.errors import Unsupported\n"
    text += bench("cpu_rare", 'raise Unsupported("no such instruction")')
    assert run(text + spin("cpu_a"), boots=2) == 0
    items = {item["workload"]: item for item in run.document()["vbench"]["items"]}
    assert items["cpu-rare"]["status"] == "unsupported"
    assert items["cpu-rare"]["reason"] == "no such instruction"


def test_a_fault_in_a_workload_function(run: Runs, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(bench("cpu_bug", "1 / 0") + spin("cpu_z")) == 1
    assert "ZeroDivisionError" in capfd.readouterr().err
    assert run.pairs() == {"cpu-z[shell]": 2}


def test_a_workload_that_measures_nothing_failed(
    run: Runs, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(bench("cpu_none", "pass") + spin("cpu_z")) == 1
    err = capfd.readouterr().err
    assert "cpu-none: failed: it took no sample: it never called `measure`" in err
    items = {item["workload"]: item for item in run.document()["vbench"]["items"]}
    assert items["cpu-none"]["status"] == "failed"
    assert "it never called `measure`" in items["cpu-none"]["reason"]
    assert run.pairs() == {"cpu-z[shell]": 2}


def test_a_fault_in_the_report_ends_no_run(
    run: Runs, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("a fault of ours")

    monkeypatch.setattr(runner.report, "write", broken)
    with pytest.raises(KeyError):  # the last line of defence says what to report
        run(spin("cpu_a"), boots=2)
    assert run.pairs() == {"cpu-a[shell]": 4}
    assert "[2/2]" in capfd.readouterr().err


def test_an_interrupt_keeps_what_was_measured(run: Runs) -> None:
    stop = "if measure.boot: os.kill(os.getpid(), signal.SIGINT)"
    text = "import os, signal\n" + spin("cpu_a") + bench("cpu_stop", stop) + spin("cpu_z")
    assert run(text, boots=3) == 130
    assert set(run.pairs()) == {"cpu-a[shell]", "cpu-z[shell]"}
    assert 4 <= sum(run.pairs().values()) <= 8  # the first boot, and some of the second
    assert "cpu-a" in (run.out / "report.md").read_text()


@pytest.mark.parametrize(
    "raised",
    [
        *("SystemExit(3)", "Mute", "KeyboardInterrupt", "asyncio.CancelledError"),
        "pytest.fail.Exception('x')",
    ],
)
def test_a_workload_that_ends_the_program_ends_itself(
    run: Runs, capfd: pytest.CaptureFixture[str], raised: str
) -> None:
    mute = "class Mute(Exception):\n    def __str__(self): raise ValueError\n"
    text = f"import asyncio\n{mute}" + bench("cpu_end", f"raise {raised}") + spin("cpu_z")
    assert run(text) == 1
    assert run.pairs() == {"cpu-z[shell]": 2}
    name = raised.partition("(")[0].replace(".fail.Exception", ".Failed").rpartition(".")[2]
    assert f"cpu-end: failed: the workload raised {name}" in capfd.readouterr().err
    (result,) = loading.load_all([run.out])
    assert result.stopped == ""


def test_a_workload_that_changes_the_current_folder_loses_nothing(
    run: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = run.folder / "away"
    away.mkdir()
    before = Path.cwd()
    text = "import os\n" + spin("cpu_a").replace('"""Says."""', f'os.chdir("{away}")')
    try:
        assert run(text + spin("cpu_b"), out=Path("out")) == 0
    finally:
        os.chdir(before)
    assert run.pairs() == {"cpu-a[shell]": 2, "cpu-b[shell]": 2}
    assert list(away.iterdir()) == []


def test_a_broken_file_is_found_before_anything_is_booted(run: Runs, tmp_path: Path) -> None:
    broken = tmp_path / "bench_broken.py"
    broken.write_text("def bench_x(:\n")
    files = (tmp_path / "bench_given.py", broken)
    with pytest.raises(UsageError, match=r"bench_broken\.py cannot be loaded: SyntaxError"):
        run(spin("cpu_a"), files=files)
    assert not run.out.exists()


def test_a_workload_without_its_unit_is_found_before_anything_is_booted(
    run: Runs, tmp_path: Path
) -> None:
    unstated = tmp_path / "bench_unstated.py"
    unstated.write_text("def bench_x(measure): ...\n")
    with pytest.raises(UsageError, match="its unit is not stated"):
        run(spin("cpu_a"), files=(tmp_path / "bench_given.py", unstated))
    assert not run.out.exists()


def test_a_file_without_workloads(run: Runs) -> None:
    with pytest.raises(UsageError, match="holds no workload"):
        run("def helper(): ...\n")
    assert not run.out.exists()


def test_the_users_own_pytest_set_up_does_not_matter(
    run: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conftest.py").write_text("raise RuntimeError('theirs')\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    monkeypatch.setenv("PYTEST_ADDOPTS", "--no-such-option-either")
    monkeypatch.setenv("PYTEST_PLUGINS", "no_such_plugin")
    assert run(spin("cpu_a")) == 0
    assert os.environ["PYTEST_ADDOPTS"] == "--no-such-option-either"


def test_observers_are_told_and_may_fail(
    run: Runs, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "observer.py").write_text(
        "from vbench.contract.hookspecs import hookimpl\n"
        "@hookimpl\ndef vbench_item_finished(item, out):\n"
        "    with open(out.parent / 'told', 'a') as file: file.write(item.workload + '\\n')\n"
        "    raise RuntimeError('observer broke')\n"
    )
    plugins = (Path(shell_backend.__file__), tmp_path / "observer.py")
    assert run(spin("cpu_a") + spin("cpu_b"), plugins=plugins) == 0
    assert sorted((tmp_path / "told").read_text().split()) == ["cpu-a", "cpu-b"]
    assert capfd.readouterr().err.count("observer broke") == 1


def test_a_full_disk_ends_the_run(
    run: Runs, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing more can be kept, so nothing more is measured."""

    def full(path: Path, data: bytes | str) -> None:
        raise StoreError(f"{path} cannot be written: No space left", remedy="free some")

    text = "".join(spin(f"cpu_{letter}") for letter in "abcdef")
    monkeypatch.setattr(book, "write_atomic", full)
    assert run(text, boots=3) == 1
    said = capfd.readouterr().err
    assert "No space left" in said
    assert "free some" in said
    assert len(run.guests.made) == 1
