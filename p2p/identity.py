"""Who this process is among the peers: one Ed25519 key in one private file.

The file is the 32-byte seed, as `deai.keys.create_peer_key` writes it. The peer id is the public
key itself: base58 of an identity multihash over its protobuf (libp2p's "peer ids and keys").
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from deai.errors import ConfigError, MalformedMessage
from deai.ids import PeerId

SEED_BYTES: Final = 32
_PUBLIC_PREFIX: Final = bytes.fromhex("08011220")  # type Ed25519, then 32 bytes: public key
_IDENTITY_HASH: Final = bytes.fromhex("0024")  # "not hashed", 36 bytes follow
_ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


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
        return cls(seed=seed, public_key=public, peer_id=peer_id_of(public))

    @classmethod
    def generate(cls) -> Identity:
        """A new identity from the system's randomness."""
        return cls.from_seed(Ed25519PrivateKey.generate().private_bytes_raw())


def peer_id_of(public_key: bytes) -> PeerId:
    """The peer id of a raw Ed25519 public key."""
    return PeerId(_base58(_IDENTITY_HASH + _PUBLIC_PREFIX + public_key))


def public_key_of(peer: PeerId) -> bytes:
    """The raw Ed25519 public key inside a peer id; raise `MalformedMessage` if there is none."""
    data = _unbase58(peer)
    prefix = _IDENTITY_HASH + _PUBLIC_PREFIX
    if len(data) != len(prefix) + 32 or not data.startswith(prefix):
        raise MalformedMessage(f"not the peer id of an Ed25519 key: {peer[:80]!r}")
    return data[len(prefix) :]


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


def _base58(data: bytes) -> str:
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = _ALPHABET[digit] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


def _unbase58(text: str) -> bytes:
    if len(text) > 128:
        raise MalformedMessage("too long for a peer id")
    number = 0
    for character in text:
        digit = _ALPHABET.find(character)
        if digit < 0:
            raise MalformedMessage(f"not base58: {text!r}")
        number = number * 58 + digit
    body = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return b"\0" * (len(text) - len(text.lstrip("1"))) + body
