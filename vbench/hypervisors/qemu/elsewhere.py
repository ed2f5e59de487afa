"""Another machine for a guest to migrate to.

The stream goes from QEMU to QEMU by TCP, over the network that a migration uses. The target listens
at one address of its host, that by which our SSH reached it, on a port that the kernel chooses.
Both prove by TLS that they have a key which is made for this migration and travels through SSH:
nobody else can send a guest there, or read one.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from vbench.contract.guest import Guest
from vbench.contract.host import Host
from vbench.errors import ConnectionLost, GuestError, HostError, Unsupported
from vbench.hypervisors.qemu.bundle import Binary
from vbench.hypervisors.qemu.cmdline import GuestSpec
from vbench.hypervisors.qemu.machine import QemuMachine

# SSH_CONNECTION of ssh(1): address and port of the client, then of the server
_ADDRESS = 'set -- $SSH_CONNECTION; echo "$3"'
_KEY_BYTES = 32
_CREDENTIALS = "vbenchtls"
# QEMU's name of whoever has the key, if none is given
_USER = "qemu"


def check(guest: Guest, spec: GuestSpec, host: Host, there: GuestSpec, qemu: Binary) -> None:
    """Raises Unsupported where `host` would not run the same machine."""
    had = guest.versions.get("qemu", "unknown")
    if qemu.version != had:
        raise Unsupported(
            f"{guest.host.name} has QEMU {had} and {host.name} has {qemu.version or 'none'}: other "
            "versions are other machines",
            remedy="install the same QEMU on both",
        )
    if len(spec.nics) > 1 or len(there.nics) > 1:
        raise Unsupported("a guest with a card on a bridge of its host migrates on that host only")
    models = [each.facts().facts.get("cpu_model") for each in (guest.host, host)]
    if spec.accel == "kvm" and models[0] != models[1]:
        raise Unsupported(f"its processor is that of its host, and {host.name} has another one")
    if _machine(there) != _machine(spec):
        raise Unsupported(f"{host.name} would give the guest other devices")


def _machine(spec: GuestSpec) -> GuestSpec:
    """What the guest sees of it: without the names of files on a host."""
    disks = tuple(dataclasses.replace(each, path="", device=False) for each in spec.disks)
    return dataclasses.replace(spec, command=(), kernel="", initrd="", disks=disks)


def listening(host: Host) -> str:
    """Where QEMU on `host` is to listen, as -incoming takes it. Raises Unsupported."""
    address = host.run(["sh", "-c", _ADDRESS], timeout_s=20).stdout.strip()
    if not address:
        raise Unsupported(f"{host.name} does not say by which address SSH reached it")
    return f"tcp:[{address}]:0" if ":" in address else f"tcp:{address}:0"


@contextmanager
def locked(source: QemuMachine, target: QemuMachine, folder: str) -> Iterator[None]:
    """Both migrate by TLS with a key of their own while the context lasts; `folder` is one of the
    target's host. Raises GuestError, HostError."""
    key = f"{_USER}:{secrets.token_hex(_KEY_BYTES)}\n".encode()
    with (
        source.host.workdir() as near,
        _credentials(source, near, "client", key),
        _credentials(target, folder, "server", key),
    ):
        yield


@contextmanager
def _credentials(machine: QemuMachine, folder: str, endpoint: str, key: bytes) -> Iterator[None]:
    machine.host.write(f"{folder}/keys.psk", key)
    made = {
        "qom-type": "tls-creds-psk",
        "id": _CREDENTIALS,
        "dir": folder,
        "endpoint": endpoint,
        # a cipher whose key nobody can find out later from what he recorded
        "priority": "NORMAL:-KX-ALL:-VERS-ALL:+VERS-TLS1.3:+ECDHE-PSK",
    }
    machine.qmp.execute("object-add", made)
    try:
        machine.qmp.execute("migrate-set-parameters", {"tls-creds": _CREDENTIALS})
        yield
    finally:
        with suppress(GuestError, HostError, ConnectionLost):  # the first error is to be told
            if machine.alive:
                machine.qmp.execute("migrate-set-parameters", {"tls-creds": ""})
                machine.qmp.execute("object-del", {"id": _CREDENTIALS})
