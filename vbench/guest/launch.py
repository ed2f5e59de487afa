"""A running guest: a machine (QEMU, or a Xen domain) and one SSH connection into it."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Protocol

import vbench
from vbench.contract.host import Host
from vbench.errors import ConnectionLost, GuestLost, LaunchError, LaunchTimeout, WorkloadTimeout
from vbench.guest.target import Endpoint, clean_argv, parse_facts
from vbench.hosts.connection import read_line
from vbench.hosts.keys import KeyPair
from vbench.hosts.ssh import SshConnection
from vbench.image import cpio
from vbench.model import ImageFiles, Launch, Output
from vbench.system.process import KILLED_STATUSES

# Added to a workload's own deadline for the guest's `timeout` to act and report.
_GRACE_S = 10.0
# Between the end of a machine's connections and its own.
_DYING_S = 1.0

# busybox' `timeout` ends one process only; what that started is in the same session, which has
# `timeout`'s number. The login shell stays: SSH has no exit status for what a signal ended.
# Standard input is handed on by number, since a shell gives its background /dev/null.
_TIMED = (
    "exec 3<&0; setsid timeout -s KILL {limit_s} {command} <&3 3<&- & "
    "wait $!; s=$?; case $s in 124|137|143) kill -KILL -- -$! 2>/dev/null;; esac; exit $s"
)

# What the guest sees of itself. One command, because every one costs a round trip.
_OBSERVE = r"""
echo "kernel=$(uname -r)"
echo "early=$(cat /etc/early.out 2>/dev/null)"
echo "clocksource=$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
echo "cpu_model=$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n1)"
echo "vcpus=$(grep -c ^processor /proc/cpuinfo)"
echo "memory_kib=$(sed -n 's/^MemTotal: *\([0-9]*\).*/\1/p' /proc/meminfo)"
grep -qw hypervisor /proc/cpuinfo && echo cpuid_hypervisor=yes || echo cpuid_hypervisor=no
echo "hypervisor=$(dmesg | sed -n 's/.*Hypervisor detected: //p' | head -n1)"
echo "xen=$(cat /sys/hypervisor/type 2>/dev/null) $(cat /sys/hypervisor/guest_type 2>/dev/null)"
m=; for f in /sys/devices/system/cpu/vulnerabilities/*; do
  m="$m${f##*/}: $(cat "$f"); "; done; echo "mitigations=$m"
driver() { # climb from a device to the first driver of a real bus
  d=$(readlink -f "$1")
  while [ "$d" != / ]; do
    if [ -e "$d/driver" ]; then n=$(readlink "$d/driver"); n=${n##*/}
      case $n in sd|virtio-pci) ;; *) echo "$n"; return;; esac
    fi; d=${d%/*}; d=${d:-/}
  done; echo none; }
disks=; for b in /sys/block/*; do n=${b##*/}
  case $n in ram*|loop*) ;; *) disks="$disks$n:$(driver "$b/device") ";; esac; done
echo "disks=$disks"
nics=; for b in /sys/class/net/*; do n=${b##*/}
  [ -e "$b/device" ] && nics="$nics$n:$(driver "$b/device") "; done
echo "nics=$nics"
"""


class Machine(Protocol):
    """What runs the guest: its life, its console, what it costs the host."""

    argv: tuple[str, ...]
    whole_host: bool  # whether `usage` is of all that runs on the host

    def evidence(self) -> str:
        """The command line and the last lines of the console."""

    def console(self) -> str: ...

    def wait_ready(self, timeout_s: float) -> Mapping[str, float]:
        """Wait for the ready line. Raises LaunchError."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def usage(self) -> Mapping[str, float]:
        """Monotonic seconds: host_cpu_s, and what else is known. Raises GuestLost."""

    @property
    def alive(self) -> bool: ...

    def query(self, command: str, arguments: Mapping[str, object] | None = None) -> Any:
        """A QMP query; None where there is no QMP."""

    def close(self) -> None: ...


class Guest:
    """A guest that is ready for commands; a context manager that ends it."""

    def __init__(
        self,
        *,
        machine: Machine,
        ssh: SshConnection,
        cleanup: ExitStack,
        endpoint: Endpoint,
        observed: Mapping[str, str],
        boot_times_s: Mapping[str, float],
        image: ImageFiles,
        device: Mapping[str, str],
        versions: Mapping[str, str],
        host: Host,
    ) -> None:
        self.machine = machine
        self.host = host
        # argv prefix of a client beside it on its host; None: only a forwarded port leads there
        self.peer_prefix: tuple[str, ...] | None = None
        self.image = image
        self.endpoint = endpoint
        self.observed = observed
        self.boot_times_s = boot_times_s
        self.device = device
        self.versions = versions
        self._ssh = ssh
        self._cleanup = cleanup

    def run(self, command: str, *, timeout_s: float, stdin: bytes = b"") -> Output:
        """Run a shell command to its end.

        The guest's own `timeout` ends what is late, so that nothing goes on behind our back.
        Raises WorkloadTimeout (the guest is well), GuestLost (it is not).
        """
        clean = shlex.join(clean_argv(command))
        wrapped = _TIMED.format(limit_s=max(1, round(timeout_s)), command=clean)
        began = time.monotonic()
        try:
            scaled_timeout_s = timeout_s * self.host.timeout_scale + _GRACE_S
            output = self._ssh.run(wrapped, timeout_s=scaled_timeout_s, stdin=stdin)
        except ConnectionLost as error:
            raise self.lost(error.what) from error
        except WorkloadTimeout as error:
            raise self.lost("the guest does not answer") from error
        if output.status in KILLED_STATUSES and time.monotonic() - began >= timeout_s - 1:
            raise WorkloadTimeout(
                f"a command in the guest did not end within {timeout_s:g} s", evidence=command
            )
        return output

    def interact(self, terminal: str) -> int:
        """A shell on our own terminal; returns its exit status."""
        try:
            return self._ssh.interact(terminal)
        except ConnectionLost as error:
            raise self.lost(error.what) from error

    def lost(self, why: str) -> GuestLost:
        """The error that says how this guest was lost, with the console's last lines."""
        # A dying machine closes its connections first. Its log is whole once it has ended.
        deadline = time.monotonic() + _DYING_S
        while self.machine.alive and time.monotonic() < deadline:
            time.sleep(0.01)
        text = self.machine.console()
        if "Kernel panic" in text:
            why = "the guest's kernel panicked"
        elif not self.machine.alive:
            why = "the guest's machine ended"
        return GuestLost(why, evidence=self.machine.evidence())

    @contextmanager
    def server(self, command: str) -> Iterator[None]:
        """Keep `command` running in the guest while the context lasts."""
        try:
            # a session of its own, so that all of it can be ended by one signal
            inner = shlex.join(clean_argv(f"echo $$; exec {command}"))
            running = self._ssh.start(f"exec setsid {inner}")
        except ConnectionLost as error:
            raise self.lost(f"cannot start a server: {error.what}") from error
        pid = read_line(running, 20.0 * self.host.timeout_scale).decode(errors="replace").strip()
        if not pid:
            raise self.lost("cannot start a server: the guest does not answer")
        try:
            yield
        finally:
            if self.alive:
                self.run(f"kill -- -{pid} 2>/dev/null || true", timeout_s=10)
            running.close()

    @property
    def ssh(self) -> SshConnection:
        """Its one connection, for a guest that is a host itself."""
        return self._ssh

    @property
    def alive(self) -> bool:
        return self._ssh.alive and self.machine.alive

    def at_end(self, undo: Callable[[], None]) -> None:
        """Call `undo` when the guest has been ended, last of all."""
        inner, self._cleanup = self._cleanup, ExitStack()
        self._cleanup.callback(undo)
        self._cleanup.callback(inner.close)

    def close(self) -> None:
        """End the guest and everything made for it. Safe to repeat."""
        self._cleanup.close()

    def __enter__(self) -> Guest:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def view(self) -> dict[str, str]:
        """What it said of itself once it was up, as evidence of an attestation."""
        seen = self.observed
        return {
            "guest: hypervisor": seen.get("hypervisor", "") or "none detected",
            "guest: CPUID hypervisor bit": seen.get("cpuid_hypervisor", ""),
            "guest: clocksource": seen.get("clocksource", ""),
            "disk driver": seen.get("disks", ""),
            "network driver": seen.get("nics", ""),
            "kernel": seen.get("kernel", ""),
            "cpu": seen.get("cpu_model", ""),
        }

    def launch_record(self, *, id: str, variant: str, boot: int, attestation: Any) -> Launch:
        """The provenance of this launch."""
        return Launch(
            id=id,
            variant=variant,
            boot=boot,
            argv=self.machine.argv,
            versions={**self.versions, "vbench": vbench.__version__},
            image=self.image.digest,
            kernel=self.observed.get("kernel", ""),
            attestation=attestation,
            boot_times_s=self.boot_times_s,
            guest_facts=self.observed,
            device=self.device,
        )


def launch_archive(authorized: KeyPair, host_key: KeyPair, early: str) -> bytes:
    """A cpio archive with this launch's keys, a random seed, and a shell script to run before any
    driver is loaded; the kernel unpacks it after the image's own."""
    return cpio.archive(
        [
            *([cpio.file("etc/early", early.encode(), 0o600)] if early else []),
            cpio.directory("root/.ssh", 0o700),
            cpio.directory("etc/dropbear", 0o700),
            cpio.file("root/.ssh/authorized_keys", authorized.authorized_line.encode(), 0o600),
            cpio.file("etc/dropbear/dropbear_ed25519_host_key", host_key.dropbear_private(), 0o600),
            cpio.file("etc/seed", os.urandom(32), 0o600),
        ]
    )


def bring_up(
    *,
    host: Host,
    image: ImageFiles,
    start: Callable[[str], Machine],
    reach: Callable[[Machine], tuple[str, int]],
    endpoint: Endpoint,
    device: Mapping[str, str],
    versions: Mapping[str, str],
    boot_timeout_s: float,
    early: str = "",
) -> Guest:
    """Launch to first command, the same way for every backend.

    `start` gets the path of the initramfs (with this run's keys) and starts the machine;
    `reach` says where its SSH answers, as seen from the host; `early` are shell commands for the
    guest before it loads drivers, whose output is in `observed["early"]`. Raises LaunchError, or
    LaunchTimeout, with the console's last lines; whatever was started is ended.
    """
    with ExitStack() as stack:
        workdir = stack.enter_context(host.workdir())
        own_key, host_key = KeyPair.generate(), KeyPair.generate()
        keys, initrd = f"{workdir}/keys", f"{workdir}/initrd"
        host.write(keys, launch_archive(own_key, host_key, early))
        join = 'umask 077; cat "$1" "$2" > "$3"'
        joined = host.run(["sh", "-c", join, "join", image.initramfs, keys, initrd], timeout_s=60)
        if joined.status != 0:
            raise LaunchError("cannot write the guest's initramfs", evidence=joined.stderr)
        began = host.clock()
        machine = start(initrd)
        stack.callback(machine.close)
        ready = machine.wait_ready(boot_timeout_s * host.timeout_scale)
        ready_s = host.clock() - began
        address, port = reach(machine)
        try:
            ssh = SshConnection.open(
                host.connect(address, port, timeout_s=20),
                name="the guest",
                user="root",
                key=own_key,
                host_key=host_key,
                timeout_s=max(20.0, boot_timeout_s / 2) * host.timeout_scale,
            )
        except ConnectionLost as error:
            raise LaunchTimeout(error.what, evidence=machine.evidence()) from error
        stack.callback(ssh.close)
        guest = Guest(
            machine=machine,
            ssh=ssh,
            cleanup=ExitStack(),
            endpoint=endpoint,
            observed={},
            boot_times_s={},
            image=image,
            device=device,
            versions=versions,
            host=host,
        )
        guest.observed = parse_facts(guest.run(_OBSERVE, timeout_s=60).stdout)
        guest.boot_times_s = {
            "launch_to_ready": ready_s,
            "launch_to_command": host.clock() - began,
            **{f"kernel_to_{key}": value for key, value in ready.items()},
        }
        guest._cleanup = stack.pop_all()
        return guest
