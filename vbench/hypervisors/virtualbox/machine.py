"""Life and death of one virtual machine of VirtualBox, through VBoxManage and VBoxHeadless."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from vbench.contract.host import Host, HostProcess
from vbench.contract.undo import undone
from vbench.errors import (
    ConnectionLost,
    GuestError,
    GuestLost,
    HostError,
    HostTimeout,
    LaunchError,
)
from vbench.guest.command import ProcessMachine
from vbench.hypervisors.virtualbox import host as vbox
from vbench.hypervisors.virtualbox.config import VmSpec, commands

# $1 the folder of a launch, $2 the machine's name. Their programs are told by the folder: the
# service, which goes into the background, has it in its environment; a machine has it in its
# command line, for what is setuid hides its environment.
_END = r"""
set -- %s
cd /proc
cat /dev/null $(grep -lszxF -e "VBOX_USER_HOME=$1/home" -e "%s$1" [0-9]*/environ [0-9]*/cmdline |
  sed 's|/.*|/stat|') | while read -r pid _; do kill -KILL "$pid"; done
rm -rf "/tmp/.vbox-$2-ipc"
"""


# What VirtualBox says where another hypervisor has the processor's virtualization.
_IN_USE = ("VERR_SVM_IN_USE", "VERR_VMX_IN_VMX_ROOT_MODE")
# A thread of a machine's process, by number: its name, and what it ran and waited, in nanoseconds
# (Documentation/scheduler/sched-stats.rst). Those that are vCPUs are called EMT, or EMT-0, EMT-1...
_THREAD = re.compile(r"/task/(\d+)/(comm|schedstat):(.*)")
_VCPU = re.compile(r"EMT(-\d+)?")
# $1 pid, $2 path: the flags of its open files of that name, octal. Where its programs have a root
# of their own, the name is longer.
_FLAGS = """
cd "/proc/$1/fd" || exit
for each in *; do
  case "$(readlink "$each")" in *"$2") grep ^flags: "../fdinfo/$each";; esac
done
exit 0
"""
_O_DIRECT = 0o40000  # on x86
# The kernel's half of memory begins at 0xffff800000000000; the two low bits of cs are the ring.
_REGISTERS = re.compile(r"cs = 0x[0-9a-f]*([0-9a-f])\b.*rip = 0xffff[89a-f]", re.DOTALL)
_LOOKS = 3
_POSITION = ("rip", "rflags", "rsp")
_SILENCE_PAUSE_S = 0.5
# Of all VBoxManage commands that make a machine: some 0.1 s each, unless the service hangs.
MAKE_TIMEOUT_S = 20.0


class VirtualBoxMachine(ProcessMachine):
    """A machine that is registered nowhere but in a folder of its own: service, settings and
    socket are ours alone, so no machine of the user's is seen or touched.

    `stack` ends what stays in the background.
    """

    def __init__(self, host: Host, spec: VmSpec, stack: ExitStack, state: str = "") -> None:
        """Make it and start it, or let it go on from the file `state`. Raises LaunchError with
        VirtualBox's own words."""
        self.host = host
        self.spec = spec
        self._spent: dict[str, int] = {}
        self._env = (
            "env",
            f"HOME={spec.folder}",
            f"VBOX_USER_HOME={spec.folder}/home",
            f"VBOX_IPC_SOCKETID={spec.name}",
        )
        end = _END % (shlex.join([spec.folder, spec.name]), vbox.MARK)
        stack.enter_context(undone(host, end, timeout_s=vbox.TIMEOUT_S))
        self._make(state)
        comment = f"{vbox.MARK}{spec.folder}"
        self.argv = (
            *self._env,
            *("VBoxHeadless", "--comment", comment, "--startvm", spec.name, "--vrde", "off"),
        )
        self.process = self._start()
        stack.callback(self.close)

    def _start(self) -> HostProcess:
        return self.host.start(["sh", "-c", 'exec "$@" >&2', "vbench", *self.argv])

    def _make(self, state: str) -> None:
        adopted = (("adoptstate", self.spec.name, state),) if state else ()
        made = (*commands(self.spec), *adopted)
        lines = [shlex.join(["VBoxManage", "-q", *each]) for each in made]
        self._made = "\n".join(lines)
        log = f"{self.spec.folder}/log"
        # not to our pipes: the service would keep them open
        script = f"{{ set -e\n{self._made}\n}} </dev/null >{shlex.quote(log)} 2>&1"
        try:
            done = self.host.run([*self._env, "sh", "-c", script], timeout_s=MAKE_TIMEOUT_S)
        except HostTimeout as error:
            raise LaunchError(
                f"VBoxManage or its service VBoxSVC does not answer within {MAKE_TIMEOUT_S:g} s",
                evidence=f"{self._made}\n{self._read(log)}",
                remedy=vbox.HANGS_REMEDY,
            ) from error
        if done.status != 0:
            raise LaunchError(
                "VBoxManage did not make the machine",
                evidence=f"{self._made}\n{self._read(log)}",
            )

    def _read(self, path: str) -> str:
        try:
            return self.host.read(path)
        except HostError:
            return ""

    def log(self) -> str:
        """VirtualBox's own log of this machine."""
        return self._read(f"{self.spec.folder}/{self.spec.name}/Logs/VBox.log")

    def silence(self) -> str:
        """What is known of a guest that does not answer: where its CPU is and how long it has run,
        twice, and the end of VirtualBox's log. As far as it can be had."""
        lines = []
        try:
            for _ in range(2):
                registers = self.manage("debugvm", self.spec.name, "getregisters", *_POSITION)
                ran_s = self.usage()["vcpu_cpu_s"]
                lines.append(f"vCPUs ran {ran_s:.3f} s, {' '.join(registers.split())}")
                time.sleep(_SILENCE_PAUSE_S)
        except (HostError, ConnectionLost, GuestLost) as error:
            lines.append(f"no more could be asked: {error.what}")
        return "\n".join([*lines, *self.log().splitlines()[-5:]])

    def wait_ready(self, timeout_s: float) -> Mapping[str, float]:
        try:
            return super().wait_ready(timeout_s)
        except LaunchError as error:
            if any(sign in self.console() for sign in _IN_USE):
                error.remedy = "end other virtual machines; `modprobe -r kvm_amd` or `kvm_intel`"
            raise

    def manage(self, *words: str) -> str:
        """What VBoxManage says. Raises GuestLost where it fails."""
        argv = [*self._env, "VBoxManage", "-q", *words]
        try:
            done = self.host.run(argv, timeout_s=vbox.TIMEOUT_S)
        except HostTimeout as error:
            raise GuestLost(
                f"VBoxManage {words[0]} does not end within {vbox.TIMEOUT_S:g} s",
                evidence=self.evidence(),
                remedy=vbox.HANGS_REMEDY,
            ) from error
        if done.status != 0:
            raise GuestLost(
                f"VBoxManage {words[0]} failed: {done.stderr.strip() or done.status}",
                evidence=self.evidence(),
            )
        return done.stdout

    def pause(self) -> None:
        self.manage("controlvm", self.spec.name, "pause")

    def resume(self) -> None:
        self.manage("controlvm", self.spec.name, "resume")

    @contextmanager
    def saved(self) -> Iterator[str]:
        """While the context lasts it stands still and its state is in the folder that is yielded,
        in a file that ends in .sav; then it goes on. Raises GuestLost, and GuestError where it
        cannot be saved and goes on."""
        try:
            self.manage("controlvm", self.spec.name, "savestate")
        except GuestLost as error:
            if not self.alive:
                raise
            raise GuestError(error.what, evidence=error.evidence) from error
        try:
            self.process.wait(vbox.TIMEOUT_S * self.host.timeout_scale)
            yield f"{self.spec.folder}/{self.spec.name}/Snapshots"
        finally:
            self.process.kill()
            self.process = self._start()

    def usage(self) -> Mapping[str, float]:
        """Seconds spent so far: `host_cpu_s` by all threads of its process, `vcpu_cpu_s` by those
        that are vCPUs, `vcpu_wait_s` by vCPUs that were ready to run and did not. Raises
        GuestLost."""
        folder = f"/proc/{self.process.pid}/task/*"
        script = f"grep -Hs '' {folder}/comm {folder}/schedstat"
        said = self.host.run(["sh", "-c", script], timeout_s=vbox.TIMEOUT_S).stdout
        found: dict[str, dict[str, str]] = {"comm": {}, "schedstat": {}}
        for thread, kind, text in _THREAD.findall(said):
            found[kind][thread] = text
        times = {t: [int(ns) for ns in text.split()] for t, text in found["schedstat"].items()}
        vcpus = [times[t] for t, name in found["comm"].items() if _VCPU.fullmatch(name)]
        if not vcpus:
            raise GuestLost("the machine's process is gone", evidence=self.evidence())
        # threads that have ended keep what they had spent
        self._spent.update((thread, ran) for thread, (ran, *_) in times.items())
        return {
            "host_cpu_s": sum(self._spent.values()) / 1e9,
            "vcpu_cpu_s": sum(ran for ran, *_ in vcpus) / 1e9,
            "vcpu_wait_s": sum(waited for _, waited, *_ in vcpus) / 1e9,
        }

    def direct(self, path: str) -> bool | None:
        """Whether it has `path` open for direct I/O; None where that cannot be seen."""
        ask = ["sh", "-c", _FLAGS, "vbench-flags", str(self.process.pid), path]
        words = self.host.run(ask, timeout_s=vbox.TIMEOUT_S).stdout.split()
        flags = [int(word, 8) for word in words if word.isdecimal()]
        return all(each & _O_DIRECT for each in flags) if flags else None

    def kernel_ring(self) -> int | None:
        """The privilege level at which the guest's kernel runs; None where it is not met in it."""
        for _ in range(_LOOKS):
            said = self.manage("debugvm", self.spec.name, "getregisters", "cs", "rip")
            if found := _REGISTERS.search(said):
                return int(found[1], 16) & 3
        return None
