"""Merkle trees: the shape of RFC 6962, and paths that prove one leaf and no other."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, strategies as st

from deai.hashing import ZERO
from deai.merkle import leaf_hash, merkle_path, merkle_root, root_of_path

LEAVES = st.lists(st.binary(max_size=8), min_size=1, max_size=70)


def recursive(leaves: list[bytes]) -> bytes:
    """The definition of RFC 6962, section 2.1, word for word."""
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    left, right = recursive(leaves[:split]), recursive(leaves[split:])
    return hashlib.sha256(b"\x01" + left + right).digest()


@given(LEAVES)
def test_the_root_is_that_of_the_definition(data: list[bytes]) -> None:
    assert merkle_root([leaf_hash(one) for one in data]) == recursive(data)


def test_no_leaves_have_the_root_of_zeros() -> None:
    assert merkle_root([]) == ZERO


@given(LEAVES, st.data())
def test_a_path_proves_its_leaf_at_its_place_and_no_other(
    data: list[bytes], draw: st.DataObject
) -> None:
    leaves = [leaf_hash(one + number.to_bytes(2, "big")) for number, one in enumerate(data)]
    index = draw.draw(st.integers(0, len(leaves) - 1))
    path, root = merkle_path(leaves, index), merkle_root(leaves)
    assert root_of_path(leaves[index], index, len(leaves), path) == root
    other = draw.draw(st.integers(0, len(leaves) - 1))
    if other != index:
        assert root_of_path(leaves[other], index, len(leaves), path) != root
        assert root_of_path(leaves[index], other, len(leaves), path) != root
    assert root_of_path(leaves[index], index, len(leaves), [*path, ZERO]) is None
    if path:
        assert root_of_path(leaves[index], index, len(leaves), path[:-1]) is None


def test_a_last_leaf_is_not_counted_twice() -> None:
    three = [leaf_hash(bytes([number])) for number in range(3)]
    assert merkle_root(three) != merkle_root([*three, three[-1]])


@pytest.mark.parametrize("index", [-1, 3])
def test_there_is_no_path_to_a_leaf_outside_the_tree(index: int) -> None:
    leaves = [leaf_hash(bytes([number])) for number in range(3)]
    with pytest.raises(IndexError):
        merkle_path(leaves, index)
    assert root_of_path(leaves[0], index, 3, []) is None
