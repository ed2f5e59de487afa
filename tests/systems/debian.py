"""The README's commands in a bare Debian: python tests/systems/debian.py SUITE [STEP...]

Makes a root of that release with mmdebstrap (trixie is Debian 13), clones this repository into a
folder with a blank in its name, and runs the steps in it: all of them, or those that are named.
Prints how long each took; exit status 1 if one failed. Needs root and about 4 GB in $VBENCH_TMP
(/var/tmp). Packages come from where the system's own apt and pip get theirs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vbench.image import debian

ROOT = Path(__file__).parents[2]
CLONE = "a clone"
# A namespace for mounts and one for processes: nothing is left of either at the end. The root
# becomes that of the namespace, as switch_root does it: in a mere chroot the kernel refuses user
# namespaces.
ENTER = """
mount --bind "$1" "$1"; cd "$1"
mount -t proc proc proc; mount --rbind /sys sys; mount --rbind /dev dev
mount -t tmpfs -o mode=1777 tmpfs tmp
for file in etc/resolv.conf etc/hosts; do cp "/$file" "$file"; done
mount --move . /
exec chroot . setpriv --reuid "$2" --regid "$2" --clear-groups sh -c "$3"
"""
VBENCH = ".venv/bin/vbench"
# step -> user, command line in the clone
STEPS = {
    "bare": ("root", "./bench --quick"),
    "doctor": ("root", f"{VBENCH} doctor"),
    "exec": ("root", f"{VBENCH} exec tcg-virtio -- uname -r"),
    "kvm": ("root", f"{VBENCH} exec --host testbed kvm-virtio -- uname -r"),
    "xen": ("root", f"{VBENCH} exec --host testbed xen-pv -- uname -r"),
    "user": ("user", "./bench --quick"),
}
LIMIT_S = 3600


def make_root(suite: str, root: Path) -> None:
    """A bare Debian: apt and what it needs, no Python."""
    sources = [
        f"deb [signed-by={debian.KEYRING}] {source} main" for source in debian.sources(suite)
    ]
    options = root.with_name("apt.conf")
    options.write_text(debian.host_apt_options())
    subprocess.run(
        [
            *("mmdebstrap", "--mode=root", "--variant=apt", "--format=directory"),
            *(f"--aptopt={options}", suite, str(root), *sources),
        ],
        check=True,
    )
    # Where certificates of the system's own are needed to reach package archives.
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", root / "ca.crt")
    # by hand: a bare trixie has no useradd
    for file, line in (
        ("passwd", "user:x:1000:1000::/home/user:/bin/sh"),
        ("group", "user:x:1000:"),
    ):
        with (root / "etc" / file).open("a") as database:
            database.write(f"{line}\n")
    for user, home in (("root", "root"), ("user", "home/user")):
        (root / home).mkdir(parents=True, exist_ok=True)
        clone = root / home / CLONE
        subprocess.run(["git", "clone", "-q", "--no-hardlinks", ROOT, clone], check=True)
        subprocess.run(["chroot", root, "chown", "-R", f"{user}:", f"/{home}"], check=True)


def run_step(root: Path, name: str) -> tuple[int, float]:
    """Exit status and seconds of a step."""
    user, command = STEPS[name]
    home = "/root" if user == "root" else f"/home/{user}"
    variables = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": home,
        "PIP_CERT": "/ca.crt",
        "LC_ALL": "C.UTF-8",
    }
    environment = " ".join(f"{key}={value}" for key, value in variables.items())
    line = f'cd "{home}/{CLONE}" && exec env -i {environment} {command}'
    began = time.monotonic()
    done = subprocess.run(
        [
            *("unshare", "--mount", "--pid", "--fork", "--kill-child"),
            *("sh", "-euc", ENTER, "enter", str(root), user, line),
        ],
        stdin=subprocess.DEVNULL,
        timeout=LIMIT_S,
        check=False,
    )
    return done.returncode, time.monotonic() - began


def main(suite: str, *wanted: str) -> int:
    """Make the root, run the steps, print the table."""
    unknown = set(wanted) - set(STEPS)
    if unknown or os.geteuid() != 0:
        print(f"needs root; steps: {', '.join(STEPS)}", file=sys.stderr)
        return 2
    parent = os.environ.get("VBENCH_TMP", "/var/tmp")
    with tempfile.TemporaryDirectory(prefix=f"vbench-{suite}-", dir=parent) as folder:
        root = Path(folder, "root")
        began = time.monotonic()
        make_root(suite, root)
        rows = [("root", 0, time.monotonic() - began)]
        for name in wanted or STEPS:
            print(f"== {suite}: {name}: {STEPS[name][1]}", flush=True)
            rows.append((name, *run_step(root, name)))
    for name, status, seconds in rows:
        print(f"{suite:<10} {name:<8} status {status:>3} {seconds:8.0f} s")
    return int(any(status for _, status, _ in rows))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
