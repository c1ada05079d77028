"""Accounts, keys, contract data and code: the newest state, what a block changed, older states.

Values are immutable, so a snapshot is a copy of dictionaries, undoing a failed receipt puts old
values back, and an older state is the newest one with the old values laid over it.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

import msgspec

from devnet.near.actions import FunctionCallAccess
from devnet.near.rules import ACCOUNT_BYTES, FREE_BYTES, RECORD_BYTES, STORAGE_PRICE

HISTORY_BLOCKS: Final = 1_024  # how many blocks back state can be read
HISTORY_ENTRIES: Final = 200_000


class Account(msgspec.Struct, frozen=True):
    """An account: money in yoctoNEAR, the hash of its code (empty: none), bytes it occupies."""

    amount: int = 0
    code_hash: bytes = b""
    usage: int = ACCOUNT_BYTES


class AccessKey(msgspec.Struct, frozen=True):
    """A key of an account: the last nonce it used, and what it may do (None: everything)."""

    nonce: int
    access: FunctionCallAccess | None = None


Kind = Literal["account", "key", "data"]
Entry = tuple[Kind, str, str | bytes]
Value = Account | AccessKey | bytes
Changes = dict[Entry, Value | None]
"""What entries were before; None: they were not there."""


class Reading(Protocol):
    """A state as of some block."""

    def account(self, name: str) -> Account | None: ...
    def key(self, name: str, public_key: str) -> AccessKey | None: ...
    def keys(self, name: str) -> dict[str, AccessKey]: ...
    def datum(self, name: str, key: bytes) -> bytes | None: ...
    def data(self, name: str, prefix: bytes) -> Iterator[tuple[bytes, bytes]]: ...
    def code(self, code_hash: bytes) -> bytes: ...


def key_bytes(public_key: str, key: AccessKey) -> int:
    """Return the bytes that an access key occupies."""
    size = (33 if public_key.startswith("ed25519:") else 65) + RECORD_BYTES + 9
    if key.access is None:
        return size
    access = key.access
    methods = sum(4 + len(method.encode()) for method in access.methods)
    return size + (17 if access.allowance is not None else 1) + 8 + len(access.receiver) + methods


def missing_stake(account: Account, amount: int) -> int:
    """Return how much ``amount`` falls short of what the account's bytes need, in yoctoNEAR."""
    if account.usage <= FREE_BYTES:
        return 0
    return max(0, account.usage * STORAGE_PRICE - amount)


@dataclass
class State:
    """The newest state. Writes since :meth:`begin` can be undone; changes since a block listed."""

    accounts: dict[str, Account] = field(default_factory=dict)
    access_keys: dict[str, dict[str, AccessKey]] = field(default_factory=dict)
    contract_data: dict[str, dict[bytes, bytes]] = field(default_factory=dict)
    codes: dict[bytes, bytes] = field(default_factory=dict)  # by sha256, never forgotten
    changes: Changes = field(default_factory=dict)
    _undo: list[tuple[Entry, Value | None]] = field(default_factory=list)

    def account(self, name: str) -> Account | None:
        return self.accounts.get(name)

    def key(self, name: str, public_key: str) -> AccessKey | None:
        return self.access_keys.get(name, {}).get(public_key)

    def keys(self, name: str) -> dict[str, AccessKey]:
        return dict(self.access_keys.get(name, {}))

    def datum(self, name: str, key: bytes) -> bytes | None:
        return self.contract_data.get(name, {}).get(key)

    def data(self, name: str, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        for key, value in sorted(self.contract_data.get(name, {}).items()):
            if key.startswith(prefix):
                yield key, value

    def code(self, code_hash: bytes) -> bytes:
        return self.codes[code_hash]

    def put_account(self, name: str, account: Account | None) -> None:
        """Write an account; None removes it."""
        self._put(("account", name, ""), account)

    def put_key(self, name: str, public_key: str, key: AccessKey | None) -> None:
        """Write an access key; None removes it."""
        self._put(("key", name, public_key), key)

    def put_datum(self, name: str, key: bytes, value: bytes | None) -> None:
        """Write a contract's entry; None removes it."""
        self._put(("data", name, key), value)

    def begin(self) -> None:
        """Begin a step that can be undone."""
        self._undo.clear()

    def undo(self) -> None:
        """Put back everything written since :meth:`begin`."""
        for entry, old in reversed(self._undo):
            self.load(entry, old)
        self._undo.clear()

    def seal(self) -> Changes:
        """Return what was changed since the last call, with the values of before."""
        changes, self.changes = self.changes, {}
        return changes

    def value(self, entry: Entry) -> Value | None:
        """Return what an entry holds now."""
        kind, name, key = entry
        if kind == "account":
            return self.accounts.get(name)
        return self._table(kind, name).get(key)

    def load(self, entry: Entry, value: Value | None) -> None:
        """Write an entry without remembering what it was."""
        kind, name, key = entry
        table: dict[Any, Any] = self.accounts
        if kind == "account":
            key = name
        else:
            table = self._table(kind, name)
        if value is None:
            table.pop(key, None)
        else:
            table[key] = value

    def _table(self, kind: Kind, name: str) -> dict[Any, Any]:
        tables: dict[str, Any] = self.access_keys if kind == "key" else self.contract_data
        found: dict[Any, Any] = tables.setdefault(name, {})
        return found

    def copy(self) -> "State":
        """Return a state that later writes to this one do not change."""
        return State(
            dict(self.accounts),
            {name: dict(keys) for name, keys in self.access_keys.items()},
            {name: dict(entries) for name, entries in self.contract_data.items()},
            self.codes,
        )

    def entries(self) -> Iterator[tuple[Entry, Value]]:
        """Yield everything but code."""
        for name, account in self.accounts.items():
            yield ("account", name, ""), account
        for name, keys in self.access_keys.items():
            for public_key, key in keys.items():
                yield ("key", name, public_key), key
        for name, entries in self.contract_data.items():
            for datum, value in entries.items():
                yield ("data", name, datum), value

    def _put(self, entry: Entry, value: Value | None) -> None:
        old = self.value(entry)
        self._undo.append((entry, old))
        self.changes.setdefault(entry, old)
        self.load(entry, value)


class History:
    """What the last blocks changed: their states can be read until the process ends."""

    def __init__(self, height: int) -> None:
        self._oldest = height
        self._blocks: deque[tuple[int, Changes]] = deque()
        self._entries = 0

    def add(self, height: int, changes: Changes) -> None:
        """Remember what the block at ``height`` changed."""
        if changes:
            self._blocks.append((height, changes))
            self._entries += len(changes)
        self._oldest = max(self._oldest, height - HISTORY_BLOCKS)
        while self._blocks and (
            self._blocks[0][0] <= self._oldest or self._entries > HISTORY_ENTRIES
        ):
            dropped, changes = self._blocks.popleft()
            self._oldest = max(self._oldest, dropped)
            self._entries -= len(changes)

    def before(self, state: State, height: int) -> "Reading | None":
        """Return the state after the block at ``height``; None if it is not known any more."""
        if height < self._oldest:
            return None
        older: Changes = {}
        for made, changes in reversed(self._blocks):
            if made <= height:
                break
            older.update(changes)
        return _Past(state, older) if older else state


@dataclass(frozen=True)
class _Past:
    """The newest state with older values over it."""

    state: State
    older: Changes

    def account(self, name: str) -> Account | None:
        found = self._value(("account", name, ""))
        return found if isinstance(found, Account) else None

    def key(self, name: str, public_key: str) -> AccessKey | None:
        found = self._value(("key", name, public_key))
        return found if isinstance(found, AccessKey) else None

    def keys(self, name: str) -> dict[str, AccessKey]:
        found = self.state.keys(name)
        for (kind, owner, key), value in self.older.items():
            if kind == "key" and owner == name:
                found.pop(str(key), None)
                if isinstance(value, AccessKey):
                    found[str(key)] = value
        return found

    def datum(self, name: str, key: bytes) -> bytes | None:
        found = self._value(("data", name, key))
        return found if isinstance(found, bytes) else None

    def data(self, name: str, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        found = dict(self.state.data(name, prefix))
        for (kind, owner, key), value in self.older.items():
            if kind == "data" and owner == name and isinstance(key, bytes):
                found.pop(key, None)
                if isinstance(value, bytes) and key.startswith(prefix):
                    found[key] = value
        yield from sorted(found.items())

    def code(self, code_hash: bytes) -> bytes:
        return self.state.code(code_hash)

    def _value(self, entry: Entry) -> Value | None:
        return self.older[entry] if entry in self.older else self.state.value(entry)
