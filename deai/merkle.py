"""Merkle trees over SHA-256 in the shape of RFC 6962, section 2.1.

A leaf is hashed behind a zero byte, an inner node behind a one, and a lone last node rises as it
is: no leaf counts twice and no inner node passes for a leaf. Callers hash their own leaves
(`leaf_hash`), so that millions of them need not be kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from deai.hashing import ZERO

_LEAF: Final = b"\x00"
_NODE: Final = b"\x01"


def leaf_hash(data: bytes) -> bytes:
    """The hash of one leaf, 32 bytes."""
    return hashlib.sha256(_LEAF + data).digest()


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """The root over hashed leaves, in their order; of none, zeros."""
    if not leaves:
        return ZERO
    level = leaves
    while len(level) > 1:
        level = _above(level)
    return level[0]


def merkle_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The siblings from a leaf up to the root; raise `IndexError` for no leaf of the tree."""
    if not 0 <= index < len(leaves):
        raise IndexError(f"no leaf {index} among {len(leaves)}")
    path, level = [], list(leaves)
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            path.append(level[sibling])
        level, index = _above(level), index // 2
    return path


def root_of_path(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The root that a path proves for leaf `index` of `size`; None where it has not their shape."""
    if not 0 <= index < size:
        return None
    node, siblings = leaf, iter(path)
    while size > 1:
        if index ^ 1 < size:
            sibling = next(siblings, None)
            if sibling is None:
                return None
            pair = sibling + node if index & 1 else node + sibling
            node = hashlib.sha256(_NODE + pair).digest()
        index, size = index // 2, (size + 1) // 2
    return None if next(siblings, None) is not None else node


def path_sides(index: int, size: int) -> int:
    """On which sides the siblings of leaf `index` of `size` stand: bit k is set for the left."""
    sides = k = 0
    while size > 1:
        if index ^ 1 < size:
            sides |= (index & 1) << k
            k += 1
        index, size = index // 2, (size + 1) // 2
    return sides


def root_by_sides(leaf: bytes, sides: int, path: Sequence[bytes]) -> bytes:
    """The root to which siblings on these sides lead: whose it is has the leaf, at some place."""
    node = leaf
    for k, sibling in enumerate(path):
        pair = sibling + node if sides >> k & 1 else node + sibling
        node = hashlib.sha256(_NODE + pair).digest()
    return node


def _above(level: Sequence[bytes]) -> list[bytes]:
    """The level over one of two nodes or more."""
    sha256, pairs = hashlib.sha256, iter(level)
    above = [
        sha256(_NODE + left + right).digest() for left, right in zip(pairs, pairs, strict=False)
    ]
    if len(level) & 1:
        above.append(level[-1])
    return above
