"""The testbed: a host that is itself a guest, with AMD-V, in which real KVM and real Xen run.

    L0  this machine: QEMU's TCG emulates a machine with AMD-V and nested paging
    L1  the testbed: the image's kernel with kvm_amd; its root is the image's root, so that
        native in the testbed is what runs in its guests. For Xen's guests the same machine is
        booted a second time, with Xen beneath that kernel, and native stays in the first
    L2  the guests

With `-icount shift=0` L1's clock counts instructions: one nanosecond is one. Nothing in L1
waits for this machine's disk: all files that it uses lie in its memory, its scratch disk too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import shlex
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import MappingProxyType

from vbench.contract.console import kernel_arguments
from vbench.contract.guest import Endpoint
from vbench.contract.host import HINT_EARLY, Network, Scratch
from vbench.contract.layer import Layer
from vbench.errors import ConnectionLost, LaunchError, UsageError
from vbench.guest.booted import BootedGuest
from vbench.guest.launch import LaunchKeys, Stopwatch, log_in, observe, write_initramfs
from vbench.guest.shell import GuestShell
from vbench.hosts import netns
from vbench.hosts.given_time import GivenTime
from vbench.hosts.local import LocalHost
from vbench.hosts.remote import SshHost
from vbench.hosts.ssh import SshConnection
from vbench.hypervisors.qemu.cmdline import Disk, GuestSpec, Nic, argv, escape
from vbench.hypervisors.qemu.kvm import HINT_CPU
from vbench.hypervisors.qemu.kvm import LAYER as KVM_LAYER
from vbench.hypervisors.qemu.machine import QemuMachine
from vbench.image import ensure_hosting
from vbench.image.tools import ended_when
from vbench.model import HostFacts, HostKind, ImageFiles, TimeBase
from vbench.records import Capabilities, DeviceSettings, NativeReference, NetworkPath
from vbench.system.facts import LocalReader, address, machine_id, qemu_version
from vbench.system.facts import facts as host_facts
from vbench.testbed import scripts

# One model for all that runs in it. `max` has features that KVM and Xen trip over under TCG.
CPU = "qemu64,+svm,+npt,+rdtscp"
# True under -icount, but QEMU's translator never says so by itself.
INVARIANT_TSC = ",+invtsc,x-force-features=on"
# sleep=on: idle time passes as on the wall. With sleep=off it is skipped, and time-outs of
# what waits for the world outside (SSH, slirp) strike early.
ICOUNT = ("-icount", "shift=0,sleep=on")
MEMORY_MIB = 3072
MACHINES_MAX = 2  # of one testbed that are up at once: one with a layer, and the plain one
BOOT_TIMEOUT_S = 120.0


class TestbedHost(SshHost):
    """L1, booted at first use and kept up until `close`."""

    __test__ = False  # pytest: not a test, whatever its name begins with
    kind = HostKind.TESTBED
    # Against a fault of the emulated AMD-V (docs/decisions/0004-injected-interrupts.md): the
    # shorter the time between an injected interrupt and the next exit or exception, the rarer it
    # strikes. So each interrupt is ended by an exit, and begins with a breakpoint.
    launch_hints: Mapping[str, str] = MappingProxyType(
        {HINT_CPU: "kvm-pv-eoi=off", HINT_EARLY: scripts.BREAKPOINT}
    )
    timeout_scale = 10.0  # it runs some 100 to 300 M instructions/s when busy

    def __init__(
        self, image: Callable[[], ImageFiles], time_base: TimeBase, layer: Layer = KVM_LAYER
    ) -> None:
        """`image` says which image L1 and all guests in it boot, and is asked at first use.

        `layer` is the hypervisor's software that L1 is booted with.
        """
        super().__init__("testbed" if time_base is TimeBase.INSTRUCTIONS else "testbed,clock=wall")
        self.time_base = time_base
        self._image = image
        self._layer = layer
        self.sees_idle = not layer.beneath
        self._layered: dict[tuple[str, str], TestbedHost] = {}
        self._qemu: QemuMachine | None = None
        self._interrupted = False
        self._guest: BootedGuest | None = None
        self._network: Network | None = None
        self._programs: dict[str, str] = {}  # what was brought there: path here -> path there
        self._given: Callable[[], float] = time.monotonic  # until L1 is up

    @classmethod
    def parse(cls, text: str, image: Callable[[], ImageFiles]) -> TestbedHost:
        """`testbed[,clock=instructions|wall]`. Raises UsageError."""
        bases = {base.value: base for base in TimeBase}
        _, comma, option = text.partition(",")
        key, _, value = option.partition("=")
        if comma and (key != "clock" or value not in bases):
            raise UsageError(
                f"the testbed has no option {option!r}",
                remedy="--host testbed or --host testbed,clock=wall",
            )
        # one image for as long as it lives, whatever becomes of the cache meanwhile
        return cls(functools.cache(image), bases[value] if comma else TimeBase.INSTRUCTIONS)

    def with_layer(self, layer: Layer) -> TestbedHost:
        """The same machine booted once more; it ends with this one."""
        if layer == self._layer:
            return self
        key = (layer.addition.name, layer.hypervisor)
        if key not in self._layered:
            self._layered[key] = TestbedHost(self._image, self.time_base, layer)
        return self._layered[key]

    def interrupt(self) -> None:
        """Kill it, from another thread: whatever waits for it, for a guest in it or for its image,
        fails at once, and it comes up no more. To be repeated until that thread has ended: it may
        just be booting the machine."""
        self._interrupted = True
        machine = self._qemu
        if machine is not None and machine.process.status() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(machine.pid, signal.SIGKILL)
        for other in tuple(self._layered.values()):
            other.interrupt()

    def close(self) -> None:
        with ExitStack() as stack:
            stack.callback(super().close)
            for other in self._layered.values():
                stack.callback(other.close)

    def _open(self, stack: ExitStack) -> SshConnection:
        if self._interrupted:
            raise ConnectionLost("the testbed was ended")
        here = LocalHost()
        stack.callback(here.close)
        self._guest = self._boot(here)
        stack.callback(self._end)
        done = self._guest.run(
            scripts.PREPARE + self._layer.start, timeout_s=60.0 * self.timeout_scale
        )
        if done.status != 0:
            evidence = "\n".join([done.stderr, self._guest.machine.evidence()])
            raise LaunchError("the testbed could not be prepared", evidence=evidence)
        return self._guest.ssh

    def _boot(self, here: LocalHost) -> BootedGuest:
        with ended_when(lambda: self._interrupted):
            base = self._image()
            files = ensure_hosting(base, self._layer.addition)
        with ExitStack() as stack:
            folder, keys = stack.enter_context(here.workdir()), LaunchKeys.generate()
            initrd = write_initramfs(here, files, folder, keys)
            spec = self._spec(base, files, initrd, stack)
            watch = Stopwatch(here.clock)
            machine = QemuMachine(here, argv(spec))
            self._qemu = machine
            stack.callback(machine.close)
            self._given = GivenTime(machine.pid, machine.vcpu_threads)
            watch.kernel(self._given.within(BOOT_TIMEOUT_S, machine.wait_ready))
            port = machine.forwarded_port(22)
            ssh = log_in(
                here,
                "127.0.0.1",
                port,
                keys,
                timeout_s=BOOT_TIMEOUT_S / 2,
                machine=machine,
                clock=self._given,
            )
            stack.callback(ssh.close)
            shell = GuestShell(machine, ssh, here)
            return BootedGuest(
                shell=shell,
                host=here,
                reference=None,
                client_prefix=(),
                image=files,
                versions={"qemu": qemu_version(here) or "unknown"},
                endpoint=Endpoint("", 0, 0, "127.0.0.1", 0, 1),
                capabilities=Capabilities(NativeReference.NONE, NetworkPath.NAT),
                device=DeviceSettings(cpu=spec.cpu, further={"clock": self.time_base.value}),
                observed=observe(shell),
                phases=watch.phases,
                cleanup=stack.pop_all(),
            )

    def _spec(
        self, base: ImageFiles, files: ImageFiles, initrd: str, stack: ExitStack
    ) -> GuestSpec:
        layer = self._layer
        linux = kernel_arguments(
            layer.console, ["10.0.2.15/24"], modules=layer.modules, hostname="testbed"
        )
        if layer.beneath:  # multiboot modules, each with its command line: the first is dom0
            kernel = _without_blanks(files.kernel, stack)
            modules = (f"{kernel} {' '.join(linux)}", _without_blanks(initrd, stack))
            initrd = ",".join(map(escape, modules))
        return GuestSpec(
            accel="tcg,thread=single",
            cpu=CPU + (INVARIANT_TSC if layer.invariant_tsc else ""),
            kernel=(layer.hypervisor or f"{files.root}/boot/hypervisor")
            if layer.beneath
            else files.kernel,
            initrd=initrd,
            append=layer.beneath or linux,
            memory_mib=MEMORY_MIB,
            # Read-only and raw: the image's own files are the drives, nothing is copied.
            disks=tuple(
                Disk(path, "virtio", cache="writeback", read_only=True)
                for path in (base.kernel, base.initramfs, base.bzimage)
                if path
            ),
            nics=(
                Nic(
                    "virtio-net-pci",
                    "user,restrict=on,hostfwd=tcp:127.0.0.1:0-:22",
                    "52:54:00:76:62:00",
                ),
            ),
            extra=ICOUNT if self.time_base is TimeBase.INSTRUCTIONS else (),
        )

    def _tied(self, argv: Sequence[str]) -> list[str]:
        """By its path, as the image's shell would prefer its own command of that name. It needs no
        tie: it ends with the testbed, which ends with us."""
        program, *arguments = argv
        return [program if "/" in program else f"/usr/bin/{program}", *arguments]

    def _kept_by_a_shell(self, argv: Sequence[str]) -> str:
        return f"{shlex.join(argv)}; exit $?"

    def _end(self) -> None:
        guest, self._guest, self._network = self._guest, None, None
        self._programs.clear()
        if guest is not None:
            guest.close()

    def _why_lost(self) -> ConnectionLost:
        evidence = ""
        why = "the connection to it is gone"
        if self._guest is not None:
            lost = self._guest.lost(why)
            why, evidence = lost.what, lost.evidence
        return ConnectionLost(
            f"the testbed is gone ({why}), and with it all guests in it", evidence=evidence
        )

    def deadline_clock(self) -> float:
        return self._given()

    def clock(self) -> float:
        if self.time_base is TimeBase.WALL:
            return super().clock()
        return float(self.read("/proc/uptime").split()[0])  # to 10 ms

    def facts(self) -> HostFacts:
        if self._facts is None:
            known = host_facts(self)
            assert self._guest is not None  # noqa: S101 - it has just answered
            known |= {
                "clock": "QEMU -icount: 1 ns is 1 instruction"
                if self.time_base is TimeBase.INSTRUCTIONS
                else "wall",
                "scratch_file_system": "none",
                "scratch_device": "/dev/ram0, memory of the testbed",
                "emulated_by": f"QEMU {self._guest.versions['qemu']} TCG, -cpu {CPU}",
                **self._machine(),
            }
            identity = f"{self.name}:{socket.gethostname()}"
            self._facts = HostFacts(identity, self.kind, self.time_base, known)
        return self._facts

    def _machine(self) -> dict[str, str]:
        """The real machine beneath, whose speed is in every second. No count depends on it."""
        if self.time_base is TimeBase.INSTRUCTIONS:
            return {"machine_id": "any", "address": "any"}
        real = LocalReader()
        return {"machine_id": machine_id(real), "address": address(real)}

    def program(self, path: str, pack: Callable[[], bytes]) -> str:
        self.connection  # noqa: B018 - boots it
        if path not in self._programs:
            folder = f"{scripts.FILES}/programs/{len(self._programs)}"
            self._must("mkdir", "-p", folder)
            self.write(f"{folder}.tar.gz", pack())
            self._must("tar", "-C", folder, "-xzf", f"{folder}.tar.gz", timeout_s=60.0)
            self._must("rm", f"{folder}.tar.gz")
            self._programs[path] = f"{folder}/usr/bin/{os.path.basename(path)}"
        return self._programs[path]

    def upload_image(self, image: ImageFiles) -> ImageFiles:
        if image.digest != self._image().digest:
            return super().upload_image(image)
        self.connection  # noqa: B018 - boots it
        return dataclasses.replace(
            image,
            kernel=f"{scripts.FILES}/vmlinux",
            initramfs="/dev/vdb",
            root="/",
            bzimage=image.bzimage and f"{scripts.FILES}/vmlinuz",
        )

    def scratch(self) -> Scratch:
        self.connection  # noqa: B018
        return Scratch("/dev/ram0", scripts.SCRATCH_MIB, device=True, in_memory=True)

    def fill_scratch(self) -> None:
        if not self._scratch_filled:
            self._must("sh", "-c", scripts.FILL, timeout_s=60.0)
            self._scratch_filled = True

    def network(self) -> Network | None:
        if self._network is None:
            self._must("sh", "-c", scripts.NETWORK, timeout_s=30.0)
            self._network = Network(
                tap="tap0",
                tap_fd=None,
                peer_prefix=(),
                native_prefix=("/usr/bin/ip", "netns", "exec", "native"),
                guest_address=netns.GUEST_END,
                native_address=netns.NATIVE_END.partition("/")[0],
            )
        return self._network

    @contextmanager
    def bridge(self, ports: int) -> Iterator[Sequence[Network]]:
        numbers = range(ports)
        self._must("sh", "-c", scripts.BRIDGE, "bridge", *map(str, numbers), timeout_s=30.0)
        try:
            yield netns.ports(ports, [None for _ in numbers], ())
        finally:
            if self._guest is not None and self._guest.alive:
                self._must(
                    "sh", "-c", scripts.NO_BRIDGE, "bridge", *map(str, numbers), timeout_s=30.0
                )


def _without_blanks(path: str, stack: ExitStack) -> str:
    """A name of the file without blanks while `stack` lasts.

    QEMU takes the name of a multiboot module to end at the first blank, and knows no escape.
    """
    if " " not in path:
        return path
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    stack.callback(os.close, descriptor)
    return f"/proc/{os.getpid()}/fd/{descriptor}"
