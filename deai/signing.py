"""Signatures that a third party may have to judge: EIP-712 digests and 64 bytes.

On Sei by secp256k1, compact (EIP-2098): r, then s with the recovery bit on top. On NEAR by
Ed25519 (RFC 8032). What is signed always names its domain (contract name, version, chain id,
contract), and the two chains write it differently, so nothing can be replayed elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final, Protocol

import coincurve
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from deai.errors import BadSignature, MalformedMessage
from deai.hashing import keccak
from deai.ids import AccountId, base58, parse_base58

SIGNATURE_BYTES: Final = 64
_HALF_ORDER: Final = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
_DOMAIN_TYPE: Final = keccak(
    b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
_NEAR_DOMAIN_TYPE: Final = keccak(
    b"NearDomain(string name,string version,string chainId,string contract)"
)
_ED25519: Final = "ed25519:"
_ON_SEI: Final = re.compile(r"0x(?:[0-9a-f]{40}|[0-9a-f]{64})")


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
    if isinstance(value, int):
        return value.to_bytes(32, "big")
    if isinstance(value, str):
        return int(value, 16).to_bytes(32, "big")
    if len(value) != 32:
        raise ValueError(f"a word has 32 bytes, not {len(value)}")
    return value


def _text_word(text: str, near: bool) -> bytes:
    if near:
        return public_key(text) if text.startswith(_ED25519) else keccak(text.encode())
    if not _ON_SEI.fullmatch(text):
        raise MalformedMessage(f"not a name on this chain: {text[:80]!r}")
    return word(text)


def node_word(node: str) -> bytes:
    """A node id as 32 bytes: itself on Sei, the hash of its text on NEAR."""
    return _text_word(node, "#" in node)


@dataclass(frozen=True)
class StructType:
    """The hash of a signed struct's type on each chain."""

    evm: bytes
    near: bytes


def struct_type(text: str) -> StructType:
    """Of an EIP-712 type in which `ACCOUNT`, `NODE` and `KEY` stand for the chain's own types."""
    evm = text.replace("ACCOUNT", "address").replace("NODE", "bytes32").replace("KEY", "address")
    near = text.replace("ACCOUNT", "string").replace("NODE", "string").replace("KEY", "bytes32")
    return StructType(keccak(evm.encode()), keccak(near.encode()))


@dataclass(frozen=True)
class Domain:
    """EIP-712 domain of one contract on one chain; NEAR's has a text as its chain id.

    On NEAR accounts and node ids are `string` fields, an operator's key is a `bytes32`.
    """

    name: str
    chain_id: int | str
    contract: AccountId
    version: str = "1"

    @cached_property
    def separator(self) -> bytes:
        """Hash of the domain, 32 bytes; raises `MalformedMessage` for another chain's values."""
        if isinstance(self.chain_id, str):
            texts = (self.name, self.version, self.chain_id, self.contract)
            return keccak(_NEAR_DOMAIN_TYPE, *(keccak(text.encode()) for text in texts))
        if not 0 < self.chain_id < 1 << 256:
            raise MalformedMessage(f"no chain has the id {self.chain_id}")
        return keccak(
            _DOMAIN_TYPE,
            keccak(self.name.encode()),
            keccak(self.version.encode()),
            word(self.chain_id),
            _text_word(self.contract, near=False),
        )

    def digest(self, struct: StructType, fields: Sequence[int | bytes | str]) -> bytes:
        """The EIP-712 digest of a struct: 32 bytes. Text is an account, a node or a key.

        Raises `MalformedMessage` for text that is none of them on this chain.
        """
        near = isinstance(self.chain_id, str)
        words = [
            _text_word(value, near) if isinstance(value, str) else word(value) for value in fields
        ]
        body = keccak(struct.near if near else struct.evm, *words)
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


def key_account(public: bytes) -> AccountId:
    """How an Ed25519 public key is written: `ed25519:` + base58 of its 32 bytes."""
    return AccountId(_ED25519 + base58(public))


def public_key(account: str) -> bytes:
    """The 32 bytes of an `ed25519:…` key; raise `MalformedMessage` for anything else."""
    kind, mark, text = account.partition(":")
    if kind + mark != _ED25519:
        raise MalformedMessage(f"not an Ed25519 key: {account[:80]!r}")
    return parse_base58(text, 32)


class Ed25519Signer:
    """An Ed25519 key in this process, from its 32-byte seed. Its repr shows the public key."""

    __slots__ = ("_account", "_key")

    def __init__(self, secret: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(secret)
        public = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self._account = key_account(public)

    def __repr__(self) -> str:
        return f"Ed25519Signer({self._account})"

    @property
    def account(self) -> AccountId:
        return self._account

    def sign(self, digest: bytes) -> bytes:
        return self._key.sign(digest)


def split(signature: bytes) -> tuple[bytes, bytes]:
    """`(r, vs)` for a contract call."""
    return signature[:32], signature[32:]


@lru_cache(maxsize=4096)
def recover(digest: bytes, signature: bytes) -> AccountId:
    """The account that signed `digest`; raise `BadSignature` if there is none.

    High-s signatures are refused: each message has one valid signature per nonce (EIP-2). The
    latest answers are remembered: offers and accepts are met again and again.
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
    """Raise `BadSignature` unless `account` (on NEAR: this `ed25519:…` key) signed `digest`."""
    if account.startswith(_ED25519):
        try:
            Ed25519PublicKey.from_public_bytes(public_key(account)).verify(signature, digest)
        except (InvalidSignature, MalformedMessage) as error:
            raise BadSignature(f"not signed by {account}") from error
        return
    signer = recover(digest, signature)
    if signer != account:
        raise BadSignature(f"signed by {signer}, not by {account}")
