"""Nothing is half written: a file is replaced wholly or not at all, a journal has whole lines."""

from __future__ import annotations

import errno
import math
import os
from contextlib import closing
from pathlib import Path

import pytest

from vbench.errors import StoreError
from vbench.results import recovery
from vbench.results.journal import JOURNAL_NAME, Journal, write_atomic


def test_write_atomic_replaces(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    write_atomic(path, "one")
    write_atomic(path, b"two")
    assert path.read_text() == "two"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "data"), [("ü \udcff", b"\xc3\xbc \xff"), ("ü \udfff", b"\xc3\xbc \\udfff")]
)
def test_write_atomic_takes_any_text(tmp_path: Path, text: str, data: bytes) -> None:
    write_atomic(tmp_path / "r.md", text)
    assert (tmp_path / "r.md").read_bytes() == data


def test_full_disk_keeps_the_previous_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.json"
    write_atomic(path, "one")

    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left") as caught:
        write_atomic(path, "two")
    assert "free some space" in caught.value.remedy
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]


def test_ctrl_c_while_writing_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_fd: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "r.json", "two")
    assert not list(tmp_path.iterdir())


def test_write_into_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        write_atomic(tmp_path / "none" / "r.json", "x")
    assert caught.value.remedy == "make the folder first"


def test_journal_round_trip_and_append(tmp_path: Path) -> None:
    with closing(Journal(tmp_path)) as journal:
        journal.append({"event": "pair", "guest_s": 1.5, "native_s": math.nan, "flags": ("a",)})
        # on disk at once, not on closing
        assert Journal.read(tmp_path)[0]["native_s"] is None
    with closing(Journal(tmp_path)) as journal:
        journal.append({"event": "item"})
    assert [r["event"] for r in Journal.read(tmp_path / JOURNAL_NAME)] == [
        "pair",
        "item",
    ]


def test_torn_last_line_is_passed_over_and_not_glued_to_the_next(tmp_path: Path) -> None:
    path = tmp_path / JOURNAL_NAME
    path.write_bytes(b'{"event": "pair"}\n{"event": "pa')
    assert Journal.read(tmp_path) == [{"event": "pair"}]
    with closing(Journal(tmp_path)) as journal:
        journal.append({"event": "item"})
    assert Journal.read(tmp_path) == [{"event": "pair"}, {"event": "item"}]


def test_damage_in_the_middle_of_a_journal_is_an_error(tmp_path: Path) -> None:
    (tmp_path / JOURNAL_NAME).write_bytes(b'{"ev\n{"event": "item"}\n')
    with pytest.raises(StoreError, match="line 1") as caught:
        Journal.read(tmp_path)
    assert "else measure anew" in caught.value.remedy
    with pytest.raises(StoreError, match="cannot be read"):
        Journal.read(tmp_path / "none")


@pytest.mark.parametrize("cut", ["", '{"event": "ru'])
def test_a_journal_without_a_line_is_not_called_old(tmp_path: Path, cut: str) -> None:
    (tmp_path / JOURNAL_NAME).write_text(cut)
    with pytest.raises(StoreError, match="has no whole line") as caught:
        recovery.read(tmp_path / JOURNAL_NAME)
    assert caught.value.remedy == "measure anew"


def test_full_disk_leaves_no_half_line_in_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.write, []

    def half_then_full(fd: int, data: bytes) -> int:
        calls.append(data)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data[:5])

    with closing(Journal(tmp_path)) as journal:
        journal.append({"event": "launch"})
        monkeypatch.setattr(os, "write", half_then_full)
        with pytest.raises(StoreError, match="No space left"):
            journal.append({"event": "pair"})
        monkeypatch.undo()
        journal.append({"event": "item"})
    assert [r["event"] for r in Journal.read(tmp_path)] == ["launch", "item"]


def test_journal_in_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be written"):
        Journal(tmp_path / "none")
