"""Files and folders to results: what is damaged, foreign or too new is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from vbench.errors import StoreError, UnreadableError, named
from vbench.model import Result
from vbench.results import recovery, unmeasured
from vbench.results.formatting import plural
from vbench.results.history import SCHEMA_VERSION, upgraded
from vbench.results.journal import JOURNAL_NAME
from vbench.results.reading import result_of
from vbench.results.twins import Twins
from vbench.results.unmeasured import AGAIN, Unmeasured
from vbench.system.files import RESULT_MOST_BYTES, read_file

_T = TypeVar("_T")
_Tell = Callable[[str], None]
_TOO_SHORT = "holds no measurement: the run ended before its first, or the file is cut"


def load(path: Path) -> Result:
    """Read one result file. Raises UnreadableError: it is missing, foreign, damaged or newer."""
    return _result(path, _json(path))


def _result(path: Path, whole: Any) -> Result:
    if not _is_vbench(whole):
        raise UnreadableError(
            f"{path} is JSON, but not a vbench result: it has no top-level key `vbench`",
            remedy="name a file that `vbench run` wrote",
        )
    return _parse(path, whole)


def load_all(paths: Sequence[Path], tell: _Tell = lambda _: None) -> list[Result]:
    """All of `load_each`."""
    return list(load_each(paths, tell))


def load_each(paths: Sequence[Path], tell: _Tell = lambda _: None) -> Iterator[Result]:
    """The results of `load_files`, one by one. `tell` also gets a sentence about each host that
    could not be measured. Raises UnreadableError where none was."""
    failures: list[Unmeasured] = []
    empty = True
    for _, result in load_files(paths, tell, failures):
        empty = False
        yield result
    said = [f"{each.host} was not measured: {each.reason}" for each in failures]
    if empty and said:
        raise UnreadableError("no host was measured", evidence="\n".join(said), remedy=AGAIN)
    for sentence in said:
        tell(sentence)


def load_files(
    paths: Sequence[Path], tell: _Tell, failures: list[Unmeasured]
) -> Iterator[tuple[Path, Result]]:
    """Read files, journals, and all results of directories (if none lies there, of those in
    them, however deep), each with the path of its file. What says that a host could not be measured
    goes to `failures`.

    Of a run that was killed, or still goes on, the journal is read: it knows most. So it is where a
    result file is damaged, or all are gone. `tell` gets a sentence about that, and about other JSON
    in a directory, such as a tool's raw output. Raises UnreadableError where nothing is ours, and
    names all files that cannot be read rather than leave one out. A file named twice is read once.
    """
    known: set[Path] = set()
    twins = Twins()
    reader = _Reader(tell, failures)
    for path in paths:
        for found in reader.of_path(path):
            for file in [file for file in found if file not in known]:
                twins.add(file, found[file])
                known.add(file)
                yield file, found[file]


@dataclass(frozen=True)
class _Reader:
    """Reads files and folders. What is no result goes to `tell` and `failures`."""

    tell: _Tell
    failures: list[Unmeasured]

    def of_path(self, path: Path) -> Iterator[dict[Path, Result]]:
        """Results by file, a folder at a time."""
        if path.is_dir():
            empty, before = True, len(self.failures)
            for results in self._below(path):
                empty &= not results
                yield results
            if empty and len(self.failures) == before:
                raise UnreadableError(
                    f"{path} holds no vbench result",
                    remedy="name the folder that `vbench run` wrote with --out, or a file in it",
                )
        elif path.name == JOURNAL_NAME:
            results = _of_journal(path)
            if not results:
                raise UnreadableError(f"{path} {_TOO_SHORT}", remedy="measure again")
            yield results
        elif not self._is_failure(path, whole := _json(path)):
            yield {path.resolve(): _result(path, whole)}

    def _below(self, folder: Path, depth: int = 0) -> Iterator[dict[Path, Result]]:
        """Of a folder, or of all folders in it: CI's artefacts have one for each job, fleets one
        for each month and host. Hidden folders are passed over. Links are followed where they lie
        in the first folder: deeper ones may lead in circles."""
        found = self._of_folder(folder)
        yield found
        if found:
            return
        try:
            folders = sorted(each for each in folder.iterdir() if each.is_dir())
        except OSError as error:
            raise UnreadableError(
                f"{folder} cannot be read: {error.strerror}", remedy="check its permissions"
            ) from error
        for each in folders:
            if depth and each.is_symlink():
                self.tell(f"{each} is a link to a folder; left out")
            elif not each.name.startswith("."):
                yield from self._below(each, depth + 1)

    def _of_folder(self, folder: Path) -> dict[Path, Result]:
        journal = folder / JOURNAL_NAME
        if journal.is_file() and recovery.unfinished(journal):
            if not (results := _of_journal(journal)):
                self.tell(f"{journal} {_TOO_SHORT}")
            return results
        found: dict[Path, Result] = {}
        unreadable: dict[Path, StoreError] = {}
        for path in sorted(path for path in folder.glob("*.json") if not path.is_dir()):
            try:
                _expect_file(path)
                whole = _json(path)
                if _is_vbench(whole):
                    found[path.resolve()] = _parse(path, whole)
                elif not self._is_failure(path, whole):
                    self.tell(f"{path} is not a result of vbench; left out")
            except StoreError as error:
                unreadable[path] = error
        if journal.is_file() and (unreadable or not found) and recovery.readable(journal):
            kept = _of_journal(journal)
            by_name = {path.name: path for path in unreadable}
            for path, result in kept.items():
                if path.name in by_name or not by_name:
                    unreadable.pop(by_name.get(path.name, path), None)
                    found[path] = result
                    self.tell(f"{path} is damaged or gone; its results are those of {journal}")
        if unreadable:
            raise UnreadableError(
                f"{plural(len(unreadable), 'file')} of {folder} cannot be read",
                evidence="\n".join(map(str, unreadable.values())),
                remedy="move what is damaged or foreign out of that folder",
            )
        return found

    def _is_failure(self, path: Path, whole: Any) -> bool:
        """Whether a file says that a host could not be measured; then it is kept."""
        if not isinstance(whole, dict) or unmeasured.KEY not in whole:
            return False
        self.failures.append(_checked(path, lambda: unmeasured.of(whole)))
        return True


def is_result(path: Path) -> bool:
    """Whether a file is a result or a journal, even a damaged one."""
    if not path.is_file() or path.name == JOURNAL_NAME:
        return path.is_file()
    try:
        whole = _json(path)
        return _is_vbench(whole) or (isinstance(whole, dict) and unmeasured.KEY in whole)
    except UnreadableError:
        return path.suffix == ".json"


def _expect_file(path: Path) -> None:
    """Raises UnreadableError for a link to nothing and for what is no file: a FIFO has no end."""
    if not path.is_file():
        what = "is a link to nothing" if path.is_symlink() else "is no file"
        raise UnreadableError(f"{path} {what}")


def _of_journal(path: Path) -> dict[Path, Result]:
    """By the names of the files that the run would have written."""
    results = _checked(path, lambda: recovery.read(path).results)
    return {path.resolve().with_name(f"{label}.json"): each for label, each in results.items()}


def _json(path: Path) -> Any:
    try:
        return json.loads(read_file(path, RESULT_MOST_BYTES))
    except OSError as error:
        remedy = "name a file that you may read, or a folder of results"
        raise UnreadableError(f"{path} cannot be read: {error.strerror}", remedy=remedy) from error
    except (ValueError, RecursionError) as error:
        raise UnreadableError(
            f"{path} is not JSON: {error}",
            remedy=f"the file is damaged or foreign; {_remedy(path)}",
        ) from error


def _is_vbench(whole: Any) -> bool:
    return isinstance(whole, dict) and "vbench" in whole


def _parse(path: Path, whole: Mapping[str, Any]) -> Result:
    part = whole["vbench"]
    version = _checked(path, lambda: _version(part))
    if version > SCHEMA_VERSION:
        raise UnreadableError(
            f"{path} has schema version {version}; this vbench reads up to {SCHEMA_VERSION}",
            remedy="upgrade vbench to at least the version that wrote the file"
            f" ({part.get('vbench_version', 'unknown')})",
        )
    return _checked(path, lambda: result_of(upgraded(whole, version)))


def _version(part: Any) -> int:
    """The schema version that a file states. Raises ValueError if it states none."""
    if not isinstance(part, dict):
        raise ValueError(f"`vbench` is {json.dumps(part)[:40]}, not an object")
    if "schema_version" not in part:
        raise ValueError("vbench.schema_version is missing")
    version = part["schema_version"]
    if not isinstance(version, int) or isinstance(version, bool):
        raise ValueError(f"vbench.schema_version is {json.dumps(version)}, not a whole number")
    if version < 1:
        raise ValueError(f"vbench.schema_version is {version}, not one from 1 to {SCHEMA_VERSION}")
    return version


def _remedy(path: Path) -> str:
    journal = path.with_name(JOURNAL_NAME)
    if path != journal and journal.is_file():
        return f"finished pairs are in the run's journal: vbench report {journal}"
    return "measure again, or name another file"


def _checked(path: Path, parse: Callable[[], _T]) -> _T:
    """What `parse` returns; its errors are those of a damaged file."""
    try:
        return parse()
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UnreadableError(
            f"{path} is a damaged vbench result",
            evidence=named(error),
            remedy=_remedy(path),
        ) from error
