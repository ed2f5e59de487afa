"""TCP set alike on both sides: a network namespace inherits what the host's administrator chose."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping

from vbench.contract.guest import Target
from vbench.guest.target import succeed

# The kernel's Documentation/networking/ip-sysctl.rst: those of a network namespace that change
# how fast one connection sends or receives.
_CONGESTION = "tcp_congestion_control"
SETTINGS = (
    *(_CONGESTION, "tcp_rmem", "tcp_wmem", "tcp_moderate_rcvbuf", "tcp_window_scaling"),
    *("tcp_timestamps", "tcp_sack", "tcp_ecn", "tcp_autocorking", "tcp_notsent_lowat"),
    *("tcp_slow_start_after_idle", "tcp_limit_output_bytes", "tcp_min_tso_segs"),
)
# Compiled into every kernel, and allowed in every namespace.
_ALWAYS_THERE = "reno"
_TIMEOUT_S = 30.0


def align(guest: Target, others: Iterable[Target]) -> tuple[str, str]:
    """Give `others`, in network namespaces of ours, the guest's settings of TCP.

    A congestion control that their kernel does not allow there is replaced by `reno` everywhere.
    Returns the congestion control on both sides, and a sentence about what still differs, or "".
    Raises WorkloadError, GuestLost.
    """
    wanted, others = _set(guest, {}), list(others)
    if any(_set(other, wanted)[_CONGESTION] != wanted[_CONGESTION] for other in others):
        wanted = _set(guest, {_CONGESTION: _ALWAYS_THERE})
    left: dict[str, str] = {}
    for other in others:
        for name, value in _set(other, wanted).items():
            if value and wanted[name] and value != wanted[name]:
                left[name] = f"{name} is {wanted[name]} in the guest, {value} beside it"
    return wanted[_CONGESTION], "; ".join(left.values())


# One program reads them all: in an emulated guest each that is started takes a while. (The shell
# itself reads a byte at a time, of which these files give one.)
_READ = f"cd /proc/sys/net/ipv4; grep -s '' {' '.join(SETTINGS)}; :"


def _read(target: Target, first: str = "") -> Mapping[str, str]:
    """The settings, "" where the kernel has none; `first` is run before."""
    text = succeed(target, first + _READ, timeout_s=_TIMEOUT_S)
    found = {name: value for name, _, value in (line.partition(":") for line in text.splitlines())}
    # tabs between the numbers of a setting become blanks
    return {name: " ".join(found.get(name, "").split()) for name in SETTINGS}


def _set(target: Target, wanted: Mapping[str, str]) -> Mapping[str, str]:
    """Set what differs from `wanted`; the settings after it."""
    found = _read(target)
    steps = [
        f"( echo {shlex.quote(value)} >/proc/sys/net/ipv4/{name} ) 2>/dev/null\n"
        for name, value in wanted.items()
        if value and found[name] != value
    ]
    return _read(target, "".join(steps)) if steps else found
