"""Images as one file, for machines that cannot build them.

The file is a tar archive, compressed by gzip. First comes `index.json`: the format's version, the
machine, vbench's version, and for each image its key and which image it extends, if any. Then come
the images, each below its key. Of an image that extends another only the part of the initramfs
that it adds is stored.
"""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import platform
import shutil
import tarfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from vbench import __version__
from vbench.contract.layer import Addition
from vbench.errors import ImageError
from vbench.image import cache
from vbench.image.images import content_digest, ensure, ensure_hosting, hosting_key
from vbench.image.medium import LOADER
from vbench.model import ImageFiles
from vbench.system.files import open_file
from vbench.system.recipe import debian_key

FORMAT = 1
INDEX = "index.json"
MACHINE = "x86_64"
_UNREADABLE = (
    *(tarfile.TarError, zlib.error, gzip.BadGzipFile, EOFError),
    *(ValueError, KeyError, TypeError, AttributeError, OverflowError),
)
# What the cache's disk can have against writing. Any other OSError is about a name in the archive.
_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
_COMPRESSION = 6  # 9 takes three times as long for a per cent less


@dataclass(frozen=True)
class _Entry:
    """An image in the file."""

    key: str
    extends: str  # the key of the image whose initramfs this one's begins with; "" for none


def export_images(
    target: Path, additions: Sequence[Addition], progress: Callable[[str], None]
) -> ImageFiles:
    """Write the image with Debian's kernel, what a boot medium needs, and the image with each
    addition to the new file `target`.

    They are built first where the cache lacks them. Returns the first. Raises ImageError.
    """
    try:
        with target.open("xb") as file:  # before anything is built
            try:
                base = ensure(progress=progress)
                all_files = [
                    base,
                    *(ensure_hosting(base, one, progress) for one in (LOADER, *additions)),
                ]
                progress(f"writing {target}")
                _write(file, [Path(files.kernel).parent for files in all_files])
            except BaseException:
                target.unlink()
                raise
    except OSError as error:
        raise ImageError(
            f"{target} cannot be written",
            evidence=str(error),
            remedy="name a new file in a folder with 100 MB of room",
        ) from error
    return base


def _write(file: io.BufferedWriter, folders: list[Path]) -> None:
    base = folders[0].name
    entries = [_Entry(path.name, "" if path.name == base else base) for path in folders]
    index = {
        "format": FORMAT,
        "machine": MACHINE,
        "vbench": __version__,
        "images": [vars(entry) for entry in entries],
    }
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=_COMPRESSION) as tar:
        _add_bytes(tar, INDEX, json.dumps(index).encode())
        for entry, folder in zip(entries, folders, strict=True):
            for path in [folder, *sorted(folder.rglob("*"))]:
                name = f"{entry.key}/{path.relative_to(folder)}"
                if entry.extends and path == folder / "initramfs":
                    size = (folder.parent / entry.extends / "initramfs").stat().st_size
                    _add_bytes(tar, name, path.read_bytes()[size:])
                else:
                    tar.add(path, name, recursive=False, filter=_anonymous)


def _add_bytes(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def import_images(source: Path, additions: Sequence[Addition]) -> ImageFiles:
    """Put the images of `source` into the cache; returns the one with Debian's kernel. It holds
    the same `additions`.

    Raises ImageError where the file is damaged, or of another machine or version of vbench; the
    cache then stays as it was.
    """
    if platform.machine() != MACHINE:
        raise ImageError(f"images are for {MACHINE} machines, this one is {platform.machine()}")
    try:
        file = open_file(source)
    except OSError as error:
        raise ImageError(
            f"{source} cannot be read",
            evidence=str(error),
            remedy="name the file that `vbench image export` wrote",
        ) from error
    with file:
        try:
            with tarfile.open(fileobj=file, mode="r:gz") as tar:
                _import(tar, source, additions)
        except (cache.Damaged, *_UNREADABLE) as error:
            raise ImageError(
                f"{source} is damaged, or no file of `vbench image export`",
                evidence=str(error),
                remedy="copy it again, or export it anew",
            ) from error
    return ensure()


def _import(tar: tarfile.TarFile, source: Path, additions: Sequence[Addition]) -> None:
    entries = _index(tar, source)

    def fill(work: Path) -> None:
        try:
            fill_from_tar(work)
        except _UNREADABLE as error:
            raise cache.Damaged(str(error)) from error
        except OSError as error:
            if error.errno in _OF_THE_DISK:
                raise
            raise cache.Damaged(str(error)) from error

    def fill_from_tar(work: Path) -> None:
        _extract(tar, work, {entry.key for entry in entries})
        for entry in entries:
            if entry.extends:
                base, added = (work / key / "initramfs" for key in (entry.extends, entry.key))
                added.write_bytes(base.read_bytes() + added.read_bytes())
        digests = [_verified_digest(work / entry.key) for entry in entries]
        expected = [debian_key(), *(hosting_key(digests[0], one) for one in (LOADER, *additions))]
        if [entry.key for entry in entries] != expected:
            raise _other_version(source)

    cache.adopt([entry.key for entry in entries], fill)


def _index(tar: tarfile.TarFile, source: Path) -> list[_Entry]:
    """What the file says of itself. Raises ImageError if it is of no use here."""
    member = tar.next()
    if member is None or member.name != INDEX:
        raise cache.Damaged(f"it does not begin with {INDEX}")
    index: dict[str, Any] = json.loads(_content(tar, member).read())
    if index["machine"] != MACHINE:
        raise ImageError(f"{source} holds images for {index['machine']}, not for {MACHINE}")
    entries = [_Entry(**entry) for entry in index["images"]]
    if index["format"] != FORMAT or [entry.key for entry in entries][:1] != [debian_key()]:
        raise _other_version(source, index["vbench"])
    return entries


def _other_version(source: Path, version: str = __version__) -> ImageError:
    return ImageError(
        f"{source} was made by another version of vbench",
        evidence=f"vbench there: {version}; here: {__version__}, whose recipe of images differs",
        remedy="export it with the version of vbench that imports it",
    )


def _verified_digest(folder: Path) -> str:
    manifest = cache.verify(folder)
    if manifest["digest"] != content_digest(folder):
        raise cache.Damaged("the image's digest is not that of its files")
    return str(manifest["digest"])


def _extract(tar: tarfile.TarFile, work: Path, keys: set[str]) -> None:
    """Unpack into `work` and nowhere else; tarfile's own filters drop modes that images need."""
    while (member := tar.next()) is not None:  # goes on after the index
        target = _inside(member.name, work, keys)
        if member.isdir():
            target.mkdir(exist_ok=True)
        elif member.issym():
            target.symlink_to(member.linkname)
        elif member.islnk():
            os.link(_inside(member.linkname, work, keys), target)
        elif member.isreg():
            with target.open("xb") as file:
                shutil.copyfileobj(_content(tar, member), file)
        else:
            raise cache.Damaged(f"{member.name} is neither a file, a folder nor a link")
        if not member.issym():
            target.chmod(member.mode & 0o7777)


def _inside(name: str, work: Path, keys: set[str]) -> Path:
    parts = PurePosixPath(name).parts
    target = work.joinpath(*parts)
    through_a_link = any(path.is_symlink() for path in list(target.parents)[: len(parts) - 1])
    if parts[:1] == () or parts[0] not in keys or ".." in parts or through_a_link:
        raise cache.Damaged(f"it holds the name {name}")
    return target


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(member)
    if content is None:
        raise cache.Damaged(f"{member.name} is no file")
    return content
