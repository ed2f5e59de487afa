"""Saving and restoring a domain of libvirt, through virsh."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from vbench.contract.guest import Guest, Migration, Saved, Terms
from vbench.contract.host import Host
from vbench.contract.undo import undone
from vbench.errors import HostError, Unsupported
from vbench.guest.booted import BootedGuest
from vbench.guest.launch import hang_up_at_its_end
from vbench.guest.life import GoingOn, saving
from vbench.hosts.ssh import SshConnection
from vbench.hypervisors.libvirt import network
from vbench.hypervisors.libvirt.domain import Supplied
from vbench.hypervisors.libvirt.machine import LibvirtMachine
from vbench.hypervisors.libvirt.virsh import TIMEOUT_S, end_script
from vbench.records import Clock, Lifecycle, Phase

_STATE, _INITRD = "state", "initrd"
LIFECYCLE = Lifecycle(
    save=None,
    restore=None,
    migrate="libvirt does not migrate a domain to the host that it is on",
    clone="libvirt runs one domain of a name only",
)
# Its connection to a machine that runs; the stack ends it.
LogIn = Callable[[LibvirtMachine, ExitStack], SshConnection]


@dataclass(frozen=True)
class LibvirtLife:
    """How a domain was made, which is how another must be made to go on with it."""

    supplied: Supplied
    log_in: LogIn
    timeout_s: float  # of a first command

    def save(self, guest: Guest, folder: str) -> Saved:
        machine, host, path = _machine(guest), guest.host, f"{folder}/{_STATE}"
        # The memory alone, and the domain goes on; `virsh save` would end it.
        words = ("snapshot-create-as", machine.name, "--no-metadata", "--memspec", f"file={path}")
        keep = ["cp", "--", self.supplied.initrd, f"{folder}/{_INITRD}"]
        with saving(guest, folder, path, f"{folder}/{_INITRD}"):
            if (done := host.run(keep, timeout_s=60)).status != 0:
                raise HostError(f"cannot keep the initramfs in {folder}", evidence=done.stderr)
            disk = next(iter(guest.observed.disks))
            began = host.clock()
            machine.virsh.ask(*words, "--diskspec", f"{disk},snapshot=no")
            saved_s = host.clock() - began
            size = host.run(["stat", "-c", "%s", path], timeout_s=20).stdout
        phases = (Phase("save", "saved", Clock.CLIENT, saved_s),)
        return Saved(guest, folder, phases, {"state_mib": int(size) / 2**20}, self)

    def restore(self, saved: Saved, host: Host) -> BootedGuest:
        machine, kept, host = _machine(saved.guest), saved.how, saved.guest.host
        assert isinstance(kept, LibvirtLife)  # noqa: S101 - whose `save` it is
        virsh, state = machine.virsh, f"{saved.folder}/{_STATE}"
        with GoingOn("restore", saved.guest, host, clone=LIFECYCLE.clone) as again:
            folder = again.folder
            # all that a launch has of its own lies in its folder
            supplied = dataclasses.replace(
                kept.supplied,
                folder=folder,
                initrd=f"{folder}/{_INITRD}",
                console=f"{folder}/console",
            )
            with again.loading():
                xml = virsh.ask("save-image-dumpxml", state)
                xml = xml.replace(kept.supplied.initrd, supplied.initrd)
                xml = xml.replace(kept.supplied.folder, folder)
                host.run(["cp", "--", f"{saved.folder}/{_INITRD}", supplied.initrd], timeout_s=60)
            again.begin()
            end_s = TIMEOUT_S * host.timeout_scale
            again.stack.enter_context(
                undone(host, end_script(virsh.uri, machine.name), timeout_s=end_s)
            )
            with again.loading():
                other = LibvirtMachine(virsh, machine.plan, supplied, state, xml)
            again.stack.callback(other.close)
            again.watch.reached("loaded")
            if supplied.tap and (measuring := network.usable(virsh)):
                network.place(host, measuring, supplied.tap)
            life = dataclasses.replace(kept, supplied=supplied)
            ssh = kept.log_in(other, again.stack)
            guest = again.guest(other, ssh, life, timeout_s=kept.timeout_s)
        hang_up_at_its_end(guest.shell)
        return guest

    def migrate(self, guest: Guest, host: Host, terms: Terms) -> Migration:
        raise Unsupported(f"its guests have no migrate: {LIFECYCLE.migrate}")


def _machine(guest: Guest) -> LibvirtMachine:
    machine = guest.machine
    assert isinstance(machine, LibvirtMachine)  # noqa: S101 - of a guest with this life
    return machine
