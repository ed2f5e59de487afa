"""From nothing to a guest that answers: a first one, a second beside it, and a clone."""

import pytest

from vbench.measure.lab import Lab
from vbench.records import Clock

pytestmark = pytest.mark.workload(boots=1)


def scenario_provisioning_guest(lab: Lab) -> None:
    """Image, launch, kernel, user space and first command; natively, that command alone."""
    lab.took("image", "built", lab.image.build_s, Clock.CLIENT)
    lab.took("image", "ready", lab.image_s, Clock.CLIENT)
    guest = lab.launch()
    lab.took_all(guest.phases)
    lab.took("native", "command", lab.natively(guest, "true"), Clock.CLIENT)
    lab.record(lab.phase_s(guest, "launch", "command"))


@pytest.mark.workload(named=True)
def scenario_provisioning_second(lab: Lab) -> None:
    """Launch to first command of a second guest, while a first one runs; then one cloned from it.

    A clone is the first guest's saved state, restored while the first goes on.
    """
    first, second, third = lab.ports(3)
    running = lab.launch(first)
    guest = lab.launch(second)
    lab.took_all(guest.phases)
    saved = lab.save(running)
    lab.restore(saved, third)
    lab.record(lab.phase_s(guest, "launch", "command"))
