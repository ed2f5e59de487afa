"""A GuestSpec becomes exactly the QEMU command line that its fields say."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbench.hypervisors.qemu.cmdline import Disk, GuestSpec, Nic, argv, escape

SPEC = GuestSpec("tcg", "max", "/image/vmlinux", "/run/initrd", ("console=ttyS0", "quiet"))


def with_(**changes: object) -> list[str]:
    return argv(dataclasses.replace(SPEC, **changes))  # type: ignore[arg-type]


def values(line: list[str], option: str) -> list[str]:
    """What follows each `option`."""
    return [line[at + 1] for at, word in enumerate(line) if word == option]


def test_pure() -> None:
    assert argv(SPEC) == argv(SPEC)
    before = dataclasses.replace(SPEC)
    argv(SPEC).clear()
    assert before == SPEC


def test_what_every_guest_gets() -> None:
    line = argv(SPEC)
    assert line[0] == "qemu-system-x86_64"
    for flag in ("-nodefaults", "-no-user-config", "-no-reboot"):
        assert flag in line
    assert values(line, "-display") == ["none"]
    assert values(line, "-action") == ["panic=exit-failure"]
    assert values(line, "-sandbox")[0].startswith("on,")
    assert values(line, "-kernel") == ["/image/vmlinux"]
    assert values(line, "-initrd") == ["/run/initrd"]
    assert values(line, "-append") == ["console=ttyS0 quiet"]
    assert "pvpanic" in values(line, "-device")
    # QMP on standard input and output, the console on standard error: one form for every host
    assert values(line, "-chardev") == [
        "stdio,id=qmp,signal=off",
        "file,id=console,path=/dev/stderr",
    ]
    assert values(line, "-mon") == ["chardev=qmp,mode=control"]
    assert values(line, "-serial") == ["chardev:console"]


@pytest.mark.parametrize(
    ("field", "value", "option", "said"),
    [
        ("accel", "kvm", "-accel", "kvm"),
        ("cpu", "qemu64,+svm", "-cpu", "qemu64,+svm"),
        ("machine", "q35", "-machine", "q35"),
        ("vcpus", 2, "-smp", "2"),
        ("memory_mib", 1024, "-m", "1024M"),
    ],
)
def test_a_field_changes_its_option_only(field: str, value: object, option: str, said: str) -> None:
    line = with_(**{field: value})
    assert values(line, option) == [said]
    assert len(line) == len(argv(SPEC))
    assert sum(a != b for a, b in zip(line, argv(SPEC), strict=True)) == 1


def test_binary_rng_and_extra() -> None:
    assert with_(command=("env", "A=1", "/opt/qemu"))[:4] == ["env", "A=1", "/opt/qemu", "-accel"]
    assert with_(extra=("-icount", "shift=0"))[-2:] == ["-icount", "shift=0"]


@pytest.mark.parametrize(
    ("cache", "direct", "no_flush"),
    [("none", "on", "off"), ("writeback", "off", "off"), ("unsafe", "off", "on")],
)
def test_cache_mode_is_on_both_layers(cache: str, direct: str, no_flush: str) -> None:
    file, raw = values(with_(disks=(Disk("/d", "ide", cache),)), "-blockdev")
    for node in (file, raw):
        assert f"cache.direct={direct},cache.no-flush={no_flush}" in node
    assert file.startswith("driver=file,node-name=disk0f,filename=/d,aio=threads,")
    assert raw.startswith("driver=raw,node-name=disk0,file=disk0f,")


def test_a_disk_is_a_device_only_if_it_is_said_to_be() -> None:
    file, _ = values(with_(disks=(Disk("/dev/shm/d", "ide"),)), "-blockdev")
    device, _ = values(with_(disks=(Disk("/dev/ram0", "ide", device=True),)), "-blockdev")
    assert file.startswith("driver=file,")
    assert device.startswith("driver=host_device,")


def test_disk_options() -> None:
    disk = Disk("/d", "ide", aio="io_uring", read_only=True)
    file, raw = values(with_(disks=(disk,)), "-blockdev")
    assert "aio=io_uring" in file
    assert "read-only=on" in file
    assert "read-only=on" in raw


def test_ide_disks_fill_bus_after_bus() -> None:
    line = with_(disks=tuple(Disk(f"/d{n}", "ide") for n in range(3)))
    assert [d for d in values(line, "-device") if d.startswith("ide-hd")] == [
        "ide-hd,id=disk0dev,drive=disk0,bus=ide.0,unit=0",
        "ide-hd,id=disk1dev,drive=disk1,bus=ide.0,unit=1",
        "ide-hd,id=disk2dev,drive=disk2,bus=ide.1,unit=0",
    ]


def test_virtio_disk_with_queues_and_iothread() -> None:
    line = with_(disks=(Disk("/d", "virtio", queues=2, iothread=True),))
    assert "virtio-blk-pci,id=disk0dev,drive=disk0,num-queues=2,iothread=disk0io" in values(
        line, "-device"
    )
    assert values(line, "-object") == ["iothread,id=disk0io"]
    plain = with_(disks=(Disk("/d", "virtio"),))
    assert "virtio-blk-pci,id=disk0dev,drive=disk0,num-queues=1" in values(plain, "-device")
    assert not values(plain, "-object")


def test_nics_are_numbered_and_boot_from_no_rom() -> None:
    nics = (Nic("e1000", "user,restrict=on", "52:54:00:00:00:01"), Nic("e1000", "tap,fd=7", "m2"))
    line = with_(nics=nics)
    assert values(line, "-netdev") == ["user,restrict=on,id=net0", "tap,fd=7,id=net1"]
    devices = [d for d in values(line, "-device") if d.startswith("e1000")]
    assert devices[0] == "e1000,netdev=net0,mac=52:54:00:00:00:01,romfile="
    assert devices[1].startswith("e1000,netdev=net1,mac=m2")


def test_commas_in_a_path_are_doubled() -> None:
    (file, _) = values(with_(disks=(Disk("/a,b/c,,d", "ide"),)), "-blockdev")
    assert "filename=/a,,b/c,,,,d,aio=" in file


@given(st.text(st.characters(exclude_characters="\0", codec="utf-8")))
def test_escaped_values_come_back(value: str) -> None:
    """Split as QEMU does: at single commas; doubled ones are one."""
    line = f"filename={escape(value)},aio=threads"
    assert _first(line) == f"filename={value}"


def _first(line: str) -> str:
    """The first comma-separated part, as QEMU's get_opt_value reads it."""
    read, at = "", 0
    while at < len(line):
        if line[at] == ",":
            if line[at + 1 : at + 2] != ",":
                break
            at += 1
        read += line[at]
        at += 1
    return read
