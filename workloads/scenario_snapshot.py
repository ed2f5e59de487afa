"""A guest saved, ended, and restored: it goes on with its memory and its connections."""

import pytest

from vbench.measure.lab import Lab
from vbench.records import Clock

pytestmark = pytest.mark.workload(boots=1)
_MIB = 128  # memory that is looked at, page by page, before and after


def scenario_snapshot_recovery(lab: Lab) -> None:
    """Restore a saved guest to the first answer over a connection that was open when it was saved.

    Its hypervisor ends as soon as the guest is saved, as in a crash of the host.
    """
    before, after = lab.ports(2)
    guest = lab.launch(before)
    watcher = lab.watch(guest, mib=_MIB)
    earlier = watcher.walked()
    saved = lab.save(guest)
    lab.took("save", "tick gap", watcher.observe().gap_s, Clock.CLIENT)
    lab.end(guest)
    clock = guest.host.clock  # of the machine that it is on
    began = clock()
    lab.restore(saved, after)
    later = watcher.walked()
    answer_s = clock() - began
    lab.took("restore", "answer", answer_s, Clock.CLIENT)
    lab.took("memory before", "read", earlier.walk_s, Clock.GUEST)
    lab.took("memory after", "read", later.walk_s, Clock.GUEST)
    lab.counted(
        memory_kept_mib=later.intact_mib * (later.token == earlier.token),
        memory_mib=_MIB,
        connections_kept=float(later.connected),
    )
    lab.record(answer_s)
