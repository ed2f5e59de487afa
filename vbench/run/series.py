"""What one result file holds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256

from vbench.contract.backend import CountedRun
from vbench.contract.host import Host
from vbench.contract.registry import Variant
from vbench.model import ON_DEVICES, Technique, WorkloadInfo

_LONGEST = 120  # characters of a variant in a file's name, which has 255 at most


@dataclass(frozen=True)
class Series:
    """A variant on a host, on the workloads that match one of
    `workloads` (globs; empty: all) and belong to `part` (None: all do). `boots` bounds those of
    the plan (0: it does not). `side`: which of the two it is that are compared, if two are. Not
    `probed`: whether it can run there is asked when its host comes up."""

    host: Host
    variant: Variant
    workloads: tuple[str, ...] = ()
    boots: int = 0
    part: CountedRun | None = None
    side: str = ""
    probed: bool = True

    def takes(self, info: WorkloadInfo) -> bool:
        """Whether it measures a workload, unless somebody asks for others."""
        if self.workloads and not any(map(info.matches, self.workloads)):
            return False
        if info.options and not self._own_guests:
            return False
        if self.part is None:
            return True
        if self.part.only and info.category not in self.part.only:
            return False
        # translated code leaves for no hypervisor: whoever translates it is one
        if info.category == "exit" and self.variant.backend.technique is Technique.FULL:
            return False
        return info.representative or info.category in self.part.whole

    @property
    def _own_guests(self) -> bool:
        """Not of what differs from another variant in its devices only: it boots like that."""
        return self.workloads != ON_DEVICES and (self.part is None or self.part.own_guests)

    @property
    def label(self) -> str:
        """A name for files: two that differ in other characters only are told apart, and so are
        two that are too long for a name."""
        safe = re.sub(r"[^A-Za-z0-9_.=,-]+", "_", self.variant.text)[:_LONGEST]
        digest = sha256(self.variant.text.encode()).hexdigest()[:6]
        mark = "" if safe == self.variant.text else f"-{digest}"
        host = re.sub(r"[^A-Za-z0-9_.=-]+", "_", self.host.name)
        return f"{self.side}{self.side and '-'}{host}-{safe}{mark}"
