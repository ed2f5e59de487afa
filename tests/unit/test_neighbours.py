"""Several guests on a host: scenarios with shells for guests, limits of real processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from shell_runs import Runs

from vbench import workloads
from vbench.contract.host import Network
from vbench.errors import WorkloadError
from vbench.guest import target
from vbench.guest.native import Native
from vbench.hosts import local, netns
from vbench.hosts.limits import limited
from vbench.hosts.local import LocalHost
from vbench.measure import isolation, lab, load
from vbench.measure.isolation import TwoProcesses
from vbench.model import ImageFiles, Item
from vbench.results import loading

needs_cc = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
# Under a name of its own: that of a shipped one is taken.
CONSOLIDATION = (
    (Path(workloads.__path__[0]) / "scenario_consolidation.py")
    .read_text()
    .replace("def scenario_consolidation_part_time", "def scenario_consolidation_given")
)


@pytest.fixture
def programs(probe: Path, image: ImageFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe and what else commands use, in shells that are guests and natively."""
    path = f"{probe.parent}:{target.ENVIRONMENT['PATH']}"
    monkeypatch.setitem(target.ENVIRONMENT, "PATH", path)
    inside = Path(image.root) / "bin" / probe.name
    if not inside.exists():
        shutil.copy(probe, inside)


@contextmanager
def no_bridge(count: int) -> Iterator[Sequence[Network]]:
    yield netns.ports(count, [None] * count, ())


def measured(run: Runs, text: str) -> Item:
    path = run.folder / "scenario_given.py"
    # the shipped one has the name
    path.write_text(text.replace("consolidation_part_time", "consolidation_shortened"))
    run("", files=(path,))
    (item,) = loading.load_all([run.out])[0].items
    print(item.reason)
    return item


# ------------------------------------------------------------------ consolidation


# Shells say that they have a card on it.
ON_A_BRIDGE = """

import dataclasses, sys
from vbench.records import NetworkPath

_guests = sys.modules["vbench_plugin_file_shell_backend"].GUESTS
_guests.capabilities = dataclasses.replace(_guests.capabilities, network=NetworkPath.TAP)
"""


def shortened(*changes: tuple[str, str]) -> str:
    text = CONSOLIDATION.replace("named=True", "named=False")
    steps = "_STEPS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48)"
    for old, new in (
        (steps, "_STEPS = (1, 2)"),
        ("_SHORT_S = (200, 100)", "_SHORT_S = (20, 20)"),
        ("_SLOWER = 2.0", "_SLOWER = 1000.0"),
        ("_TRIES = 0.05, 3", "_TRIES = 0.05, 1"),  # others do run beside this test
        ("_SPARE_MIB = 256", "_SPARE_MIB = 0"),  # what runs beside this test takes what it likes
        *changes,
    ):
        assert old in text
        text = text.replace(old, new)
    return text + ON_A_BRIDGE


@needs_cc
@pytest.mark.usefixtures("programs")
def test_guests_are_added_until_no_more_are_to_be_tried(
    run: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "local_bridge", no_bridge)
    item = measured(run, shortened())
    (pair,) = item.pairs
    found = {(each.operation, each.phase): each for each in pair.phases}
    assert set(found) == {
        (who, name)
        for who in ("1 guests", "2 guests", "1 natively", "2 natively")
        for name in ("p50", "p95", "p99")
    }
    assert pair.guest_s == found["1 guests", "p99"].seconds
    assert 0 < found["2 guests", "p50"].seconds <= found["2 guests", "p99"].seconds
    assert pair.counters["ended_by_maximum"] == 1
    assert 0 < pair.counters["2 guests: busy_percent"] <= 100
    assert len(run.guests.made) == 2


@needs_cc
@pytest.mark.usefixtures("programs")
def test_the_first_number_of_guests_whose_quality_is_lost_is_the_last(
    run: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "local_bridge", no_bridge)
    (pair,) = measured(run, shortened(("_SLOWER = 1000.0", "_SLOWER = 0.5"))).pairs
    assert not [name for name in pair.counters if name.startswith(("2 ", "ended"))]


@needs_cc
@pytest.mark.usefixtures("programs")
def test_one_hiccup_of_the_host_is_no_loss_of_quality(
    run: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    responses_s = iter([1.0, 5.0, 1.5])  # of one guest, of two, of two once more

    def under_load(_host: object, targets: Sequence[object], *_: object) -> load.Loaded:
        late_s = 1.0 if isinstance(targets[0], Native) else next(responses_s)
        return load.Loaded((late_s,), 0, 0.5, 0, 0.18)

    monkeypatch.setattr(local, "local_bridge", no_bridge)
    monkeypatch.setattr(lab, "under_load", under_load)
    (pair,) = measured(run, shortened(("_SLOWER = 1000.0", "_SLOWER = 2.0"))).pairs
    assert pair.counters["ended_by_maximum"] == 1
    found = {(each.operation, each.phase): each.seconds for each in pair.phases}
    assert found["2 guests", "p99"] == 1.5


def test_guests_that_do_not_fit_are_not_launched(
    run: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "local_bridge", no_bridge)
    item = measured(run, shortened(("_SPARE_MIB = 0", "_SPARE_MIB = 1 << 40")))
    assert item.status == "unsupported"
    assert item.reason == "no guest fits into the host's memory"
    assert run.guests.made == []


@needs_cc
@pytest.mark.usefixtures("programs")
def test_guests_end_where_memory_does_and_that_is_said(
    run: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "local_bridge", no_bridge)
    left_mib = iter([1000.0, 10.0])  # before the first guest, and before the second
    monkeypatch.setattr(load, "available_mib", lambda _host: next(left_mib))
    (pair,) = measured(run, shortened(("_SPARE_MIB = 0", "_SPARE_MIB = 100"))).pairs
    assert pair.counters["ended_by_memory"] == 1
    assert not [name for name in pair.counters if name.startswith("2 ")]
    assert len(run.guests.made) == 1


def test_a_plain_run_does_not_take_that_long(run: Runs) -> None:
    text = CONSOLIDATION
    path = run.folder / "scenario_given.py"
    path.write_text(f"{text}\ndef scenario_migration_x(lab): lab.launch(); lab.record(1.0)\n")
    named = path.read_text().replace(
        "pytestmark = pytest.mark.workload(boots=1, named=True)",
        "pytestmark = pytest.mark.workload(boots=1)",
    )
    text = named.replace(
        "def scenario_cons", "@pytest.mark.workload(named=True)\ndef scenario_cons"
    )
    assert measured(run, text).workload == "migration-x"


# ------------------------------------------------------------------ isolation


@needs_cc
@pytest.mark.usefixtures("programs")
def test_shells_are_not_isolated_and_that_is_seen(run: Runs) -> None:
    item = measured(
        run,
        "from vbench.measure import isolation\n"
        "def scenario_isolation_x(lab):\n"
        "    one, two = lab.launch(), lab.launch()\n"
        "    lab.counted(**isolation.sights(one, two, None))\n"
        "    lab.record(1.0)\n",
    )
    (pair,) = item.pairs
    assert pair.counters["kernels"] == 1
    for what in ("processes", "files", "ports"):
        for who in ("itself", "neighbour", "host"):
            assert pair.counters[f"{what}: {who}"] >= 1, (what, who)


def test_a_search_does_not_find_itself() -> None:
    assert ran("sh", "-c", isolation.search("5ca1ab1e0ddba11", 29_999)).stdout == "0\n0\n0\n"


@needs_cc
@pytest.mark.usefixtures("programs")
def test_a_disruptor_that_takes_no_cpu_is_no_disruptor_and_is_ended(run: Runs, probe: Path) -> None:
    """Shells say that they spend nothing."""
    item = measured(
        run,
        "from vbench.measure import isolation\n"
        "def scenario_isolation_x(lab):\n"
        "    sides = isolation.TwoGuests(lab.launch(), lab.launch(), '127.0.0.1')\n"
        "    isolation.disturbed(sides, {}, 'cpu')\n",
    )
    assert "took 0.0% of a CPU" in item.reason
    assert gone(probe)


def ran(*argv: object) -> subprocess.CompletedProcess[str]:
    words = list(map(str, argv))
    return subprocess.run(
        words, check=False, capture_output=True, text=True, timeout=60, start_new_session=True
    )


def gone(probe: Path) -> bool:
    """Whether no process of this very file is left; what was killed needs a moment."""
    deadline = time.monotonic() + 10
    while any(exe(pid) == str(probe) for pid in os.listdir("/proc") if pid.isdigit()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def exe(pid: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""


def test_without_limits_nothing_is_started_that_only_they_would_stop() -> None:
    class Here:
        endpoint = isolation.Guest  # not asked

    without = TwoProcesses(Here(), None, None)  # type: ignore[arg-type]
    assert [without.disruptor(kind) for kind in ("memory", "fork")] == [None, None]


@needs_cc
@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("kind", ["cpu", "memory", "network", "fork"])
def test_plain_processes_are_disturbed_within_their_limits_and_nothing_is_left(
    host: LocalHost, image: ImageFiles, kind: str
) -> None:
    groups = cgroups()
    native = Native(host, image, pin=False)
    with isolation.two_processes(native, 64) as sides:
        if not sides.limited:
            pytest.skip("no control groups can be made here")
        assert len(cgroups()) > len(groups)
        work = isolation.work_of(sides)
        found = isolation.disturbed(sides, work, kind)
        assert found is not None
        assert not found.stopped
        assert set(found.work_s) == set(isolation.WORK)
        assert all(seconds > 0 for seconds in found.work_s.values())
    assert cgroups() == groups


@needs_cc
@pytest.mark.usefixtures("programs")
def test_a_disruptor_does_not_outlive_its_victim(
    host: LocalHost, image: ImageFiles, probe: Path
) -> None:
    sides = TwoProcesses(Native(host, image, pin=False), None, None)
    with pytest.raises(WorkloadError, match="ended with status 137"):
        isolation.disturbed(sides, {"work": "sleep 0.2; kill -KILL $$"}, "cpu")
    assert gone(Path(image.root) / "bin" / probe.name)


@needs_cc
def test_what_is_still_inside_is_ended_with_its_limits(host: LocalHost, probe: Path) -> None:
    with limited(host, 64, 20) as inside:
        if inside is None:
            pytest.skip("no control groups can be made here")
        running = host.start([*inside, str(probe), "disrupt", "fork", "60000", "15"])
        time.sleep(0.3)
        assert running.status() is None
        many = host.run(
            [*inside, "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done"], timeout_s=20
        )
        assert "fork" in many.stderr.lower()  # no more than 20 processes
    assert running.wait(5) == -signal.SIGKILL
    running.kill()


def cgroups() -> set[str]:
    return {
        folder
        for folder, names, _ in os.walk("/sys/fs/cgroup")
        if os.path.basename(folder).startswith("vbench-")
    }


# ------------------------------------------------------------------ the programs


@needs_cc
@pytest.mark.parametrize("words", ["cpu 200 3", "fork 200 10", "network 200 127.0.0.1"])
def test_a_disruptor_ends_itself_and_all_that_it_started(probe: Path, words: str) -> None:
    began = time.monotonic()
    done = ran(probe, "disrupt", *words.split())
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, '{"disrupting": 200}\n')
    assert 0.2 <= time.monotonic() - began < 10
    assert gone(probe)


@needs_cc
@pytest.mark.parametrize(
    ("words", "status"), [("flood 200", 2), ("cpu 200", 1), ("cpu x", 2), ("disk 200 /x", 1)]
)
def test_a_disruptor_that_cannot_be_is_refused(probe: Path, words: str, status: int) -> None:
    done = ran(probe, "disrupt", *words.split())
    assert done.returncode == status
    assert done.stderr


@needs_cc
def test_a_disruptor_that_fails_does_not_look_alive(probe: Path) -> None:
    began = time.monotonic()
    done = ran(probe, "disrupt", "disk", 20_000, "/nowhere", 1, 2)
    assert time.monotonic() - began < 10
    assert "/nowhere: No such file" in done.stderr


@needs_cc
def test_the_disk_is_flooded_in_its_region_only(probe: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"\xff" * (4 << 20))
    ran(probe, "disrupt", "disk", 300, disk, 1, 2)
    content = disk.read_bytes()
    assert content[: 1 << 20] == content[3 << 20 :] == b"\xff" * (1 << 20)
    assert set(content[1 << 20 : 3 << 20]) == {0}


@needs_cc
def test_a_request_that_is_late_makes_the_next_one_late(probe: Path) -> None:
    """Each takes longer than its period."""
    said = json.loads(ran(probe, "requests", 20, 100, 100).stdout)
    assert said["units"] == len(said["response_us"]) == 20
    assert said["response_us"] == sorted(said["response_us"])
    assert said["response_us"][-1] > 20 * 100
