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
from typing import Any

from vbench.contract.hookspecs import hookimpl
from vbench.contract.host import Host
from vbench.errors import AttestationError, ConnectionLost, LaunchError
from vbench.guest.launch import Guest
from vbench.guest.target import Endpoint
from vbench.model import Attestation, Availability, Fact, ImageFiles, Output, Technique


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
    whole_host = False
    argv = ("sh",)

    def __init__(self) -> None:
        self.alive = True
        self.text = ""

    def evidence(self) -> str:
        return "sh\nlast line of the console"

    def console(self) -> str:
        return self.text

    def wait_ready(self, timeout_s: float) -> Mapping[str, float]:
        return {}

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def usage(self) -> Mapping[str, float]:
        return {"host_cpu_s": 1.0, "vcpu_wait_s": 0.0}

    def query(self, command: str, arguments: Mapping[str, object] | None = None) -> Any:
        return None

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

    @property
    def alive(self) -> bool:
        return self._machine.alive

    def close(self) -> None: ...


@dataclass
class Guests:
    """What the next launches do (their errors, in order; None is success), and all so far."""

    launches: list[Exception | None] = field(default_factory=list)
    attests: list[Exception | None] = field(default_factory=list)
    made: list[Guest] = field(default_factory=list)
    closed: list[Guest] = field(default_factory=list)


GUESTS = Guests()


@dataclass(frozen=True)
class ShellOptions:
    vcpus: int = 1
    speed: str = "full"


@dataclass(frozen=True)
class ShellBackend:
    name: str = "shell"
    technique: Technique = Technique.PARA
    summary: str = "a shell"
    facts: Mapping[str, Fact] = field(default_factory=lambda: {"windows": Fact("no", "a test")})
    options: ShellOptions = ShellOptions()
    available: Availability = field(default_factory=lambda: Availability(True))

    def probe(self, host: Host, options: ShellOptions) -> Availability:
        return self.available

    def launch(self, host: Host, image: ImageFiles, options: ShellOptions) -> Guest:
        error = GUESTS.launches.pop(0) if GUESTS.launches else None
        if error is not None:
            raise error
        machine = ShellMachine()
        cleanup = contextlib.ExitStack()
        guest = Guest(
            machine=machine,
            ssh=ShellConnection(host, machine),  # type: ignore[arg-type]
            cleanup=cleanup,
            endpoint=Endpoint("/dev/null", 0, 256, "127.0.0.1", 5201, options.vcpus),
            observed={"kernel": "6.1.0-shell"},
            boot_times_s={"launch_to_command": 0.5, "kernel_to_userspace": 0.25},
            image=image,
            device={"vcpus": str(options.vcpus), "speed": options.speed},
            versions={"sh": "1"},
            host=host,
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
