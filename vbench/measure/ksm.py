"""Kernel samepage merging (KSM): the host keeps one copy of pages that are alike, of all guests.

It is a switch of the whole host: while it is on, whatever else has mergeable memory is merged, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vbench.contract.host import Host
from vbench.contract.undo import undone
from vbench.errors import Unsupported
from vbench.measure.load import sleep

_TIMEOUT_S = 60.0
# Documentation/admin-guide/mm/ksm.rst. A page is merged when it did not change between two scans.
_FOLDER = "/sys/kernel/mm/ksm"
_SCANS = 3
_LIMIT_S = 20.0
_PAGES, _PAUSE_MS = 20000, 5  # at most so many are looked at between two pauses
_LOOK = f"""
cd {_FOLDER} 2>/dev/null || {{ echo "its kernel has none"; exit 1; }}
[ -w run ] || {{ echo "only root may switch it on"; exit 1; }}
[ "$(cat run pages_sharing)" = "$(printf '0\\n0')" ] ||
  {{ echo "somebody else has switched it on"; exit 1; }}
cat pages_to_scan sleep_millisecs
"""
_SET = f"cd {_FOLDER} && echo {{}} >pages_to_scan && echo {{}} >sleep_millisecs"
_ON = f"{_SET} && echo 1 >run"
# Merged pages are made single again first.
_OFF = f"echo 2 >{_FOLDER}/run && echo 0 >{_FOLDER}/run && {_SET}"


@contextmanager
def merged(host: Host) -> Iterator[int]:
    """While the context lasts, pages that are alike are merged; then the host is as before. Yields
    how often everything was looked at: less than three times means that time was over.

    Raises Unsupported where the host has no KSM, does not let us switch it on, or has it on.
    """
    found = host.run(["sh", "-c", _LOOK], timeout_s=_TIMEOUT_S)
    if found.status != 0:
        raise Unsupported(f"KSM cannot be used on {host.name}: {found.stdout.strip()}")
    with undone(host, _OFF.format(*found.stdout.split()), timeout_s=_TIMEOUT_S):
        done = host.run(["sh", "-c", _ON.format(_PAGES, _PAUSE_MS)], timeout_s=_TIMEOUT_S)
        if done.status != 0:
            raise Unsupported(f"KSM cannot be used on {host.name}: {done.stderr.strip()}")
        first, until = _scans(host), host.clock() + _LIMIT_S
        while (scans := _scans(host) - first) < _SCANS and host.clock() < until:
            sleep(host, 0.5)
        yield scans


def _scans(host: Host) -> int:
    return int(host.read(f"{_FOLDER}/full_scans"))
