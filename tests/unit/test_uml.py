"""What User-mode Linux is not launched for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from vbench.errors import Unsupported
from vbench.hosts import netns
from vbench.plugins.uml import BACKEND


def test_on_a_bridge_it_is_not_launched() -> None:
    """Its scenarios failed after a guest that nobody could reach."""
    (port,) = netns.ports(1, [None], ())
    host = cast(Any, SimpleNamespace(network=lambda: port))
    with pytest.raises(Unsupported, match="bridge"):
        BACKEND.launch(host, cast(Any, None), BACKEND.options)
