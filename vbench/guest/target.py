"""What a workload runs on: a guest or native, with the same commands and the same words."""

from __future__ import annotations

from collections.abc import Mapping

from vbench.contract.guest import Target
from vbench.errors import UNSUPPORTED_STATUS, Unsupported, WorkloadError

# All that a command finds in its environment, on every target. The size of the environment moves
# the stack, which alone can change a figure by some per cent (Mytkowicz et al., ASPLOS 2009).
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/tmp", "LC_ALL": "C"}  # noqa: S108

# `sh -c ALIKE sh COMMAND` runs a command with the file mode mask and the soft limits that the
# kernel gives its first process (include/asm-generic/resource.h), on every target.
ALIKE = (
    "cd /; unset OLDPWD; umask 022; "
    'for l in "c 0" "d unlimited" "f unlimited" "l 8192" "n 1024" "s 8192" "t unlimited" '
    '"v unlimited"; do ulimit -S -${l% *} ${l#* } 2>/dev/null; done; exec sh -c "$1"'
)


def clean_argv(command: str) -> list[str]:
    """The argv that runs a shell command in ENVIRONMENT and with the limits of ALIKE."""
    words = (f"{name}={value}" for name, value in ENVIRONMENT.items())
    return ["env", "-i", *words, "sh", "-c", ALIKE, "sh", command]


def succeed(target: Target, command: str, *, timeout_s: float) -> str:
    """The standard output of a command that must end with status 0.

    Raises Unsupported for UNSUPPORTED_STATUS, WorkloadError for any other.
    """
    output = target.run(command, timeout_s=timeout_s)
    if output.status == UNSUPPORTED_STATUS:
        last = (output.stderr.strip() or command).splitlines()[-1]
        raise Unsupported(last.removeprefix("vbench-probe: "))
    if output.status != 0:
        tail = (output.stderr or output.stdout).splitlines()[-10:]
        raise WorkloadError(
            f"a command ended with status {output.status}", evidence="\n".join([command, *tail])
        )
    return output.stdout


def parse_facts(text: str) -> Mapping[str, str]:
    """`key=value` lines as a mapping; other lines are ignored."""
    pairs = (line.partition("=") for line in text.splitlines())
    return {key: value.strip() for key, sign, value in pairs if sign and key.isidentifier()}
