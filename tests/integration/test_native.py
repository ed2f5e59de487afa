"""Native beside a real guest: the same programs, and nothing of our shell on either side."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import Vbench
from vbench.guest.target import ENVIRONMENT

# What the loader and libraries of a program read, and what a shell of the user has.
MEDDLING = {
    "FOO": "x",
    "MALLOC_PERTURB_": "165",
    "OPENSSL_ia32cap": "~0x200000200000000",
    "GLIBC_TUNABLES": "glibc.malloc.check=3",
    "LC_ALL": "de_DE.UTF-8",
}
SHELLS_OWN = {"PWD", "SHLVL", "OLDPWD", "_"}


def stub(folder: Path, name: str, script: str) -> str:
    """A PATH on which `name` is this script."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def environment(text: str) -> dict[str, str]:
    pairs = dict(line.split("=", 1) for line in text.splitlines())
    return {name: value for name, value in pairs.items() if name not in SHELLS_OWN}


def test_nothing_of_our_environment_reaches_native(vbench: Vbench) -> None:
    done = vbench.run("exec", "native", "--", "env", **MEDDLING)
    assert environment(done.stdout) == ENVIRONMENT


def test_a_guest_has_the_same_environment_and_limits(vbench: Vbench) -> None:
    script = "env; umask; ulimit -S -c -d -f -l -n -s -t -v"
    told = {
        target: vbench.run("exec", target, "--", script, **MEDDLING).stdout.splitlines()
        for target in ("native", "tcg-virtio")
    }
    assert sorted(told["native"]) == sorted(told["tcg-virtio"])


def test_our_limits_and_mask_do_not_reach_native(vbench: Vbench) -> None:
    script = 'umask 077; ulimit -S -n 300 -s 1024; exec "$@"'
    command = [sys.executable, "-m", "vbench.cli", "exec", "native", "--"]
    done = subprocess.run(
        ["sh", "-c", script, "sh", *command, "umask; ulimit -S -n; ulimit -S -s"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "VBENCH_TMP": str(vbench.tmp)},
    )
    assert done.stdout.split() == ["0022", "1024", "8192"]


def images_openssl(vbench: Vbench) -> str:
    done = vbench.run("exec", "native", "--", "sha256sum $(command -v openssl); openssl version")
    assert done.returncode == 0
    return done.stdout.split(maxsplit=2)[2]


def test_a_plain_user_s_path_has_no_sbin(vbench: Vbench) -> None:
    done = vbench.run("exec", "native", "--", "echo $PATH", PATH="/usr/local/bin:/usr/bin:/bin")
    assert done.stdout.strip() == ENVIRONMENT["PATH"]  # and so not by the loader


@pytest.mark.parametrize("what", ["unshare", "mount"])
def test_without_namespaces_the_loader_runs_the_image_s_programs(
    vbench: Vbench, tmp_path: Path, what: str
) -> None:
    path = stub(tmp_path / "stubs", what, f'echo "{what}: not permitted" >&2; exit 1')
    expected = images_openssl(vbench)
    script = "openssl version; command -v openssl; env"
    done = vbench.run("exec", "native", "--", script, PATH=path, **MEDDLING)
    version, place, *rest = done.stdout.splitlines()
    assert version == expected.strip()
    assert "/vbench-" in place  # the wrapper that calls the image's loader
    found = environment("\n".join(rest))
    assert found.pop("PATH").startswith(place.rpartition("/")[0])
    assert found == {name: text for name, text in ENVIRONMENT.items() if name != "PATH"}


def test_without_any_way_in_there_is_an_error_and_never_a_host_s_program(
    vbench: Vbench,
) -> None:
    if subprocess.run(["unshare", "-Urm", "true"], check=False).returncode:
        pytest.skip("this test makes its noexec folders in a mount namespace of its own")
    if Path(sys.prefix).is_relative_to("/tmp") or Path(sys.prefix).is_relative_to("/var/tmp"):
        pytest.skip("this test hides /tmp and /var/tmp, and Python itself lies there")
    script = """
      for d in /tmp /var/tmp; do mount -t tmpfs -o noexec t $d; done
      mount -t tmpfs t /mnt; printf '#!/bin/sh\\nexit 1\\n' >/mnt/unshare; chmod +x /mnt/unshare
      PATH=/mnt:$PATH exec "$@"
    """
    here = [sys.executable, "-m", "vbench.cli", "exec", "native", "--", "openssl version"]
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", script, "sh", *here],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": "/tmp", "VBENCH_TMP": "/var/tmp"},
    )
    assert done.returncode == 1
    assert "OpenSSL" not in done.stdout
    assert "noexec" in done.stderr
    assert "user namespaces" in done.stderr
