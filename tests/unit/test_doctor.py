"""Facts about hosts: this one for real, and others by their files and commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from vbench.errors import HostError
from vbench.model import Check, Output
from vbench.system import doctor
from vbench.system.facts import CPU, LocalReader, Reader, facts
from vbench.system.packages import PACKAGES

PARAMETERS = "/sys/module/kvm_amd/parameters"
VERDICT = {
    "usable": True,
    "state": "usable",
    "rate_per_s": 2e9,
    "provider": "kvm_amd",
    "reason": "runs 2000 M instructions/s (provider kvm_amd)",
    "remedy": "",
}
FILES = {
    "/proc/cpuinfo": "processor\t: 0\nmodel name\t: Ryzen\nflags\t\t: fpu svm lm\n\nflags\t: no\n",
    "/proc/meminfo": "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n",
    "/proc/cmdline": "ro quiet mitigations=off",
    "/proc/sys/kernel/osrelease": "6.1.0",
    "/proc/sys/kernel/random/boot_id": "0f3e\n",
    "/etc/machine-id": "c0ffee\n",
    "/proc/self/stat": f"7 (a ) b) R {' '.join(map(str, range(4, 19)))} 5 {'0 ' * 21}3 0 0",
    "/proc/self/cgroup": "0::/a/b\n",
    "/proc/self/mountinfo": "41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
    "/sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
    "/sys/fs/cgroup/a/cpu.max": "150000 100000\n",
    "/proc/pressure/cpu": "some avg10=0.50 avg60=0 avg300=0 total=1\n",
    "/etc/os-release": 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    f"{PARAMETERS}/nested": "1\n",
    f"{PARAMETERS}/npt": "Y\n",
    f"{CPU}/cpu0/cpufreq/scaling_governor": "performance\n",
    f"{CPU}/cpufreq/boost": "1\n",
    f"{CPU}/smt/active": "1\n",
    "/sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
}
# What a command that contains the key writes. An absent one fails.
SAYS = {
    "nproc": "8",
    "/sys/class/net": "52:54:00:00:00:01\n",
    "getconf": "4096",
    "--version": "QEMU emulator version 8.2.1 (Debian 1:8.2)\nCopyright",
    "-accel help": "Accelerators supported in QEMU binary:\ntcg\nkvm\n",
    "ls -A|/sys/module": "kvm\nkvm_amd\n",
    "ls -A|/sys/class/iommu": "ivhd0\n",
    "ls -A|/sys/firmware/acpi/tables": "IVRS\n",
    "test -e": "",
    "test -r": "",
    "stat": "crw-rw---- root:kvm",
    "grep . *": "l1tf:Not affected\nspectre_v1:Mitigation: barriers\nsrso:Vulnerable\n",
    "df -PT": "/dev/sda ext4 100000 1 50000 1% /\n",
    "df -Pm": "/home/u/.cache/vbench\n/dev/sda 100000 1 50000 1% /home",
    "command -v": "/usr/bin/it",
    "unshare -Ur": "",
    "python3 -": json.dumps(VERDICT),
}


class FakeHost:
    """A host made of files and of what its commands say; `None` takes one away."""

    def __init__(
        self,
        files: Mapping[str, str | None] | None = None,
        says: Mapping[str, str | None] | None = None,
    ) -> None:
        self.files = {**FILES, **(files or {})}
        self.says = {**(says or {}), **{k: v for k, v in SAYS.items() if k not in (says or {})}}

    def run(self, argv: Sequence[str], *, timeout_s: float, stdin: bytes = b"") -> Output:
        line = " ".join(argv)
        for key, answer in self.says.items():
            if all(part in line for part in key.split("|")):
                return Output(1, "", "refused") if answer is None else Output(0, answer, "")
        return Output(127, "", f"{argv[0]}: not found")

    def read(self, path: str) -> str:
        found = self.files.get(path)
        if found is None:
            raise HostError(f"cannot read {path}")
        return found


def found_on(host: Reader) -> dict[str, Check]:
    return {check.name: check for check in doctor.checks(host, PACKAGES)}


def one(host: FakeHost, name: str) -> Check:
    return found_on(host)[name]


def test_a_good_host_has_nothing_to_mend() -> None:
    found = found_on(FakeHost())
    assert {c.name: c.finding for c in found.values() if c.state in {"warn", "bad"}} == {}
    assert found["CPU virtualization"].finding == "svm (AMD-V)"
    assert found["nested paging"].finding == "npt on"
    assert found["QEMU"].finding == "8.2.1 (/usr/bin/it)"
    assert found["IOMMU"].finding == "in use: ivhd0"


@pytest.mark.parametrize(
    ("files", "says", "name", "state", "finding", "remedy"),
    [
        ({"/proc/cpuinfo": "flags : fpu\n"}, {}, "CPU virtualization", "warn", "neither", "enable"),
        ({}, {"ls -A|/sys/module": "kvm"}, "KVM modules", "warn", "no provider", "modprobe"),
        ({}, {"ls -A|/sys/module": "kvm\nkvm_pvm"}, "KVM modules", "warn", "kvm_pvm", "vmx or svm"),
        ({}, {"test -e": None}, "/dev/kvm", "warn", "absent", "modprobe"),
        ({}, {"test -r": None}, "/dev/kvm", "warn", "root:kvm", "usermod -aG kvm"),
        ({}, {"python3 -": None}, "KVM runs code", "warn", "could not be probed", "python3"),
        ({f"{PARAMETERS}/npt": "N"}, {}, "nested paging", "warn", "npt off", "npt=1"),
        ({f"{PARAMETERS}/nested": "0"}, {}, "nested KVM", "info", "nested=off", ""),
        ({}, {"ls -A|/sys/class/iommu": ""}, "IOMMU", "info", "IVRS", "amd_iommu=on"),
        ({}, {"command -v": None}, "QEMU", "bad", "no qemu-system-x86_64", "vbench setup"),
        ({}, {"command -v|mmdebstrap": None}, "mmdebstrap", "bad", "missing mm", "vbench setup"),
        ({}, {"command -v|taskset": None}, "util-linux", "bad", "missing taskset", "vbench setup"),
        ({}, {"command -v|lz4": None}, "lz4", "warn", "--kernel", "vbench setup"),
        ({}, {"test -e|keyrings": None}, "debian-archive-keyring", "bad", "key", "vbench setup"),
        (
            {},
            {"--version": "QEMU emulator version 6.2.0 (x)"},
            "QEMU",
            "warn",
            "query-stats",
            "7.1",
        ),
        ({}, {"-accel help": "Accelerators:\nkvm\n"}, "QEMU accelerators", "bad", "no tcg", "QEMU"),
        (
            {f"{CPU}/cpu0/cpufreq/scaling_governor": "powersave"},
            {},
            "CPU governor",
            "warn",
            "powersave",
            "echo performance",
        ),
        (
            {"/proc/pressure/cpu": "some avg10=45.50 avg60=0 avg300=0 total=1"},
            {},
            "load",
            "warn",
            "46 %",
            "end other work",
        ),
        (
            {"/proc/pressure/cpu": None, "/proc/loadavg": "9.6 9 9"},
            {},
            "load",
            "warn",
            "9.60",
            "end",
        ),
        (
            {"/proc/meminfo": "MemTotal: 1 kB\nMemAvailable: 1 kB"},
            {},
            "memory",
            "warn",
            "0 MiB",
            "end",
        ),
        (
            {},
            {"df -Pm": "/c\n/dev/sda 9 9 100 1% /"},
            "cache disk",
            "bad",
            "100 MiB",
            "VBENCH_CACHE",
        ),
        (
            {},
            {"unshare -Urm": None},
            "mount namespaces",
            "warn",
            "refused",
            "allow user namespaces",
        ),
        (
            {"/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1"},
            {"unshare -Urm": None},
            "mount namespaces",
            "warn",
            "refused",
            "apparmor_restrict_unprivileged_userns=0",
        ),
        ({}, {"-Urn|tuntap": None}, "measuring network", "warn", "slirp", "modprobe tun"),
        ({}, {"unshare -Urn": None}, "measuring network", "warn", "slirp", "user namespaces"),
        ({"/sys/hypervisor/type": "xen"}, {}, "Xen", "info", "not dom0", ""),
        (
            {"/sys/hypervisor/type": "xen", "/proc/xen/capabilities": "control_d"},
            {},
            "Xen",
            "ok",
            "dom0",
            "",
        ),
        (
            {"/proc/cpuinfo": "flags : svm hypervisor\n", "/sys/class/dmi/id/sys_vendor": "Acme"},
            {},
            "host's own virtualization",
            "warn",
            "(Acme)",
            "not virtualized",
        ),
        (
            {},
            {"systemd-detect-virt": "amazon"},
            "host's own virtualization",
            "warn",
            "amazon",
            "not virtualized",
        ),
    ],
)
def test_what_is_off_is_found_with_a_remedy(
    files: dict[str, str | None],
    says: dict[str, str | None],
    name: str,
    state: str,
    finding: str,
    remedy: str,
) -> None:
    check = one(FakeHost(files, says), name)
    assert check.state == state
    assert finding in check.finding
    assert remedy in check.remedy


@pytest.mark.parametrize(
    ("modules", "denied", "warned", "remedy"),
    [
        ("kvm\nkvm_pvm", "test -r", "KVM modules", "vmx or svm"),
        ("kvm\nkvm_amd", "test -r", "/dev/kvm", "usermod"),
        ("kvm", "test -e", "KVM modules", "modprobe"),
    ],
)
def test_what_is_wrong_with_kvm_is_told_once(
    modules: str, denied: str, warned: str, remedy: str
) -> None:
    """A plain user was told three times to join group kvm where no hardware was behind it."""
    verdict = {**VERDICT, "usable": False, "reason": "no permission: /dev/kvm", "remedy": "x"}
    says = {"ls -A|/sys/module": modules, denied: None, "python3 -": json.dumps(verdict)}
    found = found_on(FakeHost({}, says))
    about = [found[name] for name in ("KVM modules", "/dev/kvm", "KVM runs code")]
    assert {check.name for check in about if check.remedy} == {warned}
    assert remedy in found[warned].remedy


def test_namespaces_that_open_but_allow_no_mount_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a profile does that strips capabilities: `unshare` by itself succeeds."""
    unshare = tmp_path / "unshare"
    unshare.write_text(
        '#!/bin/sh\nwhile [ $# -gt 0 ] && [ "$1" != sh ]; do shift; done\n'
        '[ $# -gt 0 ] || exit 0\nexec setpriv --bounding-set=-all --inh-caps=-all "$@"\n'
    )
    unshare.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = found_on(LocalReader())
    assert found["mount namespaces"].state == "warn"
    assert "loader" in found["mount namespaces"].finding


def test_a_remote_host_is_asked_for_what_guests_need() -> None:
    missing = FakeHost({}, {"command -v|mmdebstrap": None, "command -v|cc": None})
    found = doctor.checks(missing, doctor.NEEDED_REMOTELY)
    assert [check.name for check in found if check.state == "bad"] == []
    missing = FakeHost({}, {"command -v|setpriv": None})
    found = doctor.checks(missing, doctor.NEEDED_REMOTELY)
    assert [check.name for check in found if check.state == "bad"] == ["util-linux"]


def test_a_host_that_answers_nothing_still_gets_a_list() -> None:
    class Silent:
        def run(self, argv: Sequence[str], *, timeout_s: float, stdin: bytes = b"") -> Output:
            raise HostError("gone")

        def read(self, path: str) -> str:
            raise HostError("gone")

    found = doctor.checks(Silent(), PACKAGES)
    assert found
    assert all(check.remedy for check in found if check.state in {"warn", "bad"})
    assert set(facts(Silent())) == set(facts(FakeHost()))


def test_this_machine_for_real(capsys: pytest.CaptureFixture[str]) -> None:
    status = doctor.main(["--json"])
    found = json.loads(capsys.readouterr().out)
    assert len({check["name"] for check in found}) == len(found) > 20
    assert {check["state"] for check in found} <= set(doctor.SYMBOLS)
    assert all(check["remedy"] for check in found if check["state"] in {"warn", "bad"})
    assert status == (3 if any(check["state"] == "bad" for check in found) else 0)
    known = facts(LocalReader())
    assert int(known["cpus"]) >= 1
    assert int(known["memory_mib"]) > 100
    assert all(isinstance(value, str) and value for value in known.values())


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_terminal_that_lacks_the_symbols_gets_the_list(encoding: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vbench.system.doctor"],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == b""
    assert b"? QEMU " in done.stdout


def test_render_aligns_and_counts() -> None:
    text = doctor.render(
        [
            Check("a", "ok", "fine"),
            Check("longer", "warn", "hm", "do x"),
            Check("b", "bad", "no", "y"),
        ]
    )
    assert text.splitlines() == [
        "✔ a       fine",
        "! longer  hm",
        "          -> do x",
        "✘ b       no",
        "          -> y",
        "",
        "1 missing, 1 warnings",
    ]


def test_a_host_whose_df_finds_no_mount_point() -> None:
    heading = "/cache\nFilesystem 1M-blocks Used Available Capacity Mounted on"
    check = one(FakeHost({}, {"df -Pm": heading}), "cache disk")
    assert (check.state, check.finding) == ("info", "unknown")


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(["--jsn"]) == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["/no/such/program"], ["sleep", "5"]])
def test_the_local_reader_raises_host_errors(argv: list[str]) -> None:
    with pytest.raises(HostError):
        LocalReader().run(argv, timeout_s=0.1)
    with pytest.raises(HostError):
        LocalReader().read("/no/such/file")
