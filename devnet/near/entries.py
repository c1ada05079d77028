"""A contract's entries as a call sees them: to be changed, or only looked at."""

import hashlib
from dataclasses import dataclass

import msgspec

from devnet.near.rules import RECORD_BYTES
from devnet.near.state import Account, Reading, State


@dataclass
class WrittenEntries:
    """A contract's entries in the newest state; ``seed`` makes the ids of its data receipts."""

    state: State
    name: str
    seed: bytes
    _count: int = 0

    def read(self, key: bytes) -> bytes | None:
        return self.state.datum(self.name, key)

    def write(self, key: bytes, value: bytes) -> None:
        old = self.state.datum(self.name, key)
        more = len(value) - len(old) if old is not None else _entry_bytes(key, value)
        self.state.put_datum(self.name, key, value)
        self._grow(more)

    def remove(self, key: bytes) -> None:
        old = self.state.datum(self.name, key)
        if old is not None:
            self.state.put_datum(self.name, key, None)
            self._grow(-_entry_bytes(key, old))

    def usage(self) -> int:
        account = self.state.account(self.name)
        return account.usage if account else 0

    def new_data_id(self) -> bytes:
        self._count += 1
        return hashlib.sha256(self.seed + self._count.to_bytes(8, "little")).digest()

    def _grow(self, more: int) -> None:
        account = self.state.account(self.name)
        if account is not None and more:
            changed = msgspec.structs.replace(account, usage=account.usage + more)
            self.state.put_account(self.name, changed)


@dataclass(frozen=True)
class ViewedEntries:
    """A contract's entries in any state, to be looked at."""

    state: Reading
    name: str
    account: Account

    def read(self, key: bytes) -> bytes | None:
        return self.state.datum(self.name, key)

    def usage(self) -> int:
        return self.account.usage

    def write(self, key: bytes, value: bytes) -> None:
        raise AssertionError("a view writes nothing")

    def remove(self, key: bytes) -> None:
        raise AssertionError("a view removes nothing")

    def new_data_id(self) -> bytes:
        raise AssertionError("a view promises nothing")


def _entry_bytes(key: bytes, value: bytes) -> int:
    return len(key) + len(value) + RECORD_BYTES
