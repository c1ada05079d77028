"""Who this process is among the peers: one Ed25519 key in one private file.

The file is libp2p's own private-key form (a protobuf of key type and key), so that any libp2p
implementation can read it. The peer id is the key itself: base58 of an identity multihash over
the public key's protobuf (libp2p's "peer ids and keys" specification).
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
_PRIVATE_PREFIX: Final = bytes.fromhex("08011240")  # type Ed25519, then 64 bytes: seed, public key
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


def save_identity(identity: Identity, file: Path) -> None:
    """Write a new key file, mode 0600; raise `ConfigError` rather than overwrite one."""
    data = _PRIVATE_PREFIX + identity.seed + identity.public_key
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise ConfigError(f"cannot write the peer key {file}: {error.strerror}") from error


def load_identity(file: Path) -> Identity:
    """Read a key file; raise `ConfigError` if it is missing, damaged, or open to others."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            data = stream.read(1024) if stat.S_ISREG(mode) else b""
    except OSError as error:
        raise ConfigError(f"cannot read the peer key {file}: {error.strerror}") from error
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigError(
            f"others may read the peer key {file} (mode {stat.S_IMODE(mode):04o})",
            hint=f"chmod 600 {file}",
        )
    seed, public = data[4:36], data[36:]
    if not data.startswith(_PRIVATE_PREFIX) or len(public) != 32:
        raise ConfigError(f"{file} holds no Ed25519 key in libp2p's form")
    identity = Identity.from_seed(seed)
    if identity.public_key != public:
        raise ConfigError(f"the two halves of the key in {file} do not belong together")
    return identity


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
