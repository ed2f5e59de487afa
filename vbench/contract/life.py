"""The operations of a guest's life: saved, restored, migrated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from vbench.records import Phase

if TYPE_CHECKING:
    from vbench.contract.guest import Guest
    from vbench.contract.host import Host


@dataclass(frozen=True)
class Saved:
    """The saved state of a guest, in a folder of its host that the caller made and removes.

    `counts` have their unit in the name: "state_mib". `how` is for the life that saved it.
    """

    guest: Guest  # may have ended since
    folder: str
    phases: tuple[Phase, ...]
    counts: Mapping[str, float]
    how: Any = None


@dataclass(frozen=True)
class Terms:
    """How a guest is migrated: at most so many MiB/s, and given up after `limit_s` seconds of the
    host. `downtime_s`: how long the hypervisor may stop the guest for the last round."""

    bandwidth_mib_s: float
    limit_s: float
    downtime_s: float = 0.3


@dataclass(frozen=True)
class Migration:
    """What came of a migration. `guest`: as it goes on; None: it did not converge, and goes on
    where it was, or it was `lost`: it was moved and is dead, for this reason. Counts are
    "sent_mib", "rounds" and such."""

    guest: Guest | None
    phases: tuple[Phase, ...]
    counts: Mapping[str, float]
    lost: str = ""


class Life(Protocol):
    """By what runs guests of one kind. `host` in these is the machine that the guest is on, as
    seen from the port of a bridge; where hypervisors can, another machine.

    The connections of vbench to the guest are made anew; those of the guest's own programs go on
    if the network lets them.
    """

    def save(self, guest: Guest, folder: str) -> Saved:
        """Save a running guest into `folder` of its host; it goes on. Raises GuestLost, and
        GuestError if it cannot be saved: it goes on then as well, and no file is left."""

    def restore(self, saved: Saved, host: Host) -> Guest:
        """A guest that goes on where it was saved. Its `phases` are those of its restoring, the
        last of them the end of its first command. Raises LaunchError."""

    def migrate(self, guest: Guest, host: Host, terms: Terms) -> Migration:
        """Migrate a running guest. If it was moved, `guest` has ended. Raises GuestLost, and
        GuestError if it failed: the guest goes on where it was."""
