"""Hashes and signatures agree with independent implementations."""

from __future__ import annotations

import hashlib

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils.crypto import keccak as other_keccak
from hypothesis import given, strategies as st

from deai import tasks
from deai.errors import BadSignature, LimitExceeded, MalformedMessage
from deai.hashing import (
    CHUNK_BYTES,
    MAX_BLOB_BYTES,
    blob_digest,
    chunks,
    digest_of_leaves,
    keccak,
    leaf,
    tree_root,
)
from deai.ids import hexed
from deai.signing import LocalSigner, recover, split, verify
from deai.tasks import Policy, Task
from tests.support.examples import examples
from tests.support.samples import ESCROW, all_tasks, digests, signer

TASK_TYPE = [
    ("client", "address"), ("lane", "uint32"), ("nonce", "uint32"), ("fee", "uint96"),
    ("tip", "uint96"), ("seats", "uint8"), ("policy", "uint8"), ("lease", "uint32"),
    ("commitDeadline", "uint40"), ("window", "uint32"), ("specHash", "bytes32"),
]  # fmt: skip


@given(st.binary(max_size=300))
def test_keccak_is_the_one_of_ethereum(data: bytes) -> None:
    assert keccak(data) == other_keccak(data)


@given(all_tasks)
@examples(25)
def test_a_task_id_is_what_a_wallet_computes(task: Task) -> None:
    values = [getattr(task, name) for name in Task.__struct_fields__]
    message = {name: value for (name, _), value in zip(TASK_TYPE, values, strict=True)}
    typed = encode_typed_data(
        {"name": ESCROW.name, "version": "1", "chainId": ESCROW.chain_id,
         "verifyingContract": ESCROW.contract},
        {"Task": [{"name": name, "type": kind} for name, kind in TASK_TYPE]},
        {**message, "policy": int(task.policy), "fee": int(task.fee), "tip": int(task.tip)},
    )  # fmt: skip

    expected = keccak(b"\x19" + typed.version + typed.header + typed.body)
    assert tasks.task_id(task, ESCROW) == hexed(expected)


@given(digests, st.integers(1, 2**200))
@examples(30)
def test_a_signature_names_its_signer(digest: bytes, number: int) -> None:
    key = signer(number)
    signature = key.sign(digest)

    assert recover(digest, signature) == key.account
    assert key.account == Account.from_key(number.to_bytes(32, "big")).address.lower()
    assert b"".join(split(signature)) == signature


def test_a_wallets_recovery_accepts_our_signature() -> None:
    key, digest = signer(7), keccak(b"something")
    signature = bytearray(key.sign(digest))
    parity, signature[32] = signature[32] >> 7, signature[32] & 0x7F

    found = Account._recover_hash(digest, signature=bytes(signature) + bytes([27 + parity]))

    assert found.lower() == key.account


@given(digests, st.integers(0, 511))
@examples(40)
def test_a_flipped_bit_is_another_signer_or_none(digest: bytes, bit: int) -> None:
    key = signer(11)
    signature = bytearray(key.sign(digest))
    signature[bit // 8] ^= 1 << bit % 8

    with pytest.raises(BadSignature):
        verify(digest, bytes(signature), key.account)


def test_the_other_half_of_the_curve_is_refused() -> None:
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    key, digest = signer(3), keccak(b"x")
    signature = key.sign(digest)
    vs = int.from_bytes(signature[32:], "big")
    high = order - (vs & ((1 << 255) - 1))
    flipped = signature[:32] + (high | ((vs >> 255) ^ 1) << 255).to_bytes(33, "big")[-32:]

    with pytest.raises(BadSignature):
        verify(digest, flipped, key.account)


@pytest.mark.parametrize("length", [0, 63, 65, 1000])
def test_a_signature_has_64_bytes(length: int) -> None:
    with pytest.raises(BadSignature):
        recover(bytes(32), bytes(length))


def test_a_key_does_not_show_itself() -> None:
    secret = b"\x42" * 32
    key = LocalSigner(secret)

    assert "42424242" not in repr(key) + str(key)


def test_the_tree_has_the_shape_of_rfc_6962() -> None:
    # RFC 6962 section 2.1.3: root of 7 leaves = H(H(h01, h23), H(h45, d6)).
    def node(left: bytes, right: bytes) -> bytes:
        return hashlib.sha256(b"\x01" + left + right).digest()

    d = [leaf(bytes([number])) for number in range(7)]
    left = node(node(d[0], d[1]), node(d[2], d[3]))
    right = node(node(d[4], d[5]), d[6])

    assert tree_root(d) == node(left, right)


@given(st.integers(0, 4 * CHUNK_BYTES), st.integers(0, 255))
@examples(20)
def test_a_digest_follows_from_chunks_alone(length: int, byte: int) -> None:
    blob = bytes([byte]) * length

    assert digest_of_leaves(length, [leaf(chunk) for chunk in chunks(blob)]) == blob_digest(blob)


def test_a_digest_binds_the_length() -> None:
    leaves = [leaf(b"ab")]
    with pytest.raises(MalformedMessage):
        digest_of_leaves(CHUNK_BYTES + 1, leaves)
    assert digest_of_leaves(2, leaves) != digest_of_leaves(3, leaves)


def test_a_blob_has_a_largest_size() -> None:
    with pytest.raises(LimitExceeded):
        chunks(bytes(MAX_BLOB_BYTES + 1))


def test_policies_are_read_by_their_labels_only() -> None:
    assert [tasks.parse_policy(policy.label) for policy in Policy] == list(Policy)
    for bad in ("exact", "EXACT/1", "exact/2", ""):
        with pytest.raises(MalformedMessage):
            tasks.parse_policy(bad)
