"""Who this process is among the peers: one Ed25519 key in one private file.

The file is the 32-byte seed, as `deai.keys.create_peer_key` writes it. The peer id is the public
key itself.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from deai.errors import ConfigError, MalformedMessage
from deai.ids import PeerId, peer_of

SEED_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Identity:
    """An Ed25519 key pair; the secret half never shows in a repr."""

    seed: bytes = field(repr=False)
    public_key: bytes
    peer_id: PeerId

    @classmethod
    def from_seed(cls, seed: bytes) -> Identity:
        """The identity of a 32-byte seed; raise `MalformedMessage` for any other length."""
        if len(seed) != SEED_BYTES:
            raise MalformedMessage(f"an Ed25519 seed has 32 bytes, not {len(seed)}")
        public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
        return cls(seed=seed, public_key=public, peer_id=peer_of(public))

    @classmethod
    def generate(cls) -> Identity:
        """A new identity from the system's randomness."""
        return cls.from_seed(Ed25519PrivateKey.generate().private_bytes_raw())


def load_identity(file: Path) -> Identity:
    """Read a key file; raise `ConfigError` if it is missing, damaged, or open to others."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            data = stream.read(SEED_BYTES + 1) if stat.S_ISREG(mode) else b""
    except OSError as error:
        raise ConfigError(f"cannot read the peer key {file}: {error.strerror}") from error
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigError(
            f"others may read the peer key {file} (mode {stat.S_IMODE(mode):04o})",
            hint=f"chmod 600 {file}",
        )
    if len(data) != SEED_BYTES:
        raise ConfigError(f"{file} holds no Ed25519 key: {len(data)} bytes are not {SEED_BYTES}")
    return Identity.from_seed(data)
