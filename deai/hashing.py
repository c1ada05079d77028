"""Hashes: Keccak-256 where a contract must agree, SHA-256 trees for content.

A blob is hashed as a Merkle tree of the RFC 6962 shape (section 2.1: leaf and node prefixes, no
duplicated leaves) over 64 KiB chunks, so that each chunk is checked on arrival. Its digest also
binds the length and a domain, so no blob digest is a digest of anything else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from sha3 import keccak_256

from deai.errors import LimitExceeded, MalformedMessage

CHUNK_BYTES: Final = 64 * 1024
MAX_BLOB_BYTES: Final = 64 * 1024 * 1024
"""Largest input or output of a task; its chunk hashes then fit one message."""
ZERO: Final = bytes(32)

_BLOB: Final = b"deai blob/1\x00"


def keccak(*parts: bytes) -> bytes:
    """Keccak-256 of the concatenated parts, as the EVM computes it."""
    digest: bytes = keccak_256(b"".join(parts)).digest()
    return digest


def chunk_count(length: int) -> int:
    """How many chunks a blob of `length` bytes has; an empty blob has one empty chunk."""
    return max(1, -(-length // CHUNK_BYTES))


def chunks(blob: bytes) -> list[bytes]:
    """Cut a blob; raise `LimitExceeded` above `MAX_BLOB_BYTES`."""
    if len(blob) > MAX_BLOB_BYTES:
        raise LimitExceeded(f"{len(blob)} bytes exceed the limit of {MAX_BLOB_BYTES}")
    return [blob[i : i + CHUNK_BYTES] for i in range(0, len(blob), CHUNK_BYTES)] or [b""]


def leaf(chunk: bytes) -> bytes:
    """The hash of one chunk."""
    return hashlib.sha256(b"\x00" + chunk).digest()


def tree_root(leaves: Sequence[bytes]) -> bytes:
    """The RFC 6962 root over leaf hashes; at least one leaf."""
    if not leaves:
        raise MalformedMessage("a tree has at least one leaf")
    level = list(leaves)
    # Pairing neighbours and carrying an odd last node up unchanged gives RFC 6962's tree.
    while len(level) > 1:
        paired = [
            hashlib.sha256(b"\x01" + level[i] + level[i + 1]).digest()
            for i in range(0, len(level) - 1, 2)
        ]
        level = paired + ([level[-1]] if len(level) % 2 else [])
    return level[0]


def digest_of_leaves(length: int, leaves: Sequence[bytes]) -> bytes:
    """The digest of a blob of `length` bytes whose chunks hash to `leaves`."""
    if not 0 <= length <= MAX_BLOB_BYTES or len(leaves) != chunk_count(length):
        raise MalformedMessage(f"{len(leaves)} chunks do not make {length} bytes")
    return hashlib.sha256(_BLOB + length.to_bytes(8, "big") + tree_root(leaves)).digest()


def blob_digest(blob: bytes) -> bytes:
    """The digest of an input or an output: 32 bytes."""
    return digest_of_leaves(len(blob), [leaf(chunk) for chunk in chunks(blob)])
