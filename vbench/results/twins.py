"""Files that claim to be of one run, and are not: none is dropped for the other."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from vbench.errors import UnreadableError
from vbench.model import Result
from vbench.results.merge import run_key


@dataclass
class Twins:
    """The results that were read so far, by the run and series that they are of."""

    _known: dict[tuple[object, ...], tuple[Path, Result]] = field(default_factory=dict)

    def add(self, path: Path, result: Result) -> None:
        """Raises UnreadableError where another file is of the same run, series and state, but has
        other samples; or is of another state, and shares none."""
        if not result.planned:
            return  # files of earlier versions do not know their state; all of them count
        earlier, other = self._known.setdefault(run_key(result), (path, result))
        one, two = _samples(result), _samples(other)
        if one == two or (result.done != other.done and (one & two or not one or not two)):
            return
        raise UnreadableError(
            f"{path} and {earlier} are both of the run of {result.started} on "
            f"{result.host.identity}, but have other samples",
            evidence=f"{result.variant}: {len(one)} and {len(two)} samples, {len(one & two)} alike",
            remedy="name one of them, or move the other out of the folder",
        )


def _samples(result: Result) -> frozenset[tuple[object, ...]]:
    return frozenset(
        (item.workload, pair.boot, pair.native_s, pair.guest_s)
        for item in result.items
        for pair in item.pairs
    )
