"""The control groups that may take CPU time from what vbench runs on a host: its own and above."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator


def stat_files(cgroup: str, mountinfo: str) -> list[str]:
    """Paths of cpu.stat from the own group up to the highest that can be seen.

    `cgroup` and `mountinfo` are the texts of /proc/self/cgroup and /proc/self/mountinfo. Version 2
    has one hierarchy, version 1 one of its own for the CPU; both may be mounted.
    """
    groups = dict(_groups(cgroup))
    found = []
    for version, root, mounted in _mounts(mountinfo):
        if version not in groups:
            continue
        # of a container only a part of the hierarchy is mounted, at `root`; "/.." leads out of it
        inside = posixpath.relpath(groups[version], root)
        outside = inside.startswith("..") or groups[version].startswith("/..")
        folder = "" if outside else inside.removeprefix(".")
        while folder:
            found.append(f"{mounted}/{folder}/cpu.stat")
            folder = posixpath.dirname(folder)
        found.append(f"{mounted}/cpu.stat")
    return found


def cpu_group(cgroup: str) -> str:
    """The group by which a process gets CPU time, of the text of its /proc/PID/cgroup."""
    groups = dict(_groups(cgroup))
    return groups.get("v1") or groups.get("v2", "")


def _groups(text: str) -> Iterator[tuple[str, str]]:
    """("v1" or "v2", path) from lines "ID:CONTROLLERS:PATH"; version 2 has no controllers there."""
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield "v2", path
        elif "cpu" in controllers.split(","):
            yield "v1", path


def _mounts(text: str) -> Iterator[tuple[str, str, str]]:
    """(version, root, mount point) of the CPU's hierarchies: proc_pid_mountinfo(5)."""
    for line in text.splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        _, _, _, root, mounted, *_ = fields.split(" ")
        if kind == "cgroup2":
            yield "v2", root, mounted
        elif kind == "cgroup" and "cpu" in options.split(","):
            yield "v1", root, mounted
