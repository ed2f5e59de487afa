"""What a user needs to launch guests as these were launched: the modes of what was opened."""

from __future__ import annotations

from vbench.contract.host import Host
from vbench.records import Access
from vbench.system.facts import output

ANY_USER, ROOT = "any user", "root"
# Mode, owner, group and name of each character device that the process $1 has open. Block devices
# are disks under test, taps the measuring network's, and a terminal is its user's.
_OPEN = """
for each in /proc/$1/fd/*; do
  name=$(readlink "$each")
  case $name in /dev/pts/*|/dev/tty*|/dev/net/tun) continue;; esac
  [ ! -c "$each" ] || echo "$(stat -L -c '%A %U %G' "$each") $name"
done | sort -u
"""
_STAT = """stat -c '%A %U %G %n' "$1" """


def of_process(host: Host, pid: int) -> Access:
    """By the devices that a process has open, such as /dev/kvm."""
    return judged(output(host, _OPEN, str(pid)), "its process has no device open but every user's")


def of_device(host: Host, path: str) -> Access | None:
    """By the device that a program opens to reach the hypervisor; None where it is not there."""
    found = output(host, _STAT, path)
    return judged(found, found) if found else None


def judged(listed: str, open_to_all: str) -> Access:
    """The most that any of the devices asks for; `open_to_all` says that none asks for anything.
    A line of `listed` is mode, owner, group and name."""
    found = [(_who(line), line) for line in listed.splitlines()]
    asking = [(who, line) for who, line in found if who != ANY_USER]
    if not asking:
        return Access(ANY_USER, open_to_all)
    who = ROOT if any(who == ROOT for who, _ in asking) else asking[0][0]
    return Access(who, "; ".join(line for _, line in asking))


def _who(line: str) -> str:
    """Who may read and write what has this mode: "crw-rw---- root kvm /dev/kvm"."""
    mode, _, group, *_ = line.split(" ", 3)
    if mode[7:9] == "rw":
        return ANY_USER
    return f"group {group}" if mode[4:6] == "rw" and group != "root" else ROOT
