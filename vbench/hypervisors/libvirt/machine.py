"""Life and death of one domain of libvirt."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Mapping
from typing import Any

from vbench.errors import ConnectionLost, GuestLost, HostError, LaunchError
from vbench.hypervisors.libvirt.domain import Supplied, domain
from vbench.hypervisors.libvirt.tuning import Tuning
from vbench.hypervisors.libvirt.virsh import TIMEOUT_S, Virsh
from vbench.hypervisors.qemu.machine import QemuProcess
from vbench.hypervisors.qemu.threads import ThreadTimes, kernel_threads

# $1 working directory, $2 URI, $3 console. virsh takes its commands from our stream and keeps the
# connection: libvirt ends the domain when that closes, however that happens. One that was restored
# it keeps: whoever made it ends that by `end_script`. QEMU alone writes to the console's FIFO, so
# its end is the end of this. virsh then has no more commands, and says before it ends why the one
# that it was at failed.
_LIFE = r"""
exec 3<&0 >&2 </dev/null
umask 077
cd "$1" && mkfifo commands "$3.in" "$3.out" || exit
cat <&3 >commands &
feeds=$!
LC_ALL=C virsh -c "$2" <commands 3<&- &
cat "$3.out" 3<&-
kill $feeds
wait
"""
_RESULT = re.compile(r"^(?:virsh # )*(?:error: |Domain '.*' created from |Domain restored from )")
_FAILED = re.compile(r"^(?:virsh # )*error: ")
# $1 name: the process that has it on its command line, and that command line
_FIND = r"""
for each in $(grep -lsz "guest[=]$1," /proc/[0-9]*/cmdline); do
  echo "${each%/cmdline}"; tr '\0' '\n' <"$each"; exit
done
exit 1
"""


class LibvirtMachine(QemuProcess):
    """A domain, from `virsh create` or `virsh restore` on. It lives as long as virsh's connection,
    `process`."""

    def __init__(
        self, virsh: Virsh, plan: Tuning, supplied: Supplied, state: str = "", xml: str = ""
    ) -> None:
        """Start it, or restore it from the file `state` with the settings that `xml` has. Raises
        LaunchError with libvirt's own words."""
        self.host = virsh.host
        self.virsh = virsh
        self.plan = plan
        self.name = supplied.name
        self.xml = xml or domain(plan, supplied)
        file = f"{supplied.folder}/domain.xml"
        how = ("restore", state, "--xml", file) if state else ("create", file, "--autodestroy")
        self.argv: tuple[str, ...] = tuple(virsh.argv(*how))
        self.host.write(file, self.xml.encode())
        arguments = (supplied.folder, virsh.uri, supplied.console)
        script = ["sh", "-c", _LIFE, "vbench-domain", *arguments]
        self.process = self.host.start(script)
        try:
            self._create(shlex.join(how))
            self.pid, self.argv = self._find()
            self.vcpu_threads = [int(cpu["thread-id"]) for cpu in self.query("query-cpus-fast")]
            self._times = ThreadTimes(
                self.host, self.pid, self.vcpu_threads, kernel_threads(self.host, self.pid)
            )
        except HostError as error:
            self.process.kill()
            raise LaunchError(
                error.what, evidence=f"{error.evidence}\n{self.evidence()}"
            ) from error
        except BaseException:
            self.process.kill()
            raise

    def _create(self, command: str) -> None:
        with contextlib.suppress(OSError):  # it has ended, and says why
            self.process.stream.sendall(f"{command}\n".encode())
        timeout_s = TIMEOUT_S * self.host.timeout_scale
        result = self.process.wait_for(lambda line: bool(_RESULT.match(line)), timeout_s)
        if result is None or _FAILED.match(result):
            # the first error says what failed, and a second one why
            why = result and self.process.wait_for(lambda line: bool(_FAILED.match(line)), 5.0)
            late = "" if result or self.process.wait(1.0) is not None else f" in {timeout_s:g} s"
            raise LaunchError(
                "libvirt did not start the domain"
                + (f": {_FAILED.sub('', why or result)}" if result else late),
                evidence=self.evidence(),
                remedy="`vbench doctor` says what libvirt lacks here",
            )

    def _find(self) -> tuple[int, tuple[str, ...]]:
        """QEMU's process and its command line. Raises HostError."""
        done = self.host.run(["sh", "-c", _FIND, "vbench-find", self.name], timeout_s=20)
        if done.status != 0:
            raise HostError(
                "the domain runs, but no process of this host has its name",
                evidence=f"guest={self.name}",
            )
        folder, *argv = done.stdout.splitlines()
        return int(folder.rpartition("/")[2]), tuple(argv)

    def evidence(self, lines: int = 15) -> str:
        """The command line, the domain, and the last `lines` of virsh and the console."""
        tail = self.console().splitlines()[-lines:]
        return "\n".join([shlex.join(self.argv), self.xml, *tail])

    def query(self, command: str, arguments: Mapping[str, object] | None = None) -> Any:
        """A QMP command; None where QEMU refuses it. Raises HostError."""
        return self.virsh.monitor(self.name, command, arguments)

    def cgroup(self) -> str:
        """The control groups of its first vCPU, as the kernel lists them. Raises HostError."""
        return self.host.read(f"/proc/{self.pid}/task/{self.vcpu_threads[0]}/cgroup")

    def silence(self) -> str:
        """What libvirt says of a guest that does not answer."""
        try:
            state = self.virsh.ask("domstate", self.name, "--reason", timeout_s=5)
            ran_s = self.usage()["vcpu_cpu_s"]
        except (HostError, ConnectionLost, GuestLost) as error:
            return f"no more could be asked: {error.what}"
        return f"libvirt says {state.strip()}; its vCPUs ran {ran_s:.3f} s"

    def pause(self) -> None:
        self._tell("suspend")

    def resume(self) -> None:
        self._tell("resume")

    def _tell(self, command: str) -> None:
        try:
            self.virsh.ask(command, self.name)
        except HostError as error:
            ended = self.process.wait(1.0) is not None
            what = "the guest's machine ended" if ended else error.what
            raise GuestLost(what, evidence=self.evidence()) from error
