"""Real programs: they run in a guest and natively, do all their work, and say what went wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.conftest import Vbench
from vbench.contract.guest import Endpoint
from vbench.measure.execution import LISTENING
from vbench.workloads import bench_app

PROGRAMS = {"app-redis", "app-sqlite", "app-nginx", "app-compile", "app-zstd"}
NEED_A_NETWORK = {"app-redis", "app-nginx"}


def command_of(workload: Callable[..., object], units: int, disk: str = "/tmp/disk") -> str:
    found: list[str] = []
    endpoint = Endpoint(disk, 0, 64, "127.0.0.1", 5201, 1)

    def measure(command: Callable[[int, Endpoint], str], **_: object) -> None:
        found.append(command(units, endpoint))

    workload(measure)
    return found[0]


@pytest.mark.tcg
def test_all_applications_are_measured_in_a_guest_and_natively(vbench: Vbench) -> None:
    done = vbench.measure("--quick", "--boots", "1", "--rounds", "1", "--workload", "app/*")
    made = {
        entry["extra_info"]["vbench"]["workload"]: entry["extra_info"]["vbench"]
        for entry in vbench.json()["benchmarks"]
    }
    assert set(made) == PROGRAMS, done.stderr
    for name, item in made.items():
        ((native_s, guest_s),) = item["pairs"]
        assert guest_s > 0, name
        assert native_s or name in NEED_A_NETWORK, name
        assert "clock" not in str(item["pair_flags"]), name
    # on a file system of the guest's disk, and beside the file that is this disk
    assert "[ -b /dev/vda ]" in made["app-sqlite"]["commands"]["guest"]
    assert "[ -b /scratch/" in made["app-sqlite"]["commands"]["native"]


# Each command with one step that does less than it should, and what is said of that.
HALF_DONE = (
    (bench_app.bench_app_sqlite, "-bail db <sql", "-bail db </dev/null", "0 of 9 rows are there"),
    (bench_app.bench_app_sqlite, "VALUES(&", "VALUES(1", "UNIQUE constraint failed"),
    (bench_app.bench_app_compile, "-o %.o unit.c", "-o %.o no.c", "no.c"),
    (bench_app.bench_app_compile, "tcc -c", "true -c", "0 of 9 object files are there"),
    (
        bench_app.bench_app_zstd,
        "zstd -q -t",
        "head -c 9 packed >x; zstd -q -t x #",
        "premature end",
    ),
    (bench_app.bench_app_zstd, '-c "$@"', '-c "$1"', "bytes came back"),
)


def test_work_that_was_not_done_is_no_sample_and_nothing_is_left(vbench: Vbench) -> None:
    whole = {command_of(workload, 9) for workload, *_ in HALF_DONE}
    commands = [*whole]
    for workload, step, instead, _ in HALF_DONE:
        assert step in command_of(workload, 9)
        commands.append(command_of(workload, 9).replace(step, instead))
    # the image has a small disk for one of them: it is full
    commands.append(command_of(bench_app.bench_app_sqlite, 2000, "/tmp/small/disk"))
    each = "".join(f"({command}) 2>&1; echo = $?\n" for command in commands)
    small = "mkdir /tmp/small; mount -t tmpfs -o size=100k none /tmp/small\n"
    done = vbench.run("exec", "native", "--", f"{small}{each}ls -A /tmp /tmp/small")

    *said, left = done.stdout.split("\n= ")
    said = [one.partition("\n")[2] if at else one for at, one in enumerate(said)]
    statuses = [int(one.partition("\n")[0]) for one in done.stdout.split("\n= ")[1:]]
    assert statuses[:3] == [0, 0, 0], done.stdout
    assert all('"units": 9}' in text for text in said[:3])
    assert 0 not in statuses[3:], done.stdout
    for text, (*_, says) in zip(said[3:], HALF_DONE, strict=False):
        assert says in text
    assert "full" in said[-1] or "No space left" in said[-1] or "write error" in said[-1], said[-1]
    assert left.partition("\n")[2].split() == ["/tmp:", "small", "/tmp/small:"]


@pytest.mark.tcg
def test_a_port_that_is_taken_is_seen_by_who_waits_for_it(vbench: Vbench) -> None:
    """Of the real table of sockets, in a guest and with the image's own tools."""
    script = f"nc -l -p 5201 & ({LISTENING}) && echo found; kill $!"
    assert vbench.run("exec", "tcg-virtio", "--", script).stdout == "found\n"
