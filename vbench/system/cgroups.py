"""The control groups of a host: those that may take CPU time from us, and room for further ones."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

LIMITS = ("cpu", "memory", "pids")


def stat_files(cgroup: str, mountinfo: str) -> list[str]:
    """Paths of cpu.stat from the own group up to the highest that can be seen.

    `cgroup` and `mountinfo` are the texts of /proc/self/cgroup and /proc/self/mountinfo. Version 2
    has one hierarchy, version 1 one of its own for the CPU; both may be mounted.
    """
    groups = _groups(cgroup)
    found = []
    for controllers, root, mounted in _mounts(mountinfo):
        if not {"", "cpu"} & controllers or not groups.keys() & controllers:
            continue
        folder = _inside(groups, controllers, root)
        while folder:
            found.append(f"{mounted}/{folder}/cpu.stat")
            folder = posixpath.dirname(folder)
        found.append(f"{mounted}/cpu.stat")
    return found


def cpu_group(cgroup: str) -> str:
    """The group by which a process gets CPU time, of the text of its /proc/PID/cgroup."""
    groups = _groups(cgroup)
    return groups.get("cpu") or groups.get("", "")


def room(cgroup: str, mountinfo: str) -> list[str]:
    """Folders in which a new group limits CPU time, memory and processes; texts as above.

    Of version 1 below the own group, one for each hierarchy. Of version 2, where a group that has
    processes can have none below it with limits, at the top. Empty where there are none.
    """
    groups = _groups(cgroup)
    first = {
        limit: posixpath.normpath(f"{mounted}/{_inside(groups, controllers, root)}")
        for controllers, root, mounted in _mounts(mountinfo)
        for limit in LIMITS
        if limit in controllers and groups.keys() & controllers
    }
    if len(first) == len(LIMITS):
        return sorted(set(first.values()))
    return [mounted for controllers, _, mounted in _mounts(mountinfo) if "" in controllers][:1]


def _inside(groups: dict[str, str], controllers: set[str], root: str) -> str:
    """The own group below a mount point; "" is that itself."""
    # of a container only a part of the hierarchy is mounted, at `root`; "/.." leads out of it
    path = next(path for name, path in groups.items() if name in controllers)
    inside = posixpath.relpath(path, root)
    outside = inside.startswith("..") or path.startswith("/..")
    return "" if outside else inside.removeprefix(".")


def _groups(text: str) -> dict[str, str]:
    """Path by controller, from lines "ID:CONTROLLERS:PATH"; version 2 has no controllers there."""
    lines = [line.split(":", 2) for line in text.splitlines()]
    return {name: path for _, controllers, path in lines for name in controllers.split(",")}


def _mounts(text: str) -> Iterator[tuple[set[str], str, str]]:
    """(controllers, root, mount point) of each hierarchy: proc_pid_mountinfo(5). Version 2 has "",
    as its line of `_groups` has."""
    for line in text.splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        _, _, _, root, mounted, *_ = fields.split(" ")
        if kind == "cgroup2":
            yield {""}, root, mounted
        elif kind == "cgroup":
            yield set(options.split(",")), root, mounted
