"""Everything the chain must still know after a ``kill -9``: one SQLite file.

A block, what it changed and what it left pending are one transaction, synced to disk before
anybody sees the block.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from deai.errors import ConfigError
from devnet.near.receipts import ActionReceipt, DataReceipt, Pending
from devnet.near.state import AccessKey, Account, Entry, State, Value
from devnet.near.views import Block
from devnet.serving import StorageFailed

FORMAT: Final = "1"

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS account(name TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS access_key(
    name TEXT NOT NULL, public_key TEXT NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY(name, public_key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS datum(
    name TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY(name, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS code(hash BLOB PRIMARY KEY, code BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS pending(
    position INTEGER PRIMARY KEY, kind TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS block(
    height INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, chunk BLOB NOT NULL UNIQUE,
    body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS tx(
    id TEXT PRIMARY KEY, height INTEGER NOT NULL, body BLOB NOT NULL, outcome BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS tx_height ON tx(height);
CREATE TABLE IF NOT EXISTS receipt(
    position INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, tx TEXT NOT NULL,
    height INTEGER NOT NULL, body BLOB NOT NULL, outcome BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS receipt_tx ON receipt(tx);
CREATE INDEX IF NOT EXISTS receipt_height ON receipt(height);
"""

_TABLES: Final = {"account": "account", "key": "access_key", "data": "datum"}


@dataclass(frozen=True)
class IncludedTransaction:
    """A transaction in a block, as JSON, with its outcome."""

    id: str
    body: bytes
    outcome: bytes


@dataclass(frozen=True)
class ExecutedReceipt:
    """A receipt that has run, as JSON, with its outcome."""

    id: str
    transaction: str
    body: bytes
    outcome: bytes


@dataclass
class Sealed:
    """A block and all that it holds."""

    block: Block
    transactions: list[IncludedTransaction] = field(default_factory=list)
    receipts: list[ExecutedReceipt] = field(default_factory=list)


class _Received(msgspec.Struct, frozen=True):
    """Data that came before all that its receipt waits for."""

    data_id: bytes
    data: bytes | None


class Store:
    """The chain's file. Used by one thread only."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        # What a killed process wrote is in the files; only a power cut could lose the last blocks.
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.executescript(_SCHEMA)
        self._codes = {bytes(row[0]) for row in self._run("SELECT hash FROM code")}
        self._has_pending = self._one("SELECT 1 FROM pending LIMIT 1", ()) is not None
        if self.setting("format", FORMAT) != FORMAT:
            raise ConfigError(f"{path} was written by another version of the embedded chain")

    def close(self) -> None:
        """Close the file; everything committed is already on disk."""
        self._connection.close()

    def setting(self, key: str, default: str) -> str:
        """Return a stored setting."""
        row = self._one("SELECT value FROM meta WHERE key = ?", (key,))
        return default if row is None else str(row[0])

    # Writing

    def commit(
        self,
        blocks: Iterable[Sealed],
        state: State,
        changed: Iterable[Entry],
        pending: Pending,
        settings: dict[str, str],
    ) -> None:
        """Store blocks, what they changed, what is pending, and settings: all or nothing.

        Raises :class:`StorageFailed`; the store is of no use any more then.
        """
        try:
            self._run("BEGIN IMMEDIATE")
            for sealed in blocks:
                self._insert(sealed)
            for entry in changed:
                self._write(entry, state.value(entry))
            self._settle(state, pending, settings)
            self._run("COMMIT")
        except sqlite3.Error as error:
            raise StorageFailed(f"the block cannot be stored: {error}") from error

    def rewind(self, height: int, state: State, pending: Pending, settings: dict[str, str]) -> None:
        """Remove every block above ``height`` and make ``state`` the newest one.

        Raises :class:`StorageFailed`; the store is of no use any more then.
        """
        try:
            self._run("BEGIN IMMEDIATE")
            self._run("DELETE FROM block WHERE height > ?", (height,))
            self._run("DELETE FROM tx WHERE height > ?", (height,))
            self._run("DELETE FROM receipt WHERE height > ?", (height,))
            for query in ("DELETE FROM account", "DELETE FROM access_key", "DELETE FROM datum"):
                self._run(query)
            for entry, value in state.entries():
                self._write(entry, value)
            self._settle(state, pending, settings)
            self._run("COMMIT")
        except sqlite3.Error as error:
            raise StorageFailed(f"the chain cannot be rewound: {error}") from error

    def _insert(self, sealed: Sealed) -> None:
        block, run = sealed.block, self._connection
        run.execute(
            "INSERT INTO block VALUES (?, ?, ?, ?)",
            (block.height, block.hash, block.chunk_hash, msgspec.json.encode(block)),
        )
        run.executemany(
            "INSERT INTO tx VALUES (?, ?, ?, ?)",
            [(one.id, block.height, one.body, one.outcome) for one in sealed.transactions],
        )
        run.executemany(
            "INSERT INTO receipt(id, tx, height, body, outcome) VALUES (?, ?, ?, ?, ?)",
            [
                (one.id, one.transaction, block.height, one.body, one.outcome)
                for one in sealed.receipts
            ],
        )

    def _write(self, entry: Entry, value: Value | None) -> None:
        kind, name, key = entry
        if kind == "account":
            where, place = "name = ?", (name,)
        else:
            column = "public_key" if kind == "key" else "key"
            where, place = f"name = ? AND {column} = ?", (name, key)  # type: ignore[assignment]
        # Only names of tables and columns are put together here, never a value.
        if value is None:
            self._run(f"DELETE FROM {_TABLES[kind]} WHERE {where}", place)  # noqa: S608
            return
        body = value if isinstance(value, bytes) else msgspec.json.encode(value)
        marks = ", ".join("?" * (len(place) + 1))
        self._run(
            f"INSERT OR REPLACE INTO {_TABLES[kind]} VALUES ({marks})",  # noqa: S608
            (*place, body),
        )

    def _settle(self, state: State, pending: Pending, settings: dict[str, str]) -> None:
        for code_hash in state.codes.keys() - self._codes:
            self._run("INSERT INTO code VALUES (?, ?)", (code_hash, state.codes[code_hash]))
        rows: list[tuple[str, bytes]] = [
            *(("due", msgspec.json.encode(one)) for one in pending.due),
            *(("postponed", msgspec.json.encode(one)) for one in pending.postponed.values()),
            *(
                ("received", msgspec.json.encode(_Received(data_id, data)))
                for data_id, data in pending.received.items()
            ),
        ]
        if rows or self._has_pending:
            self._run("DELETE FROM pending")
            self._connection.executemany("INSERT INTO pending(kind, body) VALUES (?, ?)", rows)
        self._connection.executemany(
            "INSERT OR REPLACE INTO meta VALUES (?, ?)", [*settings.items(), ("format", FORMAT)]
        )
        self._has_pending = bool(rows)
        self._codes |= state.codes.keys()

    # Reading

    def load(self) -> tuple[State, Pending]:
        """Return the newest state and what is pending."""
        state = State()
        for name, body in self._run("SELECT name, body FROM account"):
            state.load(("account", name, ""), msgspec.json.decode(body, type=Account))
        for name, public_key, body in self._run("SELECT * FROM access_key"):
            state.load(("key", name, public_key), msgspec.json.decode(body, type=AccessKey))
        for name, key, value in self._run("SELECT * FROM datum"):
            state.load(("data", name, bytes(key)), bytes(value))
        state.codes = {
            bytes(digest): bytes(code) for digest, code in self._run("SELECT * FROM code")
        }
        pending = Pending()
        postponed: list[ActionReceipt] = []
        for kind, body in self._run("SELECT kind, body FROM pending ORDER BY position"):
            if kind == "due":
                due = msgspec.json.decode(body, type=ActionReceipt | DataReceipt)
                pending.due.append(due)
            elif kind == "postponed":
                postponed.append(msgspec.json.decode(body, type=ActionReceipt))
            else:
                found = msgspec.json.decode(body, type=_Received)
                pending.received[found.data_id] = found.data
        pending.restore(postponed)
        return state, pending

    def head(self) -> Block | None:
        """Return the newest block, None in a new store."""
        return self._block("SELECT body FROM block ORDER BY height DESC LIMIT 1", ())

    def first(self) -> Block | None:
        """Return the first block."""
        return self._block("SELECT body FROM block ORDER BY height LIMIT 1", ())

    def block(self, height: int) -> Block | None:
        """Return the block at a height."""
        return self._block("SELECT body FROM block WHERE height = ?", (height,))

    def block_by_hash(self, block_hash: bytes) -> Block | None:
        """Return the block with this hash."""
        return self._block("SELECT body FROM block WHERE hash = ?", (block_hash,))

    def block_by_chunk(self, chunk_hash: bytes) -> Block | None:
        """Return the block with this chunk."""
        return self._block("SELECT body FROM block WHERE chunk = ?", (chunk_hash,))

    def transaction(self, transaction_id: str) -> IncludedTransaction | None:
        """Return a transaction that a block holds."""
        row = self._one("SELECT id, body, outcome FROM tx WHERE id = ?", (transaction_id,))
        return None if row is None else IncludedTransaction(row[0], row[1], row[2])

    def transactions(self, height: int) -> list[bytes]:
        """Return the transactions of a block as JSON."""
        rows = self._run("SELECT body FROM tx WHERE height = ? ORDER BY rowid", (height,))
        return [bytes(row[0]) for row in rows]

    def receipts_of(self, transaction_id: str) -> list[ExecutedReceipt]:
        """Return the receipts of a transaction that have run, in that order."""
        rows = self._run(
            "SELECT id, tx, body, outcome FROM receipt WHERE tx = ? ORDER BY position",
            (transaction_id,),
        )
        return [ExecutedReceipt(*row) for row in rows]

    def receipts(self, height: int) -> list[bytes]:
        """Return the receipts that ran in a block as JSON."""
        rows = self._run("SELECT body FROM receipt WHERE height = ? ORDER BY position", (height,))
        return [bytes(row[0]) for row in rows]

    def receipt(self, receipt_id: str) -> bytes | None:
        """Return a receipt that has run as JSON."""
        row = self._one("SELECT body FROM receipt WHERE id = ?", (receipt_id,))
        return None if row is None else bytes(row[0])

    def _block(self, query: str, arguments: Sequence[object]) -> Block | None:
        row = self._one(query, arguments)
        return None if row is None else msgspec.json.decode(row[0], type=Block)

    def _run(self, query: str, arguments: Sequence[Any] = ()) -> sqlite3.Cursor:
        return self._connection.execute(query, arguments)

    def _one(self, query: str, arguments: Sequence[Any]) -> tuple[Any, ...] | None:
        found: tuple[Any, ...] | None = self._run(query, arguments).fetchone()
        return found
