"""virsh on a host: how libvirt is asked, why it may not answer, and what of ours was left."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from vbench.contract.host import Host
from vbench.errors import HostError, HostTimeout
from vbench.hypervisors.libvirt.domain import LAUNCH, NAME_PREFIX
from vbench.model import Availability

SYSTEM, SESSION = "qemu:///system", "qemu:///session"
# The first call may start the daemon, which asks QEMU for all that it can do.
TIMEOUT_S = 60.0
SETUP = "vbench setup --libvirt"
_RESTART = "end libvirt's daemon, libvirtd or virtqemud, and start it again"

# $1 URI, $2 name. Ends a domain whatever is left of it: libvirt ends it, and where libvirt is gone,
# hangs or lost it, its process is killed, which has the name on its command line. The file of
# QEMU's messages is the domain's own.
END = r"""
timeout 20 virsh -q -c "$1" destroy "$2" >/dev/null 2>&1
for each in $(grep -lsz "guest[=]$2," /proc/[0-9]*/cmdline); do
  each=${each#/proc/}; kill -KILL "${each%/cmdline}" 2>/dev/null
done
rm -f "/var/log/libvirt/qemu/$2.log" "${XDG_CACHE_HOME:-$HOME/.cache}/libvirt/qemu/log/$2.log"
exit 0
"""
_ERROR = re.compile(r"^(?:virsh # )*error: (.*)", re.MULTILINE)


def end_script(uri: str, name: str) -> str:
    """A shell script that ends the domain, for whoever is left to run it."""
    return f"set -- {shlex.quote(uri)} {shlex.quote(name)}\n{END}"


class Virsh:
    """libvirt's QEMU driver on a host, by a connection URI; "" is the user's own: the system's for
    root, else the session's."""

    def __init__(self, host: Host, uri: str = "") -> None:
        self.host = host
        who = host.run(["sh", "-c", "id -u; id -g"], timeout_s=20).stdout.split()
        self.user, self.group = who[0], who[1]
        self.uri = uri or (SYSTEM if self.user == "0" else SESSION)

    @property
    def privileged(self) -> bool:
        """Whether the daemon is root's: it then chooses whom QEMU runs as, and makes taps."""
        return "/session" not in self.uri

    def argv(self, *words: str) -> list[str]:
        return ["env", "LC_ALL=C", "virsh", "-q", "-c", self.uri, *words]

    def ask(self, *words: str, timeout_s: float = TIMEOUT_S) -> str:
        """What virsh says. Raises HostError with its own words."""
        argv = self.argv(*words)
        try:
            done = self.host.run(argv, timeout_s=timeout_s * self.host.timeout_scale)
        except HostTimeout as error:
            raise HostTimeout(
                f"virsh {words[0]}: no answer of libvirt at {self.uri} within {timeout_s:g} s",
                evidence=shlex.join(argv),
                remedy=_RESTART,
            ) from error
        if done.status != 0:
            why = first_error(done.stderr) or f"exit status {done.status}"
            raise HostError(f"virsh {words[0]}: {why}", evidence=f"{shlex.join(argv)}\n{why}")
        return done.stdout

    def monitor(
        self, name: str, command: str, arguments: Mapping[str, object] | None = None
    ) -> Any:
        """A QMP command to the domain's QEMU; None where it refuses it. Raises HostError."""
        text = json.dumps({"execute": command, **({"arguments": arguments} if arguments else {})})
        return json.loads(self.ask("qemu-monitor-command", name, text)).get("return")

    def able(self, kind: str) -> Availability:
        """Whether libvirt answers this user and can start domains of type `kind`."""
        argv = self.argv("version")
        try:
            done = self.host.run(argv, timeout_s=TIMEOUT_S * self.host.timeout_scale)
        except HostTimeout:
            return Availability(
                False, f"libvirt at {self.uri} hangs: no answer within {TIMEOUT_S:g} s", _RESTART
            )
        if done.status == 127:
            return Availability(False, "virsh is not installed", f"run `{SETUP}`")
        if done.status != 0:
            return self._refused(done.stderr)
        if "QEMU" not in done.stdout:
            return Availability(
                False, f"{self.uri} is no connection to QEMU", f"uri={SYSTEM} or uri={SESSION}"
            )
        try:
            self.ask("domcapabilities", "--virttype", kind)
        except HostError as error:
            return Availability(
                False,
                f"libvirt starts no domains of type {kind}: {error.what.rpartition(': ')[2]}",
                "`vbench doctor` says what KVM lacks"
                if kind == "kvm"
                else f"install QEMU and libvirt's driver for it: `{SETUP}`",
            )
        return Availability(True)

    def _refused(self, stderr: str) -> Availability:
        errors = _ERROR.findall(stderr)
        why = errors[-1] if errors else stderr.strip() or "no reason given"
        if re.search(r"(?i)permission denied|authenti|authori|polkit", why):
            return Availability(
                False,
                f"this user may not use {self.uri}: {why}",
                f"sudo usermod -aG libvirt $USER, then log in again; or uri={SESSION}",
            )
        return Availability(
            False,
            f"libvirt does not answer at {self.uri}: {why}",
            f"start its daemon: sudo systemctl start libvirtd (or virtqemud); or `{SETUP}`"
            if self.privileged
            else f"`{SETUP}` installs libvirt's daemon, which virsh then starts by itself",
        )

    def version(self) -> str:
        """ "9.0.0". Raises HostError."""
        found = re.search(r"Using library: libvirt (\S+)", self.ask("version"))
        return found[1] if found else "unknown"

    def end(self, name: str) -> None:
        """End a domain of ours, whatever is left of it."""
        argv = ["sh", "-c", END, "vbench-end", self.uri, name]
        self.host.run(argv, timeout_s=TIMEOUT_S * self.host.timeout_scale)

    def end_left(self) -> list[str]:
        """End the domains that a killed vbench of this user left; their names.

        Such a one has our mark, this user, and a working directory that is gone. Nobody else's is
        touched, and none of a vbench that runs.
        """
        left = [name for name in self._own_names() if self._is_left(name)]
        for name in left:
            self.end(name)
        return left

    def _own_names(self) -> list[str]:
        names = self.ask("list", "--all", "--name").split()
        return [name for name in names if name.startswith(NAME_PREFIX)]

    def _is_left(self, name: str) -> bool:
        try:
            root = ElementTree.fromstring(self.ask("dumpxml", name))
        except HostError:  # it has just ended
            return False
        launch = root.find(f"metadata/{LAUNCH}")
        if launch is None or launch.get("user") != self.user or not launch.get("folder"):
            return False
        there = self.host.run(["test", "-e", launch.get("folder", "")], timeout_s=20)
        return there.status == 1


def first_error(text: str) -> str:
    """The first of virsh's errors; the others say where it came from."""
    found = _ERROR.search(text)
    return found[1] if found else text.strip()
