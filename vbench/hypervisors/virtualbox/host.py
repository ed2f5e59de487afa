"""A host with VirtualBox: what it must have, how the testbed becomes one, and what was left there
by a run that was killed."""

from __future__ import annotations

import re
import weakref
from collections.abc import Mapping

from vbench.contract.host import Host
from vbench.contract.layer import Addition, Foreign, Layer
from vbench.errors import HostError, HostTimeout, ImageError, one_line
from vbench.guest.target import parse_facts
from vbench.model import Availability

VERSION_MIN = (7, 0)  # whose VBoxManage has the options that are used
TIMEOUT_S = 60.0
ASK_TIMEOUT_S = 12.0  # what takes some 0.1 s, unless VirtualBox hangs
JANITOR = "vbench-janitor"
MARK = "vbench:"  # and the folder of its launch: what a machine of ours has for a comment

# Debian has VirtualBox in unstable's contrib alone. Of it: what runs a machine without a window.
_ADDITION = Addition(
    "VirtualBox",
    programs={"ip": "iproute2"},
    folders={},
    foreign=Foreign(
        suite="sid",
        packages=("virtualbox", "virtualbox-dkms"),
        folder="usr/lib/virtualbox",
        files=(
            *("VBoxHeadless", "VBoxHeadless.so", "VBoxManage", "VBoxSVC"),
            *("VBoxRT.so", "VBoxXPCOM*.so", "VBoxVMM.so", "VBoxDD*.so", "*.r0", "components/*"),
        ),
        root="opt/virtualbox",
        commands=("VBoxManage", "VBoxHeadless"),
        module_source="usr/src/virtualbox-*",
        modules=("vboxdrv", "vboxnetflt"),
    ),
)

# The interface that its machines are bridged to: the one end of a cable, so that it has a carrier.
BRIDGE, BRIDGE_ADDRESS, GUEST_ADDRESS = "vbench0", "10.75.0.1/24", "10.75.0.2/24"
# Its programs have a root of their own, in which all else is the machine's.
_START = f"""
set -e
cd /opt/virtualbox
for each in dev proc sys tmp run; do mount --rbind /$each $each; done
insmod vboxdrv.ko
insmod vboxnetflt.ko
ip=/usr/bin/ip  # the shell would prefer its own
$ip link add {BRIDGE} type veth peer name {BRIDGE}p
$ip address add {BRIDGE_ADDRESS} dev {BRIDGE}
$ip link set {BRIDGE} up
$ip link set {BRIDGE}p up
"""
# Otherwise VirtualBox measures the frequency of the TSC again and again, by the time between two
# interrupts, and its guests' clock is up to 0.5 % wrong.
LAYER = Layer(_ADDITION, start=_START, invariant_tsc=True)

_ASK = r"""
command -v VBoxManage >/dev/null || exit 0
said=$(VBoxManage --version 2>&1)
echo "status=$?"
echo "version=$(printf '%s\n' "$said" | grep '^[0-9]' | tail -n 1)"
echo "said=$(printf '%s' "$said" | head -c 200 | tr '\n\r' '  ')"
echo "kernel=$(uname -r)"
[ -d /sys/module/vboxdrv ] && echo "loaded=$(cat /sys/module/vboxdrv/version)"
built=
for each in /lib/modules/*/; do
  [ "$(find "$each" -name 'vboxdrv.ko*' 2>/dev/null)" ] && built="$built $(basename "$each")"
done
echo "built=$built"
[ -c /dev/vboxdrv ] && echo "device=yes"
echo "hardware=$(grep -m 1 -o -w -e svm -e vmx /proc/cpuinfo)"
"""
HANGS = f"or its service VBoxSVC hangs: no answer within {ASK_TIMEOUT_S:g} s"
HANGS_REMEDY = "`pgrep -l VBox` lists its processes, VBoxSVC too: end those that hang"
_CONFIGURE = (
    "as root: install the headers of the running kernel, then `/sbin/vboxconfig` "
    "(Debian: `dpkg-reconfigure virtualbox-dkms`), then `modprobe vboxdrv`"
)

# Machines of ours whose run is gone: the folder of each is in its command line, and the janitor of
# that folder is there as long as the run lives, a remote one's too. Another user's process can have
# any words in its command line; its real user tells, also where the program is setuid root.
_SWEEP = rf"""
cd /proc
words() {{ for each; do tr '\0' '\n' <"$each" 2>/dev/null; done; }}
found=$(grep -lsz '^{MARK}' [0-9]*/cmdline)
[ "$found" ] || exit 0
user=$(id -u)
living=$(words [0-9]*/cmdline | sed -n '/^{JANITOR}$/{{n;p;}}')
for file in $found; do
  grep -qs "^Uid:[[:space:]]*$user[[:space:]]" "${{file%/*}}/status" || continue
  folder=$(words "$file" | sed -n 's/^{MARK}//p')
  base=${{folder%/*}}
  case $base in /*/vbench-*) ;; *) continue;; esac
  printf '%s\n' "$living" | grep -qxF -e "$base" && continue
  name=$(words "$file" | sed -n '/^--startvm$/{{n;p;}}')
  kill -KILL "${{file%/*}}" && rm -rf -- "$base" "/tmp/.vbox-$name-ipc" && echo "${{file%/*}}"
done
"""

_known: weakref.WeakKeyDictionary[Host, Availability] = weakref.WeakKeyDictionary()


def available(host: Host) -> Availability:
    """Whether `host`, or the testbed with VirtualBox's layer, can run its machines."""
    if host not in _known:
        try:
            said = host.with_layer(LAYER).run(["sh", "-c", _ASK], timeout_s=ASK_TIMEOUT_S).stdout
        except ImageError as error:
            _known[host] = Availability(
                False, f"VirtualBox cannot be had for it: {error.what}", error.remedy
            )
        except HostTimeout:
            _known[host] = Availability(False, f"VBoxManage {HANGS}", HANGS_REMEDY)
        except HostError as error:
            _known[host] = Availability(False, error.what, error.remedy)
        else:
            _known[host] = judge(said)
    return _known[host]


def judge(said: str) -> Availability:
    """What the answer of _ASK means."""
    facts = {key: one_line(value) for key, value in parse_facts(said).items()}
    lack = _lack_of_programs(facts) or _lack_of_module(facts)
    return Availability(False, *lack) if lack else Availability(True)


def _lack_of_programs(facts: Mapping[str, str]) -> tuple[str, str] | None:
    """The reason and the remedy, if programs or processor are not as they must be."""
    if not facts:
        return (
            "VirtualBox is not installed: there is no VBoxManage",
            "install VirtualBox 7, or use --host testbed",
        )
    if facts.get("status") != "0" or not number(facts.get("version", "")):
        said = facts.get("said") or "nothing"
        return (
            f"VBoxManage does not work: `VBoxManage --version` ended with status "
            f"{facts.get('status')} and said: {said}",
            "install VirtualBox anew, or use --host testbed",
        )
    if number(facts["version"])[:2] < VERSION_MIN:
        return (
            f"VBoxManage is of version {facts['version']}",
            "install VirtualBox 7.0 or later",
        )
    if not facts.get("hardware"):
        return (
            "VirtualBox needs VT-x or AMD-V, and /proc/cpuinfo shows neither",
            "enable it in the firmware, or use --host testbed",
        )
    return None


def _lack_of_module(facts: Mapping[str, str]) -> tuple[str, str] | None:
    kernel, built = facts.get("kernel", ""), facts.get("built", "").split()
    if "loaded" not in facts:
        if built and kernel not in built:
            reason = f"built for {', '.join(built)}, and the kernel that runs is {kernel}"
            return f"VirtualBox's module vboxdrv is {reason}", _CONFIGURE
        return (
            "VirtualBox's module vboxdrv is not loaded",
            "as root: `modprobe vboxdrv`" if built else _CONFIGURE,
        )
    if number(facts["loaded"]) not in ((), number(facts["version"])):
        return (
            f"the module vboxdrv that is loaded is of VirtualBox {facts['loaded'].split()[0]}, "
            f"VBoxManage of {facts['version']}",
            "as root: `modprobe -r vboxnetadp vboxnetflt vboxdrv`, then `modprobe vboxdrv`",
        )
    return None if "device" in facts else ("there is no device /dev/vboxdrv", _CONFIGURE)


def number(text: str) -> tuple[int, ...]:
    """The version that a text begins with: (7, 2, 22) of "7.2.22_Debianr170000"; () of none."""
    found = re.match(r"\d+(\.\d+)*", text.strip())
    return tuple(map(int, found[0].split("."))) if found else ()


def version(host: Host) -> str:
    said = host.run(["VBoxManage", "--version"], timeout_s=ASK_TIMEOUT_S).stdout.split()
    return one_line(said[-1]) if said else "unknown"


def sweep(host: Host) -> list[str]:
    """End machines of ours whose run was killed, and its janitor with it; their pids. Nobody
    else's is touched: theirs have no such comment."""
    return host.run(["sh", "-c", _SWEEP], timeout_s=TIMEOUT_S).stdout.split()
