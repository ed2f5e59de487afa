"""XlSpec -> the text of an xl configuration file (xl.cfg(5)): pure, so tested without Xen."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class XlSpec:
    """A domain. `disk` is a block device or a file of dom0, `bridge` one of its bridges."""

    name: str
    kernel: str
    ramdisk: str
    cmdline: tuple[str, ...]
    disk: str
    bridge: str
    mac: str
    type: str = "pv"
    memory_mib: int = 512
    vcpus: int = 1
    # RDTSC runs unemulated: as long as the domain stays on this machine its clock is right.
    tsc_mode: str = "native"


def xl_config(spec: XlSpec) -> str:
    """The configuration file. A domain that crashes or reboots is lost, never started anew.

    Raises ValueError for a path that xl's syntax cannot hold.
    """
    if set(spec.disk) & set(",'\"\n"):
        raise ValueError(f"xl cannot take the disk's path {spec.disk!r}")
    # script: with it the disk stays in dom0's kernel (blkback), be it a device or a file
    disk = f"format=raw,vdev=xvda,access=rw,backendtype=phy,script=block,target={spec.disk}"
    lines = {
        "name": _quoted(spec.name),
        "type": _quoted(spec.type),
        "kernel": _quoted(spec.kernel),
        "ramdisk": _quoted(spec.ramdisk),
        "cmdline": _quoted(" ".join(spec.cmdline)),
        "memory": str(spec.memory_mib),
        "vcpus": str(spec.vcpus),
        "tsc_mode": _quoted(spec.tsc_mode),
        "disk": f"[{_quoted(disk)}]",
        "vif": f"[{_quoted(f'mac={spec.mac},bridge={spec.bridge},script=vif-bridge')}]",
        **dict.fromkeys(("on_poweroff", "on_reboot", "on_crash"), _quoted("destroy")),
    }
    return "".join(f"{key} = {value}\n" for key, value in lines.items())


def _quoted(text: str) -> str:
    """xl's strings know no escapes: whichever quote the text does not hold."""
    for quote in ('"', "'"):
        if quote not in text and "\n" not in text:
            return f"{quote}{text}{quote}"
    raise ValueError(f"xl's configuration files cannot hold {text!r}")
