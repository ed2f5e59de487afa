"""What goes wrong, for real: each time finished samples stay, and nothing else does."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import ALL_SIGNALS, Vbench, until
from vbench import image
from vbench.contract.registry import Registry
from vbench.errors import WorkloadTimeout
from vbench.hosts.local import LocalHost

pytestmark = pytest.mark.tcg

GOOD = '''
def bench_cpu_good(measure):
    """Counts."""
    measure(lambda n, endpoint: f"vbench-probe spin {n}", read=parsers.probe, initial_units=100000)
'''
# With this seed the three workloads of `bad` are measured in the order of their names.
ONCE = ("--boots", "1", "--rounds", "2", "--seed", "3")


def bad(command: str) -> str:
    """A second workload, after the good one, that natively does what the good one does."""
    return f'''
def bench_cpu_worse(measure):
    """Goes wrong in the guest."""
    def command(n, endpoint):
        if endpoint.scratch.startswith("/dev/"):
            return {command!r}
        return f"vbench-probe spin {{n}}"
    measure(command, read=parsers.probe, initial_units=100000)


def bench_cpu_zlast(measure):
    """Runs after it."""
    measure(
        lambda n, endpoint: f"vbench-probe spin {{n}}",
        read=parsers.probe,
        initial_units=100000,
    )
'''


def one_failed(vbench: Vbench, command: str) -> str:
    """Measure good, bad, good: the second alone fails. Returns its reason."""
    done = vbench.measure(*ONCE, vbench.workload(GOOD + bad(command)))
    assert done.returncode == 1, done.stderr
    assert vbench.pairs("cpu-good") == 2
    assert vbench.pairs("cpu-worse") == 0
    assert vbench.pairs("cpu-zlast") == 2
    assert "cpu-worse" in done.stderr
    assert "cpu-worse" in (vbench.out / "report.md").read_text()
    return vbench.reason("cpu-worse")


def test_a_workload_that_fails(vbench: Vbench) -> None:
    assert "status 7" in one_failed(vbench, "echo oh no >&2; exit 7")


def test_a_workload_that_prints_nonsense(vbench: Vbench) -> None:
    assert "cannot be read" in one_failed(vbench, "echo nonsense")


def test_a_workload_that_floods_its_output(vbench: Vbench) -> None:
    assert "MiB" in one_failed(vbench, "cat /dev/zero")


def test_a_guest_whose_kernel_panics_is_replaced(vbench: Vbench) -> None:
    assert "panicked" in one_failed(vbench, "echo c > /proc/sysrq-trigger; sleep 30")


def test_a_guest_whose_ssh_is_cut_is_replaced(vbench: Vbench) -> None:
    reason = one_failed(vbench, "killall dropbear; sleep 30")
    assert "connection" in reason or "answer" in reason


def test_a_workload_that_hangs_is_ended(vbench: Vbench) -> None:
    """Through the session, because the command line offers no shorter deadline."""
    os.environ["VBENCH_TMP"] = str(vbench.tmp)
    host = LocalHost()
    try:
        variant = Registry.load().variant("tcg-virtio")
        with variant.backend.launch(host, image.ensure(), variant.options) as guest:
            with pytest.raises(WorkloadTimeout, match="did not end within 2 s"):
                guest.run("sleep 1000", timeout_s=2)
            assert guest.alive
            assert guest.run("pidof sleep || echo none", timeout_s=10).stdout == "none\n"
    finally:
        host.close()
        del os.environ["VBENCH_TMP"]


def endless(vbench: Vbench) -> subprocess.Popen[str]:
    """A run that has finished its first workload and hangs in the second's guest round."""
    path = vbench.workload(GOOD + bad("touch /tmp/here; sleep 50"))
    process = vbench.start(*("run", "--backend", "tcg-virtio", "--out", vbench.out, *ONCE, path))
    finished = until(lambda: any(vbench.out.glob("*.json")) and vbench.pairs("cpu-good") == 2, 90)
    if not finished:
        process.kill()
        raise AssertionError(process.communicate()[1])
    return process


def test_qemu_killed_in_mid_round(vbench: Vbench) -> None:
    process = endless(vbench)
    pid = vbench.qemu()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "ended" in vbench.reason("cpu-worse")
    assert "qemu-system" in stderr  # the evidence: its command line
    assert vbench.pairs("cpu-zlast") == 2  # in a new guest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_interrupted(vbench: Vbench, number: signal.Signals) -> None:
    process = endless(vbench)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert vbench.pairs("cpu-good") == 2
    report = (vbench.out / "report.md").read_text()
    assert "cpu-good" in report
    assert "Partial report" in report


def test_a_terminal_that_is_closed(vbench: Vbench) -> None:
    """The kernel sends SIGHUP, and whatever is printed from then on is an error."""
    terminal, its_end = os.openpty()
    path = vbench.workload(GOOD + bad("sleep 50"))
    words = ("run", "--backend", "tcg-virtio", "--out", str(vbench.out), *ONCE, str(path))
    process = subprocess.Popen(
        ["setsid", "--ctty", *ALL_SIGNALS, sys.executable, "-m", "vbench.cli", *words],
        cwd=vbench.root,
        env={
            **os.environ,
            "VBENCH_TMP": str(vbench.tmp),
            "VBENCH_LOCK": str(vbench.root / "lock"),
        },
        stdin=its_end,
        stdout=its_end,
        stderr=its_end,
    )
    os.close(its_end)
    measured = until(lambda: any(vbench.out.glob("*.json")) and vbench.pairs("cpu-good") == 2, 90)
    os.close(terminal)
    try:
        assert process.wait(60) == 130
    finally:
        process.kill()
    assert measured
    assert vbench.pairs("cpu-good") == 2
    assert "Partial report" in (vbench.out / "report.md").read_text()


def test_killed_takes_qemu_with_it(vbench: Vbench) -> None:
    process = endless(vbench)
    assert vbench.qemu() is not None
    process.kill()
    process.communicate()
    assert until(lambda: vbench.qemu() is None, 2)
    assert vbench.pairs("cpu-good") == 2


WAITS = '''
import os
def bench_cpu_waits(measure):
    """Hangs in the guest of the second boot, until there is a file."""
    def command(n, endpoint):
        if measure.boot == 1 and endpoint.scratch.startswith("/dev/") and not os.path.exists("go"):
            return "sleep 50"
        return f"vbench-probe spin {n}"
    measure(command, read=parsers.probe, initial_units=100000)
'''


def test_killed_then_reported_and_resumed(vbench: Vbench) -> None:
    """Nothing that was measured is lost, and only what is missing is measured."""
    words = ("run", "--backend", "tcg-virtio", "--out", vbench.out, "--boots", 2, "--rounds", 1)
    process = vbench.start(*words, vbench.workload(GOOD + WAITS))
    journal = vbench.out / "journal.jsonl"

    def hangs() -> bool:
        records = map(json.loads, journal.read_text().splitlines()) if journal.exists() else ()
        return any(
            (each["event"], each.get("boot")) == ("begin", 1)
            and each["item"]["workload"] == "cpu-waits"
            for each in records
        )

    finished = until(hangs, 120)
    process.kill()
    _, stderr = process.communicate()
    assert finished, stderr
    assert until(lambda: vbench.qemu() is None, 2)

    report = vbench.run("report", vbench.out)
    assert report.returncode == 0, report.stderr
    assert "Partial report" in report.stdout
    assert "cpu-waits" in report.stdout

    (vbench.root / "go").touch()
    resumed = vbench.run("run", "--resume", vbench.out)
    assert resumed.returncode == 0, resumed.stderr
    assert "2 of 4 measurements are kept" in resumed.stderr
    for workload in ("cpu-good", "cpu-waits"):
        (info,) = [
            entry["extra_info"]["vbench"]
            for entry in vbench.json()["benchmarks"]
            if entry["extra_info"]["vbench"]["workload"] == workload
        ]
        assert info["pair_boots"] == [0, 1]
    assert "Partial report" not in (vbench.out / "report.md").read_text()


def test_two_runs_at_once(vbench: Vbench, tmp_path: Path) -> None:
    first = endless(vbench)
    other = tmp_path / "other"
    second = vbench.start(
        *("run", "--backend", "tcg-virtio", "--out", other, *ONCE),
        *("--workload", "syscall-getppid"),
    )
    assert second.stderr is not None
    assert (
        f"waiting for another run on this machine to end: pid {first.pid}"
        in second.stderr.readline()
    )
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=60)
    second.communicate(timeout=120)
    assert second.returncode == 0
    assert (other / "report.md").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system is mounted, which needs root")
def test_disk_full_while_measuring(vbench: Vbench) -> None:
    small = vbench.root / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", small], check=True)
    try:
        process = vbench.run(
            *("run", "--backend", "tcg-virtio", "--out", small / "out", "--boots", "1"),
            *("--rounds", "40", "--workload", "syscall-*", "--quick"),
        )
        assert process.returncode == 1
        assert "free some space" in process.stderr
        results = list((small / "out").glob("*.json"))
        assert [path for path in results if path.stat().st_size == 0] == []
        assert (small / "out" / "journal.jsonl").stat().st_size > 0
    finally:
        subprocess.run(["umount", small], check=True)


def test_qemu_missing(vbench: Vbench, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "setpriv", "unshare", "ip", "cat", "rm", "nsenter", "sleep", "true"):
        (tools / name).symlink_to(str(shutil.which(name)))
    done = vbench.measure(PATH=str(tools))
    assert done.returncode == 3
    assert "not installed" in done.stderr
    assert "vbench setup" in done.stderr
    assert not vbench.out.exists()


def test_a_named_backend_that_cannot_run(vbench: Vbench) -> None:
    done = vbench.run("run", "--backend", "kvm-virtio", "--out", vbench.out)
    if done.returncode == 0:
        pytest.skip("KVM is usable here")
    assert done.returncode == 3
    assert "kvm-virtio cannot run" in done.stderr
    assert "-> " in done.stderr
    assert not vbench.out.exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--backend", "tgc"), "did you mean 'tcg'?"),
        (("--workload", "disk-radnread*"), "there are: "),
        (("--rounds", "0"), "at least 1"),
        (("--boots", "-1"), "at least 1"),
        (("no_such_file.py",), "no_such_file.py"),
    ],
)
def test_usage(vbench: Vbench, words: tuple[str, ...], says: str) -> None:
    done = vbench.run("run", "--out", vbench.out, *words)
    assert done.returncode == 2
    assert says in done.stderr
    assert not vbench.out.exists()


def test_results_are_never_overwritten(vbench: Vbench) -> None:
    vbench.out.mkdir()
    (vbench.out / "precious").touch()
    done = vbench.measure()
    assert done.returncode == 2
    assert "not empty" in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_out_is_not_writable(vbench: Vbench) -> None:
    vbench.root.chmod(0o500)
    try:
        done = vbench.measure()
    finally:
        vbench.root.chmod(0o700)
    assert done.returncode == 2
    assert "not writable" in done.stderr
