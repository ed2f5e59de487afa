"""A migration from one QEMU to another, over QMP: begun, watched, given up; what it took."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from vbench.contract.guest import Guest, Terms
from vbench.errors import ConnectionLost, GuestError, GuestLost, HostError, LaunchTimeout
from vbench.hypervisors.qemu.machine import QemuMachine
from vbench.records import Clock, Phase

_SWITCH_TIMEOUT_S = 20.0
_PAUSE_S = 0.02
_SIGN_OF_LIFE_S = 5.0
_LAST_WORDS = re.compile(r"(BUG:|Oops|Kernel panic|general protection fault)[^\r\n]*")


def figures(machine: QemuMachine) -> dict[str, Any]:
    return dict(machine.qmp.execute("query-migrate"))


@contextmanager
def with_evidence(*machines: QemuMachine) -> Iterator[None]:
    """Where one of several QEMUs ends, all of them are evidence."""
    try:
        yield
    except GuestLost as error:
        ends = [f"(exit status {each.process.wait(1.0)}) {each.evidence()}" for each in machines]
        raise GuestLost(error.what, evidence="\n".join(ends)) from error


def migrated(
    machine: QemuMachine, target: QemuMachine, channel: str, terms: Terms
) -> dict[str, Any]:
    """What QEMU says of a migration that is over: "completed"; or as it stood when it was given
    up after `terms.limit_s`, and the guest goes on where it was.
    `channel` is where `target` listens, as -incoming takes it. Raises GuestLost, and GuestError for
    a migration that failed: the guest goes on where it was."""
    host = machine.host
    limits = {
        "max-bandwidth": round(terms.bandwidth_mib_s * 2**20),
        "downtime-limit": round(terms.downtime_s * 1000),
    }
    machine.qmp.execute("migrate-set-parameters", limits)
    target.qmp.execute("migrate-incoming", {"uri": channel})
    channel = _found(target, channel)
    machine.qmp.execute("migrate", {"uri": channel})
    began = host.clock()
    while True:
        state = figures(machine)
        if state["status"] == "completed":
            return state
        if state["status"] in ("failed", "cancelled"):
            raise GuestError(
                f"the migration {state['status']}: {state.get('error-desc', 'QEMU says no more')}; "
                "the guest goes on where it was",
                evidence=f"to {channel}\n{target.evidence()}",
            )
        took_s = host.clock() - began
        if took_s > terms.limit_s + _SWITCH_TIMEOUT_S * host.timeout_scale:
            raise GuestLost(f"its migration does not end: QEMU says {state['status']}")
        if took_s > terms.limit_s and state["status"] in ("setup", "active"):
            machine.qmp.execute("migrate_cancel")
            if not _came(lambda: figures(machine)["status"] in ("cancelled", "completed"), machine):
                raise GuestLost(f"its migration does not end: QEMU says {state['status']}")
            last = figures(machine)
            if last["status"] == "completed":
                return last
            _must_answer(target)
            if state["status"] == "setup":
                raise GuestError(
                    f"{host.name} got no connection to {channel}; the guest goes on where it was",
                    remedy="see whether a firewall between them lets TCP pass",
                )
            return state
        time.sleep(_PAUSE_S)


def _found(target: QemuMachine, channel: str) -> str:
    """The channel with the port that QEMU chose."""
    if not channel.startswith("tcp:"):
        return channel
    (where,) = figures(target)["socket-address"]
    return f"{channel.rpartition(':')[0]}:{where['port']}"


def _must_answer(target: QemuMachine) -> None:
    """What did not get through may be no guest's fault. Raises GuestError for a host that is
    gone."""
    try:
        target.host.run(["true"], timeout_s=_SIGN_OF_LIFE_S)
    except (HostError, ConnectionLost) as error:
        raise GuestError(
            f"{target.host.name} does not answer any more; the guest goes on where it was",
            evidence=error.what,
            remedy="check the network and that machine, then run again",
        ) from error


def until_running(machine: QemuMachine) -> None:
    """Raises LaunchTimeout, GuestLost."""
    if not _came(lambda: machine.qmp.execute("query-status")["status"] == "running", machine):
        raise LaunchTimeout("a migrated guest does not go on", evidence=machine.evidence())


def _came(reached: Callable[[], bool], machine: QemuMachine) -> bool:
    """Whether it came true in time."""
    deadline = machine.host.deadline_clock() + _SWITCH_TIMEOUT_S * machine.host.timeout_scale
    while not reached():
        if machine.host.deadline_clock() > deadline:
            return False
        time.sleep(_PAUSE_S)
    return True


def phases(state: Mapping[str, Any]) -> tuple[Phase, ...]:
    """What QEMU's `query-migrate` timed."""
    names = {"total": "total-time", "downtime": "downtime", "setup": "setup-time"}
    return tuple(
        Phase("migration", phase, Clock.HYPERVISOR, state[key] / 1000)
        for phase, key in names.items()
        if key in state
    )


def why_lost(error: GuestError, target: QemuMachine, guest: Guest, accel: str) -> str:
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


def counts(state: Mapping[str, Any]) -> dict[str, float]:
    """What QEMU's `query-migrate` counted."""
    ram = state.get("ram", {})
    found = {
        "sent_mib": ram.get("transferred", 0) / 2**20,
        "left_mib": ram.get("remaining", 0) / 2**20,
        "rounds": ram.get("dirty-sync-count", 0),
    }
    return found if ram else {}
