"""Launch to result: `vbench exec tcg-virtio -- true` against virtme-ng with the same kernel.

    python benchmarks/exec_time.py [ROUNDS]

Both in turn. Targets: median <= 5 s, and <= 0.6 x virtme-ng (without KVM and microvm, 1 CPU,
1 GiB).
virtme-ng comes into a temporary virtual environment; its kernel is the image's Debian package,
unpacked beside it. vng looks for modules in /lib/modules only, so root and kmod are needed for that
half; without them it is left out and said so.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from vbench import image

MODULES = Path("/lib/modules")


def seconds(argv: Sequence[str], folder: str | None = None) -> float:
    began = time.monotonic()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, cwd=folder)
    return time.monotonic() - began


@contextlib.contextmanager
def virtme_ng(release: str) -> Iterator[list[str]]:
    """The argv of `vng ... --exec true` with Debian's kernel `release`."""
    link = MODULES / release
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        subprocess.run([sys.executable, "-m", "venv", root / "venv"], check=True)
        subprocess.run([root / "venv/bin/pip", "install", "-q", "virtme-ng"], check=True)
        subprocess.run(
            ["apt-get", "-q", "download", f"linux-image-{release}"],
            cwd=root, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        (package,) = root.glob("linux-image-*.deb")
        subprocess.run(["dpkg", "-x", package, root / "kernel"], check=True)
        subprocess.run(["depmod", "-b", root / "kernel", release], check=True)
        made = not link.exists()
        MODULES.mkdir(exist_ok=True)
        if made:
            link.symlink_to(root / "kernel/lib/modules" / release)
        try:
            vng = [
                *("vng", "--run", str(root / f"kernel/boot/vmlinuz-{release}")),
                *("--disable-kvm", "--disable-microvm", "--cpus", "1", "--memory", "1G"),
                *("--exec", "true"),
            ]
            # vng insists on a terminal
            os.environ["PATH"] = f"{root / 'venv/bin'}:{os.environ['PATH']}"
            yield ["script", "-qec", " ".join(vng), "/dev/null"]
        finally:
            if made:
                link.unlink()


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    release = image.ensure().kernel_release
    by_vbench = [str(Path(sys.executable).with_name("vbench")), "exec", "tcg-virtio", "--", "true"]
    able = os.geteuid() == 0 and shutil.which("depmod") is not None
    times: dict[str, list[float]] = {"vbench": [], "virtme-ng": []}
    with contextlib.ExitStack() as stack:
        by_virtme = stack.enter_context(virtme_ng(release)) if able else None
        for _ in range(rounds):
            times["vbench"].append(seconds(by_vbench))
            if by_virtme:
                times["virtme-ng"].append(seconds(by_virtme, "/"))
    for name, each in times.items():
        if each:
            shown = " ".join(f"{value:.2f}" for value in each)
            print(f"{name:10} median {statistics.median(each):.2f} s  ({shown})")
    print("target: vbench <= 5 s")
    if by_virtme:
        ratio = statistics.median(times["vbench"]) / statistics.median(times["virtme-ng"])
        print(f"vbench / virtme-ng: {ratio:.2f}  (target <= 0.6)")
    else:
        print("virtme-ng not measured: needs root and kmod")


if __name__ == "__main__":
    main()
