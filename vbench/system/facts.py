"""What a host is, asked through `run` and `read` alone. Standard library only.

Used before anything is installed (`python3 -m vbench.system.doctor`) and for every host later,
so it needs no more of a host than `Reader`, and no more of the machine than a shell and /proc.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from vbench.errors import HostError
from vbench.model import Output
from vbench.system import process
from vbench.system.cgroups import stat_files

CPU = "/sys/devices/system/cpu"
QEMU = "qemu-system-x86_64"
UNKNOWN = "unknown"
_TOLD = ("physical_host", "inventory_name")

# Where plain users' and ssh's PATH ends, ip, modprobe and their like begin.
_WITH_SBIN = 'PATH="$PATH:/usr/sbin:/sbin"; '


class Reader(Protocol):
    """The part of `vbench.hosts.Host` that facts need."""

    def run(self, argv: Sequence[str], *, timeout_s: float, stdin: bytes = b"") -> Output: ...

    def read(self, path: str) -> str: ...


class LocalReader:
    """This machine, before anything is installed."""

    def run(self, argv: Sequence[str], *, timeout_s: float, stdin: bytes = b"") -> Output:
        """Run to the end. Raises HostError if it cannot start or passes `timeout_s`."""
        try:
            # not tied: setpriv may be among what is missing here
            return process.run(argv, timeout_s=timeout_s, stdin=stdin, tied=False).text()
        except TimeoutError as error:
            raise HostError(f"{argv[0]} did not end within {timeout_s:g} s") from error
        except OSError as error:
            raise HostError(f"cannot run {argv[0]}: {error.strerror}") from error
        except BufferError as error:
            raise HostError(f"{argv[0]} {error}") from error

    def read(self, path: str) -> str:
        """A text file. Raises HostError."""
        try:
            return Path(path).read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise HostError(f"cannot read {path}: {error.strerror}") from error


def text(host: Reader, path: str) -> str:
    """A file's text without the ends, "" if it cannot be read."""
    try:
        return host.read(path).strip()
    except HostError:
        return ""


def first(host: Reader, *paths: str) -> str:
    """The text of the first of `paths` that has any."""
    return next((found for path in paths if (found := text(host, path))), "")


def shell(host: Reader, script: str, *arguments: str, timeout_s: float = 10.0) -> Output:
    """Run a POSIX shell script with sbin on its path; status 127 if it cannot be run."""
    try:
        return host.run(["sh", "-c", _WITH_SBIN + script, "sh", *arguments], timeout_s=timeout_s)
    except HostError as error:
        return Output(127, "", error.what)


def output(host: Reader, script: str, *arguments: str) -> str:
    """What a script that succeeds writes to standard output, stripped; else ""."""
    out = shell(host, script, *arguments)
    return out.stdout.strip() if out.status == 0 else ""


def which(host: Reader, tool: str) -> str:
    """The path of `tool`, or ""."""
    return output(host, 'command -v "$1"', tool)


def listing(host: Reader, folder: str) -> list[str]:
    """Names in a folder, sorted; empty if there is no such folder."""
    return output(host, 'ls -A "$1" 2>/dev/null', folder).split()


def cpuinfo(host: Reader) -> dict[str, str]:
    """The first processor of /proc/cpuinfo."""
    fields: dict[str, str] = {}
    for line in text(host, "/proc/cpuinfo").splitlines():
        name, colon, value = line.partition(":")
        if not colon:
            break
        fields[name.strip()] = value.strip()
    return fields


def memory_mib(host: Reader, field: str) -> int | None:
    """`MemTotal` or `MemAvailable` of /proc/meminfo, which counts in KiB."""
    for line in text(host, "/proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) // 1024
    return None


def governor(host: Reader) -> str:
    """The frequency governor; "none" where the kernel has no control over the frequency."""
    return text(host, f"{CPU}/cpu0/cpufreq/scaling_governor") or "none"


def turbo(host: Reader) -> str:
    """Whether the CPU may exceed its base frequency: "on", "off" or "unknown"."""
    no_turbo = text(host, f"{CPU}/intel_pstate/no_turbo")
    boost = text(host, f"{CPU}/cpufreq/boost")
    return {"0": "on", "1": "off"}.get(no_turbo) or {"1": "on", "0": "off"}.get(boost) or UNKNOWN


def smt(host: Reader) -> str:
    """Whether two threads share a core: "on", "off" or "unknown"."""
    return {"1": "on", "0": "off"}.get(text(host, f"{CPU}/smt/active"), UNKNOWN)


def virtualization(host: Reader) -> str:
    """What the host itself runs under; "none" on bare hardware."""
    if kind := text(host, "/sys/hypervisor/type"):
        dom0 = "control_d" in text(host, "/proc/xen/capabilities")
        return f"{kind} dom0" if dom0 else kind
    # Exit status 1 with "none" on hardware; containers are left out, they cost nothing.
    kind = shell(host, "systemd-detect-virt --vm").stdout.strip()
    if kind and kind != "none":
        return kind
    if "hypervisor" not in cpuinfo(host).get("flags", "").split():
        return "none"
    clocks = text(host, "/sys/devices/system/clocksource/clocksource0/available_clocksource")
    for clock, name in (("kvm-clock", "kvm"), ("hyperv", "microsoft"), ("xen", "xen")):
        if clock in clocks:
            return name
    maker = text(host, "/sys/class/dmi/id/sys_vendor")
    return f"a virtual machine ({maker})" if maker else "a virtual machine of unknown kind"


def virtualization_flag(host: Reader) -> str:
    """What the first processor shows for hardware virtualization: "vmx", "svm" or "none";
    "unknown" where /proc/cpuinfo shows no flags."""
    flags = cpuinfo(host).get("flags", "").split()
    if not flags:
        return UNKNOWN
    return next((flag for flag in ("vmx", "svm") if flag in flags), "none")


def kvm_modules(host: Reader) -> list[str]:
    """Modules of KVM that are loaded or built in, as /sys/module lists them."""
    return [name for name in listing(host, "/sys/module") if name.startswith("kvm")]


def kvm_parameter(host: Reader, amd: str, intel: str) -> str:
    """A switch of the KVM module for this processor, by its name on AMD and on Intel: "on", "off",
    or "unknown" where that module is not loaded."""
    modules = {"svm": ("kvm_amd", amd), "vmx": ("kvm_intel", intel)}
    module, name = modules.get(virtualization_flag(host), ("", ""))
    value = text(host, f"/sys/module/{module}/parameters/{name}") if module else ""
    return {"1": "on", "Y": "on", "0": "off", "N": "off"}.get(value, UNKNOWN)


def mitigations(host: Reader) -> str:
    """One line: which CPU vulnerabilities are mitigated, which are open."""
    folder = f"{CPU}/vulnerabilities"
    groups: dict[str, list[str]] = {"mitigated": [], "vulnerable": [], "not affected": []}
    for line in output(host, 'cd "$1" && grep . *', folder).splitlines():
        name, _, state = line.partition(":")
        low = state.lower()
        key = next((key for key in ("not affected", "vulnerable") if key in low[:20]), "mitigated")
        groups[key].append(name)
    unaffected = len(groups.pop("not affected"))
    parts = [f"{key}: {', '.join(sorted(names))}" for key, names in groups.items() if names]
    if unaffected:
        parts.append(f"not affected by {unaffected} others")
    parts += [
        f"booted with {word}"
        for word in text(host, "/proc/cmdline").split()
        if word.startswith("mitigations=")
    ]
    return "; ".join(parts) or UNKNOWN


def qemu_version(host: Reader, *command: str) -> str:
    """ "7.2.22", "" without QEMU. `command` starts another one than the installed.

    The first line is "QEMU emulator version 7.2.22 (...)"."""
    words = output(host, '"$@" --version', *(command or (QEMU,))).split()
    return words[3] if words[:3] == ["QEMU", "emulator", "version"] and len(words) > 3 else ""


def distribution(host: Reader) -> str:
    """PRETTY_NAME of /etc/os-release."""
    for line in first(host, "/etc/os-release", "/usr/lib/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip("\"'")
    return UNKNOWN


def huge_pages(host: Reader) -> str:
    """The chosen word of "always [madvise] never"."""
    words = text(host, "/sys/kernel/mm/transparent_hugepage/enabled").split()
    return next((word.strip("[]") for word in words if word.startswith("[")), "none")


_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_CARDS = 'for n in /sys/class/net/*; do [ ! -e "$n/device" ] || cat "$n/address"; done | sort -u'


def machine_id(host: Reader) -> str:
    """The installation's own id, hashed; this boot's where there is none, as in containers.

    Hashed with a key of our own, as machine-id(5) asks of what leaves the machine.
    """
    return _hashed(first(host, "/etc/machine-id", "/var/lib/dbus/machine-id", _BOOT_ID))


def address(host: Reader) -> str:
    """The hardware addresses of the network cards, hashed; this boot's id where none is seen.

    Machines cloned from one template may share even their machine id, but on one network no
    address.
    """
    return _hashed(output(host, _CARDS) or text(host, _BOOT_ID))


def _hashed(text: str) -> str:
    return hmac.digest(b"vbench", text.encode(), "sha256").hex()[:16] if text else UNKNOWN


def priority(host: Reader) -> str:
    """Nice value and scheduling policy of what is started there: fields 19 and 41 of proc(5)
    pid/stat, counted after the name, which may hold blanks."""
    fields = text(host, "/proc/self/stat").rpartition(")")[2].split()
    if len(fields) < 39:
        return UNKNOWN
    policies = {"0": "SCHED_OTHER", "1": "SCHED_FIFO", "2": "SCHED_RR", "3": "SCHED_BATCH"}
    return f"nice {fields[16]}, {policies.get(fields[38], f'policy {fields[38]}')}"


def cpu_quota(host: Reader) -> str:
    """The smallest CPU quota of the own control group and those above it, in CPUs, or "none"."""
    groups = (text(host, "/proc/self/cgroup"), text(host, "/proc/self/mountinfo"))
    quotas = []
    for file in stat_files(*groups):
        folder = file.rpartition("/")[0]
        # version 2 has "QUOTA PERIOD" or "max PERIOD", version 1 two files and -1
        numbers = text(host, f"{folder}/cpu.max").split() or [
            text(host, f"{folder}/cpu.cfs_{name}_us") for name in ("quota", "period")
        ]
        if all(number.isdigit() for number in numbers):
            quotas.append(int(numbers[0]) / int(numbers[1]))
    return f"{min(quotas):g}" if quotas else "none"


def scratch_folder(host: Reader) -> dict[str, str]:
    """Where the scratch disk is made: its file system and device."""
    # both busybox and coreutils have -P and -T: device, type, sizes, mount point
    line = output(host, 'df -PT "${VBENCH_TMP:-/var/tmp}" | tail -n 1').split()
    device, kind = line[:2] if len(line) > 1 else (UNKNOWN, UNKNOWN)
    return {"scratch_file_system": kind, "scratch_device": device}


def told() -> dict[str, str]:
    """What the user says of this run's host: the machine beneath it, which guests cannot see, and
    its name in an inventory."""
    names = {key: os.environ.get(f"VBENCH_{key.upper()}", "") for key in _TOLD}
    return {key: name for key, name in names.items() if name}


def facts(host: Reader) -> dict[str, str]:
    """What a reader needs to judge numbers from this host: the `facts` of `HostFacts`."""
    total = memory_mib(host, "MemTotal")
    return {
        "machine_id": machine_id(host),
        "address": address(host),
        "cpu_model": cpuinfo(host).get("model name", UNKNOWN),
        "cpus": output(host, "nproc") or UNKNOWN,
        "memory_mib": str(total) if total else UNKNOWN,
        "kernel": text(host, "/proc/sys/kernel/osrelease") or UNKNOWN,
        "distribution": distribution(host),
        "virtualization": virtualization(host),
        "virtualization_flag": virtualization_flag(host),
        "kvm_modules": " ".join(kvm_modules(host)) or "none",
        "nested": kvm_parameter(host, "nested", "nested"),
        "nested_paging": kvm_parameter(host, "npt", "ept"),
        "qemu": qemu_version(host) or "none",
        "governor": governor(host),
        "turbo": turbo(host),
        "smt": smt(host),
        "mitigations": mitigations(host),
        "clocksource": text(
            host, "/sys/devices/system/clocksource/clocksource0/current_clocksource"
        )
        or UNKNOWN,
        "page_size": output(host, "getconf PAGE_SIZE") or UNKNOWN,
        "transparent_hugepage": huge_pages(host),
        "tcp_congestion_control": text(host, "/proc/sys/net/ipv4/tcp_congestion_control")
        or UNKNOWN,
        "user": "root" if output(host, "id -u") == "0" else "not root",
        "priority": priority(host),
        "cpu_quota": cpu_quota(host),
        **scratch_folder(host),
        **told(),
    }
