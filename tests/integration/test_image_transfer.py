"""An exported image makes a machine able to measure that has no Debian tools and no network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vbench import image
from vbench.testbed import EXPORTED

pytestmark = [
    pytest.mark.tcg,
    pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="needs QEMU"),
]

# What is there of the system: what vbench needs to launch guests, and no tool to build an image.
TOOLS = (
    *(
        "sh",
        "cat",
        "rm",
        "mkdir",
        "mktemp",
        "true",
        "env",
        "id",
        "ls",
        "dirname",
        "df",
        "tail",
        "dd",
    ),
    *("readlink", "grep"),
    *("setpriv", "unshare", "nsenter", "taskset", "ip", "sleep", "chroot", "mount"),
    "qemu-system-x86_64",
)


def test_import_and_boot_without_debian_tools_and_network(tmp_path: Path) -> None:
    exported = tmp_path / "images"
    base = image.export_images(exported, EXPORTED, lambda _: None)
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in TOOLS:
        found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        assert found, name
        (tools / name).symlink_to(found)
    environment = {
        "PATH": str(tools),
        "VBENCH_CACHE": str(tmp_path / "a cache"),
        "VBENCH_TMP": str(tmp_path),
    }

    def vbench(*words: str) -> subprocess.CompletedProcess[str]:
        # A network namespace of its own with loopback only, as without any network.
        alone = ["unshare", "-Urn", "sh", "-c", 'ip link set lo up; exec "$@"', "sh"]
        argv = [*alone, sys.executable, "-m", "vbench.cli", *words]
        return subprocess.run(
            argv, env=environment, capture_output=True, text=True, check=False, timeout=240
        )

    without = vbench("image", "build")
    assert without.returncode == 1
    assert "mmdebstrap" in without.stderr
    assert "vbench image import FILE" in without.stderr

    done = vbench("image", "import", str(exported))
    assert (done.returncode, done.stdout) == (0, f"{base.digest}\n"), done.stderr
    assert vbench("image", "build").stdout == f"{base.digest}\n", "it is there: nothing to build"
    booted = vbench("exec", "tcg-virtio", "--", "uname", "-r")
    assert (booted.returncode, booted.stdout) == (0, f"{base.kernel_release}\n"), booted.stderr
