"""A machine with Xen beneath its kernel: how the testbed becomes one, and what dom0 tells."""

from __future__ import annotations

import re
from collections.abc import Mapping

from vbench.contract.host import Host
from vbench.contract.layer import Addition, Layer
from vbench.errors import HostError

DEVICE = "/dev/xen/privcmd"  # through which xl reaches Xen
_XEN_TOOLS = "xen-utils-4.17"
_ADDITION = Addition(
    "Xen",
    programs={
        **dict.fromkeys(
            (
                "xl",
                "oxenstored",
                "xen-init-dom0",
                "xenconsoled",
                "xenconsole",
                "xentrace",
                "xenctx",
                "libxl-save-helper",  # by which xl saves and restores
            ),
            _XEN_TOOLS,
        ),
        **dict.fromkeys(
            [
                *("xenstore-read", "xenstore-write", "xenstore-list", "xenstore-ls"),
                *("xenstore-exists", "xenstore-rm", "xenstore-chmod"),
            ],
            "xenstore-utils",
        ),
        # Xen's scripts for disks and network cards use arrays, and a lock.
        "bash": "bash",
        "flock": "util-linux",
        "ip": "iproute2",
    },
    folders={"etc/xen/scripts": (), "etc/xen": ("oxenstored.conf", "xl.conf")},
    packages=("xen-hypervisor-4.17-amd64", "xen-utils-common"),
    private="usr/lib/xen-4.17/bin",
    empty=("var/log/xen", "var/lib/xen"),
    boot="boot/xen-4.17-amd64.gz",
)

# Modules of dom0: what its tools talk to, and the back ends of disks and network cards.
_MODULES = (
    *("xen_evtchn", "xen_gntdev", "xen_gntalloc", "xen_privcmd", "xenfs"),
    *("xen_blkback", "xen_netback", "bridge", "loop"),
)

# Xen's daemons, started as its init scripts would. They go into the background once they serve.
_START = """
set -e
mkdir -p /run/xen /run/xenstored /var/lock
mount -t xenfs xenfs /proc/xen
oxenstored --pid-file /run/xen/xenstored.pid
xen-init-dom0
xenconsoled
"""

# Guests lie beside dom0 in the machine's memory. That is empty at first: to scrub it, as Xen would
# whenever nothing else runs, takes seconds of the real processor. Xen writes to the serial port,
# and so does dom0 through Xen's own console.
LAYER = Layer(
    _ADDITION,
    _MODULES,
    _START,
    beneath=("console=com1", "com1=115200,8n1", "dom0_mem=1536M,max:1536M", "bootscrub=0"),
    console="hvc0",
)

BRIDGE = "vbench0"
BRIDGE_ADDRESS, GUEST_ADDRESS = "10.76.0.1/24", "10.76.0.2/24"
# The guests' bridge: from dom0 alone, nothing is routed.
MAKE_BRIDGE = f"""
set -e
[ -d /sys/class/net/{BRIDGE} ] || ip link add {BRIDGE} type bridge
ip address replace {BRIDGE_ADDRESS} dev {BRIDGE}
ip link set {BRIDGE} up
"""


def is_elf(path: str) -> bool:
    """Whether `path` is an ELF file of this machine's."""
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return False


# xen/include/public/features.h, XENFEAT_dom0
_DOM0_FEATURE = 1 << 11


def is_dom0(host: Host) -> bool:
    """Whether `host` is Xen's privileged domain, by what its kernel says."""
    try:
        if host.read("/sys/hypervisor/type").strip() != "xen":
            return False
        features = host.read("/sys/hypervisor/properties/features")
        return bool(int(features, 16) & _DOM0_FEATURE)
    except (HostError, ValueError):
        return False


def parse_info(text: str) -> Mapping[str, str]:
    """`xl info`: `key : value` lines."""
    pairs = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, colon, value in pairs if colon}


# xenctx of x86-64: `rip: ffffffff81e0a3aa`, and below it `cs: e033`, whose two low bits are the
# privilege level. The kernel's half of memory begins at 0xffff800000000000.
_IN_KERNEL = re.compile(r"rip: ffff[89a-f][0-9a-f]{11}\b.*?\bcs: [0-9a-f]*([0-9a-f])\b", re.DOTALL)
_LOOKS = 5


def ring_of(context: str) -> int | None:
    """The privilege level that xenctx shows of a vCPU, if that is in the guest's kernel."""
    found = _IN_KERNEL.search(context)
    return int(found[1], 16) & 3 if found else None


def kernel_ring(host: Host, domid: str) -> int | None:
    """The privilege level at which the kernel of a domain runs; None where it is not met in its
    kernel, or xenctx is not there."""
    script = 'PATH="$PATH:/usr/lib/xen-4.17/bin"; xenctx "$1" 0'
    for _ in range(_LOOKS):
        output = host.run(["sh", "-c", script, "sh", domid], timeout_s=20)
        if (ring := ring_of(output.stdout)) is not None:
            return ring
    return None
