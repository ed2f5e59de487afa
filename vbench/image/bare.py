"""What a bare Debian would install to get a hypervisor: counted by apt, and nothing installed.

apt resolves against an empty system in a folder of its own, once for a bare system that boots and
once for that with the packages asked for. What it would install of the second and not of the first
is the count. Recommended packages are left out, as `vbench setup` does.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from vbench.errors import StoreError
from vbench.image import debian
from vbench.records import Installation
from vbench.results.journal import write_atomic
from vbench.results.typed import from_json, to_json
from vbench.system import process
from vbench.system.folders import cache_folder
from vbench.system.packages import KEYRING

# What is asked for: a release of Debian, "" for the image's, and packages.
Asked = tuple[str, tuple[str, ...]]

# A system that boots: what Debian marks as essential, an init, a kernel, and apt.
BARE = ("?essential", "apt", "init", "linux-image-amd64")
# A count is kept so long: a release hardly changes, and the lists of packages are 10 MB.
_DAYS = 30
_TIMEOUT_S = 120.0
# An archive that has not sent its first file by then is taken to be out of reach: a network that
# drops packets must not hold up every run, and a count is no figure to wait for.
_ANSWER_S = 5.0
_HELPER = "/usr/lib/apt/apt-helper"
_CONFIG = """
Dir "{root}";
Dir::State::status "{root}/status";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
"""
# After the host's own options, which ask for more patience.
_HASTE = """
Acquire::Retries "0";
Acquire::http::Timeout "5";
Acquire::https::Timeout "5";
"""


def count(wanted: Iterable[Asked]) -> dict[Asked, Installation]:
    """What each takes; where it could not be counted, the record says why."""
    keys = set(wanted)
    found = {key: known for key in keys if (known := _kept(key)) is not None}
    left = sorted(keys - found.keys())
    try:
        for release in sorted({release for release, _ in left}):
            found |= _counted([key for key in left if key[0] == release])
    except _OutOfReachError as error:  # so is the next release
        reason = str(error)
        return {key: Installation(*_asked(key), reason=reason) for key in left} | found
    return found


def _asked(key: Asked) -> Asked:
    return key[0] or debian.SUITE, key[1]


def _counted(keys: Sequence[Asked]) -> dict[Asked, Installation]:
    """Those of one release. Raises _OutOfReachError."""
    asked = {key: Installation(*_asked(key)) for key in keys}
    try:
        with tempfile.TemporaryDirectory(prefix="vbench-apt-") as root:
            apt = _Apt(Path(root), _asked(keys[0])[0])
            found = {key: apt.count(each) for key, each in asked.items()}
    except _OutOfReachError:
        raise
    except (_CannotCountError, OSError) as error:
        return {key: replace(each, reason=str(error)) for key, each in asked.items()}
    for key, each in found.items():
        if each.packages is not None:
            _keep(key, each)
    return found


class _CannotCountError(Exception):
    """Why, in a sentence."""


class _OutOfReachError(_CannotCountError):
    """The archive does not answer."""


class _Apt:
    """apt on an empty system of its own, with the lists of a release."""

    def __init__(self, root: Path, release: str) -> None:
        if not Path(KEYRING).exists():
            raise _CannotCountError("the package debian-archive-keyring is not installed")
        for folder in ("etc/apt", "var/lib/apt/lists/partial", "var/cache/apt/archives/partial"):
            (root / folder).mkdir(parents=True)
        (root / "status").touch()
        sources = [f"{source} main contrib" for source in debian.sources(release)]
        listed = "".join(f"deb [signed-by={KEYRING}] {source}\n" for source in sources)
        options = _CONFIG.format(root=root) + debian.host_apt_options() + _HASTE
        (root / "etc/apt/sources.list").write_text(listed, encoding="utf-8")
        (root / "apt.conf").write_text(options, encoding="utf-8")
        self._env = {**os.environ, "LC_ALL": "C.UTF-8", "APT_CONFIG": str(root / "apt.conf")}
        self._reach(debian.sources(release)[0], root / "first")
        self._ask("apt-get", "-q", "update", "--error-on=any")
        self._bare = self._installed()

    def _reach(self, source: str, file: Path) -> None:
        """Raises _OutOfReachError where a source's first file cannot be had in time."""
        uri, _, suite = source.partition(" ")
        url = f"{uri}/dists/{suite}/InRelease"
        try:
            self._ask(_HELPER, "download-file", url, str(file), timeout_s=_ANSWER_S)
        except _CannotCountError as error:
            raise _OutOfReachError(f"{url} cannot be had: {error}") from error

    def count(self, asked: Installation) -> Installation:
        try:
            added = sorted(self._installed(*asked.asked) - self._bare)
        except _CannotCountError as error:
            return replace(asked, reason=str(error))
        shown = self._ask("apt-cache", "show", "--no-all-versions", *added) if added else ""
        kib = map(int, re.findall(r"^Installed-Size: (\d+)$", shown, re.MULTILINE))
        return replace(
            asked,
            packages=len(added),
            disk_mib=round(sum(kib) / 1024, 1),
            counted=datetime.datetime.now(datetime.UTC).date().isoformat(),
        )

    def _installed(self, *packages: str) -> set[str]:
        """The names of all that apt would install on the empty system."""
        plan = self._ask("apt-get", "-s", "-q", "install", *BARE, *packages)
        return set(re.findall(r"^Inst (\S+)", plan, re.MULTILINE))

    def _ask(self, *argv: str, timeout_s: float = _TIMEOUT_S) -> str:
        try:
            done = process.run(argv, timeout_s=timeout_s, env=self._env).text()
        except (TimeoutError, BufferError) as error:
            raise _CannotCountError(f"{argv[0]} {error}") from error
        if done.status != 0:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            raise _CannotCountError(lines[-1].strip() if lines else f"{argv[0]} failed")
        return done.stdout


# ---------------------------------------------------------------- what was counted before


def kept_in(key: Asked) -> Path | None:
    """The file of a count; None where there is no cache."""
    folder = cache_folder()
    digest = hashlib.sha256(json.dumps([*key, BARE]).encode()).hexdigest()[:16]
    return folder / "counted" / f"{digest}.json" if folder else None


def _kept(key: Asked) -> Installation | None:
    file = kept_in(key)
    try:
        if file is None or not 0 <= _age_days(file) < _DAYS:
            return None
        known: Installation = from_json(json.loads(file.read_text(encoding="utf-8")), Installation)
    except (OSError, ValueError):
        return None
    return known


def _age_days(file: Path) -> float:
    return (datetime.datetime.now().timestamp() - file.stat().st_mtime) / 86400


def _keep(key: Asked, found: Installation) -> None:
    """A cache may be read-only: then it is counted again."""
    if (file := kept_in(key)) is not None:
        with suppress(OSError, StoreError):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(file, json.dumps(to_json(found)))
