"""The machine of these tests. They need root and 10 GB: `./test -e nested`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.nested.plain_debian import Machine, booted, make_disk


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A plain Debian that was just booted."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to make a Debian")
    if not shutil.which("mmdebstrap"):
        pytest.skip("mmdebstrap is not installed")
    folder = tmp_path_factory.mktemp("plain")
    make_disk(folder)
    with booted(folder) as made:
        yield made
