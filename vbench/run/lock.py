"""Only one vbench may measure on a machine at a time: two would measure each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from vbench.contract.registry import Variant
from vbench.hosts.lock import local_lock, remote_lock


@contextmanager
def measuring_alone(hosts: Sequence[str], say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of each machine that is measured; `hosts` as `--host` names them, none: this
    one. The testbed is a part of this machine.

    In one order, so that no two runs wait for each other. Raises UnavailableError where a lock
    cannot be had, UsageError for two names of one machine, and what a remote host raises.
    """
    remote = sorted({name for name in hosts if name.startswith("ssh://")})
    with ExitStack() as stack:
        if len(remote) < len(set(hosts)) or not hosts:
            stack.enter_context(local_lock(say))
        for address in remote:
            stack.enter_context(remote_lock(address, say))
        yield


def machines(hosts: Sequence[str], variants: Sequence[Variant]) -> list[str]:
    """What a run measures on, as `--host` names it: the hosts that were asked for, unless a
    variant says that it is measured elsewhere; and where its guests migrate to."""
    asked = tuple(hosts) or ("local",)
    named = [
        (
            *(variant.backend.machines(variant.options) or asked),
            *filter(None, (variant.declaration.destination,)),
        )
        for variant in variants
    ]
    return list(dict.fromkeys(name for names in named or [asked] for name in names))
