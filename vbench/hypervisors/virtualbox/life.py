"""Saving and restoring a machine of VirtualBox, through VBoxManage."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace

from vbench.contract.guest import Guest, Migration, Saved, Terms
from vbench.contract.host import Host
from vbench.errors import GuestError, LaunchError, Unsupported
from vbench.guest.booted import BootedGuest
from vbench.guest.life import GoingOn, saving
from vbench.hosts.ssh import SshConnection
from vbench.hypervisors.virtualbox.config import VmSpec
from vbench.hypervisors.virtualbox.machine import VirtualBoxMachine
from vbench.records import Clock, Lifecycle, Phase

_TIMEOUT_S = 60.0
LIFECYCLE = Lifecycle(
    save=None,
    restore=None,
    migrate="vbench does not migrate VirtualBox's machines: its teleporting needs shared storage",
    clone="its guests have one address: only one of them can run",
)
# Its connection to a machine that runs; the stack ends it.
LogIn = Callable[[VirtualBoxMachine, ExitStack], SshConnection]
_FILES = ("state", "medium", "disk")
# $1 where the state is, $2 medium, $3 disk, $4 the folder to keep them in
_KEEP = 'cp -- "$1"/*.sav "$4/state" && cp -- "$2" "$4/medium" && cp -- "$3" "$4/disk"'
# $1 and $2 the folder that has them, and the one of the new machine
_TAKE = 'cp -- "$1/medium" "$2/medium.iso" && cp -- "$1/disk" "$2/scratch.vmdk"'


@dataclass(frozen=True)
class VirtualBoxLife:
    """How a machine was made, which is how another must be made to go on with it."""

    spec: VmSpec
    log_in: LogIn

    def save(self, guest: Guest, folder: str) -> Saved:
        """VirtualBox ends a machine that it saves: it is started again, from that state."""
        machine, host = _machine(guest), guest.host
        assert isinstance(guest, BootedGuest)  # noqa: S101 - what VirtualBox's backend launches
        files = [f"{folder}/{name}" for name in _FILES]
        with saving(guest, folder, *files):
            began = host.clock()
            with machine.saved() as snapshots:
                saved_s = host.clock() - began
                medium, disk = self.spec.medium, self.spec.disk
                words = ["sh", "-c", _KEEP, "keep", snapshots, medium, disk, folder]
                kept = host.run(words, timeout_s=_TIMEOUT_S)
            guest.shell.ssh.close()
            guest.shell.ssh = self.log_in(machine, guest.cleanup)
            downtime_s = host.clock() - began
            if kept.status != 0:
                raise GuestError("the saved state cannot be kept", evidence=kept.stderr)
            size = host.run(["stat", "-c", "%s", f"{folder}/state"], timeout_s=20).stdout
        phases = (
            Phase("save", "saved", Clock.CLIENT, saved_s),
            Phase("save", "goes on", Clock.CLIENT, downtime_s),
        )
        return Saved(guest, folder, phases, {"state_mib": int(size) / 2**20}, self)

    def restore(self, saved: Saved, host: Host) -> BootedGuest:
        kept, host = saved.how, saved.guest.host
        assert isinstance(kept, VirtualBoxLife)  # noqa: S101 - whose `save` it is
        with GoingOn("restore", saved.guest, host, clone=LIFECYCLE.clone) as again:
            folder = again.folder
            taken = host.run(["sh", "-c", _TAKE, "take", saved.folder, folder], timeout_s=60)
            if taken.status != 0:
                raise LaunchError("the saved state cannot be read", evidence=taken.stderr)
            spec = replace(
                kept.spec,
                name=f"vbench-{secrets.token_hex(4)}",
                folder=folder,
                medium=f"{folder}/medium.iso",
                disk=f"{folder}/scratch.vmdk",
            )
            again.begin()
            with again.loading():
                machine = VirtualBoxMachine(host, spec, again.stack, f"{saved.folder}/state")
            again.watch.reached("started")
            with again.loading(machine):
                ssh = kept.log_in(machine, again.stack)
            return again.guest(machine, ssh, replace(kept, spec=spec), timeout_s=_TIMEOUT_S)

    def migrate(self, guest: Guest, host: Host, terms: Terms) -> Migration:
        raise Unsupported(f"its guests have no migrate: {LIFECYCLE.migrate}")


def _machine(guest: Guest) -> VirtualBoxMachine:
    machine = guest.machine
    assert isinstance(machine, VirtualBoxMachine)  # noqa: S101 - of a guest with this life
    return machine
