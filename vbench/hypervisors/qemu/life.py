"""Saving, restoring and migrating a QEMU guest, over QMP alone: the same on every host."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from vbench.contract.guest import Guest, Migration, Saved, Terms
from vbench.contract.host import Host
from vbench.errors import (
    GuestError,
    GuestLost,
    HostError,
    LaunchError,
    LaunchTimeout,
    Unsupported,
)
from vbench.guest.booted import BootedGuest
from vbench.guest.launch import LaunchKeys, log_in
from vbench.guest.life import GoingOn, saving
from vbench.hosts.pinning import Placement
from vbench.hosts.ssh import SshConnection
from vbench.hypervisors.qemu import nics
from vbench.hypervisors.qemu.cmdline import GuestSpec, argv
from vbench.hypervisors.qemu.machine import QemuMachine
from vbench.records import Clock, Phase

_STATE, _INITRD, _TAG = "state.qcow2", "initrd", "vbench"
# Room for the headers of the file: memory is appended, however large.
_DISK_BYTES = 1 << 20
# Some hundred times what saving or loading 512 MiB takes; it is written to a real disk.
_JOB_TIMEOUT_S = 60.0
_SWITCH_TIMEOUT_S = 20.0
_PAUSE_S = 0.02
_LAST_WORDS = re.compile(r"(BUG:|Oops|Kernel panic|general protection fault)[^\r\n]*")
# Linux takes no longer path of a socket (unix(7)).
_PATH_MAX = 107


@dataclass(frozen=True)
class QemuLife:
    """How a guest's QEMU was called, which is how another must be called to go on with it."""

    spec: GuestSpec
    places: Placement
    keys: LaunchKeys
    timeout_s: float  # of a boot

    def save(self, guest: Guest, folder: str) -> Saved:
        machine = _machine(guest)
        host, path = guest.host, f"{folder}/{_STATE}"
        with saving(guest, folder, path, f"{folder}/{_INITRD}"):
            kept = self._kept(host, folder)
            host.write(path, b"")
            with _node(machine, "vbenchfile", {"driver": "file", "filename": path}):
                options = {"driver": "qcow2", "file": "vbenchfile", "size": _DISK_BYTES}
                _job(machine, "blockdev-create", {"options": options})
            with _state(machine, path):
                before, began = len(machine.qmp.stops()), host.clock()
                _job(machine, "snapshot-save", _SNAPSHOT)
                saved_s = host.clock() - began
                state_bytes = _state_bytes(machine)
        phases = [Phase("save", "saved", Clock.CLIENT, saved_s)]
        phases += _stopped("save", machine.qmp.stops()[before:])
        return Saved(guest, folder, tuple(phases), {"state_mib": state_bytes / 2**20}, kept)

    def restore(self, saved: Saved, host: Host) -> BootedGuest:
        kept = saved.how
        assert isinstance(kept, QemuLife)  # noqa: S101 - whose `save` it is
        with GoingOn("restore", saved.guest, host, clone=None) as again:
            here = kept._kept(host, again.folder)._at(host)
            again.begin()
            machine = here._start(host, "-S")
            again.stack.callback(machine.close)
            again.watch.reached("started")
            with again.loading(machine), _state(machine, f"{saved.folder}/{_STATE}"):
                _job(machine, "snapshot-load", _SNAPSHOT)
            again.watch.reached("loaded")
            machine.resume()
            ssh = here._logged_in(host, machine, again.stack)
            return again.guest(machine, ssh, here, timeout_s=here.timeout_s / 2)

    def migrate(self, guest: Guest, host: Host, terms: Terms) -> Migration:
        machine = _machine(guest)
        if host.name != guest.host.name:
            raise Unsupported(f"vbench does not migrate from {guest.host.name} to {host.name}")
        with GoingOn("migration", guest, host, clone=None) as again:
            channel = f"{again.folder}/channel"
            if len(channel) > _PATH_MAX:
                raise HostError(
                    f"{channel} is too long for a socket", remedy="set VBENCH_TMP to a shorter path"
                )
            there = self._kept(host, again.folder)._at(host)
            target = there._start(host, "-incoming", "defer")
            again.stack.callback(target.close)
            with _with_evidence(machine, target):
                state = _migrated(machine, target, f"unix:{channel}", terms)
                if state["status"] != "completed":
                    return Migration(None, (), _counts(state))
            phases = _phases(state)
            try:
                _until_running(target)
                ssh = there._logged_in(host, target, again.stack)
                gone_on = again.guest(target, ssh, there, timeout_s=there.timeout_s / 2)
            except (LaunchError, GuestLost) as error:
                guest.close()  # it is nowhere else
                why = _why_lost(error, target, guest, self.spec.accel)
                return Migration(None, phases, _counts(state), why)
        try:
            guest.close()
        except BaseException:  # Ctrl-C: nobody else knows of it yet
            gone_on.close()
            raise
        return Migration(gone_on, phases, _counts(state))

    def _kept(self, host: Host, folder: str) -> QemuLife:
        """With the launch's initramfs in `folder`: a later QEMU reads it again, and the launch's
        own goes with its guest. Raises HostError."""
        kept = f"{folder}/{_INITRD}"
        link = ["sh", "-c", 'ln -- "$1" "$2" || cp -- "$1" "$2"', "keep", self.spec.initrd, kept]
        done = host.run(link, timeout_s=60)
        if done.status != 0:
            raise HostError(f"cannot keep {self.spec.initrd} in {folder}", evidence=done.stderr)
        return dataclasses.replace(self, spec=dataclasses.replace(self.spec, initrd=kept))

    def _at(self, host: Host) -> QemuLife:
        cards = nics.moved(self.spec.nics, host.network())
        return dataclasses.replace(self, spec=dataclasses.replace(self.spec, nics=cards))

    def _start(self, host: Host, *how: str) -> QemuMachine:
        """Another QEMU, built alike. Raises LaunchError."""
        line = [*argv(self.spec), *how]
        return QemuMachine(host, line, host.network(), self.places)

    def _logged_in(self, host: Host, machine: QemuMachine, stack: ExitStack) -> SshConnection:
        """Raises LaunchTimeout."""
        port, limit_s = machine.forwarded_port(22), self.timeout_s / 2
        ssh = log_in(host, "127.0.0.1", port, self.keys, timeout_s=limit_s, machine=machine)
        stack.callback(ssh.close)
        return ssh


_SNAPSHOT = {"tag": _TAG, "vmstate": "vbenchstate", "devices": ["vbenchstate"]}


def _machine(guest: Guest) -> QemuMachine:
    machine = guest.machine
    assert isinstance(machine, QemuMachine)  # noqa: S101 - of a guest with this life
    return machine


@contextmanager
def _node(machine: QemuMachine, name: str, options: Mapping[str, object]) -> Iterator[None]:
    """A block node while the context lasts: a closed file is free for another QEMU."""
    machine.qmp.execute("blockdev-add", {"node-name": name, **options})
    try:
        yield
    finally:
        if machine.alive:
            with suppress(GuestError):  # the first error is the one to be told
                machine.qmp.execute("blockdev-del", {"node-name": name})


@contextmanager
def _state(machine: QemuMachine, path: str) -> Iterator[None]:
    """The file of a saved state, open in a QEMU while the context lasts."""
    file = {"driver": "file", "filename": path}
    with _node(machine, "vbenchstate", {"driver": "qcow2", "file": file}):
        yield


def _job(machine: QemuMachine, command: str, arguments: Mapping[str, object]) -> None:
    """Run a job of QEMU to its end. Raises GuestError in its words, GuestLost."""
    name = "vbench"
    machine.qmp.execute(command, {"job-id": name, **arguments})
    deadline = machine.host.deadline_clock() + _JOB_TIMEOUT_S * machine.host.timeout_scale
    while True:
        (job,) = [each for each in machine.qmp.execute("query-jobs") if each["id"] == name]
        if job["status"] == "concluded":
            break
        if machine.host.deadline_clock() > deadline:
            raise GuestError(f"QEMU's {command} did not end within {_JOB_TIMEOUT_S:g} s")
        time.sleep(_PAUSE_S)
    machine.qmp.execute("job-dismiss", {"id": name})
    if "error" in job:
        raise GuestError(f"QEMU's {command} failed: {job['error']}")


def _state_bytes(machine: QemuMachine) -> int:
    """Size of the saved machine, as QEMU says it."""
    for node in machine.qmp.execute("query-named-block-nodes"):
        for snapshot in node["image"].get("snapshots", ()):
            if snapshot["name"] == _TAG:
                return int(snapshot["vm-state-size"])
    raise GuestError("QEMU does not list the state that it saved")


def _stopped(operation: str, events: list[tuple[str, float]]) -> list[Phase]:
    """How long QEMU's own events say that the guest stood still."""
    stops = [at for name, at in events if name == "STOP"]
    resumes = [at for name, at in events if name == "RESUME"]
    if not stops or not resumes or resumes[-1] < stops[0]:
        return []
    return [Phase(operation, "downtime", Clock.HYPERVISOR, resumes[-1] - stops[0])]


def _asked(machine: QemuMachine) -> dict[str, Any]:
    return dict(machine.qmp.execute("query-migrate"))


@contextmanager
def _with_evidence(*machines: QemuMachine) -> Iterator[None]:
    """Where one of several QEMUs ends, all of them are evidence."""
    try:
        yield
    except GuestLost as error:
        ends = [f"(exit status {each.process.wait(1.0)}) {each.evidence()}" for each in machines]
        raise GuestLost(error.what, evidence="\n".join(ends)) from error


def _migrated(
    machine: QemuMachine, target: QemuMachine, channel: str, terms: Terms
) -> dict[str, Any]:
    """What QEMU says of a migration that is over: "completed", or as it stood when it was given up
    after `terms.limit_s`; the guest goes on where it was then. Raises GuestLost, and GuestError for
    a migration that failed."""
    host = machine.host
    limits = {
        "max-bandwidth": round(terms.bandwidth_mib_s * 2**20),
        "downtime-limit": round(terms.downtime_s * 1000),
    }
    machine.qmp.execute("migrate-set-parameters", limits)
    target.qmp.execute("migrate-incoming", {"uri": channel})
    machine.qmp.execute("migrate", {"uri": channel})
    began = host.clock()
    while True:
        state = _asked(machine)
        if state["status"] == "completed":
            time.sleep(0.05)  # its figures come a little later than that word
            return _asked(machine)
        if state["status"] in ("failed", "cancelled"):
            raise GuestError(
                f"the migration {state['status']}: {state.get('error-desc', 'QEMU says no more')}; "
                "the guest goes on where it was",
                evidence=target.evidence(),
            )
        took_s = host.clock() - began
        if took_s > terms.limit_s + _SWITCH_TIMEOUT_S * host.timeout_scale:
            raise GuestLost(f"its migration does not end: QEMU says {state['status']}")
        if took_s > terms.limit_s and state["status"] == "active":
            machine.qmp.execute("migrate_cancel")
            _until(lambda: _asked(machine)["status"] in ("cancelled", "completed"), machine)
            last = _asked(machine)
            return last if last["status"] == "completed" else state
        time.sleep(_PAUSE_S)


def _until_running(machine: QemuMachine) -> None:
    _until(lambda: machine.qmp.execute("query-status")["status"] == "running", machine)


def _until(reached: Any, machine: QemuMachine) -> None:
    deadline = machine.host.deadline_clock() + _SWITCH_TIMEOUT_S * machine.host.timeout_scale
    while not reached():
        if machine.host.deadline_clock() > deadline:
            raise LaunchTimeout("a migrated guest does not go on", evidence=machine.evidence())
        time.sleep(_PAUSE_S)


def _phases(state: Mapping[str, Any]) -> tuple[Phase, ...]:
    """What QEMU's `query-migrate` timed."""
    names = {"total": "total-time", "downtime": "downtime", "setup": "setup-time"}
    return tuple(
        Phase("migration", phase, Clock.HYPERVISOR, state[key] / 1000)
        for phase, key in names.items()
        if key in state
    )


def _why_lost(error: GuestError, target: QemuMachine, guest: Guest, accel: str) -> str:
    """What its console tells, and the fault of QEMU that it may be."""
    words = _LAST_WORDS.search(target.console())
    why = f"the guest does not answer after its migration ({words[0] if words else error.what})"
    major = guest.versions.get("qemu", "").partition(".")[0]
    if accel.startswith("tcg") and major.isdecimal() and int(major) < 9:
        why += (
            ". QEMU before 9.0 misses writes of translated guests that migrate (its change "
            "'physmem: Fix migration dirty bitmap coherency with TCG memory access')"
        )
    return why


def _counts(state: Mapping[str, Any]) -> dict[str, float]:
    """What QEMU's `query-migrate` counted."""
    ram = state.get("ram", {})
    found = {
        "sent_mib": ram.get("transferred", 0) / 2**20,
        "left_mib": ram.get("remaining", 0) / 2**20,
        "rounds": ram.get("dirty-sync-count", 0),
    }
    return found if ram else {}
