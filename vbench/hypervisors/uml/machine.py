"""How a User-mode Linux kernel is started, and its network."""

from __future__ import annotations

from dataclasses import dataclass

from vbench.contract.host import Host, Network
from vbench.errors import HostError, LaunchError
from vbench.guest.command import CommandMachine
from vbench.hosts.access import of_process
from vbench.records import Access
from vbench.system.facts import output

BINARY = "linux.uml"
TAP = "uml0"
HOST_ADDRESS, GUEST_ADDRESS = "10.79.0.1/24", "10.79.0.2/24"
# $1 device, $2 address. User-mode Linux opens its tap by name, so it gets one of its own beside
# the tap of the measuring network.
_MAKE_TAP = """
set -e
ip link show "$1" >/dev/null 2>&1 || ip tuntap add dev "$1" mode tap
ip address replace "$2" dev "$1"
ip link set "$1" up
"""
# Its memory is a file. It looks for a tmpfs by itself unless the environment names a folder.
_ENV = ("env", "-u", "TMPDIR", "-u", "TMP", "-u", "TEMP")
# The kernel's processes are processes of the host, ptraced by one of them. A process namespace
# ends all of them with the first. Nothing can stop them all: such a guest is never paused.
_APART = ("unshare", "--pid", "--mount-proc", "--fork", "--kill-child")
# At each start btrfs measures which RAID 6 code is fastest: 0.8 s of 1.0.
_UNMEASURED = ("initcall_blacklist=raid6_select_algo", "cryptomgr.notests")


@dataclass(frozen=True)
class UmlSpec:
    """What is started: `folder` holds the kernel's own files, `initrd` is an initramfs."""

    folder: str
    initrd: str
    memory_mib: int
    scratch: str
    arguments: tuple[str, ...]

    def argv(self) -> tuple[str, ...]:
        """The command line of linux(1). The console is standard input and output."""
        return (
            BINARY,
            f"mem={self.memory_mib}M",
            f"initrd={self.initrd}",
            "rdinit=/init",
            *("con=null", "con0=fd:0,fd:2"),
            *(f"uml_dir={self.folder}", "umid=vbench"),
            f"ubd0={self.scratch}",
            # depth: packets taken from the host at once; gro: packets of one stream are merged,
            # as virtio-net does
            f"vec0:transport=tap,ifname={TAP},depth=128,gro=1",
            *self.arguments,
        )


class UmlMachine(CommandMachine):
    """A kernel with a tap of its own."""

    def __init__(self, host: Host, network: Network, spec: UmlSpec) -> None:
        """Raises LaunchError."""
        make = ["sh", "-c", _MAKE_TAP, "tap", TAP, HOST_ADDRESS]
        made = host.run([*network.peer_prefix, *make], timeout_s=20)
        if made.status != 0:
            raise LaunchError("cannot make a tap for User-mode Linux", evidence=made.stderr)
        super().__init__(host, [*network.peer_prefix, *_APART, *_ENV, *spec.argv()])
        self._host = host

    def program(self) -> str:
        """The program whose processes are the kernel, as the host's kernel names it; "" where
        that cannot be read."""
        return output(self._host, 'readlink "/proc/$1/exe"', self._kernel())

    def access(self) -> Access | None:
        """Who may start it, by what the program has open; None where that cannot be seen."""
        kernel = self._kernel()
        return of_process(self._host, int(kernel)) if kernel else None

    def _kernel(self) -> str:
        """The pid of its first process, the one child of what was started; "" if that is gone."""
        script = 'read -r child rest </proc/$1/task/$1/children; echo "$child"'
        return output(self._host, script, str(self.process.pid))


def version(host: Host) -> str | None:
    """The release of the kernel that the program is: "6.1.94". None where it is not there."""
    try:
        answer = host.run([BINARY, "--version"], timeout_s=20)
    except HostError:
        return None
    lines = answer.stdout.split()
    return lines[-1] if answer.status == 0 and lines else None


def refusal(host: Host) -> str:
    """Why the kernel cannot run on `host`; "" if it can. It is started without a root file
    system, and must get as far as missing it."""
    argv = [BINARY, "mem=64M", "con=null", "con0=null,fd:1", "panic=-1", *_UNMEASURED]
    with host.workdir() as folder:
        answer = host.run([*_ENV, *argv, f"uml_dir={folder}"], timeout_s=30)
    text = answer.stdout + answer.stderr
    if "Unable to mount root" in text:
        return ""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"it ends with status {answer.status}"
