"""The folders of this user. Standard library only."""

from __future__ import annotations

import os
import pwd
from pathlib import Path


def home() -> Path | None:
    """The home directory: $HOME, else the passwd entry's. None for a user who has neither."""
    if own := os.environ.get("HOME"):
        return Path(own)
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:  # as in a container that is given a number only
        return None


def cache_folder() -> Path | None:
    """$VBENCH_CACHE, $XDG_CACHE_HOME/vbench or ~/.cache/vbench; None where there is no home.

    The first two count if they are not empty, $XDG_CACHE_HOME only if it is absolute (XDG Base
    Directory Specification).
    """
    if own := os.environ.get("VBENCH_CACHE"):
        return Path(own).absolute()
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):
        return Path(base) / "vbench"
    at = home()
    return at.absolute() / ".cache/vbench" if at else None
