"""A host as a guest on a port of a bridge sees it: the same machine, with that network."""

from __future__ import annotations

from typing import Any, cast

from vbench.contract.host import Host, Network


def at_port(host: Host, network: Network | None) -> Host:
    """`host`, but for its network; None: without one. Closing it closes nothing: the machine is
    `host`'s to end."""
    return cast(Host, _AtPort(host, network))


class _AtPort:
    def __init__(self, host: Host, network: Network | None) -> None:
        self._host = host
        self._network = network

    def network(self) -> Network | None:
        return self._network

    def close(self) -> None: ...

    def __getattr__(self, name: str) -> Any:
        return getattr(self._host, name)
