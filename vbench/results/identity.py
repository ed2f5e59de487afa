"""What makes figures comparable: the one rule of `report` and `compare`. Pure.

A key is a mapping of what must be alike to its value. A value that a file does not have is "":
older files compare by what they have among themselves, and are never taken for newer ones.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from vbench.model import HostFacts, Item, Launch, Result

Key = Mapping[str, str]

_UNKNOWN = ("", "unknown")
_SHORT = 12  # characters of a value that mostly tell it from others
# Keys of a machine class in which machines may be let differ. The time base is none.
CLASS_KEYS = ("host kind", "CPU model", "CPUs", "kernel", "clock source")


def machine(host: HostFacts) -> Key:
    """One machine with one system on it: figures of one may be pooled, of two never."""
    facts = host.facts
    return {
        "time base": host.time_base.value,
        "host": host.identity,
        "machine id": facts.get("machine_id", ""),
        "network address": facts.get("address", ""),
        "CPU model": facts.get("cpu_model", ""),
        "CPUs": facts.get("cpus", ""),
        "kernel": facts.get("kernel", ""),
        "memory": _memory(facts.get("memory_mib", "")),
        "clock source": _clock(facts),
    }


def _clock(facts: Mapping[str, str]) -> str:
    """A kernel that has just booted reads the TSC as tsc-early until it has calibrated it."""
    return facts.get("clocksource", "").removesuffix("-early")


def unit(host: HostFacts) -> tuple[str, ...]:
    """What is independent of others. Guests of one physical machine are not: they count as that."""
    physical = host.facts.get("physical_host", "")
    return ("physical", physical) if physical else tuple(machine(host).values())


def _memory(mib: str) -> str:
    """To two digits: what the kernel keeps for itself differs by a little from boot to boot."""
    return f"{float(mib) / 1024:.2g} GiB" if mib.isdigit() else ""


def machine_class(host: HostFacts) -> Key:
    """Machines of one kind: what one of them measures, another should, whatever its name."""
    facts = host.facts
    return {
        "time base": host.time_base.value,
        "host kind": host.kind.value,
        "CPU model": facts.get("cpu_model", ""),
        "CPUs": facts.get("cpus", ""),
        "kernel": facts.get("kernel", ""),
        "clock source": _clock(facts),
    }


def cpu_known(key: Key) -> bool:
    """Whether machines of this class are known to have the same CPUs, so that seconds compare."""
    return all(key.get(name, "") not in _UNKNOWN for name in ("CPU model", "CPUs"))


def settings(result: Result, item: Item) -> Key:
    """How the guests of an item were built: image, versions of the hypervisor, devices.

    Where its boots differ in one of these, all values, each once.
    """
    values: dict[str, dict[str, None]] = {}
    launches = {launch.id: launch for launch in result.launches}
    for id in item.launches:
        if id in launches:
            for name, value in _settings(launches[id]).items():
                values.setdefault(name, {})[value] = None
    return {name: " and ".join(of) for name, of in values.items()}


def programs(launch: Launch) -> Key:
    """What ran the guest: versions, and digests of the files."""
    return {
        **{f"version of {name}": version for name, version in launch.versions.items()},
        **{f"digest of {name}": digest for name, digest in launch.digests.items()},
    }


def _settings(launch: Launch) -> dict[str, str]:
    can = launch.capabilities
    return {
        "image": launch.image,
        **{key: value for key, value in programs(launch).items() if key != "version of vbench"},
        **{f"device setting {name}": value for name, value in launch.device.rows().items()},
        **({"network": f"{can.network.value}, {can.network_by}"} if can else {}),
    }


def differing(one: Key, other: Key) -> list[str]:
    """The keys in which two differ, each with both values: "CPUs (`2` against `4`)"."""
    names = dict.fromkeys([*one, *other])
    return [
        f"{name} ({_short(one.get(name, ''))} against {_short(other.get(name, ''))})"
        for name in names
        if one.get(name, "") != other.get(name, "")
    ]


def _short(text: str) -> str:
    if not text:
        return "unknown"
    return f"`{text[:19]}…`" if len(text) > 40 else f"`{text}`"


def name(host: HostFacts) -> str:
    """What a host is called: by Ansible's inventory, or by itself."""
    return host.facts.get("inventory_name") or host.identity


def names(hosts: Iterable[HostFacts], keys: Collection[str]) -> Callable[[HostFacts], str]:
    """Names that tell `hosts` apart: where several of one name differ in one of `keys`, which are
    those of `machine`, its value is added."""
    found: dict[tuple[str, str], set[str]] = {}
    for host in hosts:
        of = machine(host)
        for key in keys:
            found.setdefault((name(host), key), set()).add(of[key])

    def told_apart(host: HostFacts) -> str:
        of = machine(host)
        parts = [name(host)]
        for key in keys:
            values = found[parts[0], key]
            if len(values) > 1 and of[key]:
                unlike = len({value[:_SHORT] for value in values}) == len(values)
                parts.append(f"{key} {of[key][:_SHORT] if unlike else of[key]}")
        return ", ".join(parts)

    return told_apart
