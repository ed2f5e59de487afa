"""Options of QEMU's variants: how they are written, what excludes what, what becomes of them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbench.contract.registry import Registry
from vbench.errors import UsageError
from vbench.hypervisors.qemu import binary, bundle
from vbench.hypervisors.qemu.cmdline import Disk, GuestSpec, Nic, argv
from vbench.system.facts import LocalReader

REGISTRY = Registry.load()


def options(text: str) -> Any:
    return REGISTRY.variant(text).options


def values(line: list[str], option: str) -> list[str]:
    return [line[at + 1] for at, word in enumerate(line) if word == option]


# ------------------------------------------------------------------ how they are written


def test_a_comma_inside_a_value_is_doubled_as_in_qemus_options() -> None:
    text = "tcg,vcpus=2,extra=-device virtio-rng-pci,,id=r -name 'a,, b'"
    variant = REGISTRY.variant(text)
    assert variant.options.arguments == ("-device", "virtio-rng-pci,id=r", "-name", "a, b")
    assert variant.options.vcpus == 2
    assert variant.text == text
    assert REGISTRY.variant("kvm-virtio,qemu=/a,,b/qemu").options.qemu == "/a,b/qemu"


@given(st.text(min_size=1), st.text())
def test_any_value_comes_back(cpu: str, extra: str) -> None:
    quoted = extra.replace("'", "")
    text = ",".join(
        f"{key}={value.replace(',', ',,')}"
        for key, value in (("cpu", cpu), ("extra", f"'{quoted}'"))
    )
    made = REGISTRY.variant(f"tcg,{text}").options
    assert made.cpu == cpu
    assert made.arguments == (quoted,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("machine=isapc", "machine is one of pc, q35, microvm"),
        ("qemu=./qemu", "qemu is an absolute path, not './qemu'"),
        ("kernel=vmlinuz", "kernel is an absolute path"),
        ("destination=me@b", "destination is ssh://user@host"),
        ("modules=/lib/modules/6.1", "modules are those of kernel=FILE"),
        ("extra='open", "extra cannot be split into words: No closing quotation"),
    ],
)
def test_what_cannot_be_is_a_usage_error(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        REGISTRY.variant(f"tcg,{text}")


@pytest.mark.parametrize("word", ["debian", "host", "/boot/vmlinuz"])
def test_a_kernel_is_named_as_for_the_whole_run(word: str) -> None:
    assert options(f"tcg,kernel={word}").kernel == word


# ------------------------------------------------------------------ what excludes what


@pytest.mark.parametrize("backend", ["tcg", "kvm-emulated"])
def test_microvm_has_no_place_for_emulated_devices(backend: str) -> None:
    variant = REGISTRY.variant(f"{backend},machine=microvm")
    with pytest.raises(UsageError, match=f"no PCI bus and no IDE.*not those of {backend}"):
        variant.backend.probe(None, variant.options)  # type: ignore[arg-type]


def test_microvm_has_no_firmware_of_a_pc() -> None:
    variant = REGISTRY.variant("tcg-virtio,machine=microvm,firmware=on")
    with pytest.raises(UsageError, match="no BIOS of a PC"):
        variant.backend.probe(None, variant.options)  # type: ignore[arg-type]


def test_a_kernel_that_is_not_there_is_a_usage_error() -> None:
    variant = REGISTRY.variant("tcg,kernel=/absent/vmlinuz")
    with pytest.raises(UsageError, match="no kernel file /absent/vmlinuz"):
        variant.backend.probe(None, variant.options)  # type: ignore[arg-type]


# ------------------------------------------------------------------ what becomes of them

SPEC: Any = {"accel": "tcg", "cpu": "max", "kernel": "/k", "initrd": "/i", "append": ()}
VIRTIO = Disk("/d", "virtio"), Nic("virtio-net-pci", "user", "m")


def test_on_microvm_virtio_devices_are_on_no_pci_bus() -> None:
    disk, nic = VIRTIO
    line = argv(GuestSpec(**SPEC, machine="microvm", disks=(disk,), nics=(nic,)))
    assert values(line, "-machine") == ["microvm,pic=off,pit=off"]
    assert values(line, "-device") == [
        "virtio-blk-device,id=disk0dev,drive=disk0,num-queues=1",
        "virtio-net-device,netdev=net0,mac=m",
    ]


def test_on_q35_emulated_disks_are_sata() -> None:
    disks = (Disk("/a", "ahci"), Disk("/b", "ahci"))
    line = argv(GuestSpec(**SPEC, machine="q35", disks=disks))
    assert values(line, "-device") == [
        "pvpanic",
        "ide-hd,id=disk0dev,drive=disk0,bus=ide.0,unit=0",
        "ide-hd,id=disk1dev,drive=disk1,bus=ide.1,unit=0",
    ]


# ------------------------------------------------------------------ another QEMU

FAKE = """#!/bin/sh
case "$*" in
  *--version*) echo "QEMU emulator version 9.9.9 (of mine)" ;;
  *"-accel help"*) echo "Accelerators supported in QEMU binary:"; echo tcg ;;
  *"-machine help"*) echo "pc   Standard PC" ;;
esac
"""


class Here(LocalReader):
    """This machine, whose files are known by their paths."""

    def program(self, path: str, pack: object) -> str:
        return path


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    path = tmp_path / "qemu"
    path.write_text(FAKE)
    path.chmod(0o755)
    return path


def test_another_qemu_is_known_by_version_and_digest(fake: Path) -> None:
    here: Any = Here()
    found = binary.find(here, str(fake))
    digest = subprocess.run(["sha256sum", fake], stdout=subprocess.PIPE, text=True, check=True)
    assert (found.command, found.version) == ((str(fake),), "9.9.9")
    assert found.digest == digest.stdout.split()[0]
    # it is built anew while we run
    fake.write_text(FAKE.replace("9.9.9", "10.0.0-rc1"))
    assert binary.find(here, str(fake)).version == "10.0.0-rc1"
    assert binary.find(here, str(fake)).digest != found.digest


def test_what_it_has_not_is_said(fake: Path, tmp_path: Path) -> None:
    here: Any = Here()
    assert binary.usable(here, str(fake), "tcg", "pc").ok
    assert binary.usable(here, str(fake), "kvm", "pc").reason == f"{fake} has no kvm"
    assert binary.usable(here, str(fake), "tcg", "q35").reason == f"{fake} has no q35"
    absent = binary.usable(here, str(tmp_path / "absent"), "tcg", "pc")
    assert "there is no such program" in absent.reason
    fake.write_text("#!/bin/sh\necho it is broken >&2\nexit 1\n")
    assert (
        "no QEMU that runs there: it is broken"
        in binary.usable(here, str(fake), "tcg", "pc").reason
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root of its own with a program in it: this machine's `ls`, its loader and libraries."""
    made = tmp_path / "root"
    folder = made / "usr/lib/x86_64-linux-gnu"
    for each in (made / "usr/bin", folder / "qemu", made / "usr/share/qemu", made / "lib64"):
        each.mkdir(parents=True)
    (made / "usr/share/qemu/pvh.bin").write_bytes(b"rom")
    (folder / "qemu/accel-tcg-x86_64.so").write_bytes(b"module")
    loader = os.path.realpath("/lib64/ld-linux-x86-64.so.2")
    (folder / "ld-linux-x86-64.so.2").write_bytes(Path(loader).read_bytes())
    (folder / "ld-linux-x86-64.so.2").chmod(0o755)
    # as in Debian 12, where it leads out of an unpacked root
    (made / "lib64/ld-linux-x86-64.so.2").symlink_to(loader)
    program = made / "usr/bin/qemu-system-x86_64"
    program.write_bytes(Path(os.path.realpath("/bin/ls")).read_bytes())
    program.chmod(0o755)
    return made


def test_one_in_a_root_of_its_own_runs_with_that_root(root: Path) -> None:
    found = bundle.look(LocalReader(), f"{root}/usr/bin/qemu-system-x86_64", own=True)
    folder = f"{root}/usr/lib/x86_64-linux-gnu"
    assert found.command == (
        *("env", f"QEMU_MODULE_DIR={folder}/qemu", f"{folder}/ld-linux-x86-64.so.2"),
        *("--library-path", f"{folder}:{root}/lib64", f"{root}/usr/bin/qemu-system-x86_64"),
        *("-L", f"{root}/usr/share/qemu"),
    )
    assert found.why == "it does not say its version"  # `ls` was started, and is no QEMU
    assert bundle.look(LocalReader(), f"{root}/usr/bin/qemu-system-x86_64", own=False).command == (
        f"{root}/usr/bin/qemu-system-x86_64",
    )
