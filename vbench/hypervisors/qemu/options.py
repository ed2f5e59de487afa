"""Options of QEMU's backends, in QEMU's words."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from vbench.hosts.address import FORM, is_address
from vbench.hypervisors.qemu.cmdline import MACHINES

_CHOICES = {
    "cache": ("none", "writeback", "unsafe"),
    "aio": ("threads", "native", "io_uring"),
    "machine": tuple(MACHINES),
}


@dataclass(frozen=True)
class QemuOptions:
    """Options of a QEMU backend's variant string.

    `memory` is in MiB; `cpu` empty means the backend's own model; `cache` and `aio` are those of
    the disk under test. `pin`: vCPUs, other threads, native and clients have CPUs of their own
    where there are any. `firmware`: start as on a real machine, the distribution's own kernel file
    through the BIOS, and hide KVM's paravirtual features (clock, hypercalls).

    `qemu`: another QEMU, an absolute path on the host (in the testbed: of this machine's).
    `destination`: another host, `ssh://user@host[:port]`, for scenarios that migrate a guest there.
    `kernel` and `modules`: another kernel for this variant's guests, as `--kernel` takes them.
    `extra`: further arguments of QEMU, as a shell would split them.
    """

    vcpus: int = 1
    memory: int = 512
    cpu: str = ""
    cache: str = "none"
    aio: str = "threads"
    pin: bool = True
    firmware: bool = False
    machine: str = "pc"
    qemu: str = ""
    kernel: str = ""
    modules: str = ""
    extra: str = ""
    destination: str = ""

    def __post_init__(self) -> None:
        for name, values in _CHOICES.items():
            if getattr(self, name) not in values:
                raise ValueError(f"{name} is one of {', '.join(values)}")
        if not 1 <= self.vcpus <= 255:
            raise ValueError("vcpus is 1 to 255")
        if not 256 <= self.memory <= 1 << 20:
            raise ValueError("memory is 256 to 1048576 MiB (the image needs 256)")
        if self.aio == "native" and self.cache != "none":
            raise ValueError("aio=native needs cache=none")
        if self.destination and not is_address(self.destination):
            raise ValueError(f"destination is {FORM}")
        if self.modules and not self.kernel:
            raise ValueError("modules are those of kernel=FILE")
        # another run, from another folder, would find other files
        words = {"kernel": ("", "debian", "host"), "qemu": ("",), "modules": ("",)}
        for name, without in words.items():
            value = getattr(self, name)
            if value not in without and not value.startswith("/"):
                raise ValueError(f"{name} is an absolute path, not {value!r}")
        try:
            self.arguments  # noqa: B018 - that it can be split
        except ValueError as error:
            raise ValueError(f"extra cannot be split into words: {error}") from error

    @property
    def arguments(self) -> tuple[str, ...]:
        """The words of `extra`."""
        return tuple(shlex.split(self.extra))


@dataclass(frozen=True)
class KvmOptions(QemuOptions):
    """Further options of a KVM backend. `nested_paging` off: KVM keeps shadow page tables, as
    all hypervisors did before EPT and NPT; its module is loaded anew for that. `vhost`: the
    kernel of the host serves the network card."""

    nested_paging: bool = True
    vhost: bool = False
