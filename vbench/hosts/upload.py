"""Bringing the image to a remote host: once for each digest, verified, whole or not at all."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import shlex
import tarfile
from pathlib import Path
from typing import BinaryIO

from vbench.errors import ImageError
from vbench.hosts.connection import Connection
from vbench.hosts.private_directory import private_directory
from vbench.model import ImageFiles

_TIMEOUT_S = 600.0  # about 150 MB, through whatever network there is

# $1 digest. Says where the image is to be, and whether it is there. The second folder is for a
# home that is read-only, or that there is not.
_LOOK = """
t=${VBENCH_TMP:-/var/tmp}
for d in "${VBENCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vbench}" "$t/vbench-$(id -u)"; do
  if mkdir -p "$d" && [ -O "$d" ] && mkdir -p "$d/placed" && [ -w "$d/placed" ]; then
    printf '%s\\n' "$d/placed/$1"
    if [ -d "$d/placed/$1" ]; then echo there; fi
    exit
  fi
done
exit 1
"""

# $1 final place. Unpacks standard input beside it, checks it, moves it there by one rename;
# somebody else's, come meanwhile, is as good.
_RECEIVE = """
set -e
umask 022
t=$(mktemp -d "$1.XXXXXX")
trap 'rm -rf -- "$t"' EXIT
trap 'exit 143' TERM HUP INT
tar -C "$t" -xzf -
(cd "$t" && sha256sum -c SHA256SUMS >/dev/null)
chmod 755 "$t"
mv -T "$t" "$1" 2>/dev/null || [ -d "$1" ]
"""


def upload_image(
    image: ImageFiles, connection: Connection, timeout_scale: float = 1.0
) -> ImageFiles:
    """The image as it lies at the other end of `connection`, copied if it is not there yet.

    Raises ImageError, ConnectionLost, WorkloadTimeout.
    """
    look = shlex.join(["sh", "-c", _LOOK, "vbench", image.digest])
    answer = connection.run(look, timeout_s=20.0 * timeout_scale)
    if answer.status != 0:
        raise ImageError(
            f"there is no folder for the image on {connection.name}",
            evidence=answer.stderr,
            remedy="set VBENCH_CACHE there to a folder that you may write to",
        )
    target, *there = answer.stdout.splitlines()
    if not there:
        receive = shlex.join(["sh", "-c", _RECEIVE, "vbench", target])
        with private_directory() as folder, Path(folder, "image").open("w+b") as packed:
            _pack(image, packed)
            packed.seek(0)
            done = connection.upload(receive, packed, timeout_s=_TIMEOUT_S * timeout_scale)
        if done.status != 0:
            raise ImageError(
                f"the image did not arrive whole on {connection.name}",
                evidence=done.stderr,
                remedy="make room in its cache directory (about 300 MB), or set VBENCH_CACHE there",
            )
    return dataclasses.replace(
        image,
        kernel=f"{target}/vmlinux",
        initramfs=f"{target}/initramfs",
        root=f"{target}/root",
        bzimage=image.bzimage and f"{target}/vmlinuz",
    )


def _pack(image: ImageFiles, file: BinaryIO) -> None:
    """The image as a tar archive: kernel, initramfs, root tree, and digests of all files."""
    root = Path(image.root)
    files = {"vmlinux": Path(image.kernel), "initramfs": Path(image.initramfs)}
    if image.bzimage:
        files["vmlinuz"] = Path(image.bzimage)
    trees = {f"root/{path.relative_to(root)}": path for path in sorted(root.rglob("*"))}
    sums = "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {name}\n"
        for name, path in {**files, **trees}.items()
        if path.is_file() and not path.is_symlink()
    ).encode()
    # To a third of its size, at a speed that few networks have.
    with (
        gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1) as packed,
        tarfile.open(fileobj=packed, mode="w|", bufsize=1 << 18) as archive,
    ):
        entry = tarfile.TarInfo("SHA256SUMS")
        entry.size = len(sums)
        archive.addfile(entry, io.BytesIO(sums))
        for name, path in {**files, "root": root, **trees}.items():
            archive.add(path, name, recursive=False, filter=_anonymous)


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Owned by whoever unpacks it."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry
