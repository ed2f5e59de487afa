"""Saving, restoring and migrating a QEMU guest, over QMP alone: the same on every host."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from vbench.contract.guest import SERVER_PORT, Endpoint, Guest, Migration, Saved, Terms
from vbench.contract.host import Host
from vbench.errors import (
    GuestError,
    GuestLost,
    HostError,
    LaunchError,
)
from vbench.guest.booted import BootedGuest
from vbench.guest.launch import LaunchKeys, log_in
from vbench.guest.life import GoingOn, saving
from vbench.hosts.pinning import Placement
from vbench.hosts.ssh import SshConnection
from vbench.hypervisors.qemu import elsewhere, migration, nics
from vbench.hypervisors.qemu.bundle import Binary
from vbench.hypervisors.qemu.cmdline import GuestSpec, argv
from vbench.hypervisors.qemu.machine import QemuMachine
from vbench.model import ImageFiles
from vbench.records import Clock, Phase

_STATE, _INITRD, _TAG = "state.qcow2", "initrd", "vbench"
# Room for the headers of the file: memory is appended, however large.
_DISK_BYTES = 1 << 20
# Some hundred times what saving or loading 512 MiB takes; it is written to a real disk.
_JOB_TIMEOUT_S = 60.0
_PAUSE_S = 0.02
# Linux takes no longer path of a socket (unix(7)).
_PATH_MAX = 107


@dataclass(frozen=True)
class Built:
    """What a launch on one host is made of. `early`: what the guest is told to run first there."""

    files: ImageFiles
    qemu: Binary
    spec: GuestSpec
    places: Placement
    early: str


@dataclass(frozen=True)
class QemuLife:
    """How a guest's QEMU was called, which is how another must be called to go on with it. `build`
    makes the same of another host, with the launch's own files in a folder there."""

    spec: GuestSpec
    places: Placement
    keys: LaunchKeys
    timeout_s: float  # of a boot
    build: Callable[[Host, str], Built]

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
            limit_s, endpoint = here.timeout_s / 2, here._endpoint(saved.guest, machine)
            return again.guest(machine, ssh, here, timeout_s=limit_s, endpoint=endpoint)

    def migrate(self, guest: Guest, host: Host, terms: Terms) -> Migration:
        machine, near = _machine(guest), host.name == guest.host.name
        with GoingOn("migration", guest, host, clone=None) as again:
            there, channel, changes = (self._near if near else self._far)(guest, host, again)
            target = there._start(host, "-incoming", "defer")
            again.stack.callback(target.close)
            with ExitStack() as stack:
                stack.enter_context(migration.with_evidence(machine, target))
                if not near:
                    stack.enter_context(elsewhere.locked(machine, target, again.folder))
                state = migration.migrated(machine, target, channel, terms)
                if state["status"] != "completed":
                    return Migration(None, (), migration.counts(state))
            try:
                migration.until_running(target)
                changes["endpoint"] = there._endpoint(guest, target)
                terms.arrived(host, None if there._tap else changes["endpoint"].port)
                state = migration.figures(machine)  # they come a little later than the word
                ssh = there._logged_in(host, target, again.stack)
                limit_s = there.timeout_s / 2
                gone_on = again.guest(target, ssh, there, timeout_s=limit_s, **changes)
            except (LaunchError, GuestLost) as error:
                guest.close()  # it is nowhere else
                why = migration.why_lost(error, target, guest, self.spec.accel)
                return Migration(None, migration.phases(state), migration.counts(state), why)
        try:
            guest.close()
        except BaseException:  # Ctrl-C: nobody else knows of it yet
            gone_on.close()
            raise
        return Migration(gone_on, migration.phases(state), migration.counts(state))

    def _near(
        self, guest: Guest, host: Host, again: GoingOn
    ) -> tuple[QemuLife, str, dict[str, Any]]:
        """The life of a guest that goes on at another port of its host, where its QEMU is to
        listen, and what changes of the guest. Raises HostError."""
        del guest
        channel = f"{again.folder}/channel"
        if len(channel) > _PATH_MAX:
            raise HostError(
                f"{channel} is too long for a socket", remedy="set VBENCH_TMP to a shorter path"
            )
        return self._kept(host, again.folder)._at(host), f"unix:{channel}", {}

    def _far(
        self, guest: Guest, host: Host, again: GoingOn
    ) -> tuple[QemuLife, str, dict[str, Any]]:
        """The same on another host. Raises Unsupported, LaunchError."""
        built = self.build(host, again.folder)
        elsewhere.check(guest, self.spec, host, built.spec, built.qemu)
        there = dataclasses.replace(self, spec=built.spec, places=built.places)
        return there, elsewhere.listening(host), {"reference": host, "image": built.files}

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

    @property
    def _tap(self) -> bool:
        """Whether it has a card on a network of its host's, beside QEMU's own."""
        return len(self.spec.nics) > 1

    def _endpoint(self, guest: Guest, machine: QemuMachine) -> Endpoint:
        """Where its server is reached in another QEMU."""
        if self._tap:
            return guest.endpoint
        return dataclasses.replace(guest.endpoint, port=machine.forwarded_port(SERVER_PORT))

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
