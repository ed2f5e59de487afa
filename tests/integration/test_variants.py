"""Variants of QEMU's backends with real guests: machine types, another QEMU or kernel, A/B."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Vbench
from vbench import image
from vbench.contract.registry import Registry
from vbench.hosts.local import LocalHost
from vbench.image.rootfs import LIBRARIES, LOADER
from vbench.system.facts import QEMU

pytestmark = pytest.mark.tcg
SHORT = ("--workload", "syscall-getppid", "--boots", "1", "--rounds", "1")


def launches(vbench: Vbench) -> Any:
    return vbench.json()["vbench"]["launches"]


def digest(path: str | Path) -> str:
    said = subprocess.run(["sha256sum", path], stdout=subprocess.PIPE, text=True, check=True)
    return said.stdout.split()[0]


@pytest.mark.parametrize(
    ("variant", "disk", "drivers"),
    [
        ("tcg-virtio,machine=q35", "virtio", ("virtio_blk", "virtio_net")),
        ("tcg,machine=q35", "ahci", ("ahci", "e1000")),
        ("tcg-virtio,machine=microvm", "virtio", ("virtio_blk", "virtio_net")),
    ],
)
def test_a_machine_type_boots_and_measures(
    vbench: Vbench, variant: str, disk: str, drivers: tuple[str, str]
) -> None:
    done = vbench.run("run", "--backend", variant, "--out", vbench.out, *SHORT)
    assert done.returncode == 0, done.stderr
    (launch,) = launches(vbench)
    assert launch["device"]["machine"].split(",")[0] == variant.rpartition("=")[2]
    assert launch["device"]["disk"] == disk
    assert set(launch["observed"]["disks"].values()) == {drivers[0]}
    assert set(launch["observed"]["nics"].values()) == {drivers[1]}
    assert vbench.pairs("syscall-getppid") == 1


def test_a_microvm_keeps_time() -> None:
    """Its kernel was told its clock's frequency: a second there is a second here."""
    variant = Registry.load().variant("tcg-virtio,machine=microvm")
    with (
        contextlib.closing(LocalHost()) as host,
        variant.backend.launch(host, image.ensure(), variant.options) as guest,
    ):  # type: ignore[attr-defined]
        assert guest.observed.clocksource.startswith("tsc")
        assert guest.device.further["clock"]

        def clocks() -> tuple[float, float]:
            began = time.monotonic()
            there = float(guest.run("cut -d ' ' -f 1 /proc/uptime", timeout_s=20).stdout)
            return (began + time.monotonic()) / 2, there

        before = clocks()
        time.sleep(4)
        after = clocks()
        here, there = (after[i] - before[i] for i in (0, 1))
        assert there == pytest.approx(here, rel=0.05)


def test_another_qemu_and_further_arguments(vbench: Vbench, tmp_path: Path) -> None:
    """A copy of the installed one, in a root of its own whose name has a comma."""
    root = tmp_path / "root,2"
    folder = root / LIBRARIES
    folder.mkdir(parents=True)
    shutil.copy(os.path.realpath(f"/lib64/{LOADER}"), folder / LOADER)
    for name in (f"{LIBRARIES}/qemu", "usr/share/qemu", "usr/share/seabios"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(f"/{name}")
    copy = root / "usr/bin" / QEMU
    copy.parent.mkdir()
    shutil.copy(str(shutil.which(QEMU)), copy)
    with copy.open("ab") as file:
        file.write(b"\0")  # another digest
    path = str(copy).replace(",", ",,")
    extra = "-device virtio-rng-pci,,id=mine"
    variant = f"tcg-virtio,qemu={path},extra={extra}"
    done = vbench.run("run", "--backend", variant, "--out", vbench.out, *SHORT)
    assert done.returncode == 0, done.stderr
    (launch,) = launches(vbench)
    assert {str(folder / LOADER), str(copy)} <= set(launch["argv"])
    assert launch["digests"]["qemu"] == digest(copy) != digest(str(shutil.which(QEMU)))
    assert launch["device"]["further"]["extra"] == extra.replace(",,", ",")
    assert "virtio-rng-pci,id=mine" in launch["argv"]


def modules(archive: bytes, into: Path) -> None:
    """Unpack the kernel's modules of an initramfs (newc: kernel's buffer-format.rst)."""
    (into / "kernel").mkdir(parents=True)
    at = 0
    while archive[at : at + 6] == b"070701":
        field = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        name = archive[at + 110 : at + 109 + field[11]].decode()
        start = (at + 110 + field[11] + 3) & ~3
        if name.endswith(".ko"):
            (into / "kernel" / Path(name).name).write_bytes(archive[start : start + field[6]])
        at = (start + field[6] + 3) & ~3


def test_another_kernel_for_one_variant_only(vbench: Vbench, tmp_path: Path) -> None:
    """The image's own kernel, as if it were another one."""
    files = image.ensure()
    folder = tmp_path / "modules"
    modules(Path(files.initramfs).read_bytes(), folder)
    variant = f"tcg-virtio,kernel={files.bzimage},modules={folder}"
    both = ("--backend", "tcg-virtio", "--backend", variant)
    done = vbench.run("run", *both, "--out", vbench.out, *SHORT)
    assert done.returncode == 0, done.stderr
    documents = [json.loads(path.read_text())["vbench"] for path in vbench.out.glob("*.json")]
    plain, own = sorted(documents, key=lambda each: len(each["variant"]))
    assert own["variant"] == variant
    assert plain["image"] == own["image"]  # of the run: native is the same
    (first,), (second,) = plain["launches"], own["launches"]
    assert first["image"] != second["image"]
    assert first["digests"]["kernel"] == second["digests"]["kernel"] == digest(files.kernel)
    assert second["versions"]["kernel"] == files.kernel_release
    image.remove(Path(files_of(second["argv"], "-kernel")).parent.name)


def files_of(argv: list[str], option: str) -> str:
    return argv[argv.index(option) + 1]


def test_a_microvm_of_emulated_devices_is_a_usage_error(vbench: Vbench) -> None:
    done = vbench.run("run", "--backend", "tcg,machine=microvm", "--out", vbench.out)
    assert done.returncode == 2
    assert "has no PCI bus and no IDE" in done.stderr


def test_a_qemu_that_is_none_cannot_run_here(vbench: Vbench) -> None:
    done = vbench.run("run", "--backend", "tcg,qemu=/bin/true", "--out", vbench.out)
    assert done.returncode == 3
    assert "/bin/true is no QEMU that runs there" in done.stderr


def test_the_same_twice_passes(vbench: Vbench) -> None:
    """Both sides boot the same. On a machine that runs other tests as well their difference may
    stay undecided, which --allow-missing accepts, but it is no regression."""
    done = vbench.run(
        *("ab", "tcg-virtio", "tcg-virtio", "--workload", "syscall-getppid", "--boots", "3"),
        *("--rounds", "1", "--fail-above", "50", "--allow-missing", "--out", vbench.out),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed: no regression above 50 % was found" in done.stdout
    assert sorted(os.listdir(vbench.out))[:2] == [
        "A-local-tcg-virtio.json",
        "B-local-tcg-virtio.json",
    ]
