"""Account names, keys, signatures and base58 as NEAR writes them."""

import re
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ED25519: Final = 0
SECP256K1: Final = 1
KEY_BYTES: Final = {ED25519: 32, SECP256K1: 64}
SIGNATURE_BYTES: Final = {ED25519: 64, SECP256K1: 65}
KINDS: Final = {ED25519: "ed25519", SECP256K1: "secp256k1"}
SYSTEM: Final = "system"

_ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGITS: Final = {letter: value for value, letter in enumerate(_ALPHABET)}
_CHUNK: Final = 58**10
_PAIRS: Final = [one + two for one in _ALPHABET for two in _ALPHABET]
_ACCOUNT: Final = re.compile(r"(?:[a-z\d]+[-_])*[a-z\d]+(?:\.(?:[a-z\d]+[-_])*[a-z\d]+)*\Z")


def base58(data: bytes) -> str:
    """Write bytes in base58."""
    number = int.from_bytes(data, "big")
    pairs: list[str] = []
    while number:
        number, chunk = divmod(number, _CHUNK)  # few divisions of large numbers, many of small
        for _ in range(5):
            chunk, rest = divmod(chunk, 3_364)
            pairs.append(_PAIRS[rest])
    zeros = len(data) - len(data.lstrip(b"\0"))
    pairs.reverse()
    return "1" * zeros + "".join(pairs).lstrip("1")


def unbase58(text: str, size: int) -> bytes:
    """Read ``size`` bytes from base58; raises :class:`ValueError`."""
    number = 0
    if len(text) > 2 * size:
        raise ValueError(f"{len(text)} letters for {size} bytes")
    for letter in text:
        if letter not in _DIGITS:
            raise ValueError(f"{letter!r} is not a base58 letter")
        number = number * 58 + _DIGITS[letter]
    zeros = len(text) - len(text.lstrip("1"))
    data = bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
    if len(data) != size:
        raise ValueError(f"{size} bytes expected, {len(data)} given")
    return data


@lru_cache(4_096)
def public_key_bytes(text: str) -> bytes:
    """Return the curve's number and the key; raises :class:`ValueError` for other text."""
    name, colon, body = text.rpartition(":")
    for kind, known in KINDS.items():
        if name == known or (not colon and kind == ED25519):
            return bytes([kind]) + unbase58(body, KEY_BYTES[kind])
    raise ValueError(f"{text[:100]!r} is not a public key")


def public_key_text(data: bytes) -> str:
    """Write a public key given as the curve's number and the key."""
    return f"{KINDS[data[0]]}:{base58(data[1:])}"


def key_pair(secret: bytes) -> tuple[str, str]:
    """Return the secret and public key of a 32-byte seed, as NEAR's tools write them."""
    public = Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()
    return f"ed25519:{base58(secret + public)}", f"ed25519:{base58(public)}"


def verify_ed25519(key: bytes, message: bytes, signature: bytes) -> bool:
    """Say whether ``signature`` (64 bytes) of ``message`` is by ``key`` (32 bytes)."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def is_account(name: str) -> bool:
    """Say whether this is the name of an account: 2 to 64 of ``a-z 0-9 - _ .``, well placed."""
    return 2 <= len(name) <= 64 and _ACCOUNT.match(name) is not None


def is_implicit(name: str) -> bool:
    """Say whether the account is named after a public key, and made by the first transfer."""
    return len(name) == 64 and all(letter in "0123456789abcdef" for letter in name)


def may_create(creator: str, name: str) -> bool:
    """Say whether ``creator`` may create ``name``: only directly below itself."""
    return name.partition(".")[2] == creator
