"""What the report of many machines calls each of them, with a link to its own report. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vbench.report.fleet import Machine
from vbench.results.formatting import code

_NAMED = 6  # machines that a sentence names


@dataclass(frozen=True)
class Names:
    """`page` is the link to the report of the results in a folder, or empty: there is none."""

    page: Callable[[Path], str] = lambda _: ""

    def of(self, machine: Machine) -> str:
        """All names of one machine."""
        return ", ".join(self.linked(*each) for each in machine.names.items())

    def some(self, machines: Sequence[Machine], separator: str = ", ") -> str:
        """The first of them, and how many more there are."""
        names = separator.join(map(self.of, machines[:_NAMED]))
        more = len(machines) - _NAMED
        return f"{names} and {more} more" if more > 0 else names

    def linked(self, name: str, folder: Path | None) -> str:
        """One name, with a link to the report of the results in `folder`."""
        page = "" if folder is None else self.page(folder)
        return f"[{code(name)}]({page})" if page else code(name)
