"""Two variants by turns on one machine, whole runs with shells for guests; what is said of them."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest
from sample_results import item, launch, pairs, result
from shell_runs import Main, Runs

from vbench.errors import UsageError
from vbench.model import Pair
from vbench.report.gather import gather
from vbench.results import change, loading
from vbench.results.compare import compare
from vbench.results.comparison import Verdict
from vbench.run import runner

# A guest of `shell,vcpus=2` takes a tenth longer than one of `shell`; native takes always the same.
WORKLOAD = """
def bench_work(measure):
    \"\"\"Says how long it took.\"\"\"
    def command(units, endpoint):
        slow = endpoint.scratch == "/dev/null" and endpoint.vcpus == 2
        return 'echo {\\\\"elapsed_ns\\\\": %d}' % (units * (330_000 if slow else 300_000))
    measure(command, read=parsers.probe)
"""
A_B = {"variants": ("shell", "shell,vcpus=2"), "ab": True, "boots": 3, "rounds": 1}


def test_the_second_is_compared_with_the_first(
    run: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(WORKLOAD, **A_B, fail_above=5.0) == 1
    text = capsys.readouterr().out
    assert "A (BASE): shell\nB (NEW): shell,vcpus=2\n" in text
    (row,) = [line for line in text.splitlines() if line.startswith("regression")]
    assert "work" in row
    assert "+10.0 [" in row
    assert "warning: device setting vcpus (`1` against `2`)" in text
    assert "Smallest change that this comparison finds" in text
    assert "failed: 1 regression above 5 %" in text
    assert (run.out / "comparison.txt").read_text() in text


def test_they_take_turns_boot_by_boot(run: Runs) -> None:
    run(WORKLOAD, **A_B)
    order = [guest.endpoint.vcpus for guest in run.guests.made]
    assert [set(order[at : at + 2]) for at in (0, 2, 4)] == [{1, 2}] * 3


def test_without_a_limit_a_change_is_said_and_fails_nothing(
    run: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(WORKLOAD, **A_B) == 0
    assert "1 regression" in capsys.readouterr().out


def test_the_same_twice_is_silent_and_no_sample_is_lost(
    run: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(WORKLOAD, **{**A_B, "variants": ("shell", "shell")}, fail_above=1.0) == 0
    assert "passed: no regression above 1 % was found" in capsys.readouterr().out
    assert sorted(path.name for path in run.out.glob("*.json")) == [
        "A-local-shell.json",
        "B-local-shell.json",
    ]
    results = loading.load_all([run.out])
    assert [each.side for each in results] == ["A", "B"]
    (panel,) = gather(results).panels
    (pooled,) = panel.items
    assert len(pooled.pairs) == 6


def test_an_interrupted_one_goes_on_and_ends_in_the_same_verdict(
    run: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = run.out / "journal.jsonl"
    assert run(WORKLOAD, **A_B, fail_above=5.0) == 1
    whole = capsys.readouterr().out
    lines = journal.read_text().splitlines(keepends=True)
    ends = [at for at, line in enumerate(lines) if json.loads(line)["event"] == "end"]
    journal.write_text("".join(lines[: ends[2] + 1]))
    assert runner.resume(run.out) == 1
    assert [line for line in capsys.readouterr().out.splitlines() if "regression" in line] == [
        line for line in whole.splitlines() if "regression" in line
    ]


ELSEWHERE = """
from shell_backend import ShellBackend
from vbench.contract.hookspecs import hookimpl
from vbench.hosts.local import LocalHost

class Elsewhere(ShellBackend):
    def placed(self, host, options):
        if options.vcpus == 1:
            return host
        other = LocalHost()
        other.name = "elsewhere"
        return other

@hookimpl
def vbench_backends():
    return [Elsewhere()]
"""


def test_two_machines_are_no_a_and_b(run: Runs, tmp_path: Path) -> None:
    plugin = tmp_path / "elsewhere.py"
    plugin.write_text(ELSEWHERE)
    with pytest.raises(UsageError, match="two machines"):
        run(WORKLOAD, **A_B, plugins=(plugin,))


def test_a_drift_of_the_machine_cancels_in_pairs_of_boots() -> None:
    """By the boot the machine becomes 10 % slower, and B is 1 % slower than A throughout."""

    def side(factor: float) -> list[Pair]:
        noise = (0.999, 1.001, 1.0, 1.0005, 0.9995)
        return [Pair(None, factor * 1.1**boot * noise[boot], boot) for boot in range(5)]

    base, new = (result(item("a", side(factor), variant="x")) for factor in (1.0, 1.01))
    (alone,) = compare([base], [new], None).rows
    (paired,) = compare([base], [new], None, paired=True).rows
    assert alone.verdict is Verdict.UNDECIDED
    assert paired.verdict is Verdict.REGRESSION
    assert paired.percent == pytest.approx(1.0)


def test_a_boot_without_its_partner_is_left_out() -> None:
    one = {("m",): {0: [0.0], 1: [0.1], 2: [5.0]}}
    other = {("m",): {0: [0.01], 1: [0.12]}}
    found = change.change(one, other, paired=True)
    assert found is not None
    assert found.units == (2, 2)
    assert found.log == pytest.approx(statistics.fmean([0.01, 0.02]))


def test_what_differs_is_named() -> None:
    base = result(item("a", pairs(1.5)), launches=(launch("tcg", 0, digests={"qemu": "aaa"}),))
    new = result(
        item("a", pairs(1.5)),
        launches=(
            launch("tcg", 0, digests={"qemu": "bbb"}, versions={"qemu": "10.0.2", "vbench": "1"}),
        ),
    )
    said = "\n".join(compare([base], [new], None, paired=True).warnings)
    assert "version of qemu (`7.2.22` against `10.0.2`): tcg" in said
    assert "digest of qemu (`aaa` against `bbb`): tcg" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("ab", "tcg"), "the following arguments are required: B"),
        (("ab", "tcg", "tcgg"), "there is no backend 'tcgg'"),
        (("ab", "tcg", "tcg", "--host", "local", "--host", "testbed"), "one host only"),
        (("ab", "tcg", "tcg", "--fail-above", "-3"), "is not 0 to 1000"),
    ],
)
def test_usage(main: Main, words: tuple[str, ...], said: str) -> None:
    status, _, error = main(*words)
    assert status == 2
    assert said in error


def test_boots_that_one_side_lost_are_said(run: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    """B has no first boot: what A had of it counts nowhere, also not in A's own figure."""
    text = WORKLOAD.replace(
        "    def command",
        "    boot = measure.boot\n"
        "    if boot == LOST[measure.guest.endpoint.vcpus]: raise RuntimeError('lost')\n"
        "    def command",
        1,
    ).replace("300_000", "300_000 << 9 * (boot == 0 and endpoint.scratch == '/dev/null')")
    assert run("LOST = {1: -1, 2: 0}\n" + text, **A_B) == 1
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("regress")]
    assert "only BASE has boot 1, which is left out" in row
    assert "+10.0 [" in row
    assert "\u00d71.00" in row  # A's own, without its first boot

    # of two boots each side lost another one: nothing is left to compare
    assert run("LOST = {1: 0, 2: 1}\n" + text, **{**A_B, "boots": 2}, out=run.out / "two") == 4
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("no usable")]
    assert "only BASE has boot 2, which is left out; only NEW has boot 1" in row
