"""Plain processes within limits: control groups of their own, made and removed again."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from vbench.contract.host import Host
from vbench.contract.undo import undone
from vbench.system.cgroups import room

_TIMEOUT_S = 20.0
# The groups are named after their limits' owner and hold nothing else: all in them is ended. What
# is being killed needs a moment until the group can be removed.
_REMOVE = """
for group in {groups}; do
  for try in $(seq 100); do
    [ -d "$group" ] || break
    while read -r pid; do kill -KILL "$pid" 2>/dev/null; done < "$group/cgroup.procs"
    rmdir "$group" 2>/dev/null && break
    sleep 0.05
  done
  [ ! -d "$group" ] || {{ echo "$group is still there" >&2; exit 1; }}
done
"""
# $1 memory in bytes, $2 processes. Where no swap is counted, there is no such file.
_MAKE = """
set -e
for group in {groups}; do
  mkdir "$group"
  for known in "memory.max $1" "memory.limit_in_bytes $1" "memory.memsw.limit_in_bytes $1" \
    "memory.swap.max 0" "pids.max $2"; do
    [ ! -e "$group/${{known% *}}" ] || echo "${{known#* }}" > "$group/${{known% *}}"
  done
done
has() {{ for group in {groups}; do [ ! -e "$group/$1" ] || return 0; done; return 1; }}
has pids.max
has memory.max || has memory.limit_in_bytes
has cpu.weight || has cpu.shares
"""
# Then the rest of the words are run in those groups, in which all that they start is as well.
_ENTER = """
for group in {groups}; do echo $$ > "$group/cgroup.procs" || exit 125; done
exec "$@"
"""


@contextmanager
def limited(host: Host, memory_mib: int, processes: int) -> Iterator[tuple[str, ...] | None]:
    """An argv prefix that runs its words with so much memory and so many processes at most, and
    with a share of the CPUs of its own. What runs so is ended with the context. None where this
    host lets us make no such groups.

    Raises HostError if a group cannot be removed.
    """
    name = f"vbench-{secrets.token_hex(4)}"
    above = room(host.read("/proc/self/cgroup"), host.read("/proc/self/mountinfo"))
    groups = " ".join(f"'{folder}/{name}'" for folder in above)
    if not groups:
        yield None
        return
    with undone(host, _REMOVE.format(groups=groups)):
        made = host.run(
            [
                "sh",
                "-c",
                _MAKE.format(groups=groups),
                "make",
                str(memory_mib << 20),
                str(processes),
            ],
            timeout_s=_TIMEOUT_S,
        )
        enter = ("sh", "-c", _ENTER.format(groups=groups), "limited")
        yield enter if made.status == 0 else None
