"""Kernels out of bzImages, and the modules that go into the image."""

from __future__ import annotations

import gzip
import lzma
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from test_image_elf import PVH_NOTE, make_elf

from vbench import image
from vbench.errors import ImageError, UsageError
from vbench.image import cpio, kernel

BANNER = b"Linux version 6.1.0-9-amd64 (someone) #1 SMP"
VMLINUX = make_elf(note=PVH_NOTE, rodata=BANNER)


def bzimage(payload: bytes) -> bytes:
    """A bzImage with one sector of setup code before the compressed kernel."""
    header = bytearray(1024 + 16)
    header[0x1F1] = 1
    header[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", header, 0x206, 0x20F)
    struct.pack_into("<II", header, 0x248, 16, len(payload))
    return bytes(header) + payload + b"what follows"


@pytest.mark.parametrize(
    "packed",
    [
        gzip.compress(VMLINUX),
        lzma.compress(VMLINUX) + struct.pack("<I", len(VMLINUX)),
        lzma.compress(VMLINUX, lzma.FORMAT_ALONE) + struct.pack("<I", len(VMLINUX)),
    ],
    ids=["gzip", "xz", "lzma"],
)
def test_kernel_is_extracted(packed: bytes) -> None:
    assert kernel.extract_vmlinux(bzimage(packed), "vmlinuz") == VMLINUX


def test_uncompressed_kernel_is_taken_as_it_is() -> None:
    assert kernel.extract_vmlinux(VMLINUX, "vmlinux") == VMLINUX
    assert kernel.release(VMLINUX) == "6.1.0-9-amd64"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"MZ", "neither a bzImage nor a vmlinux"),
        (bzimage(b"\x89LZO and more"), "cannot be undone"),
        (bzimage(lzma.compress(VMLINUX)[:-40]), "is damaged"),
        (bzimage(gzip.compress(VMLINUX)[:-40]), "is damaged"),
        (bzimage(gzip.compress(b"no kernel")), "no usable kernel"),
        (make_elf(rodata=BANNER), "PVH"),
    ],
)
def test_what_cannot_be_booted_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        kernel.extract_vmlinux(data, "vmlinuz")


def test_kernel_without_a_version_is_refused() -> None:
    with pytest.raises(ImageError, match="which version"):
        kernel.release(b"nothing")


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    """Module files: virtio_net needs net_failover, which needs failover."""
    files: dict[str, tuple[bytes, Callable[[bytes], bytes]]] = {
        "drivers/net/virtio_net.ko": (
            b"alias=virtio:d00000001v*\0depends=net_failover,virtio-ring\0",
            bytes,
        ),
        "net/net_failover.ko.xz": (b"depends=failover\0", lzma.compress),
        "net/failover.ko.gz": (b"depends=\0", gzip.compress),
        "drivers/virtio-ring.ko": (b"depends=\0", bytes),
        "drivers/unwanted.ko": (b"depends=\0", bytes),
    }
    for name, (info, compress) in files.items():
        path = tmp_path / "kernel" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(compress(make_elf(modinfo=info)))
    (tmp_path / "modules.builtin").write_text("kernel/drivers/block/brd.ko\n")
    return tmp_path


def test_wanted_modules_come_with_what_they_need(modules: Path) -> None:
    entries, absent = kernel.pack_modules(modules, "6.1")

    top = "usr/lib/modules/6.1"
    content = {entry.name.removeprefix(top + "/"): entry.data for entry in entries}
    assert {name for name in content if name.endswith(".ko")} == {
        *("virtio_net.ko", "net_failover.ko", "failover.ko", "virtio_ring.ko"),
    }
    assert content["failover.ko"].startswith(b"\x7fELF")
    assert content["modules.alias"] == b"alias virtio:d00000001v* virtio_net\n"
    dependencies = dict(line.split(b":") for line in content["modules.dep"].splitlines())
    order = dependencies[b"virtio_net.ko"].split()
    assert sorted(order) == [b"failover.ko", b"net_failover.ko", b"virtio_ring.ko"]
    assert order.index(b"net_failover.ko") < order.index(b"failover.ko")  # loaded from the end
    assert b"brd" in content["modules.builtin"]
    assert "brd" in absent
    assert "virtio_net" not in absent


def test_same_modules_give_same_archive(modules: Path) -> None:
    first, _ = kernel.pack_modules(modules, "6.1")
    second, _ = kernel.pack_modules(modules, "6.1")

    assert cpio.archive(first) == cpio.archive(second)


def test_kernel_without_modules_has_empty_indexes() -> None:
    entries, absent = kernel.pack_modules(None, "6.1")

    assert "usr/lib/modules/6.1/modules.dep" in {entry.name for entry in entries}
    assert set(absent) == set(kernel.MODULES)


def test_missing_host_kernel_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        release = "0.0-none"

    monkeypatch.setattr(os, "uname", Other)

    with pytest.raises(ImageError, match=r"0\.0-none.*is not here") as caught:
        kernel.host_kernel()
    assert "debian" in caught.value.remedy


def test_missing_kernel_file_and_module_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no kernel file"):
        image.ensure(str(tmp_path / "vmlinuz"))
    (tmp_path / "vmlinuz").write_bytes(VMLINUX)
    with pytest.raises(UsageError, match="holds no kernel modules"):
        image.ensure(str(tmp_path / "vmlinuz"), str(tmp_path))
    for word in ("debian", "host"):
        with pytest.raises(UsageError, match="those of no kernel file"):
            image.source_of(word, str(tmp_path))
