"""Hosts that could not be measured: files in which Ansible's role keeps why. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KEY = "vbench_failure"
VERSION = 1
AGAIN = "run the same play again: it measures what is missing"
# How vbench prints an error; evidence between the two begins with blanks.
_OURS, _FAILED, _REMEDY = "vbench: ", "vbench: failed: ", "  -> "


@dataclass(frozen=True)
class Unmeasured:
    """A host of the inventory that failed. `at`: when (ISO 8601, UTC)."""

    host: str
    at: str
    reason: str
    remedy: str


def of(whole: Mapping[str, Any]) -> Unmeasured:
    """What such a file says. Raises ValueError, KeyError or TypeError where it is damaged or of a
    newer version."""
    part = whole[KEY]
    if part["schema_version"] != VERSION:
        raise ValueError(f"{KEY}.schema_version is {part['schema_version']!r}, not {VERSION}")
    texts = [part[name] for name in ("host", "at", "message", "stderr")]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError(f"{KEY} holds what is no text")
    host, at, message, stderr = texts
    reason, remedy = _said(stderr)
    return Unmeasured(host, at, reason or _line(message) or "unknown", remedy or AGAIN)


def _said(stderr: str) -> tuple[str, str]:
    """The reason and the remedy that vbench printed: of the first workload or guest that failed,
    or of what ended it. Where it printed none, the last line of what was printed in its place."""
    errors: list[tuple[str, str]] = []
    others: list[str] = []
    for line in stderr.splitlines():
        if line.startswith(_OURS):
            errors.append((line, ""))
        elif line.startswith(_REMEDY) and errors:
            errors[-1] = (errors[-1][0], line.removeprefix(_REMEDY))
        elif not line.startswith("  "):
            others.append(line)
    failed = [each for each in errors if each[0].startswith(_FAILED)]
    ended = [each for each in reversed(errors) if each[1]]
    if not errors:
        return (_line(others[-1]), "") if others else ("", "")
    reason, remedy = [*failed, *ended, errors[-1]][0]
    return _line(reason.removeprefix(_FAILED).removeprefix(_OURS)), remedy


def _line(text: str) -> str:
    """One line of visible characters."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())
