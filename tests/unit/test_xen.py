"""Xen without Xen: configuration files, what xl prints, and a domain's life with a made-up xl."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vbench.errors import GuestLost, HostError, LaunchError, UsageError
from vbench.hosts.local import LocalHost
from vbench.hypervisors.xen import dom0
from vbench.hypervisors.xen.backend import XenOptions
from vbench.hypervisors.xen.config import XlSpec, xl_config
from vbench.hypervisors.xen.machine import XlMachine
from vbench.model import Output
from vbench.plugins import xen_pv, xen_pvh

SPEC = XlSpec(
    name="vbench-1",
    kernel="/images/vmlinux",
    ramdisk="/tmp/initrd",
    cmdline=("console=hvc0", "quiet"),
    disk="/dev/ram0",
    bridge="vbench0",
    mac="00:16:3e:00:00:01",
)


def test_a_configuration() -> None:
    assert xl_config(SPEC).splitlines() == [
        'name = "vbench-1"',
        'type = "pv"',
        'kernel = "/images/vmlinux"',
        'ramdisk = "/tmp/initrd"',
        'cmdline = "console=hvc0 quiet"',
        "memory = 512",
        "vcpus = 1",
        'tsc_mode = "native"',
        'disk = ["format=raw,vdev=xvda,access=rw,backendtype=phy,script=block,target=/dev/ram0"]',
        'vif = ["mac=00:16:3e:00:00:01,bridge=vbench0,script=vif-bridge"]',
        'on_poweroff = "destroy"',
        'on_reboot = "destroy"',
        'on_crash = "destroy"',
    ]


def test_quotes_in_a_path() -> None:
    config = xl_config(dataclasses.replace(SPEC, kernel='/a "b"/vmlinux'))
    assert "kernel = '/a \"b\"/vmlinux'" in config.splitlines()
    with pytest.raises(ValueError, match="cannot hold"):
        xl_config(dataclasses.replace(SPEC, kernel='/it\'s "b"'))


@pytest.mark.parametrize("path", ["/a,b", "/a'b", '/a"b', "/a\nb"])
def test_a_disk_that_xl_cannot_take(path: str) -> None:
    with pytest.raises(ValueError, match="disk's path"):
        xl_config(dataclasses.replace(SPEC, disk=path))


def test_xl_info() -> None:
    info = dom0.parse_info("xen_version            : 4.17.7\nxen_caps : a b:c\nnonsense\n")
    assert info == {"xen_version": "4.17.7", "xen_caps": "a b:c"}


@pytest.mark.parametrize(("text", "found"), [("000228f0\n", True), ("000020f0\n", False)])
def test_dom0_is_told_by_its_features(
    monkeypatch: pytest.MonkeyPatch, text: str, found: bool
) -> None:
    files = {"/sys/hypervisor/type": "xen\n", "/sys/hypervisor/properties/features": text}
    monkeypatch.setattr(LocalHost, "read", lambda self, path: files[path])
    assert dom0.is_dom0(LocalHost()) is found


def test_no_xen_no_dom0(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(self: LocalHost, path: str) -> str:
        raise HostError(f"cannot read {path}")

    monkeypatch.setattr(LocalHost, "read", read)
    assert not dom0.is_dom0(LocalHost())


@pytest.mark.parametrize("options", [{"vcpus": 0}, {"memory": 128}])
def test_options_out_of_range(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        XenOptions(**options)


def test_a_pvh_domain_needs_hardware_virtualization() -> None:
    files = {"/sys/hypervisor/type": "xen", "/sys/hypervisor/properties/features": "00000800"}

    def host(caps: str) -> Any:
        info = Output(0, f"release : 6.1\nxen_caps : {caps}\n", "")
        machine = SimpleNamespace(read=files.__getitem__, run=lambda argv, timeout_s: info)
        return SimpleNamespace(with_layer=lambda hypervisor: machine)

    without = host("xen-3.0-x86_64")
    found = xen_pvh.BACKEND.probe(without, xen_pvh.BACKEND.options)
    assert not found.ok
    assert "xen_caps: xen-3.0-x86_64" in found.reason
    assert xen_pv.BACKEND.probe(without, xen_pv.BACKEND.options).ok
    assert xen_pvh.BACKEND.probe(host("xen-3.0-x86_64 hvm-3.0-x86_64"), xen_pvh.BACKEND.options).ok


def test_another_xen_is_an_elf_file_for_a_host_that_can_be_booted_with_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="xen is an absolute path"):
        XenOptions(xen="xen.gz")
    path = tmp_path / "xen"
    path.write_bytes(b"\x1f\x8b packed")
    options = XenOptions(xen=str(path))
    fixed: Any = SimpleNamespace(name="here")
    fixed.with_layer = lambda layer: fixed
    with pytest.raises(UsageError, match="no unpacked Xen"):
        xen_pv.BACKEND.probe(fixed, options)
    path.write_bytes(b"\x7fELF")
    said = xen_pv.BACKEND.probe(fixed, options)
    assert said.reason == "here runs on the Xen that it was booted with"
    assert options.layer.hypervisor == str(path)
    assert options.layer.addition == XenOptions().layer.addition


# ------------------------------------------------------------------ a domain's life

# A domain is a file named after its id; its console a program that ends with it.
XL = r"""#!/bin/sh
cd "$XL" || exit 1
echo "$*" >>calls
case $1 in
create) [ -f refuse ] && { cat refuse >&2; exit 3; }; touch 7;;
domid) echo 7;;
unpause) touch running;;
pause) rm running;;
console) until [ -f running ]; do sleep 0.01; done
  echo "VBENCH-READY userspace=1.5 ready=2.25"; while [ -f 7 ]; do sleep 0.01; done;;
destroy) rm 7;;
esac
"""
PROBE = r"""#!/bin/sh
[ "$*" = "xen-cpu 7" ] || exit 2
[ ! -f "$XL/old" ] || exit 77
[ -f "$XL/7" ] || { echo "there is no domain 7" >&2; exit 1; }
echo '{"cpu_ns": 1500000001, "dom0_ns": 2500000000}'
"""


@pytest.fixture
def xl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in (("xl", XL), ("vbench-probe", PROBE)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("XL", str(tmp_path))
    return tmp_path


@pytest.fixture
def host() -> Iterator[LocalHost]:
    here = LocalHost()
    yield here
    here.close()


def start(host: LocalHost, folder: Path) -> XlMachine:
    return XlMachine(host, "mine", "name = x\n", str(folder / "config"))


def test_from_create_to_destroy(host: LocalHost, xl: Path) -> None:
    machine = start(host, xl)
    assert machine.domid == 7
    assert machine.wait_ready(10) == {"userspace": 1.5, "ready": 2.25}
    assert machine.alive
    assert machine.usage() == {"host_cpu_s": 4.000000001, "vcpu_cpu_s": 1.500000001}
    (xl / "old").touch()
    assert machine.usage() == {}
    machine.pause()
    machine.resume()
    machine.close()
    machine.close()
    assert not (xl / "7").exists()
    assert not machine.alive
    calls = (xl / "calls").read_text().splitlines()
    assert calls[0] == f"create -q -p {xl / 'config'}"
    assert {"console -t pv 7", "pause 7", "unpause 7", "destroy 7"} <= set(calls)


def test_xl_refuses(host: LocalHost, xl: Path) -> None:
    (xl / "refuse").write_text("libxl: error: not enough memory\n")
    with pytest.raises(LaunchError, match=r"created no domain \(exit status 3\)") as caught:
        start(host, xl)
    assert "not enough memory" in caught.value.evidence
    assert "name = x" in caught.value.evidence


def test_a_domain_that_vanishes(host: LocalHost, xl: Path) -> None:
    machine = start(host, xl)
    machine.wait_ready(10)
    (xl / "7").unlink()
    assert machine.process.wait(10) == 0
    assert not machine.alive
    with pytest.raises(GuestLost, match="domain is gone"):
        machine.usage()
    machine.close()


def test_no_domain_outlives_its_owner(host: LocalHost, xl: Path) -> None:
    """The way a killed vbench ends: its process dies, its end of standard input closes."""
    machine = start(host, xl)
    machine.wait_ready(10)
    machine.process.kill()
    for _ in range(500):
        if not (xl / "7").exists():
            break
        os.sched_yield()
        host.run(["sleep", "0.01"], timeout_s=5)
    assert not (xl / "7").exists()
