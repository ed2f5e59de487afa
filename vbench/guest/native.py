"""Native: the image's own root on a host itself, the same programs on the host's kernel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vbench.contract.guest import SERVER_PORT, Endpoint
from vbench.contract.host import Host, HostProcess, Scratch
from vbench.errors import HostError, HostFlood, HostTimeout, WorkloadError, WorkloadTimeout
from vbench.guest.target import ALIKE, ENVIRONMENT
from vbench.hosts.pinning import beside, placement
from vbench.model import ImageFiles, Output

SCRATCH_IN_ROOT = "/scratch"
_CLEAN = " ".join(f"{name}={value}" for name, value in ENVIRONMENT.items())

# $1 root, $2 file to be the scratch disk or empty, $3 ALIKE, $4 command. rbind and not a fresh
# mount: inside a user namespace the kernel refuses new instances of proc and sysfs. The shell
# stays: the first process of a process namespace is deaf to signals such as PIPE, which is not for
# a workload.
_IN_NAMESPACES = f"""
set -e
PATH=$PATH:/usr/sbin:/sbin  # a plain user has no chroot on theirs
mount --rbind /proc "$1/proc"; mount --rbind /sys "$1/sys"; mount --rbind /dev "$1/dev"
mount -t tmpfs tmpfs "$1/tmp"
if [ "$2" ]; then mount --bind "${{2%/*}}" "$1{SCRATCH_IN_ROOT}"; fi
env -i {_CLEAN} "$(command -v chroot)" "$1" /bin/sh -c "$3" sh "$4" || exit
"""

# $1 root, $2 not used, $3 ALIKE, $4 command. A program of the image that needs libraries
# becomes a wrapper that calls the image's loader; the others are static. The shell is the image's.
_THROUGH_LOADER = rf"""
set -e
root=$1 loader=$1/lib64/ld-linux-x86-64.so.2
libraries=$root/lib/x86_64-linux-gnu:$root/usr/lib/x86_64-linux-gnu
for base in "${{TMPDIR:-/tmp}}" /tmp /var/tmp; do
  wrappers=$(mktemp -d "$base/vbench-XXXXXX") || continue
  trap 'rm -rf -- "$wrappers"' EXIT; trap 'exit 143' TERM
  printf '#!/bin/sh\n' > "$wrappers/.runs"; chmod +x "$wrappers/.runs"
  if "$wrappers/.runs"; then break; fi
  rm -rf -- "$wrappers"; wrappers=
done
[ "$wrappers" ] || {{ echo "no temporary folder lets a program run (noexec)" >&2; exit 126; }}
quoted() {{ printf %s "$1" | sed "s/'/'\\\\''/g; 1s/^/'/; \$s/\$/'/"; }}
for program in "$root"/usr/bin/*; do
  if [ -L "$program" ] || ! "$loader" --verify "$program"; then continue; fi
  {{ printf '#!/bin/sh\nexec %s --library-path ' "$(quoted "$loader")"
     printf '%s %s "$@"\n' "$(quoted "$libraries")" "$(quoted "$program")"
  }} > "$wrappers/${{program##*/}}"
  chmod +x "$wrappers/${{program##*/}}"
done
env -i {_CLEAN} PATH="$wrappers:$root/usr/bin" "$root/usr/bin/busybox" sh -c "$3" sh "$4"
"""

# A process namespace ends with its first process, which ends with us: nothing that a command
# started is left, SIGKILL of us included. busybox's unshare has no such option.
_APART = ("--pid", "--fork", "--kill-child")
# As root without a user namespace, for in one root is not allowed all that it is in a guest (to
# flush a block device's cache, for one). Last: no namespace, the image's loader.
_WAYS = (
    ("unshare", "-m", *_APART),
    ("unshare", "-Urm", *_APART),
    ("unshare", "-m"),
    ("unshare", "-Urm"),
    (),
)


class Native:
    """A target: commands run by the image's own programs only, in a clean environment.

    In a mount namespace with a chroot. Where that is forbidden, through the image's own loader.
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
        pin: bool = True,
        cpus: tuple[int, ...] = (),
        client: bool = False,
    ) -> None:
        """`image` is already placed on `host`; `prefix` enters a network namespace and `address`
        is how a client reaches this one. It has the CPUs of a guest with `vcpus`; the `client` of
        a server has others, where there are any; without `pin` all that there are. `cpus`: where
        somebody else put the guest.

        Raises HostError where the host lets no program of the image run.
        """
        self.host = host
        self.image = image
        self.prefix = prefix
        # a device is there as it is, in /dev
        self._file = scratch.path if scratch and not scratch.device else ""
        places = beside(host, cpus) if cpus else placement(host, vcpus)
        self.cpus = (places.clients if client else places.vcpus) if pin or cpus else ()
        self._way = self._probe()
        path = scratch.path if scratch else ""
        if self._way and self._file:
            path = f"{SCRATCH_IN_ROOT}/{self._file.rpartition('/')[2]}"
        size_mib = scratch.size_mib if scratch else 0
        self.endpoint = Endpoint(path, 0, size_mib, address, SERVER_PORT, vcpus)

    def _probe(self) -> tuple[str, ...]:
        """The first way in that works, found by running the shell of the image.

        Whether `unshare` succeeds says little: a profile may refuse what is done in the namespace.
        """
        refusals = []
        for way in _WAYS:
            done = self.host.run(self._argv(way, ":"), timeout_s=20)
            if done.status == 0:
                return way
            reason = (done.stderr.strip() or f"exit status {done.status}").splitlines()[-1]
            refusals.append(f"{' '.join(way) or 'the loader of the image'}: {reason}")
        raise HostError(
            f"no program of the image can be run on {self.host.name}",
            evidence="\n".join(refusals),
            remedy="allow user namespaces, or set TMPDIR to a folder that is not mounted noexec",
        )

    def argv(self, command: str) -> list[str]:
        """What runs `command` natively, as it can be pasted into a terminal of the host."""
        return self._argv(self._way, command)

    def _argv(self, way: tuple[str, ...], command: str) -> list[str]:
        pinned = ["taskset", "-c", ",".join(map(str, self.cpus))] if self.cpus else []
        script = _IN_NAMESPACES if way else _THROUGH_LOADER
        arguments = ["vbench-native", self.image.root, self._file, ALIKE, command]
        return [*self.prefix, *pinned, *way, "sh", "-c", script, *arguments]

    def run(self, command: str, *, timeout_s: float, stdin: bytes = b"") -> Output:
        """Run a shell command to its end. Raises WorkloadTimeout, WorkloadError, ConnectionLost."""
        try:
            return self.host.run(self.argv(command), timeout_s=timeout_s, stdin=stdin)
        except HostTimeout as error:
            raise WorkloadTimeout(
                f"a native command did not end within {timeout_s:g} s", evidence=command
            ) from error
        except HostFlood as error:
            # a host names the program that it started, which enters the image's root
            what = f"a native command {error.what.partition(' ')[2]}"
            raise WorkloadError(
                what, evidence=command, remedy="let it print its result only"
            ) from error

    def pass_through(self, command: str) -> int:
        """As Guest.pass_through."""
        return self.host.pass_through(self.argv(command))

    @contextmanager
    def server(self, command: str) -> Iterator[None]:
        """Keep `command` running while the context lasts."""
        process: HostProcess = self.host.start(self.argv(command))
        try:
            yield
        finally:
            process.kill()
