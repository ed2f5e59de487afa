"""A directory that is removed when whoever made it ends, SIGKILL included."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from vbench.errors import HostError

REMEDY = "set VBENCH_TMP there to a folder on a real disk that you may write to"

# Makes the directory, says its path, waits for the end of its standard input. Then it runs what
# would undo a setting of the host (vbench/contract/undo.py), and removes the directory.
# /var/tmp and not /tmp: the scratch disk is opened with O_DIRECT, which tmpfs refuses.
JANITOR = """
trap "" INT TERM HUP
umask 077
d=$(mktemp -d "${VBENCH_TMP:-/var/tmp}/vbench-XXXXXX") || exit 1
echo "$d"
cd /
exec sh -c 'read -r _
for undo in "$1"/*/undo; do [ ! -f "$undo" ] || sh "$undo"; done
exec rm -rf -- "$1"' vbench-janitor "$d"  # ps shows what it is for
"""


@contextmanager
def private_directory() -> Iterator[str]:
    """A 0700 directory on this machine while the context lasts, or we live. Raises HostError."""
    janitor = subprocess.Popen(
        ["sh", "-c", JANITOR, "vbench-janitor"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert janitor.stdout  # noqa: S101 - PIPE was asked for
    path = os.fsdecode(janitor.stdout.readline()).removesuffix("\n")
    if not path:
        _, errors = janitor.communicate()
        raise HostError(
            "cannot make a temporary directory", evidence=os.fsdecode(errors), remedy=REMEDY
        )
    try:
        yield path
    finally:
        janitor.communicate()  # closes the pipe: it cleans up and ends
