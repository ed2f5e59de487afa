"""Saving and restoring a Xen domain, through xl in dom0."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace

from vbench.contract.guest import Guest, Migration, Saved, Terms
from vbench.contract.host import Host
from vbench.errors import GuestError, Unsupported
from vbench.guest.booted import BootedGuest
from vbench.guest.launch import LaunchKeys, hang_up_at_its_end, log_in
from vbench.guest.life import GoingOn, saving
from vbench.hypervisors.xen.config import XlSpec, xl_config
from vbench.hypervisors.xen.machine import XlMachine
from vbench.records import Clock, Lifecycle, Phase

_STATE = "state"
# Some fifty times what 512 MiB take.
_SAVE_TIMEOUT_S = 60.0
_COMMAND_TIMEOUT_S = 45.0
LIFECYCLE = Lifecycle(
    save=None,
    restore=None,
    migrate="vbench does not migrate Xen's domains",
    clone="its domains have one address: only one of them can run",
)


@dataclass(frozen=True)
class XenLife:
    """How a domain was made, which is how another must be made to go on with it."""

    spec: XlSpec
    keys: LaunchKeys
    probe: str  # path of vbench-probe in dom0

    def save(self, guest: Guest, folder: str) -> Saved:
        machine, host, path = _machine(guest), guest.host, f"{folder}/{_STATE}"
        # -c: it goes on afterwards
        command = ["xl", "save", "-c", str(machine.domid), path]
        with saving(guest, folder, path):
            with machine.suspended():
                began = host.clock()
                done = host.run(command, timeout_s=_SAVE_TIMEOUT_S)
                saved_s = host.clock() - began
            if done.status != 0:
                what = f"xl save failed (exit status {done.status})"
                raise GuestError(what, evidence=done.stderr)
            size = host.run(["stat", "-c", "%s", path], timeout_s=20).stdout
        phases = (Phase("save", "saved", Clock.CLIENT, saved_s),)
        return Saved(guest, folder, phases, {"state_mib": int(size) / 2**20}, self)

    def restore(self, saved: Saved, host: Host) -> BootedGuest:
        del host  # all domains are on one bridge, that of dom0
        kept, dom0 = saved.how, saved.guest.host
        assert isinstance(kept, XenLife)  # noqa: S101 - whose `save` it is
        with GoingOn("restore", saved.guest, dom0, clone=LIFECYCLE.clone) as again:
            spec = replace(kept.spec, name=f"vbench-{secrets.token_hex(4)}")
            again.begin()
            with again.loading():
                machine = XlMachine(
                    dom0,
                    spec.name,
                    xl_config(spec),
                    f"{again.folder}/config",
                    kept.probe,
                    f"{saved.folder}/{_STATE}",
                )
            again.stack.callback(machine.close)
            again.watch.reached("loaded")
            ssh = log_in(
                dom0,
                saved.guest.endpoint.address,
                22,
                kept.keys,
                timeout_s=_COMMAND_TIMEOUT_S,
                machine=machine,
            )
            again.stack.callback(ssh.close)
            guest = again.guest(machine, ssh, kept, timeout_s=_COMMAND_TIMEOUT_S)
        hang_up_at_its_end(guest.shell)
        return guest

    def migrate(self, guest: Guest, host: Host, terms: Terms) -> Migration:
        raise Unsupported(f"its guests have no migrate: {LIFECYCLE.migrate}")


def _machine(guest: Guest) -> XlMachine:
    machine = guest.machine
    assert isinstance(machine, XlMachine)  # noqa: S101 - of a guest with this life
    return machine
