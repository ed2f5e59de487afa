"""What a workload runs on: a guest or native, with the same commands and the same words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from vbench.contract.host import Host, HostProcess, Scratch
from vbench.errors import (
    UNSUPPORTED_STATUS,
    HostFlood,
    HostTimeout,
    Unsupported,
    WorkloadError,
    WorkloadTimeout,
)
from vbench.model import ImageFiles, Output

SCRATCH_IN_ROOT = "/scratch/disk"
NATIVE_PORT = 5201


@dataclass(frozen=True)
class Endpoint:
    """Where a command finds what it needs on its target."""

    scratch: str  # the disk under test: a block device or file
    scratch_offset_mib: int  # the region that this side may use in this round
    scratch_size_mib: int
    address: str  # where a client reaches this target's server
    port: int
    vcpus: int


class Target(Protocol):
    """A guest or native."""

    endpoint: Endpoint

    def run(self, command: str, *, timeout_s: float) -> Output:
        """Run a shell command to its end. Raises WorkloadTimeout, GuestLost."""

    def server(self, command: str) -> AbstractContextManager[None]:
        """Keep `command` running while the context lasts."""


class Native:
    """The image's own root on the host itself: the same binaries, the host's kernel.

    In an unprivileged user namespace with a chroot; where namespaces are forbidden, through the
    image's own dynamic loader (then /usr of the image is reached by a PATH of wrappers).
    """

    def __init__(
        self,
        host: Host,
        image: ImageFiles,
        *,
        vcpus: int = 1,
        prefix: tuple[str, ...] = (),
        address: str = "127.0.0.1",
        scratch: Scratch | None = None,
        beside: bool = False,
    ) -> None:
        """`image` is already placed on `host`; `prefix` enters a network namespace and `address`
        is how a client reaches this one; `vcpus` limits the CPUs as a guest's would be. `beside`:
        on other CPUs than those, where there are any, as the client of a server is that has those
        for itself."""
        self.host = host
        self.image = image
        self.prefix = prefix
        self._scratch = scratch.path if scratch else ""
        cpus = _allowed_cpus(host)
        used = (cpus[vcpus:] or cpus) if beside else cpus[:vcpus]
        self._cpus = ",".join(map(str, used)) or "0"
        self._way = _way_in(host)
        seen = self._scratch
        if self._way is not None and seen and not seen.startswith("/dev/"):
            seen = SCRATCH_IN_ROOT
        size_mib = scratch.size_mib if scratch else 0
        self.endpoint = Endpoint(seen, 0, size_mib, address, NATIVE_PORT, vcpus)

    def argv(self, command: str) -> list[str]:
        """What runs `command` natively, as it can be pasted into a terminal of the host."""
        root, scratch = self.image.root, self._scratch
        if self._way is None:
            enter = [
                *("sh", "-c", _THROUGH_LOADER, "vbench-native", root, command),
            ]
        else:
            enter = [*self._way, "sh", "-c", _CHROOT, "vbench-native", root, scratch, command]
        return [*self.prefix, "taskset", "-c", self._cpus, *enter]

    def run(self, command: str, *, timeout_s: float) -> Output:
        try:
            return self.host.run(self.argv(command), timeout_s=timeout_s)
        except HostTimeout as error:
            raise WorkloadTimeout(
                f"a native command did not end within {timeout_s:g} s", evidence=command
            ) from error
        except HostFlood as error:
            raise WorkloadError(
                error.what, evidence=command, remedy="let it print its result only"
            ) from error

    @contextmanager
    def server(self, command: str) -> Iterator[None]:
        process: HostProcess = self.host.start(self.argv(command))
        try:
            yield
        finally:
            process.kill()


# $1 root, $2 scratch disk or empty, $3 command. rbind and not a fresh mount: inside a user
# namespace the kernel refuses new instances of proc and sysfs. The shell stays: the first
# process of a process namespace is deaf to signals such as PIPE, which is not for a workload.
_CHROOT = f"""
set -e
mount --rbind /proc "$1/proc"; mount --rbind /sys "$1/sys"; mount --rbind /dev "$1/dev"
mount -t tmpfs tmpfs "$1/tmp"
case "$2" in ''|/dev/*) ;; *)
  mount -t tmpfs tmpfs "$1/scratch"; : > "$1{SCRATCH_IN_ROOT}"
  mount --bind "$2" "$1{SCRATCH_IN_ROOT}";;
esac
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LC_ALL=C
chroot "$1" /bin/sh -c "$3" || exit
"""

# $1 root, $2 command: each program of the image becomes a wrapper that calls its loader.
_THROUGH_LOADER = r"""
set -e
wrappers=$(mktemp -d); trap 'rm -rf "$wrappers"' EXIT; trap 'exit 143' TERM
libraries=$1/lib/x86_64-linux-gnu:$1/usr/lib/x86_64-linux-gnu
for program in "$1"/usr/bin/* "$1"/usr/sbin/*; do
  printf '#!/bin/sh\nexec %s --library-path %s %s "$@"\n' \
    "$1/lib64/ld-linux-x86-64.so.2" "$libraries" "$program" > "$wrappers/${program##*/}"
done
chmod +x "$wrappers"/*
PATH=$wrappers:$PATH LC_ALL=C sh -c "$2"
"""


def _way_in(host: Host) -> list[str] | None:
    """The argv that gives us a mount namespace, or None where no kind is allowed.

    As root without a user namespace, for in one root is not allowed all that it is in a guest
    (to flush a block device's cache, for one).
    """
    # A process namespace ends with its first process, which ends with us: nothing that a command
    # started is left, SIGKILL of us included. busybox's unshare has no such option.
    apart = ["--pid", "--fork", "--kill-child"]
    namespaces = (["unshare", "-m"], ["unshare", "-Urm"])
    for way in (*([*each, *apart] for each in namespaces), *namespaces):
        if host.run([*way, "true"], timeout_s=10).status == 0:
            return way
    return None


def _allowed_cpus(host: Host) -> list[int]:
    """The CPUs that we may use."""
    allowed = ""
    for line in host.read("/proc/self/status").splitlines():
        if line.startswith("Cpus_allowed_list:"):
            allowed = line.split(":")[1].strip()
    cpus: list[int] = []
    for part in allowed.split(","):
        low, _, high = part.partition("-")
        if low:
            cpus.extend(range(int(low), int(high or low) + 1))
    return cpus


def succeed(target: Target, command: str, *, timeout_s: float) -> str:
    """The standard output of a command that must end with status 0.

    Raises Unsupported for UNSUPPORTED_STATUS, WorkloadError for any other.
    """
    output = target.run(command, timeout_s=timeout_s)
    if output.status == UNSUPPORTED_STATUS:
        last = (output.stderr.strip() or command).splitlines()[-1]
        raise Unsupported(last.removeprefix("vbench-probe: "))
    if output.status != 0:
        tail = (output.stderr or output.stdout).splitlines()[-10:]
        raise WorkloadError(
            f"a command ended with status {output.status}", evidence="\n".join([command, *tail])
        )
    return output.stdout


def parse_facts(text: str) -> Mapping[str, str]:
    """`key=value` lines as a mapping; other lines are ignored."""
    pairs = (line.partition("=") for line in text.splitlines())
    return {key: value.strip() for key, sign, value in pairs if sign and key.isidentifier()}
