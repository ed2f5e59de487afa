"""Live migration between two hypervisors on one host, idle and while the guest touches memory."""

import pytest

from vbench.contract.guest import Terms
from vbench.measure.lab import Lab
from vbench.records import Clock

pytestmark = pytest.mark.workload(boots=1)

_MIB = 200  # memory that is touched again and again
# That of a network of 1 Gbit/s, and QEMU's default: what touches memory faster cannot converge.
_TERMS = Terms(bandwidth_mib_s=128, limit_s=10)
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
