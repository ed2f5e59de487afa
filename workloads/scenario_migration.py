"""Live migration, idle and while the guest touches memory: between two hypervisors on one host, and
to another host where one is named (`destination=ssh://user@host` in the variant)."""

import dataclasses

import pytest

from vbench.contract.guest import Terms
from vbench.measure.lab import Lab
from vbench.records import Clock

pytestmark = pytest.mark.workload(boots=1)

_MIB = 200  # memory that is touched again and again
# That of a network of 1 Gbit/s, and QEMU's default: what touches memory faster cannot converge.
_TERMS = Terms(bandwidth_mib_s=128, limit_s=10)
# Of a network whose speed is not known: 512 MiB at 100 Mbit/s.
_LIMIT_S = 60
_BEFORE_S, _AFTER_S = 1.5, 0.5


def _migrate(lab: Lab, mib_s: int) -> None:
    """There in one round, back in the next."""
    here, there = lab.ports(2)
    guest = lab.launch(here)
    watcher = lab.watch(guest, mib=_MIB, mib_s=mib_s)
    watcher.ask_on()
    lab.sleep(0.5)
    for _ in lab.rounds:
        watcher.observe()
        lab.sleep(_BEFORE_S)
        before = watcher.observe()
        began = lab.host.clock()
        moved = lab.migrate(guest, there, _TERMS)
        during = watcher.observe()
        took_s = lab.host.clock() - began
        if moved is None and not guest.alive:  # how long nobody answers has no end
            lab.counted(connections_kept=0.0, dirtied_before_mib_s=before.dirtied_mib_s)
            lab.record(took_s)
            return
        lab.sleep(_AFTER_S)
        after = watcher.observe()
        for when, observation in (("before", before), ("migration", during), ("after", after)):
            lab.took(when, "longest wait", observation.wait_s, Clock.CLIENT)
            lab.took(when, "tick gap", observation.gap_s, Clock.CLIENT)
        lab.took("migration", "clock lost", during.lost_s, Clock.GUEST)
        lab.took("migration", "real time lost", during.lost_real_s, Clock.GUEST)
        lab.counted(
            dirtied_before_mib_s=before.dirtied_mib_s,
            dirtied_mib_s=during.dirtied_mib_s,
            dirtied_after_mib_s=after.dirtied_mib_s,
            ticks_missing=during.missing,
            connections_kept=float(after.connected),
        )
        memory = watcher.walked()
        lab.counted(memory_mib=_MIB, memory_stale_mib=memory.stale_mib + _MIB - memory.intact_mib)
        lab.record(took_s)
        if moved is None:
            return
        watcher.ask_on()
        guest, here, there = moved, there, here


def scenario_migration_idle(lab: Lab) -> None:
    """Migrate a guest that does nothing but answer."""
    _migrate(lab, 0)


def scenario_migration_dirty_50(lab: Lab) -> None:
    """Migrate a guest that touches 50 MiB/s of its memory."""
    _migrate(lab, 50)


@pytest.mark.workload(named=True)  # it never ends, so it tells nothing of downtime
def scenario_migration_dirty_200(lab: Lab) -> None:
    """Migrate a guest that touches 200 MiB/s, more than the network carries: given up in 10 s."""
    _migrate(lab, 200)


def _migrate_elsewhere(lab: Lab, mib_s: int) -> None:
    """To another host, with a guest of its own in each round.

    No network of ours goes from one host to the other: the connection of the guest's client ends
    with the hypervisor that it goes through, and it connects anew. What it waits holds that.
    """
    here, there = lab.elsewhere()
    terms = dataclasses.replace(_TERMS, limit_s=_LIMIT_S)
    for _ in lab.rounds:
        guest = lab.launch(here)
        client = lab.client(guest, mib=_MIB, mib_s=mib_s)
        lab.sleep(_BEFORE_S)
        before = client.asked()
        began = lab.host.clock()
        moved = lab.migrate(guest, there, dataclasses.replace(terms, arrived=client.moved))
        took_s = lab.host.clock() - began
        lab.counted(dirtied_before_mib_s=before.touched_mib_s)
        if moved is None:  # it does not converge, or is lost: how long nobody answers has no end
            lab.record(took_s)
            return
        memory, during = client.walked(), client.asked()
        lab.took("before", "longest wait", before.wait_s, Clock.CLIENT)
        lab.took("migration", "connected anew", during.wait_s, Clock.CLIENT)
        lab.took("migration", "clock lost", during.lost_s, Clock.GUEST)
        lab.took("migration", "real time lost", during.lost_real_s, Clock.GUEST)
        lab.counted(
            dirtied_mib_s=during.touched_mib_s,
            ticks=during.ticks,
            memory_mib=_MIB,
            memory_stale_mib=memory.stale_mib + _MIB - memory.intact_mib,
        )
        lab.record(took_s)
        client.close()
        lab.end(moved)


@pytest.mark.workload(named=True)
def scenario_migration_host_idle(lab: Lab) -> None:
    """Migrate a guest that does nothing but answer to another host."""
    _migrate_elsewhere(lab, 0)


@pytest.mark.workload(named=True)
def scenario_migration_host_dirty_50(lab: Lab) -> None:
    """Migrate a guest that touches 50 MiB/s of its memory to another host."""
    _migrate_elsewhere(lab, 50)
