"""A backend whose guests are shells of this machine: all of a run but the virtual machine.

A test loads it as anybody's plugin, by `--plugin`. What its guests do is decided by GUESTS.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vbench.contract.backend import CountedRun, OnAskedHost
from vbench.contract.guest import Endpoint, Guest
from vbench.contract.hookspecs import hookimpl
from vbench.contract.host import Host
from vbench.errors import AttestationError, ConnectionLost, LaunchError
from vbench.guest.booted import BootedGuest
from vbench.guest.shell import GuestShell
from vbench.hosts.openssh import SshCommand
from vbench.model import Availability, Fact, ImageFiles, Output, Technique
from vbench.records import (
    Attestation,
    Capabilities,
    Clock,
    Declaration,
    DeviceSettings,
    NativeReference,
    NetworkPath,
    Observed,
    Phase,
    UsageScope,
)


def small_image(folder: Path) -> ImageFiles:
    """A root with a shell and nothing else, for native to enter."""
    root = folder / "root"
    for name in ("bin", "dev", "proc", "scratch", "sys", "tmp"):
        (root / name).mkdir(parents=True)
    shutil.copy(str(shutil.which("sh")), root / "bin" / "sh")
    needed = subprocess.run(["ldd", "/bin/sh"], stdout=subprocess.PIPE, text=True, check=True)
    for library in re.findall(r"(/\S+) \(", needed.stdout):
        (root / library[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, root / library[1:])
    return ImageFiles("d1935c", "/vmlinux", "/initramfs", str(root), "6.1.0")


class ShellMachine:
    argv = ("sh",)

    def __init__(self) -> None:
        self.alive = True
        self.text = ""

    def evidence(self) -> str:
        return "sh\nlast line of the console"

    def console(self) -> str:
        return self.text

    def silence(self) -> str:
        return ""

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def usage(self) -> Mapping[str, float]:
        return {"host_cpu_s": 1.0, "vcpu_wait_s": 0.0}

    def close(self) -> None:
        self.alive = False


class ShellConnection:
    """`die` as a command is the end of the guest."""

    def __init__(self, host: Host, machine: ShellMachine) -> None:
        self._host = host
        self._machine = machine

    def run(self, command: str, *, timeout_s: float, stdin: bytes = b"") -> Output:
        if re.search(r"\bdie\b", command):
            self._machine.alive = False
            raise ConnectionLost("the guest closed the connection")
        return self._host.run(["sh", "-c", command], timeout_s=timeout_s, stdin=stdin)

    def start(self, command: str) -> SshCommand:
        pipe = subprocess.PIPE
        return SshCommand(
            subprocess.Popen(
                ["sh", "-c", command],
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                bufsize=0,
                start_new_session=True,
            )
        )

    @property
    def alive(self) -> bool:
        return self._machine.alive

    def close(self) -> None: ...


CAN = Capabilities(
    NativeReference.LAUNCHING_HOST,
    NetworkPath.NAT,
    "nobody",
    pausable=True,
    usage=UsageScope.GUEST,
)


@dataclass
class Guests:
    """What the next launches do (their errors, in order; None is success), and all so far."""

    launches: list[Exception | None] = field(default_factory=list)
    attests: list[Exception | None] = field(default_factory=list)
    made: list[Guest] = field(default_factory=list)
    closed: list[Guest] = field(default_factory=list)
    capabilities: Capabilities = CAN


GUESTS = Guests()
VERSIONS = {"sh": "1"}


@dataclass(frozen=True)
class ShellOptions:
    vcpus: int = 1
    speed: str = "full"


@dataclass(frozen=True)
class ShellBackend(OnAskedHost):
    name: str = "shell"
    technique: Technique = Technique.PARA
    summary: str = "a shell"
    facts: Mapping[str, Fact] = field(default_factory=lambda: {"windows": Fact("no", "a test")})
    options: ShellOptions = ShellOptions()
    available: Availability = field(default_factory=lambda: Availability(True))
    default: bool = True
    counted: tuple[CountedRun, ...] = ()

    def declare(self, options: ShellOptions) -> Declaration:
        return Declaration()

    def probe(self, host: Host, options: ShellOptions) -> Availability:
        return self.available

    def launch(self, host: Host, image: ImageFiles, options: ShellOptions) -> Guest:
        error = GUESTS.launches.pop(0) if GUESTS.launches else None
        if error is not None:
            raise error
        machine = ShellMachine()
        cleanup = contextlib.ExitStack()
        guest = BootedGuest(
            shell=GuestShell(machine, ShellConnection(host, machine), host),  # type: ignore[arg-type]
            cleanup=cleanup,
            host=host,
            reference=host if GUESTS.capabilities.native is not NativeReference.NONE else None,
            client_prefix=(),
            image=image,
            versions=dict(VERSIONS),
            endpoint=Endpoint("/dev/null", 0, 256, "127.0.0.1", 5201, options.vcpus),
            capabilities=GUESTS.capabilities,
            device=DeviceSettings(vcpus=options.vcpus, further={"speed": options.speed}),
            observed=Observed(kernel="6.1.0-shell"),
            phases=(
                Phase("launch", "command", Clock.CLIENT, 0.5),
                Phase("kernel", "userspace", Clock.GUEST, 0.25),
            ),
        )
        cleanup.callback(GUESTS.closed.append, guest)
        cleanup.callback(machine.close)
        GUESTS.made.append(guest)
        return guest

    def attest(self, guest: Guest) -> Attestation:
        error = GUESTS.attests.pop(0) if GUESTS.attests else None
        if error is not None:
            raise error
        return Attestation("a shell of this machine")


MISLABELLED = AttestationError("this guest is not shell")
NO_BOOT = LaunchError("the guest did not become ready", evidence="sh\nkernel panic")


@hookimpl
def vbench_backends() -> list[ShellBackend]:
    return [
        ShellBackend(),
        ShellBackend("nowhere", available=Availability(False, "there is no such CPU", "buy one")),
    ]
