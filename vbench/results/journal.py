"""Safely on disk: files replaced wholly or not at all, and the append-only journal of a run."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vbench.errors import StoreError, UnreadableError
from vbench.system.files import RESULT_MOST_BYTES, read_file

JOURNAL_NAME = "journal.jsonl"

_REMEDIES = {
    errno.ENOSPC: "free some space on that file system, or write elsewhere",
    errno.EDQUOT: "your disk quota is used up: free some space, or write elsewhere",
    errno.EACCES: "give yourself permission to write there, or write elsewhere",
    errno.EROFS: "that file system is read-only: write elsewhere",
    errno.ENOENT: "make the folder first",
}


def _write_error(path: Path, error: OSError) -> StoreError:
    remedy = _REMEDIES.get(error.errno or 0, "write elsewhere")
    return StoreError(f"{path} cannot be written: {error.strerror}", remedy=remedy)


def _encoded(text: str) -> bytes:
    """A path whose bytes are no text in this locale is written as those bytes."""
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:  # what no bytes were read as
        return text.encode(errors="backslashreplace")


def write_atomic(path: Path, data: bytes | str) -> None:
    """Replace `path` by `data` (text as UTF-8), wholly or not at all, and durably.

    Raises StoreError; the previous version and no temporary file are left then.
    """
    content = _encoded(data) if isinstance(data, str) else data
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)  # without it a crash may bring the old name back
            finally:
                os.close(directory)
        finally:  # also on Ctrl-C
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise _write_error(path, error) from error


class Journal:
    """The append-only record of a run, one JSON object a line, on disk as soon as it happens.

    Records have an "event": "pair", "launch" or "item". One writer per run directory.
    """

    def __init__(self, directory: Path) -> None:
        """Open or create the journal in `directory`. Raises StoreError."""
        self.path = directory / JOURNAL_NAME
        try:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            content = read_file(self.path, RESULT_MOST_BYTES)
        except OSError as error:
            raise _write_error(self.path, error) from error
        # a line that a killed writer left half written would swallow our first one
        os.ftruncate(self._fd, content.rfind(b"\n") + 1)

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record at once. Numbers that are not finite become null.

        Raises StoreError, for example on a full disk; no half line is left then.
        """
        line = json.dumps(_finite(record), allow_nan=False).encode() + b"\n"
        end = os.fstat(self._fd).st_size
        rest = line
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            os.ftruncate(self._fd, end)
            raise _write_error(self.path, error) from error

    def close(self) -> None:
        """Close the file. Safe to repeat."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @staticmethod
    def read(path: Path) -> list[dict[str, Any]]:
        """All whole records of a journal file, or of the one in a directory.

        A torn last line is passed over. Raises UnreadableError if it cannot be read or is damaged
        elsewhere.
        """
        path = path / JOURNAL_NAME if path.is_dir() else path
        try:
            lines = read_file(path, RESULT_MOST_BYTES).split(b"\n")
        except OSError as error:
            raise UnreadableError(
                f"{path} cannot be read: {error.strerror}",
                remedy="name the journal of a run, or its folder",
            ) from error
        records = []
        for number, line in enumerate(lines[:-1], 1):
            try:
                record = json.loads(line)
                if not isinstance(record, dict) or not isinstance(record.get("event"), str):
                    raise ValueError("it is no record of a journal: it has no text `event`")
            except (ValueError, RecursionError) as error:
                raise UnreadableError(
                    f"{path}, line {number}: {error}",
                    remedy="the run's result files may be whole; else measure anew",
                ) from error
            records.append(record)
        return records


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return value
