"""Debian packages, downloaded, checked and unpacked by mmdebstrap without any privilege."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from vbench.errors import ImageError
from vbench.image import tools
from vbench.system import process
from vbench.system.packages import KEYRING

SUITE = "bookworm"
ARCHIVE = "http://deb.debian.org/debian"
SECURITY = "http://deb.debian.org/debian-security"

# How this host's apt reaches its mirrors (proxies, snapshot mirrors); a bootstrap has its own
# apt configuration and would not know.
APT_OPTIONS = (
    *("Acquire::http", "Acquire::https", "Acquire::Retries"),
    *("Acquire::Check-Valid-Until", "Acquire::Check-Date"),
)


# What mmdebstrap runs when it has unpacked packages into $1: the only moment when their names and
# versions are at hand. Packages without what they depend on are fetched there.
_HOOK = 'eval "$VBENCH_HOOK"'
_ALONE = """
set -e
mkdir -p "$1/var/cache/apt/archives"
cd "$1/var/cache/apt/archives"
APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get download $VBENCH_ALONE
for each in *.deb; do dpkg-deb --extract "$each" "$1"; done
"""
_NAMES = 'ls "$1/var/cache/apt/archives" >"$VBENCH_DOWNLOADED"'


def unpack(
    packages: Sequence[str],
    tree: Path,
    scratch: Path,
    keep_open: tuple[int, ...],
    *,
    suite: str = SUITE,
    alone: bool = False,
) -> dict[str, str]:
    """Unpack `packages` and all that they depend on into `tree`; return name -> version.

    `alone`: without what they depend on. A package is a name, or `name=version`. No maintainer
    script runs. `scratch` is an empty directory for temporary files. Raises ImageError with apt's
    own words if packages cannot be had or fail their signature.
    """
    if not Path(KEYRING).exists():
        raise ImageError(
            "the key ring that signs Debian's packages is not installed",
            evidence=f"{KEYRING} does not exist",
            remedy="run `vbench setup`, or install the package debian-archive-keyring",
        )
    listed, options, downloaded = (scratch / name for name in ("sources.list", "apt.conf", "debs"))
    listed.write_text(
        "".join(f"deb [signed-by={KEYRING}] {source} main contrib\n" for source in sources(suite)),
        encoding="utf-8",
    )
    options.write_text(host_apt_options(), encoding="utf-8")
    tools.run(
        [
            *("mmdebstrap", "--mode=chrootless", "--variant=extract", "--architectures=amd64"),
            # Newer versions refuse that mode to root, for the sake of scripts: none runs here.
            "--skip=check/chrootless",
            *("--format=directory", f"--aptopt={options}"),
            *(() if alone else (f"--include={','.join(packages)}",)),
            f"--extract-hook={_HOOK}",
            *(suite, str(tree), str(listed)),
        ],
        env={
            "TMPDIR": str(scratch),
            "VBENCH_DOWNLOADED": str(downloaded),
            "VBENCH_ALONE": " ".join(packages),
            "VBENCH_HOOK": f"{_ALONE if alone else ''}{_NAMES}",
        },
        keep_open=keep_open,
    )
    versions = {}
    for name in sorted(downloaded.read_text(encoding="utf-8").split()):
        if name.endswith(".deb"):
            package, version, _ = unquote(name).split("_")
            versions[package] = version
    return versions


def sources(suite: str) -> list[str]:
    """The mirrors of a release, as `URI suite`: this host's own if it is a Debian."""
    uris = _host_mirrors()
    archive, security = uris.get("debian", ARCHIVE), uris.get("debian-security", SECURITY)
    if suite == "sid":  # no release, so it has no updates
        return [f"{archive} {suite}"]
    return [f"{archive} {suite}", f"{archive} {suite}-updates", f"{security} {suite}-security"]


def _host_mirrors() -> dict[str, str]:
    """The last part of the path -> URI, for the host's own Debian sources."""
    if not _host_is_debian():
        return {}
    listing = _ask(["apt-get", "indextargets", "--format", "$(REPO_URI) $(COMPONENT)"])
    mirrors: dict[str, str] = {}
    for line in listing.splitlines():
        uri, _, component = line.rpartition(" ")
        name = urlsplit(uri).path.rstrip("/").rpartition("/")[2]
        if component == "main":  # others' repositories rarely have a component of that name
            mirrors.setdefault(name, uri.rstrip("/"))
    return mirrors


def _host_is_debian() -> bool:
    try:
        lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    return "ID=debian" in lines


def host_apt_options() -> str:
    """Those of this host's apt options that decide how packages are reached."""
    return "".join(_ask(["apt-config", "dump", "--no-empty", name]) for name in APT_OPTIONS)


def _ask(argv: list[str]) -> str:
    """What a tool says; nothing if it is not there or fails, for there are defaults."""
    try:
        done = process.run(
            argv, timeout_s=60.0, env={**os.environ, "LC_ALL": "C.UTF-8"}, tied=False
        ).text()
    except (OSError, BufferError):
        return ""
    return done.stdout if done.status == 0 else ""
