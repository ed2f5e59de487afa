"""Saving and restoring a Xen domain, through xl in dom0."""

from __future__ import annotations

import secrets
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace

from vbench.contract.guest import Guest, Migration, Saved, Terms
from vbench.contract.host import Host
from vbench.errors import ConnectionLost, GuestError, HostError, LaunchError, Unsupported
from vbench.guest.booted import BootedGuest
from vbench.guest.launch import LaunchKeys, hang_up_at_its_end, log_in
from vbench.guest.shell import GuestShell
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
        try:
            with machine.suspended():
                began = host.clock()
                done = host.run(command, timeout_s=_SAVE_TIMEOUT_S)
                saved_s = host.clock() - began
            if done.status != 0:
                room = host.run(["df", "-h", folder], timeout_s=20).stdout
                raise GuestError(
                    f"xl save failed (exit status {done.status})",
                    evidence=f"{done.stderr}\n{room}",
                    remedy="see whether that disk is full: it must hold all memory of the guest",
                )
            size = host.run(["stat", "-c", "%s", path], timeout_s=20).stdout
        except (GuestError, HostError):
            with suppress(HostError, ConnectionLost):
                host.run(["rm", "-f", "--", path], timeout_s=20)
            raise
        phases = (Phase("save", "saved", Clock.CLIENT, saved_s),)
        return Saved(guest, folder, phases, {"state_mib": int(size) / 2**20}, self)

    def restore(self, saved: Saved, host: Host) -> BootedGuest:
        was, kept = saved.guest, saved.how
        assert isinstance(was, BootedGuest)  # noqa: S101 - what Xen's backends launch
        assert isinstance(kept, XenLife)  # noqa: S101 - whose `save` it is
        if was.alive:
            raise Unsupported(f"its guests have no clone: {LIFECYCLE.clone}")
        del host  # all domains are on one bridge, that of dom0
        dom0, phases = was.host, list[Phase]()
        with ExitStack() as stack:
            folder = stack.enter_context(dom0.workdir())
            spec = replace(kept.spec, name=f"vbench-{secrets.token_hex(4)}")
            began = dom0.clock()

            def reached(phase: str) -> None:
                phases.append(Phase("restore", phase, Clock.CLIENT, dom0.clock() - began))

            machine = XlMachine(
                dom0,
                spec.name,
                xl_config(spec),
                f"{folder}/config",
                kept.probe,
                f"{saved.folder}/{_STATE}",
            )
            stack.callback(machine.close)
            reached("loaded")
            ssh = log_in(
                dom0,
                was.endpoint.address,
                22,
                kept.keys,
                timeout_s=_COMMAND_TIMEOUT_S,
                machine=machine,
            )
            stack.callback(ssh.close)
            shell = GuestShell(machine, ssh, dom0)
            first = shell.run("true", timeout_s=_COMMAND_TIMEOUT_S)
            if first.status != 0:
                raise LaunchError("the guest's first command failed", evidence=first.stderr)
            reached("command")
            guest = replace(
                was, shell=shell, phases=tuple(phases), life=kept, cleanup=stack.pop_all()
            )
        hang_up_at_its_end(shell)
        return guest

    def migrate(self, guest: Guest, host: Host, terms: Terms) -> Migration:
        raise Unsupported(f"its guests have no migrate: {LIFECYCLE.migrate}")


def _machine(guest: Guest) -> XlMachine:
    machine = guest.machine
    assert isinstance(machine, XlMachine)  # noqa: S101 - of a guest with this life
    return machine
