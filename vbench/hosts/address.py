"""Where an SSH server is, as options have it: ssh://[user@]host[:port]."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

FORM = "ssh://user@host[:port]"
PORTS = range(1, 1 << 16)


@dataclass(frozen=True)
class Address:
    """What is None is looked up in the user's configuration of SSH."""

    host: str
    user: str | None
    port: int | None


def parse(text: str) -> Address:
    """Raises ValueError for what is no such address."""
    parts = urlsplit(text)
    host, port = parts.hostname, parts.port
    if parts.scheme != "ssh" or not host or host.startswith("-") or parts.password:
        raise ValueError(f"{text} is not {FORM}")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(f"{text} has more than {FORM}")
    if port is not None and port not in PORTS:
        raise ValueError(f"{text}: a port is {PORTS[0]} to {PORTS[-1]}")
    return Address(host, parts.username, port)


def is_address(text: str) -> bool:
    """Whether `parse` takes it."""
    try:
        parse(text)
    except ValueError:
        return False
    return True
