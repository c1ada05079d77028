"""Signatures that a third party may have to judge: EIP-712 over secp256k1, compact (EIP-2098).

A signature is 64 bytes: r, then s with the recovery bit on top. What is signed always names its
domain (contract name, version, chain id, contract), so nothing can be replayed elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Protocol

import coincurve

from deai.errors import BadSignature
from deai.hashing import keccak
from deai.ids import AccountId

SIGNATURE_BYTES: Final = 64
_HALF_ORDER: Final = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
_DOMAIN_TYPE: Final = keccak(
    b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)


class Signer(Protocol):
    """A key that can sign digests and never shows itself."""

    @property
    def account(self) -> AccountId:
        """The account whose signatures these are."""
        ...

    def sign(self, digest: bytes) -> bytes:
        """Sign 32 bytes; 64 bytes, compact."""
        ...


def word(value: int | bytes | str) -> bytes:
    """ABI-encode one static value as 32 bytes (integers, bytes32, `0x…` addresses and ids)."""
    if isinstance(value, str):
        value = int(value, 16)
    if isinstance(value, int):
        return value.to_bytes(32, "big")
    if len(value) != 32:
        raise ValueError(f"a word has 32 bytes, not {len(value)}")
    return value


@dataclass(frozen=True)
class Domain:
    """EIP-712 domain of one contract on one chain."""

    name: str
    chain_id: int
    contract: AccountId
    version: str = "1"

    @cached_property
    def separator(self) -> bytes:
        """Hash of the domain, 32 bytes."""
        return keccak(
            _DOMAIN_TYPE,
            keccak(self.name.encode()),
            keccak(self.version.encode()),
            word(self.chain_id),
            word(self.contract),
        )

    def digest(self, type_hash: bytes, fields: Sequence[int | bytes | str]) -> bytes:
        """The EIP-712 digest of a struct of static fields: 32 bytes."""
        body = keccak(type_hash, *(word(value) for value in fields))
        return keccak(b"\x19\x01", self.separator, body)


def account_of_public_key(uncompressed: bytes) -> AccountId:
    """The address of a 65-byte uncompressed public key."""
    return AccountId("0x" + keccak(uncompressed[1:])[-20:].hex())


class LocalSigner:
    """A secp256k1 key in this process. Its repr shows the account only."""

    __slots__ = ("_account", "_key")

    def __init__(self, secret: bytes) -> None:
        self._key = coincurve.PrivateKey(secret)
        self._account = account_of_public_key(self._key.public_key.format(compressed=False))

    def __repr__(self) -> str:
        return f"LocalSigner({self._account})"

    @property
    def account(self) -> AccountId:
        return self._account

    def sign(self, digest: bytes) -> bytes:
        full = self._key.sign_recoverable(digest, hasher=None)
        compact = bytearray(full[:64])
        compact[32] |= full[64] << 7
        return bytes(compact)


def split(signature: bytes) -> tuple[bytes, bytes]:
    """`(r, vs)` for a contract call."""
    return signature[:32], signature[32:]


def recover(digest: bytes, signature: bytes) -> AccountId:
    """The account that signed `digest`; raise `BadSignature` if there is none.

    High-s signatures are refused: each message has one valid signature per nonce (EIP-2).
    """
    if len(signature) != SIGNATURE_BYTES:
        raise BadSignature(f"a signature has {SIGNATURE_BYTES} bytes, not {len(signature)}")
    parity = signature[32] >> 7
    s = int.from_bytes(signature[32:], "big") & ((1 << 255) - 1)
    if s > _HALF_ORDER:
        raise BadSignature("not in the lower half of the curve order")
    try:
        key = coincurve.PublicKey.from_signature_and_message(
            signature[:32] + s.to_bytes(32, "big") + bytes([parity]), digest, hasher=None
        )
    except ValueError as error:
        raise BadSignature(str(error)) from error
    return account_of_public_key(key.format(compressed=False))


def verify(digest: bytes, signature: bytes, account: AccountId) -> None:
    """Raise `BadSignature` unless `account` signed `digest`."""
    signer = recover(digest, signature)
    if signer != account:
        raise BadSignature(f"signed by {signer}, not by {account}")
