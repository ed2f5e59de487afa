"""What `vbench doctor` says of libvirt: that it answers, creates a guest, and what it validates."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator

from vbench.contract.host import Host
from vbench.errors import ConnectionLost, HostError
from vbench.hypervisors.libvirt.domain import NAME_PREFIX
from vbench.hypervisors.libvirt.virsh import Virsh
from vbench.hypervisors.qemu.kvm import usable
from vbench.model import Check

# "  QEMU: Checking if device /dev/kvm exists            : FAIL (Check that ...)"
_VALIDATED = re.compile(r"Checking (.*?)\s+: (PASS|WARN|FAIL|NOTE)")
_EMPTY = """<domain type='{kind}'><name>{name}</name><memory unit='MiB'>64</memory>
<os><type arch='x86_64'>hvm</type></os></domain>"""


def checks(host: Host) -> Iterator[Check]:
    """The checks of a host; one line where libvirt is not installed."""
    virsh = Virsh(host)
    able = virsh.able("qemu")
    if not able.ok:
        absent = "not installed" in able.reason
        yield Check("libvirt", "info" if absent else "warn", able.reason, able.remedy)
        return
    yield Check("libvirt", "ok", f"{virsh.version()} at {virsh.uri}")
    kind = "kvm" if usable(host).ok else "qemu"
    try:
        _create(virsh, kind)
    except (HostError, ConnectionLost) as error:
        yield Check("libvirt creates a guest", "warn", error.what, error.remedy)
    else:
        yield Check("libvirt creates a guest", "ok", f"a domain of type {kind} was started")
    output = host.run(["sh", "-c", "LC_ALL=C virt-host-validate qemu"], timeout_s=30)
    if found := _VALIDATED.findall(output.stdout):
        yield Check("virt-host-validate", "info", validated(found))


def validated(found: list[tuple[str, str]]) -> str:
    """One line of (what was checked, verdict)."""
    passed = sum(verdict in ("PASS", "NOTE") for _, verdict in found)
    bad = [f"{verdict} {what}" for what, verdict in found if verdict in ("WARN", "FAIL")]
    return "; ".join([f"{passed} of {len(found)} checks pass", *bad])


def _create(virsh: Virsh, kind: str) -> None:
    """Start a domain that stands still and has nothing, and end it. Raises HostError."""
    name = f"{NAME_PREFIX}{secrets.token_hex(4)}"
    with virsh.host.workdir() as folder:
        file = f"{folder}/domain.xml"
        virsh.host.write(file, _EMPTY.format(kind=kind, name=name).encode())
        try:
            # it lasts as long as this connection
            virsh.ask("create", file, "--paused", "--autodestroy")
        finally:
            virsh.end(name)
