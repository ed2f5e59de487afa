"""A guest's life for real: saved, restored, migrated, watched from beside it, and its faults."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Vbench, processes, until
from vbench.contract.guest import Guest, Life, Migration, Terms
from vbench.contract.host import Host
from vbench.contract.registry import Registry
from vbench.errors import GuestError, GuestLost, LaunchError
from vbench.guest.native import Native
from vbench.hosts.local import LocalHost
from vbench.hosts.port import at_port
from vbench.hypervisors.qemu.life import QemuLife
from vbench.measure.watcher import Watcher, bring_to_life
from vbench.model import ImageFiles
from vbench.testbed import TestbedHost

pytestmark = pytest.mark.tcg
FAST = Terms(bandwidth_mib_s=128, limit_s=60)
SLOW = Terms(bandwidth_mib_s=10, limit_s=60)
BRIDGE = "10.79.0.1"


@pytest.fixture(scope="module")
def ports(host: LocalHost) -> Iterator[Sequence[Host]]:
    with host.bridge(2) as networks:
        if not networks:
            pytest.skip("this kernel allows no bridge in a namespace")
        yield [at_port(host, network) for network in networks]


def launched(at: Host, files: ImageFiles, variant: str = "tcg-virtio,memory=256") -> Guest:
    made = Registry.load().variant(variant)
    return made.backend.launch(at, files, made.options)


def life(guest: Guest) -> Life:
    assert guest.life is not None
    return guest.life


@contextlib.contextmanager
def watched(guest: Guest, files: ImageFiles, *, mib: int = 16, mib_s: int = 0) -> Iterator[Watcher]:
    host = guest.host
    client = Native(host, host.upload_image(files), prefix=guest.client_prefix, client=True)
    bring_to_life(guest, BRIDGE, mib=mib, mib_s=mib_s)
    with Watcher(client, guest.endpoint.address) as watcher:
        yield watcher


@pytest.fixture(scope="module")
def guest(ports: Sequence[Host], files: ImageFiles) -> Iterator[Guest]:
    """One for the tests that leave it as it was."""
    made = launched(ports[0], files)
    yield made
    made.close()


def qemus(tmp: Path) -> list[int]:
    return [int(line.split(":")[0]) for line in processes(tmp) if "qemu-system" in line]


def answers(guest: Guest) -> bool:
    return guest.run("echo $((6 * 7))", timeout_s=30).stdout == "42\n"


def in_background(work: Any) -> tuple[threading.Thread, list[object]]:
    """Its result or error, in a list."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(work())
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, results


# ------------------------------------------------------------------ what works


def test_a_restored_guest_goes_on_with_its_memory_and_its_connections(
    ports: Sequence[Host], files: ImageFiles, host: LocalHost, tmp: Path
) -> None:
    with contextlib.ExitStack() as stack:
        guest = launched(ports[0], files)
        stack.callback(guest.close)
        watcher = stack.enter_context(watched(guest, files))
        before = watcher.walked()
        folder = stack.enter_context(host.workdir())
        saved = life(guest).save(guest, folder)
        assert answers(guest)  # it goes on, over SSH through QEMU
        assert saved.counts["state_mib"] > 20
        stopped = {phase.phase: phase.seconds for phase in saved.phases}
        assert 0 < stopped["downtime"] <= stopped["saved"] + 0.05
        guest.close()
        assert qemus(tmp) == []

        again = life(guest).restore(saved, ports[1])
        stack.callback(again.close)
        assert [phase.phase for phase in again.phases] == ["started", "loaded", "command"]
        assert answers(again)
        after = watcher.walked()
        assert after.connected
        assert (after.token, after.intact_mib, after.stale_mib) == (before.token, 16, 0)
    assert qemus(tmp) == []


def test_a_guest_migrates_there_and_back_and_its_client_waits(
    ports: Sequence[Host], files: ImageFiles, tmp: Path
) -> None:
    with contextlib.ExitStack() as stack:
        guest = launched(ports[0], files)
        stack.callback(guest.close)
        watcher = stack.enter_context(watched(guest, files))
        watcher.ask_on()
        time.sleep(0.3)
        for at in (ports[1], ports[0]):
            watcher.observe()
            migrated = life(guest).migrate(guest, at, FAST)
            observation = watcher.observe()
            assert migrated.guest is not None
            assert not guest.alive  # it is in one place only
            guest = migrated.guest
            stack.callback(guest.close)
            assert answers(guest)
            by_qemu = {phase.phase: phase.seconds for phase in migrated.phases}
            assert 0 < by_qemu["downtime"] < by_qemu["total"]
            # who stands outside sees no less than the hypervisor tells
            assert observation.gap_s > by_qemu["downtime"] * 0.9
            assert observation.wait_s > by_qemu["downtime"] * 0.9
            assert observation.connected
            assert migrated.counts["sent_mib"] > 20
            assert len(qemus(tmp)) == 1
    assert qemus(tmp) == []


# ------------------------------------------------------------------ what goes wrong


def test_a_migration_that_does_not_converge_is_given_up(
    guest: Guest, ports: Sequence[Host], tmp: Path
) -> None:
    began = time.monotonic()
    migrated = life(guest).migrate(guest, ports[1], Terms(bandwidth_mib_s=1, limit_s=1))
    assert migrated.guest is None
    assert migrated.counts["left_mib"] > 20
    assert time.monotonic() - began < 60
    assert answers(guest)
    assert until(lambda: len(qemus(tmp)) == 1, 5)


def test_a_destination_that_is_killed_leaves_the_guest_where_it_was(
    guest: Guest, ports: Sequence[Host], tmp: Path
) -> None:
    (source,) = qemus(tmp)
    thread, results = in_background(lambda: life(guest).migrate(guest, ports[1], SLOW))
    assert until(lambda: len(qemus(tmp)) == 2, 20)
    time.sleep(0.5)
    (target,) = set(qemus(tmp)) - {source}
    os.kill(target, signal.SIGKILL)
    thread.join(60)
    (error,) = results
    assert isinstance(error, GuestError)
    assert answers(guest)
    assert until(lambda: qemus(tmp) == [source], 5)


def test_a_source_that_is_killed_is_a_lost_guest_and_leaves_nothing(
    ports: Sequence[Host], files: ImageFiles, tmp: Path
) -> None:
    before = set(qemus(tmp))
    guest = launched(ports[1], files)
    try:
        (source,) = set(qemus(tmp)) - before
        thread, results = in_background(lambda: life(guest).migrate(guest, ports[0], SLOW))
        assert until(lambda: len(qemus(tmp)) == len(before) + 2, 20)
        time.sleep(0.5)
        os.kill(source, signal.SIGKILL)
        thread.join(60)
        (error,) = results
        assert isinstance(error, GuestLost)
        assert "-incoming defer" in error.evidence
    finally:
        guest.close()
    assert until(lambda: set(qemus(tmp)) == before, 5)


@pytest.mark.skipif(os.getuid() != 0, reason="makes a small file system, which needs root")
def test_a_full_disk_while_saving_leaves_no_state_file(guest: Guest, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=120M", "tmpfs", str(small)]
    subprocess.run(mount, check=True)
    try:
        # room for the initramfs of the launch, not for the memory
        room = os.statvfs(small)
        left = room.f_bavail * room.f_frsize - os.stat(_initrd(guest)).st_size - (5 << 20)
        if left > 0:
            (small / "filler").write_bytes(b"\0" * left)
        with pytest.raises(GuestError, match="snapshot-save failed") as caught:
            life(guest).save(guest, str(small))
        assert "100%" in caught.value.evidence  # QEMU itself says no more than "Input/output error"
        assert [path.name for path in small.iterdir()] in (["filler"], [])
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert answers(guest)


def _initrd(guest: Guest) -> str:
    return guest.argv[guest.argv.index("-initrd") + 1]


def test_a_state_of_another_machine_is_refused_in_qemus_words(
    guest: Guest, ports: Sequence[Host], host: LocalHost, tmp: Path
) -> None:
    with host.workdir() as folder:
        saved = life(guest).save(guest, folder)
        assert isinstance(saved.how, QemuLife)
        for change in ({"machine": "q35"}, {"memory_mib": 320}):
            other = dataclasses.replace(saved.how.spec, **change)
            how = dataclasses.replace(saved.how, spec=other)
            with pytest.raises(LaunchError, match="cannot be loaded") as caught:
                life(guest).restore(dataclasses.replace(saved, how=how), ports[1])
            assert "QEMU" in str(caught.value)
    assert answers(guest)
    assert len(qemus(tmp)) == 1


def test_a_restored_guest_may_live_beside_the_one_it_was_saved_from(
    guest: Guest, ports: Sequence[Host], host: LocalHost, tmp: Path
) -> None:
    with host.workdir() as folder:
        saved = life(guest).save(guest, folder)
        clone = life(guest).restore(saved, ports[1])
        try:
            guest.run("echo mine > /tmp/whose", timeout_s=30)
            assert clone.run("cat /tmp/whose", timeout_s=30).status == 1
            assert answers(guest)
            assert answers(clone)
        finally:
            clone.close()
    assert len(qemus(tmp)) == 1


# ------------------------------------------------------------------ as scenarios


def test_scenarios_run_and_report(vbench: Vbench) -> None:
    chosen = ("--workload", "snapshot*", "--workload", "migration-idle", "--boots", "1")
    done = vbench.measure(*chosen, "--rounds", "1")
    assert done.returncode == 0, done.stderr
    for entry in vbench.json()["benchmarks"]:
        values = entry["extra_info"]["vbench"]
        assert values["counters"]["connections_kept"] == [1.0]
        (phases,) = values["pair_phases"]
        clocks = {phase["clock"] for phase in phases}
        assert clocks == {"client", "guest", "hypervisor"}
    text = (vbench.out / "report.md").read_text()
    assert "## Why virtualization matters" in text
    assert "goes on with its memory and its connection" in text


def test_vbench_killed_in_a_migration_leaves_nothing(vbench: Vbench) -> None:
    running = vbench.start(
        *("run", "--backend", "tcg-virtio", "--out", vbench.out, "--boots", "1"),
        *("--workload", "migration-dirty-200"),
    )
    try:
        two = until(lambda: sum("qemu-system" in each for each in vbench.processes()) == 2, 90)
        assert two
        time.sleep(1)
    finally:
        running.kill()
        running.communicate()
    assert until(lambda: vbench.left() == [], 10)


@pytest.mark.testbed
def test_kvm_guests_are_saved_and_migrated_in_the_testbed(
    testbed: TestbedHost, files: ImageFiles
) -> None:
    """With all three clocks, as instructions."""
    with contextlib.ExitStack() as stack:
        networks = stack.enter_context(testbed.bridge(2))
        here, there = (at_port(testbed, network) for network in networks)
        guest = launched(here, files, "kvm-virtio,memory=256")
        stack.callback(guest.close)
        watcher = stack.enter_context(watched(guest, files))
        before = watcher.walked()
        folder = stack.enter_context(testbed.workdir())
        saved = life(guest).save(guest, folder)
        assert saved.counts["state_mib"] > 20
        watcher.ask_on()
        watcher.observe()
        migrated: Migration = life(guest).migrate(guest, there, FAST)
        observation = watcher.observe()
        assert migrated.guest is not None
        stack.callback(migrated.guest.close)
        assert observation.connected
        by_qemu = {phase.phase: phase.seconds for phase in migrated.phases}
        figures = {
            **by_qemu,
            "gap": observation.gap_s,
            "wait": observation.wait_s,
            "clock lost": observation.lost_s,
            "saved": [phase.seconds for phase in saved.phases],
        }
        print(json.dumps(figures))
        assert observation.gap_s > by_qemu["downtime"] * 0.9
        migrated.guest.close()

        restored = life(guest).restore(saved, here)
        stack.callback(restored.close)
        assert answers(restored)
        assert before.token
