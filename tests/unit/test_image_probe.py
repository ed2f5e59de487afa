"""The probe: does what it says, measures itself, refuses nonsense."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import time
from pathlib import Path

import pytest

# of category smp, with how many threads
SEVERAL = {
    "wakeup": [],
    **{name: ["2"] for name in ("lock", "kernel-lock", "shootdown", "parallel", "messages")},
}

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")


def run(probe: Path, *arguments: str) -> dict[str, float]:
    done = subprocess.run(
        [probe, *arguments], capture_output=True, text=True, check=True, timeout=60
    )
    result: dict[str, float] = json.loads(done.stdout)
    return result


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
@pytest.mark.parametrize("command", SEVERAL)
def test_several_cpus_do_what_they_are_asked_and_end(probe: Path, command: str) -> None:
    units = {"parallel": 1_000_000, "messages": 1600}.get(command, 1000)
    result = run(probe, command, str(units), *SEVERAL[command])
    assert result["units"] == units
    assert result["elapsed_ns"] > 0


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
@pytest.mark.parametrize("command", ["kernel-lock", "shootdown", "parallel", "messages"])
def test_more_threads_than_cpus_share_them(probe: Path, command: str) -> None:
    units = {"parallel": 1_000_000, "messages": 1600}.get(command, 100)
    threads = 2 * len(os.sched_getaffinity(0))
    assert run(probe, command, str(units), str(threads))["units"] == units


def test_as_many_threads_as_asked_share_a_loop(probe: Path) -> None:
    """Whatever CPUs there are: natively there may be more, or fewer, than the guest has."""
    for threads in (1, 5) if len(os.sched_getaffinity(0)) > 1 else (1,):
        argv = [probe, "parallel", "9000000000", str(threads)]
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as running:
            tasks, began = Path(f"/proc/{running.pid}/task"), time.monotonic()
            while (found := len(list(tasks.iterdir()))) < threads:
                assert time.monotonic() - began < 10, found
            running.kill()
        assert found == threads


@pytest.mark.parametrize("command", SEVERAL)
def test_one_cpu_is_too_few_for_several(probe: Path, command: str) -> None:
    alone = [
        "taskset",
        "-c",
        str(min(os.sched_getaffinity(0))),
        probe,
        command,
        "100",
        *SEVERAL[command],
    ]
    done = subprocess.run(alone, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (77, "")
    assert "two CPUs" in done.stderr


@pytest.mark.parametrize(
    ("command", "count"),
    [
        ("prime", 20),
        ("getppid", 2000),
        ("pagefault", 6000),
        ("pagefault-cold", 1024),
        ("switch", 200),
        ("spin", 100000),
        ("memread", 20),
        ("memrandom", 10000),
        ("timer", 20),
        ("empty", 1000),
        ("cpuid", 100),
        ("syscall", 100),
        ("tick", 5),
        ("touch", 20000),
    ],
)
def test_each_command_does_its_units_and_reports_its_time(
    probe: Path, command: str, count: int
) -> None:
    result = run(probe, command, str(count))

    assert result["units"] == count
    assert result["elapsed_ns"] > 0


@pytest.mark.parametrize(
    ("command", "group"),
    [("prime", 1), ("getppid", 100), ("pagefault", 60), ("switch", 10), ("spin", 10_000)],
)
def test_units_are_done_in_whole_groups(probe: Path, command: str, group: int) -> None:
    result = run(probe, command, str(7 * group + 1))

    assert (result["units"], result["groups"]) == ((8 * group, 8) if group > 1 else (8, 8))


@pytest.mark.parametrize("command", ["prime", "getppid", "pagefault", "switch", "memread"])
def test_the_figures_of_groups_fit_together(probe: Path, command: str) -> None:
    result = run(probe, command, "2000")

    assert 0 < result["min_ns"] <= result["p50_ns"]
    assert result["min_ns"] <= result["mean_ns"]
    assert result["mean_ns"] * result["units"] == pytest.approx(result["elapsed_ns"], rel=0.01)
    assert 0 < result["equal"] <= 1


@pytest.mark.parametrize("pattern", ["read", "write", "randread", "randwrite"])
@pytest.mark.parametrize("depth", ["1", "16"])
def test_the_disk_is_read_and_written_in_its_region_only(
    probe: Path, tmp_path: Path, pattern: str, depth: str
) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"\xff" * (3 << 20))
    result = run(probe, "disk", str(disk), "1", "1", pattern, "4", depth, "1024")

    assert result["units"] == 1024
    content = disk.read_bytes()
    assert content[: 1 << 20] == content[2 << 20 :] == b"\xff" * (1 << 20)
    assert (content[1 << 20 : 2 << 20] == b"\xff" * (1 << 20)) is ("read" in pattern)
    if pattern == "write":
        assert len(set(content[1 << 20 : (1 << 20) + 4096])) > 64


def test_a_disk_that_is_too_short_is_no_result(probe: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1 << 20))
    done = subprocess.run(
        [probe, "disk", disk, "0", "2", "read", "4", "1", "512"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "0 bytes of a block of 4096" in done.stderr


@pytest.mark.parametrize("command", ["timer", "empty", "cpuid", "syscall", "tick", "touch"])
def test_quantiles_are_in_order(probe: Path, command: str) -> None:
    result = run(probe, command, "50")

    quantiles = [result[name] for name in ("min_ns", "p50_ns", "p99_ns", "max_ns")]
    assert quantiles == sorted(quantiles)
    assert result["min_ns"] <= result["mean_ns"] <= result["max_ns"]


def test_device_files_are_read_and_rewritten(probe: Path, tmp_path: Path) -> None:
    device = tmp_path / "device"
    device.write_bytes(b"0123456789abcdef")

    assert run(probe, "read", "10", str(device), "8", "8")["units"] == 10
    assert run(probe, "rewrite", "10", str(device), "4", "8")["units"] == 10
    assert run(probe, "mmio", "10", str(device), "4")["units"] == 10
    assert device.read_bytes() == b"0123456789abcdef"


def test_tsc_ticks_cover_the_loop_at_a_plausible_rate(probe: Path) -> None:
    result = run(probe, "syscall", "20000")

    assert 0.2 < result["tsc_ticks"] / result["elapsed_ns"] < 10  # GHz


def record(event: int, *extra: int, cycles: bool = False) -> bytes:
    """A record of xentrace's file (xen/include/public/trace.h, struct t_rec)."""
    head = event | len(extra) << 28 | cycles << 31
    stamp = (1, 2) if cycles else ()
    return struct.pack(f"<{1 + len(stamp) + len(extra)}I", head, *stamp, *extra)


def test_a_domains_entries_into_xen_are_counted(probe: Path, tmp_path: Path) -> None:
    """In Xen 4.17's numbers: iret is hypercall 23, update_va_mapping 14; domain 5 is ours."""
    iret, trap, inside, switch = 0x20110D, 0x201103, 0x20210E, 0x2800A
    to_ours, to_dom0 = record(switch, 0, 0, 5, 0, cycles=True), record(switch, 5, 0, 0, 0)
    trace = [
        record(0x1F003, 0, 4096),  # CPU 0
        record(iret, 23),  # nobody's: the trace began while somebody ran
        to_ours,
        record(iret, 23 | 1 << 20, 7),
        record(iret, 23),
        record(inside, 14),
        record(0x1F003, 1, 4096),  # CPU 1, where dom0 runs
        record(switch, 7, 0, 0, 1),
        record(iret, 23),
        record(0x1F003, 0, 4096),
        record(trap, 1, 2, 3, cycles=True),
        to_dom0,
        record(trap, 1, 2, 3),
        record(iret, 23),
        record(0x1F001, 3, 0),  # lost
    ]
    path = tmp_path / "trace"
    path.write_bytes(b"".join(trace))
    assert run(probe, "xen-trace", str(path), "5") == {
        "lost": 3, "trap": 1, "hypercall 23": 2, "in multicall 14": 1
    }  # fmt: skip
    path.write_bytes(b"".join(trace)[:-3])
    done = subprocess.run(
        [probe, "xen-trace", path, "5"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "within a record" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [("read", "1", "/proc/nonexistent", "0", "1"), ("mmio", "1", "/proc/nonexistent", "0")],
)
def test_what_a_machine_does_not_have_is_told_apart_from_failure(
    probe: Path, arguments: tuple[str, ...]
) -> None:
    done = subprocess.run([probe, *arguments], capture_output=True, text=True, check=False)

    assert done.returncode == 77
    assert "No such file" in done.stderr


def test_slowed_spin_does_more_work_for_the_same_units(probe: Path) -> None:
    def elapsed_ns(*options: str) -> float:
        return float(run(probe, "spin", "1000000", *options)["elapsed_ns"])

    # Many short runs of each, in turn: on a busy machine some of both go undisturbed.
    pairs = [(elapsed_ns(), elapsed_ns("--slow-percent", "100")) for _ in range(30)]
    plain, slowed = (min(column) for column in zip(*pairs, strict=True))
    assert slowed / plain == pytest.approx(2, rel=0.3)


def test_request_and_response_over_tcp(probe: Path) -> None:
    with subprocess.Popen([probe, "rr-server", "0"], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = json.loads(server.stdout.readline())["listening"]
        results = [run(probe, "rr-client", "127.0.0.1", str(port), "100") for _ in range(2)]
        server.kill()  # it serves one client after the other until it is ended

    assert [result["units"] for result in results] == [100, 100]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["bogus", "1"],
        ["getppid"],
        ["getppid", "1", "2"],
        *(["getppid", number] for number in ("0", "-1", "+1", " 1", "1x", "", "1e3", "9" * 30)),
        ["spin", "1", "--slow-percent"],
        ["spin", "1", "--fast", "2"],
        ["memrandom", "1", "--tiny"],
        ["disk", "/dev/null", "0", "1", "backwards", "4", "1", "1"],
        ["disk", "/dev/null", "0", "1", "read", "2048", "1", "1"],
        ["disk", "/dev/null", "0", "1", "read", "4", "257", "1"],
        ["pagefault-cold", "2000000"],
        ["timer", "99999999"],
        ["timer", "1", "0"],
        ["read", "1", "/dev/zero", "0", "9"],
        ["read", "1", "/dev/zero", "-1", "1"],
        ["mmio", "1", "/dev/zero", "4094"],
        ["rr-server", "65536"],
        ["rr-client", "localhost", "1", "1"],
        ["rr-client", "127.0.0.1", "0", "1"],
    ],
)
def test_wrong_usage_ends_with_two_and_says_how(probe: Path, arguments: list[str]) -> None:
    done = subprocess.run(
        [probe, *arguments], capture_output=True, text=True, check=False, timeout=10
    )

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("usage: vbench-probe")


def test_lost_partner_and_full_disk_are_failures_with_a_reason(probe: Path) -> None:
    refused = subprocess.run(
        [probe, "rr-client", "127.0.0.1", "1", "1"], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1
    assert "refused" in refused.stderr

    with Path("/dev/full").open("wb") as full:
        unwritten = subprocess.run(
            [probe, "getppid", "1"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert unwritten.returncode == 1
    assert "No space left" in unwritten.stderr


def test_a_program_is_timed_from_its_start_to_its_end_and_its_output_is_not_the_result(
    probe: Path,
) -> None:
    result = run(probe, "timed", "7", "sh", "-c", "echo hello; sleep 0.1")
    assert result["units"] == 7
    assert 0.1e9 <= result["elapsed_ns"] < 5e9


@pytest.mark.parametrize(
    ("program", "says"),
    [
        (("sh", "-c", "echo lost >&2; exit 3"), "lost\nvbench-probe: sh ended with status 3"),
        (("sh", "-c", "kill -9 $$"), "sh was ended by signal 9"),
        (("no-such-program",), "no-such-program: No such file or directory"),
    ],
)
def test_a_program_that_fails_has_no_time(probe: Path, program: tuple[str, ...], says: str) -> None:
    done = subprocess.run(
        [probe, "timed", "1", *program], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert says in done.stderr
