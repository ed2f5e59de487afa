"""Which QEMU runs: the installed one or another, its version and its digest."""

from __future__ import annotations

import weakref

from vbench.contract.host import Host
from vbench.hypervisors.qemu import bundle
from vbench.hypervisors.qemu.bundle import Binary
from vbench.model import Availability
from vbench.system.facts import QEMU, LocalReader, shell

# $1 a word of the list that the option $2 has in its help, the rest QEMU
_KNOWS = """
word=$1 option=$2; shift 2
"$@" "$option" help | awk -v word="$word" '$1 == word { found = 1 } END { exit !found }'
"""

_known: weakref.WeakKeyDictionary[Host, dict[str, tuple[str, Binary]]] = weakref.WeakKeyDictionary()


def find(host: Host, path: str = "") -> Binary:
    """The QEMU `path` on `host`, or the installed one. It may not be there, or not run."""
    there = host.program(path, lambda: bundle.pack(LocalReader(), path)) if path else QEMU
    known = _known.setdefault(host, {})
    # of the file's inode, size and time: to digest it takes seconds where code is translated
    stamp = shell(host, 'stat -L -c "%d %i %s %Y" "$(command -v "$1")"', there).stdout
    if there not in known or known[there][0] != stamp:
        known[there] = (stamp, bundle.look(host, there, own=bool(path)))
    return known[there][1]


def usable(host: Host, path: str, accel: str, machine: str) -> Availability:
    """Whether it is there, runs, and has the accelerator and the machine type."""
    found = find(host, path)
    if not found.version and not path:
        return Availability(False, f"{QEMU} is not installed", "run `vbench setup`")
    if not found.version:
        return Availability(
            False, f"{path} is no QEMU that runs there: {found.why}", "name its program: qemu=PATH"
        )
    if not path and machine == "pc":
        return Availability(True)
    for option, word in (("-accel", accel), ("-machine", machine)):
        if shell(host, _KNOWS, word, option, *found.command, timeout_s=20).status != 0:
            name = path or QEMU
            return Availability(
                False, f"{name} has no {word}", f"`{name} {option} help` lists what it has"
            )
    return Availability(True)
