"""Signed transactions of type 2 (EIP-1559), written by hand: one format, one page.

Sources: EIP-155, EIP-1559, EIP-2718; RLP as in the Ethereum yellow paper, appendix B.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from deai.hashing import keccak
from deai.ids import AccountId, hexed, raw
from deai.signing import Signer

Item: TypeAlias = "bytes | int | list[Item]"


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """What is signed; `to` None creates a contract. Fees in wei for each gas."""

    chain_id: int
    nonce: int
    tip: int
    fee: int
    gas: int
    to: AccountId | None
    data: bytes
    value: int = 0


class Signed(msgspec.Struct, frozen=True):
    """Bytes ready to be sent, and the hash by which the chain knows them."""

    hash: str
    raw: bytes


def sign(envelope: Envelope, signer: Signer) -> Signed:
    """Sign a transaction."""
    fields: list[Item] = [
        envelope.chain_id,
        envelope.nonce,
        envelope.tip,
        envelope.fee,
        envelope.gas,
        raw(envelope.to) if envelope.to is not None else b"",
        envelope.value,
        envelope.data,
        [],
    ]
    signature = signer.sign(keccak(b"\x02", encode(fields)))
    r = int.from_bytes(signature[:32], "big")
    top = int.from_bytes(signature[32:], "big")
    payload = b"\x02" + encode([*fields, top >> 255, r, top & ((1 << 255) - 1)])
    return Signed(hexed(keccak(payload)), payload)


def contract_address(creator: AccountId, nonce: int) -> AccountId:
    """Where the contract that `creator` deploys with `nonce` will stand."""
    return AccountId(hexed(keccak(encode([raw(creator), nonce]))[-20:]))


def encode(item: Item) -> bytes:
    """RLP of bytes, non-negative integers (no leading zeros) and lists of them."""
    if isinstance(item, int):
        item = item.to_bytes(-(-item.bit_length() // 8), "big")
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < 0x80:
            return item
        return _length(len(item), 0x80) + item
    body = b"".join(encode(part) for part in item)
    return _length(len(body), 0xC0) + body


def _length(size: int, offset: int) -> bytes:
    if size < 56:
        return bytes([offset + size])
    digits = size.to_bytes(-(-size.bit_length() // 8), "big")
    return bytes([offset + 55 + len(digits)]) + digits
