"""What a host can do, why not, and what to do about it. Standard library only.

`python3 -m vbench.system.doctor [--json]` works on a bare clone; `vbench doctor` asks any host.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace

from vbench.model import Check
from vbench.system import kvm_probe
from vbench.system.facts import (
    CPU,
    QEMU,
    UNKNOWN,
    LocalReader,
    Reader,
    cpuinfo,
    distribution,
    governor,
    kvm_modules,
    listing,
    memory_mib,
    mitigations,
    output,
    qemu_version,
    shell,
    smt,
    text,
    turbo,
    virtualization,
    which,
)
from vbench.system.packages import PACKAGES, Need, Package, needed_here
from vbench.system.streams import print_anywhere

NEEDED_CACHE_MIB = 3 * 1024  # image, its root tree, a scratch disk, and the testbed's drive
NEEDED_MEMORY_MIB = 2 * 1024  # a guest of 1 GiB and room for QEMU and native beside it
TESTBED_MEMORY_MIB = 7 * 1024  # its machine has 3 GiB, and Xen and VirtualBox get a second one
QEMU_WITH_QUERY_STATS = (7, 1)  # QMP query-stats: exits without root
BUSY_PERCENT = 10.0  # of the time somebody waits for a CPU: pairs would carry flags
SETUP = "vbench setup"
# A remote host is only asked for what launching guests there takes.
NEEDED_REMOTELY = tuple(package for package in PACKAGES if package.need is Need.GUESTS)
SYMBOLS = {"ok": "✔", "warn": "!", "bad": "✘", "info": "·"}


def checks(host: Reader, needed: Iterable[Package]) -> list[Check]:
    """All facts about `host`, in the order in which a reader wants them; `needed` should be
    installed there. Takes about 1-2 s."""
    found = [check for ask in _ASK for check in ask(host)]
    return [*found, *_tools(host, needed)]


def _cpu(host: Reader) -> Iterator[Check]:
    cpus, model = output(host, "nproc") or UNKNOWN, cpuinfo(host).get("model name", UNKNOWN)
    yield Check("CPU", "info", f"{cpus} x {model}")
    kernel = text(host, "/proc/sys/kernel/osrelease") or UNKNOWN
    yield Check("kernel", "info", f"{kernel} on {distribution(host)}")
    under = virtualization(host)
    if under == "none":
        yield Check("host's own virtualization", "ok", "none: real hardware")
    else:
        yield Check(
            "host's own virtualization",
            "warn",
            f"this host is itself a guest ({under}); native figures carry its cost",
            "for figures of hardware, run on a machine that is not virtualized",
        )
    flags = {"vmx", "svm"} & set(cpuinfo(host).get("flags", "").split())
    if flags:
        names = {"vmx": "vmx (Intel VT-x)", "svm": "svm (AMD-V)"}
        yield Check("CPU virtualization", "ok", ", ".join(names[flag] for flag in sorted(flags)))
    else:
        yield Check(
            "CPU virtualization",
            "warn",
            "neither vmx nor svm in /proc/cpuinfo",
            "enable VT-x / AMD-V in the firmware; in a virtual machine, nested virtualization "
            "on its host; or use --host testbed",
        )


def _kvm(host: Reader) -> Iterator[Check]:
    modules = kvm_modules(host)
    provider = kvm_probe.provider_among(modules)
    hardware = provider in kvm_probe.HARDWARE
    if hardware:
        first = Check("KVM modules", "ok", ", ".join(modules))
    elif provider:
        finding = f"{', '.join(modules)}: provider {provider} is not kvm_intel/kvm_amd"
        first = Check("KVM modules", "warn", finding, kvm_probe.NO_HARDWARE)
    else:
        first = Check("KVM modules", "warn", "no provider loaded", kvm_probe.NO_MODULE)
    verdict = kvm_probe.verdict(host)
    state = "ok" if verdict.usable else "warn"
    runs = Check("KVM runs code", state, verdict.reason, verdict.remedy)
    # Each needs the one before: only the first that is off has a remedy.
    warned = False
    for check in (first, _device(host), runs):
        yield replace(check, state="info", remedy="") if warned else check
        warned = warned or check.state == "warn"

    if not hardware:
        return
    parameters = f"/sys/module/{provider}/parameters"
    nested = text(host, f"{parameters}/nested") in {"1", "Y"}
    yield Check("nested KVM", "info", f"{provider} nested={'on' if nested else 'off'}")
    name = "npt" if provider == "kvm_amd" else "ept"
    if text(host, f"{parameters}/{name}") in {"1", "Y"}:
        yield Check("nested paging", "ok", f"{name} on")
    else:
        yield Check(
            "nested paging",
            "warn",
            f"{name} off: guests' page faults cost several times as much",
            f"modprobe -r {provider}; modprobe {provider} {name}=1",
        )


def _device(host: Reader) -> Check:
    name, device = "/dev/kvm", kvm_probe.DEVICE
    if shell(host, 'test -e "$1"', device).status:
        return Check(name, "warn", "absent", kvm_probe.NO_MODULE)
    owner = output(host, 'stat -c "%A %U:%G" "$1"', device)
    if shell(host, 'test -r "$1" && test -w "$1"', device).status:
        return Check(name, "warn", f"no permission for this user ({owner})", kvm_probe.NO_ACCESS)
    return Check(name, "ok", f"present, open to this user ({owner})")


def _iommu(host: Reader) -> Iterator[Check]:
    units = listing(host, "/sys/class/iommu")
    tables = {"DMAR", "IVRS"} & set(listing(host, "/sys/firmware/acpi/tables"))
    asked = [
        word
        for word in text(host, "/proc/cmdline").split()
        if word.startswith(("iommu=", "intel_iommu=", "amd_iommu="))
    ]
    booted = f" (booted with {' '.join(asked)})" if asked else ""
    if units:
        yield Check("IOMMU", "info", f"in use: {', '.join(units)}{booted}")
    elif tables:
        finding = f"in the firmware ({', '.join(sorted(tables))}), not used by the kernel{booted}"
        yield Check("IOMMU", "info", finding, "boot with intel_iommu=on or amd_iommu=on")
    else:
        yield Check("IOMMU", "info", f"none{booted}; only device passthrough needs one")


def _xen(host: Reader) -> Iterator[Check]:
    if text(host, "/sys/hypervisor/type") != "xen":
        yield Check("Xen", "info", "not booted under Xen: no xen backend on this host")
    elif "control_d" in text(host, "/proc/xen/capabilities"):
        version = ".".join(text(host, f"/sys/hypervisor/version/{n}") for n in ("major", "minor"))
        yield Check("Xen", "ok", f"dom0 under Xen {version}")
    else:
        yield Check("Xen", "info", "a Xen guest, not dom0: it cannot start Xen guests")


def _qemu(host: Reader) -> Iterator[Check]:
    path = which(host, QEMU)
    if not path:
        yield Check("QEMU", "bad", f"no {QEMU}: no guest can be started", SETUP)
        return
    version = qemu_version(host)
    numbers = tuple(int(part) for part in version.split(".") if part.isdigit())
    if numbers < QEMU_WITH_QUERY_STATS:
        finding = f"{version or 'no version'} ({path}): before 7.1 it counts no exits (query-stats)"
        yield Check("QEMU", "warn", finding, "install QEMU 7.1 or later")
    else:
        yield Check("QEMU", "ok", f"{version} ({path})")
    # "Accelerators supported in QEMU binary:" and one a line
    names = output(host, f"{QEMU} -accel help").splitlines()[1:]
    if "tcg" in names:
        yield Check("QEMU accelerators", "ok", ", ".join(names))
    else:
        finding = f"{', '.join(names) or 'none'}: no tcg, so no full virtualization"
        yield Check("QEMU accelerators", "bad", finding, "install the distribution's full QEMU")


def _steadiness(host: Reader) -> Iterator[Check]:
    chosen = governor(host)
    if chosen in {"performance", "none"}:
        note = " (the kernel does not control the frequency)" if chosen == "none" else ""
        yield Check("CPU governor", "ok", chosen + note)
    else:
        yield Check(
            "CPU governor",
            "warn",
            f"{chosen}: the frequency moves while measuring",
            f"echo performance | sudo tee {CPU}/cpu*/cpufreq/scaling_governor",
        )
    boost = turbo(host)
    if boost == "on":
        knob = (
            f"echo 1 | sudo tee {CPU}/intel_pstate/no_turbo"
            if text(host, f"{CPU}/intel_pstate/no_turbo")
            else f"echo 0 | sudo tee {CPU}/cpufreq/boost"
        )
        yield Check("turbo", "info", "on: figures include it", f"for less noise: {knob}")
    else:
        yield Check("turbo", "info", boost)
    threads = smt(host)
    quiet = f"for less noise: echo off | sudo tee {CPU}/smt/control" if threads == "on" else ""
    yield Check("SMT", "info", threads, quiet)
    yield Check("mitigations", "info", mitigations(host))
    yield _load(host)


def _load(host: Reader) -> Check:
    # "some avg10=0.58 avg60=0.46 avg300=0.18 total=4828231": per cent of time, last 10 s
    for word in text(host, "/proc/pressure/cpu").split():
        if word.startswith("avg10="):
            waiting = float(word.partition("=")[2])
            finding = f"somebody waited for a CPU in {waiting:.0f} % of the last 10 s"
            break
    else:
        load = float((text(host, "/proc/loadavg") or "0").split()[0])
        cpus = int(output(host, "nproc") or 1)
        waiting = 100 * max(0.0, load / cpus - 1)
        finding = f"load {load:.2f} on {cpus} CPUs"
    if waiting > BUSY_PERCENT:
        return Check("load", "warn", finding, "end other work before measuring")
    return Check("load", "ok", finding)


def _room(host: Reader) -> Iterator[Check]:
    total, free = memory_mib(host, "MemTotal"), memory_mib(host, "MemAvailable")
    if total is None or free is None:
        yield Check("memory", "info", UNKNOWN)
    elif free < NEEDED_MEMORY_MIB:
        finding = f"{free} MiB of {total} MiB free; {NEEDED_MEMORY_MIB} MiB wanted"
        yield Check("memory", "warn", finding, "end other programs, or use guests of less memory")
    else:
        finding = f"{free} MiB of {total} MiB free"
        if free < TESTBED_MEMORY_MIB:
            finding += f"; the testbed with Xen takes {TESTBED_MEMORY_MIB} MiB"
        yield Check("memory", "ok", finding)

    # The cache need not exist yet: the nearest folder above it that does has the same disk.
    found = output(
        host,
        'h="${HOME:-$(eval echo "~$(id -un)")}"; '
        'd="${VBENCH_CACHE:-${XDG_CACHE_HOME:-$h/.cache}/vbench}"; echo "$d"; '
        'while [ ! -d "$d" ]; do d=$(dirname "$d"); done; df -Pm "$d" | tail -n 1',
    ).splitlines()
    # Where df finds no mount point (a root in an initramfs) it prints its heading alone.
    fields = found[-1].split() if len(found) == 2 else []
    if len(fields) < 4 or not fields[3].isdigit():
        yield Check("cache disk", "info", UNKNOWN)
        return
    free = int(fields[3])
    if free < NEEDED_CACHE_MIB:
        finding = f"{free} MiB free at {found[0]}; about {NEEDED_CACHE_MIB} MiB needed"
        yield Check(
            "cache disk",
            "bad",
            finding,
            "free some, or set VBENCH_CACHE to a folder on a larger disk",
        )
    else:
        yield Check("cache disk", "ok", f"{free} MiB free at {found[0]}")


# What native does, as root or in a user namespace: a profile may let `unshare` succeed and refuse
# what comes then.
_NATIVE = """
enter() {
    "$@" --pid --fork --kill-child sh -c '
        set -e
        mount -t tmpfs tmpfs /tmp; mkdir /tmp/proc; mount --rbind /proc /tmp/proc; chroot / true'
}
enter unshare -m 2>/dev/null || enter unshare -Urm
"""


# What a network for measuring is made of.
_NETWORK = """
enter() {
    "$@" sh -c 'ip tuntap add dev vbtap0 mode tap && ip link set vbtap0 up &&
        ip link add vbveth0 type veth peer name vbveth1'
}
enter unshare -n 2>/dev/null || enter unshare -Urn
"""


def _namespaces(host: Reader) -> Iterator[Check]:
    tried = shell(host, _NATIVE)
    if tried.status:
        yield Check(
            "mount namespaces",
            "warn",
            f"refused ({_last(tried.stderr)}): native runs through the image's loader",
            _why_no_namespaces(host),
        )
    else:
        yield Check("mount namespaces", "ok", "allowed")
    tried = shell(host, _NETWORK)
    if tried.status == 0:
        yield Check("measuring network", "ok", "tap and veth in a network namespace")
        return
    if shell(host, "unshare -n true || unshare -Urn true").status:
        remedy = _why_no_namespaces(host)
    elif not which(host, "ip"):
        remedy = SETUP
    elif shell(host, "test -r /dev/net/tun && test -w /dev/net/tun").status:
        remedy = "sudo modprobe tun; sudo chmod 0666 /dev/net/tun (its usual mode)"
    else:
        remedy = "load the modules: modprobe tun; modprobe veth"
    finding = f"refused ({_last(tried.stderr)}): the network goes through slirp, no ratio"
    yield Check("measuring network", "warn", finding, remedy)


def _why_no_namespaces(host: Reader) -> str:
    """The one of the three switches that forbids user namespaces, turned round."""
    for switch, forbidding, wanted in (
        ("kernel.unprivileged_userns_clone", "0", "1"),
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
        ("user.max_user_namespaces", "0", "10000"),
    ):
        if text(host, "/proc/sys/" + switch.replace(".", "/")) == forbidding:
            return f"sudo sysctl -w {switch}={wanted}"
    return SETUP if not which(host, "unshare") else "allow user namespaces in this container"


def _tools(host: Reader, needed: Iterable[Package]) -> Iterator[Check]:
    """A line for each package that lacks something, and one for all others."""
    complete = []
    for package in needed:
        lacking = [tool for tool in package.tools if not _is_there(host, tool)]
        if not lacking:
            complete.append(package.name)
            continue
        finding = f"missing {', '.join(lacking)}: {package.reason}"
        state = "warn" if package.need is Need.OPTION else "bad"
        yield Check(package.name, state, finding, f"{SETUP}, or install Debian's {package.name}")
    yield Check("programs", "info", f"from {', '.join(complete)}" if complete else "none found")
    level = text(host, "/proc/sys/kernel/perf_event_paranoid")
    yield Check("perf events", "info", f"perf_event_paranoid={level or UNKNOWN}")


def _is_there(host: Reader, tool: str) -> bool:
    if tool.startswith("/"):
        return shell(host, 'test -e "$1"', tool).status == 0
    return bool(which(host, tool))


def _last(stderr: str) -> str:
    return (stderr.strip().splitlines() or ["no message"])[-1]


_ASK: tuple[Callable[[Reader], Iterable[Check]], ...] = (
    _cpu,
    _kvm,
    _iommu,
    _xen,
    _qemu,
    _steadiness,
    _room,
    _namespaces,
)


def render(found: Sequence[Check]) -> str:
    """Aligned plain text: symbol, name, finding, and the remedy below what needs one."""
    width = max((len(check.name) for check in found), default=0)
    lines = []
    for check in found:
        lines.append(f"{SYMBOLS[check.state]} {check.name:<{width}}  {check.finding}")
        if check.remedy:
            lines.append(f"  {'':<{width}}  -> {check.remedy}")
    count = {state: sum(check.state == state for check in found) for state in ("warn", "bad")}
    lines += ["", f"{count['bad']} missing, {count['warn']} warnings"]
    return "\n".join(lines)


def to_json(found: Sequence[Check]) -> str:
    """The same as a JSON list of objects with name, state, finding, remedy."""
    return json.dumps([asdict(check) for check in found], indent=2, ensure_ascii=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the checks of this machine. 0: vbench can run here; 3: something is missing."""
    print_anywhere()
    arguments = sys.argv[1:] if argv is None else argv
    if set(arguments) - {"--json"}:
        print("usage: python3 -m vbench.system.doctor [--json]", file=sys.stderr)
        return 2
    found = checks(LocalReader(), needed_here())
    print(to_json(found) if "--json" in arguments else render(found))
    return 3 if any(check.state == "bad" for check in found) else 0


if __name__ == "__main__":
    sys.exit(main())
