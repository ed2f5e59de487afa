"""From launch to first command, in steps that a backend calls in order.

    keys = LaunchKeys.generate()
    initrd = write_initramfs(host, image, folder, keys)
    watch = Stopwatch(host.clock)
    ... start the machine, wait for its ready line ...
    ssh = log_in(host, address, port, keys, timeout_s=..., machine=machine)
    observed = observe(GuestShell(machine, ssh, host))

A step that fails raises LaunchError with the console's last lines. Who called it ends what was
started: an `ExitStack`, whose rest becomes the guest's own.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from vbench.contract.host import Host, Network
from vbench.errors import ConnectionLost, LaunchError, LaunchTimeout, Unsupported
from vbench.guest.shell import GuestShell, Machine
from vbench.guest.target import parse_facts
from vbench.hosts.keys import KeyPair
from vbench.hosts.ssh import SshConnection
from vbench.image import cpio, ensure_hosting
from vbench.image.medium import LOADER, medium, padding
from vbench.model import ImageFiles
from vbench.records import Clock, Observed, Phase

_HOST_KEY = "etc/dropbear/dropbear_ed25519_host_key"

# What the guest sees of itself. One command, because every one costs a round trip.
OBSERVE = r"""
echo "kernel=$(uname -r)"
echo "early=$(cat /etc/early.out 2>/dev/null)"
echo "clocksource=$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
echo "tcp_congestion_control=$(cat /proc/sys/net/ipv4/tcp_congestion_control)"
echo "cpu_model=$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n1)"
echo "vcpus=$(grep -c ^processor /proc/cpuinfo)"
echo "memory_kib=$(sed -n 's/^MemTotal: *\([0-9]*\).*/\1/p' /proc/meminfo)"
grep -qw hypervisor /proc/cpuinfo && echo cpuid_hypervisor=yes || echo cpuid_hypervisor=no
echo "hypervisor=$(dmesg | sed -n 's/.*Hypervisor detected: //p' | head -n1)"
h=/sys/hypervisor
echo "sys_hypervisor=$(cat $h/type 2>/dev/null) $(cat $h/guest_type 2>/dev/null)"
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


@dataclass(frozen=True)
class LaunchKeys:
    """The keys of one launch: ours, and the guest's as a host."""

    own: KeyPair
    host: KeyPair

    @classmethod
    def generate(cls) -> LaunchKeys:
        return cls(KeyPair.generate(), KeyPair.generate())


class Stopwatch:
    """Phases of a launch, or of another operation of a guest's life, by the clock of the host; and
    those that the guest's kernel timed."""

    def __init__(self, clock: Callable[[], float], operation: str = "launch") -> None:
        self._clock = clock
        self._operation = operation
        self._began = clock()
        self._phases: list[Phase] = []

    def reached(self, phase: str) -> None:
        took_s = self._clock() - self._began
        self._phases.append(Phase(self._operation, phase, Clock.CLIENT, took_s))

    def kernel(self, ready: Mapping[str, float]) -> None:
        """What the ready line says: seconds since the kernel started."""
        self._phases += [Phase("kernel", name, Clock.GUEST, s) for name, s in ready.items()]

    @property
    def phases(self) -> tuple[Phase, ...]:
        return tuple(self._phases)


def launch_archive(keys: LaunchKeys, early: str) -> bytes:
    """A cpio archive with this launch's keys, a random seed, and a shell script to run before any
    driver is loaded; the kernel unpacks it after the image's own."""
    return cpio.archive(
        [
            *([cpio.file("etc/early", early.encode(), 0o600)] if early else []),
            cpio.directory("root/.ssh", 0o700),
            cpio.directory("etc/dropbear", 0o700),
            cpio.file("root/.ssh/authorized_keys", keys.own.authorized_line.encode(), 0o600),
            cpio.file(_HOST_KEY, keys.host.dropbear_private(), 0o600),
            cpio.file("etc/seed", os.urandom(32), 0o600),
        ]
    )


def write_initramfs(
    host: Host, image: ImageFiles, folder: str, keys: LaunchKeys, early: str = ""
) -> str:
    """The path of an initramfs in `folder` on the host: the image's, and this launch's archive.

    `early` are shell commands for the guest before it loads drivers; what they print is in
    `Observed.early`. Raises LaunchError.
    """
    archive, initrd = f"{folder}/keys", f"{folder}/initrd"
    host.write(archive, launch_archive(keys, early))
    join = 'umask 077; cat "$1" "$2" > "$3"'
    argv = ["sh", "-c", join, "join", image.initramfs, archive, initrd]
    joined = host.run(argv, timeout_s=60)
    if joined.status != 0:
        raise LaunchError("cannot write the guest's initramfs", evidence=joined.stderr)
    return initrd


# $1 medium, $2 head, $3 tail, $4 kernel, $5 its size, $6 its padding, then the initramfs' three.
# A host may have either as a block device, which ends with a whole sector. busybox's `head` takes
# eight times as many instructions.
_JOIN_MEDIUM = """
umask 077
part() { dd if="$1" bs=1M iflag=count_bytes,fullblock count="$2" 2>/dev/null; }
{ cat "$2" && part "$4" "$5" && part /dev/zero "$6" &&
  part "$7" "$8" && part /dev/zero "$9" && cat "$3"; } >"$1"
"""


def write_boot_medium(
    host: Host,
    image: ImageFiles,
    folder: str,
    keys: LaunchKeys,
    append: Sequence[str],
    early: str = "",
) -> str:
    """The path of an ISO in `folder` on the host that a BIOS boots: for what loads no kernel.

    `image` is the image on this machine, `append` the kernel's command line. Raises LaunchError,
    ImageError.
    """
    if not image.bzimage:
        raise Unsupported(
            "the image's kernel came unpacked (vmlinux): a BIOS starts a bzImage only"
        )
    root = Path(ensure_hosting(image, LOADER).root)
    loader = root / "usr/lib/ISOLINUX/isolinux.bin"
    core = root / "usr/lib/syslinux/modules/bios/ldlinux.c32"
    files = host.upload_image(image)
    kernel, initramfs = (os.stat(path).st_size for path in (image.bzimage, image.initramfs))
    parts = medium(
        loader.read_bytes(),
        core.read_bytes(),
        kernel,
        initramfs,
        append,
        launch_archive(keys, early),
    )
    names = {name: f"{folder}/{name}" for name in ("medium.iso", "head", "tail")}
    host.write(names["head"], parts.head)
    host.write(names["tail"], parts.tail)
    sizes = ((files.bzimage, kernel), (files.initramfs, initramfs))
    middle = (word for path, size in sizes for word in (path, str(size), str(padding(size))))
    arguments = (names["medium.iso"], names["head"], names["tail"], *middle)
    joined = host.run(["sh", "-c", _JOIN_MEDIUM, "join", *arguments], timeout_s=60)
    if joined.status != 0:
        raise LaunchError("cannot write the boot medium", evidence=joined.stderr)
    return names["medium.iso"]


def log_in(
    host: Host,
    address: str,
    port: int,
    keys: LaunchKeys,
    *,
    timeout_s: float,
    machine: Machine,
    clock: Callable[[], float] | None = None,
) -> SshConnection:
    """An SSH connection to a guest that is ready. `timeout_s` is in seconds of the host.

    `clock` is what deadlines are kept by, the host's if None. Raises LaunchTimeout.
    """
    try:
        return SshConnection.open(
            host.connect(address, port, timeout_s=20),
            name="the guest",
            user="root",
            key=keys.own,
            host_key=keys.host,
            timeout_s=max(20.0, timeout_s) * host.timeout_scale,
            clock=clock or host.deadline_clock,
        )
    except ConnectionLost as error:
        raise LaunchTimeout(error.what, evidence=machine.evidence()) from error


def log_in_by_relay(
    host: Host,
    network: Network,
    image: ImageFiles,
    address: str,
    keys: LaunchKeys,
    *,
    timeout_s: float,
    machine: Machine,
    stack: ExitStack,
) -> SshConnection:
    """As `log_in`, to a guest whose network is in a namespace of its own: the image's probe, as it
    lies on the host, relays from there. `stack` ends both. Raises LaunchTimeout."""
    probe = f"{image.root}/usr/bin/vbench-probe"
    relay = host.start([*network.peer_prefix, probe, "relay", address, "22"])
    stack.callback(relay.kill)
    try:
        ssh = SshConnection.open(
            relay.stream,
            name="the guest",
            user="root",
            key=keys.own,
            host_key=keys.host,
            timeout_s=max(20.0, timeout_s) * host.timeout_scale,
            clock=host.deadline_clock,
        )
    except ConnectionLost as error:
        evidence = "\n".join([machine.evidence(), relay.log()])
        raise LaunchTimeout(error.what, evidence=evidence) from error
    stack.callback(ssh.close)
    return ssh


def hang_up_at_its_end(shell: GuestShell) -> None:
    """From now on close the connection to a guest once its machine has ended.

    For guests that are reached by their own address: one that is gone answers nothing, not even
    that it is gone, and TCP would wait for minutes.
    """

    def wait() -> None:
        while shell.ssh.alive:
            if not shell.machine.alive:
                shell.ssh.close()
            time.sleep(0.2)

    threading.Thread(target=wait, daemon=True).start()


def observe(shell: GuestShell) -> Observed:
    """What the guest sees of itself. Raises GuestLost."""
    return observed(shell.run(OBSERVE, timeout_s=60).stdout)


def observed(text: str) -> Observed:
    """The record of what OBSERVE printed."""
    found = parse_facts(text)
    names = (
        *("kernel", "cpu_model", "clocksource", "sys_hypervisor", "mitigations"),
        *("tcp_congestion_control", "early"),
    )
    return Observed(
        **{name: found.get(name, "") for name in names},
        hypervisor=found.get("hypervisor"),
        vcpus=_number(found.get("vcpus", "")),
        memory_kib=_number(found.get("memory_kib", "")),
        cpuid_hypervisor={"yes": True, "no": False}.get(found.get("cpuid_hypervisor", "")),
        disks=_drivers(found.get("disks", "")),
        nics=_drivers(found.get("nics", "")),
    )


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _drivers(text: str) -> Mapping[str, str]:
    """ "vda:virtio_blk sda:ata_piix" by name."""
    return dict(re.findall(r"(\S+?):(\S+)", text))
