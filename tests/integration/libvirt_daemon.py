"""libvirt for tests: the system's own where it answers, else daemons that last as long as a test.

Containers and CI jobs of root have no init that would have started them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.conftest import until
from vbench.hosts.local import LocalHost
from vbench.hypervisors.libvirt.virsh import Virsh
from vbench.model import Availability

_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_DAEMONS = ("virtlogd", "libvirtd")


@contextmanager
def daemons(folder: Path) -> Iterator[Availability]:
    """Whether libvirt answers while the context lasts, and why not."""
    virsh = Virsh(LocalHost())
    able = virsh.able("qemu")
    programs = [shutil.which(name, path=_PATH) for name in _DAEMONS]
    if able.ok or os.getuid() != 0 or "does not answer" not in able.reason or None in programs:
        yield able
        return
    started = []
    try:
        for program in filter(None, programs):
            with (folder / Path(program).name).open("wb") as log:
                started.append(
                    subprocess.Popen(
                        [program, "-p", f"{log.name}.pid"],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                )
        until(lambda: virsh.able("qemu").ok, 60)
        yield virsh.able("qemu")
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(30)


@contextmanager
def of_another_version(path: Path) -> Iterator[None]:
    """A saved state while the context lasts: its version comes after 16 bytes of magic."""
    with path.open("r+b") as state:
        version = os.pread(state.fileno(), 1, 16)
        os.pwrite(state.fileno(), b"\x09", 16)
        try:
            yield
        finally:
            os.pwrite(state.fileno(), version, 16)
