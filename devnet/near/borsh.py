"""Reading signed transactions: borsh, every length checked against what is there."""

import hashlib
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from devnet.near.actions import (
    Action,
    AddKey,
    CreateAccount,
    DeleteAccount,
    DeleteKey,
    DeployContract,
    FunctionCall,
    FunctionCallAccess,
    Transfer,
)
from devnet.near.keys import (
    ED25519,
    KEY_BYTES,
    SIGNATURE_BYTES,
    base58,
    public_key_bytes,
    public_key_text,
    verify_ed25519,
)
from devnet.near.rules import MAX_ACTIONS

T = TypeVar("T")

MAX_READ_ACTIONS: Final = 2 * MAX_ACTIONS  # what is too many is for the chain to say
MAX_READ_METHODS: Final = 2_000


class SignedTransaction(msgspec.Struct, frozen=True):
    """A transaction as it was signed. ``id`` is its hash as text, ``block_hash`` dates it."""

    signer: str
    public_key: str
    nonce: int
    receiver: str
    block_hash: bytes
    actions: tuple[Action, ...]
    signature: bytes  # the curve's number first
    hash: bytes
    id: str
    size: int

    @property
    def is_genuine(self) -> bool:
        """Say whether the signature is by the named key. Only ed25519 is understood here."""
        key = public_key_bytes(self.public_key)
        return (
            key[0] == self.signature[0] == ED25519
            and verify_ed25519(key[1:], self.hash, self.signature[1:])
        )  # fmt: skip


class Reader:
    """Takes values off the front of bytes; raises :class:`ValueError` at the end of them."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def take(self, count: int) -> bytes:
        """Return the next ``count`` bytes."""
        end = self.position + count
        if end > len(self._data):
            raise ValueError("unexpected end of data")
        taken = self._data[self.position : end]
        self.position = end
        return taken

    def number(self, size: int) -> int:
        """Return a number of ``size`` bytes."""
        return int.from_bytes(self.take(size), "little")

    def blob(self) -> bytes:
        """Return bytes with their length before them."""
        return self.take(self.number(4))

    def text(self) -> str:
        """Return UTF-8 text with its length before it."""
        return self.blob().decode()

    def some(self, item: Callable[[], T], most: int) -> tuple[T, ...]:
        """Return at most ``most`` items."""
        count = self.number(4)
        if count > most:
            raise ValueError(f"{count} items, at most {most}")
        return tuple(item() for _ in range(count))

    def public_key(self) -> str:
        """Return a public key as text."""
        kind = self.number(1)
        if kind not in KEY_BYTES:
            raise ValueError(f"unknown key type {kind}")
        return public_key_text(bytes([kind]) + self.take(KEY_BYTES[kind]))

    def signature(self) -> bytes:
        """Return a signature, the curve's number first."""
        kind = self.number(1)
        if kind not in SIGNATURE_BYTES:
            raise ValueError(f"unknown signature type {kind}")
        return bytes([kind]) + self.take(SIGNATURE_BYTES[kind])

    def action(self) -> Action:
        """Return one action."""
        kind = self.number(1)
        match kind:
            case 0:
                return CreateAccount()
            case 1:
                return DeployContract(self.blob())
            case 2:
                return FunctionCall(self.text(), self.blob(), self.number(8), self.number(16))
            case 3:
                return Transfer(self.number(16))
            case 5:
                key = self.public_key()
                self.number(8)  # a nonce, which the chain chooses
                return AddKey(key, self._access())
            case 6:
                return DeleteKey(self.public_key())
            case 7:
                return DeleteAccount(self.text())
            case _:
                raise ValueError(f"action {kind} is not modelled")

    def _access(self) -> FunctionCallAccess | None:
        kind = self.number(1)
        if kind == 1:
            return None
        if kind != 0:
            raise ValueError(f"unknown permission {kind}")
        allowance = self.number(16) if self.number(1) else None
        receiver = self.text()
        return FunctionCallAccess(receiver, self.some(self.text, MAX_READ_METHODS), allowance)


def signed_transaction(data: bytes) -> SignedTransaction:
    """Read a signed transaction; raises :class:`ValueError` for anything but exactly one."""
    reader = Reader(data)
    signer, key, nonce = reader.text(), reader.public_key(), reader.number(8)
    receiver, block_hash = reader.text(), reader.take(32)
    actions = reader.some(reader.action, MAX_READ_ACTIONS)
    digest = hashlib.sha256(data[: reader.position]).digest()
    signature = reader.signature()
    if reader.position != len(data):
        raise ValueError("trailing bytes after the signature")
    return SignedTransaction(
        signer,
        key,
        nonce,
        receiver,
        block_hash,
        actions,
        signature,
        digest,
        base58(digest),
        len(data),
    )
