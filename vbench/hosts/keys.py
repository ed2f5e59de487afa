"""A key pair for one guest, in the forms that its two ends want."""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def _string(data: bytes) -> bytes:
    """A string as SSH's wire has it (RFC 4251, section 5)."""
    return struct.pack(">I", len(data)) + data


@dataclass(frozen=True)
class KeyPair:
    """A fresh ed25519 key: the private half and its public line in OpenSSH's form."""

    private: Ed25519PrivateKey

    @classmethod
    def generate(cls) -> KeyPair:
        return cls(Ed25519PrivateKey.generate())

    @property
    def public_blob(self) -> bytes:
        """The public key as it travels (RFC 8709, section 4)."""
        return _string(b"ssh-ed25519") + _string(self._raw_public)

    @property
    def _raw_public(self) -> bytes:
        return self.private.public_key().public_bytes(
            serialization.Encoding.Raw, serialization.PublicFormat.Raw
        )

    @property
    def authorized_line(self) -> str:
        return "ssh-ed25519 " + base64.b64encode(self.public_blob).decode() + " vbench\n"

    def dropbear_private(self) -> bytes:
        """The private half as dropbear's host key file wants it (dropbear, src/ed25519.c)."""
        raw = self.private.private_bytes(
            serialization.Encoding.Raw,
            serialization.PrivateFormat.Raw,
            serialization.NoEncryption(),
        )
        return _string(b"ssh-ed25519") + _string(raw + self._raw_public)

    def openssh_private(self) -> str:
        """The private half as OpenSSH's key file has it."""
        return self.private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        ).decode()
