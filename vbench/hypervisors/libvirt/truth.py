"""What libvirt and QEMU made of a domain, against what its XML asked for.

libvirt fills in what an XML leaves open; what it states must be there in the running domain. QEMU
drops what it does not have, such as features of a CPU model, with a warning only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from xml.etree.ElementTree import Element

from vbench.hosts.pinning import parse_list
from vbench.hypervisors.libvirt.tuning import Tuning
from vbench.hypervisors.qemu.truth import Process

Query = Callable[..., Any]

# Where an element of the tuning must be found again as it was. Others change their form: memory
# its unit, a machine type its alias, a CPU model its expansion.
_AGAIN = (
    *("cputune", "numatune", "memoryBacking", "memtune", "blkiotune", "iothreads"),
    *("features", "devices/disk/driver", "devices/disk/iotune", "devices/interface/driver"),
    *("devices/interface/model", "devices/memballoon"),
)
_DIRECT = {"none": True, "directsync": True, "writeback": False, "writethrough": False}


def look(
    tuning: Tuning,
    asked: Element,
    live: Element,
    *,
    query: Query,
    process: Process,
    vcpu_threads: list[int],
) -> tuple[dict[str, str], list[str]]:
    """Evidence, and what is not as the XML says that was `asked` for. `live` is the running
    domain's."""
    problems = [
        f"<{path.rpartition('/')[2]}> of the running domain lacks {lack}"
        for path in _AGAIN
        for lack in lacking(asked.find(path), live.find(path))
    ]
    problems += [f"the domain has type {live.get('type')}"] * (live.get("type") != tuning.type)
    disk, disk_problems = _disk(tuning.disk, query, process)
    cpu, cpu_problems = _cpu(tuning.root.find("cpu"), query)
    pins, pin_problems = _pins(tuning.pins, vcpu_threads, process)
    network = {"network: devices served by vhost": str(process.vhost)}
    if tuning.network.get("name") == "qemu" and process.vhost:
        problems.append("the kernel serves the network card (vhost), and not QEMU")
    machine = live.find("os/type")
    evidence = {
        "libvirt: machine": "" if machine is None else machine.get("machine", ""),
        **disk,
        **network,
        **cpu,
        **pins,
    }
    return evidence, [*problems, *disk_problems, *cpu_problems, *pin_problems]


def lacking(asked: Element | None, live: Element | None) -> list[str]:
    """What `asked` states and `live` does not: elements and attributes, as text."""
    if asked is None:
        return []
    if live is None:
        return [] if _empty(asked) else [f"<{asked.tag}>"]
    found = [
        f"{name}={value!r}"
        for name, value in asked.attrib.items()
        if live.get(name) != value and name != "alias"
    ]
    text, other = (asked.text or "").strip(), (live.text or "").strip()
    if text and text != other:
        found.append(f"{asked.tag} {text!r}")
    unused = list(live)
    for child in asked:
        if child.tag in ("address", "alias") or _empty(child):
            continue
        near = [each for each in unused if each.tag == child.tag]
        whole = next((each for each in near if not lacking(child, each)), None)
        if whole is not None:
            unused.remove(whole)
        elif near:
            found += [f"{child.tag}: {lack}" for lack in lacking(child, near[0])]
        else:
            found.append(f"<{child.tag}>")
    return found


def _empty(element: Element) -> bool:
    """Whether it holds nothing but folders of nothing: <cputune/>. <acpi/> says something."""
    return element.tag in ("cputune", "memtune", "numatune", "blkiotune") and not len(element)


def _disk(driver: Element, query: Query, process: Process) -> tuple[dict[str, str], list[str]]:
    nodes = query("query-named-block-nodes", {"flat": True}) or []
    caches = [node["cache"] for node in nodes if node.get("drv") == "raw"]
    evidence = {
        "disk: cache": "; ".join(
            " ".join(f"{key}={'on' if value else 'off'}" for key, value in sorted(cache.items()))
            for cache in caches
        ),
        "disk: I/O engines set up": " ".join(sorted(process.engines)) or "none of the kernel's",
    }
    problems = []
    wanted = _DIRECT.get(driver.get("cache", ""))
    if wanted is not None and any(cache.get("direct", False) is not wanted for cache in caches):
        problems.append(f"the disk's cache is not {driver.get('cache')}")
    engine = driver.get("io", "")
    if engine in ("native", "io_uring") and engine not in process.engines:
        problems.append(f"io={engine} was not set up")
    return evidence, problems


def _cpu(asked: Element | None, query: Query) -> tuple[dict[str, str], list[str]]:
    """Features of a named CPU model that QEMU has dropped."""
    cpus = query("query-cpus-fast") or [{}]
    path = cpus[0].get("qom-path", "")
    arguments = {"path": path, "property": "unavailable-features"}
    dropped = (query("qom-get", arguments) or []) if path else []
    if not dropped:
        return {}, []
    evidence = {"CPU: features that QEMU dropped": " ".join(dropped)}
    named = asked is not None and asked.find("model") is not None
    if not named or (asked is not None and asked.get("check") == "none"):
        return evidence, []
    return evidence, [f"the CPU lacks {' '.join(dropped)} of its model"]


def _pins(
    pins: Mapping[int, str], vcpu_threads: list[int], process: Process
) -> tuple[dict[str, str], list[str]]:
    allowed = [process.cpus.get(thread, "unknown") for thread in vcpu_threads]
    problems = [
        f"vCPU {vcpu} is on CPUs {allowed[vcpu]}, not {asked}"
        for vcpu, asked in pins.items()
        if vcpu < len(allowed) and set(parse_list(allowed[vcpu])) != set(cpu_set(asked))
    ]
    return {"CPUs": f"vCPUs {' '.join(allowed)}"}, problems


def cpu_set(text: str) -> list[int]:
    """The numbers of libvirt's sets: "0-3,^2" is 0, 1, 3."""
    parts = text.replace(" ", "").split(",")
    without = {number for part in parts if part[:1] == "^" for number in parse_list(part[1:])}
    numbers = parse_list(",".join(part for part in parts if part[:1] != "^"))
    return [number for number in numbers if number not in without]
