"""Everything the chain must still know after a ``kill -9``: one SQLite file.

A block and the trie nodes it made are one transaction, synced to disk before anybody sees the
block. Trie nodes are never deleted, so the state of every old block can be read and going back
(``evm_revert``) only removes rows.
"""

import sqlite3
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from eth.db.backends.base import BaseDB

from deai.errors import ConfigError
from devnet.evm.blocks import Head, Sealed
from devnet.serving import StorageFailed

FORMAT: Final = "1"
NODE_CACHE_ENTRIES: Final = 65_536

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS node(key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS block(
    number INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, timestamp INTEGER NOT NULL,
    base_fee INTEGER NOT NULL, gas_used INTEGER NOT NULL, state_root BLOB NOT NULL,
    header BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS tx(
    hash BLOB PRIMARY KEY, block INTEGER NOT NULL, position INTEGER NOT NULL,
    gas_used INTEGER NOT NULL, tip TEXT NOT NULL, body BLOB NOT NULL, receipt BLOB NOT NULL,
    UNIQUE(block, position));
CREATE TABLE IF NOT EXISTS log(
    block INTEGER NOT NULL, idx INTEGER NOT NULL, address BLOB NOT NULL,
    topic0 BLOB, topic1 BLOB, topic2 BLOB, topic3 BLOB, body BLOB NOT NULL,
    PRIMARY KEY(block, idx)) WITHOUT ROWID;
"""

_HEAD: Final = "SELECT number, hash, timestamp, base_fee, gas_used, state_root FROM block"


class Nodes(BaseDB):
    """Trie nodes and code, as the key-value database py-evm wants; writes wait for the block."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._written: dict[bytes, bytes] = {}
        self._cache: OrderedDict[bytes, bytes] = OrderedDict()

    def __getitem__(self, key: bytes) -> bytes:
        value = self._written.get(key)
        if value is not None:
            return value
        value = self._cache.get(key)
        if value is not None:
            self._cache.move_to_end(key)
            return value
        row = self._connection.execute("SELECT value FROM node WHERE key = ?", (key,)).fetchone()
        if row is None:
            raise KeyError(key)
        self._remember(key, row[0])
        return bytes(row[0])

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._written[key] = value

    def __delitem__(self, key: bytes) -> None:
        """Keep it: old nodes are the state of old blocks."""

    def _exists(self, key: bytes) -> bool:
        try:
            self[key]
        except KeyError:
            return False
        return True

    def flush(self) -> None:
        """Write what waits, inside the caller's transaction."""
        self._connection.executemany(
            "INSERT OR IGNORE INTO node VALUES (?, ?)", self._written.items()
        )
        for key, value in self._written.items():
            self._remember(key, value)
        self._written.clear()

    def _remember(self, key: bytes, value: bytes) -> None:
        self._cache[key] = value
        if len(self._cache) > NODE_CACHE_ENTRIES:
            self._cache.popitem(last=False)


class Store:
    """Blocks, transactions, receipts, logs and settings. Used by one thread only."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        # What a killed process wrote is in the files; only a power cut could lose the last blocks.
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.executescript(_SCHEMA)
        self.nodes = Nodes(self._connection)
        if self.setting("format", FORMAT) != FORMAT:
            raise ConfigError(f"{path} was written by another version of the embedded chain")

    def close(self) -> None:
        """Close the file; everything committed is already on disk."""
        self._connection.close()

    def setting(self, key: str, default: str) -> str:
        """Return a stored setting."""
        row = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return default if row is None else str(row[0])

    def commit(self, blocks: Iterable[Sealed], settings: dict[str, str]) -> None:
        """Store blocks, the nodes written since the last commit, and settings: all or nothing.

        Raises :class:`StorageFailed`; the store is of no use any more then.
        """
        run = self._connection.execute
        try:
            run("BEGIN IMMEDIATE")
            self.nodes.flush()
            for block in blocks:
                self._insert(block)
            self._connection.executemany(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)",
                [*settings.items(), ("format", FORMAT)],
            )
            run("COMMIT")
        except sqlite3.Error as error:
            raise StorageFailed(f"the block cannot be stored: {error}") from error

    def rewind(self, number: int, settings: dict[str, str]) -> None:
        """Remove every block above ``number``, with its transactions and logs.

        Raises :class:`StorageFailed`; the store is of no use any more then.
        """
        run = self._connection.execute
        try:
            run("BEGIN IMMEDIATE")
            run("DELETE FROM log WHERE block > ?", (number,))
            run("DELETE FROM tx WHERE block > ?", (number,))
            run("DELETE FROM block WHERE number > ?", (number,))
            self._connection.executemany(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)", settings.items()
            )
            run("COMMIT")
        except sqlite3.Error as error:
            raise StorageFailed(f"the chain cannot be rewound: {error}") from error

    def head(self) -> Head | None:
        """Return the newest block, None in a new store."""
        return self._one_head(_HEAD + " ORDER BY number DESC LIMIT 1", ())

    def block(self, number: int) -> Head | None:
        """Return the block with this number."""
        return self._one_head(_HEAD + " WHERE number = ?", (number,))

    def block_by_hash(self, block_hash: bytes) -> Head | None:
        """Return the block with this hash."""
        return self._one_head(_HEAD + " WHERE hash = ?", (block_hash,))

    def blocks(self, first: int, last: int) -> list[Head]:
        """Return the blocks ``first`` to ``last``, both included, in order."""
        where = " WHERE number BETWEEN ? AND ? ORDER BY number"
        return [Head(*row) for row in self._connection.execute(_HEAD + where, (first, last))]

    def header(self, number: int) -> bytes | None:
        """Return a block's header as JSON."""
        row = self._connection.execute(
            "SELECT header FROM block WHERE number = ?", (number,)
        ).fetchone()
        return None if row is None else bytes(row[0])

    def hashes_before(self, number: int, count: int) -> list[bytes]:
        """Return the hashes of the ``count`` blocks below ``number``, newest first."""
        rows = self._connection.execute(
            "SELECT hash FROM block WHERE number < ? ORDER BY number DESC LIMIT ?", (number, count)
        )
        return [bytes(row[0]) for row in rows]

    def transaction_hashes(self, number: int) -> list[bytes]:
        """Return the hashes of a block's transactions, in order."""
        rows = self._connection.execute(
            "SELECT hash FROM tx WHERE block = ? ORDER BY position", (number,)
        )
        return [bytes(row[0]) for row in rows]

    def transactions(self, number: int) -> list[bytes]:
        """Return a block's transactions as JSON, in order."""
        rows = self._connection.execute(
            "SELECT body FROM tx WHERE block = ? ORDER BY position", (number,)
        )
        return [bytes(row[0]) for row in rows]

    def transaction(self, transaction_hash: bytes) -> bytes | None:
        """Return a transaction as JSON."""
        row = self._connection.execute(
            "SELECT body FROM tx WHERE hash = ?", (transaction_hash,)
        ).fetchone()
        return None if row is None else bytes(row[0])

    def receipt(self, transaction_hash: bytes) -> bytes | None:
        """Return a receipt as JSON."""
        row = self._connection.execute(
            "SELECT receipt FROM tx WHERE hash = ?", (transaction_hash,)
        ).fetchone()
        return None if row is None else bytes(row[0])

    def tips(self, number: int) -> list[tuple[int, int]]:
        """Return (tip in wei per gas, gas used) of a block's transactions."""
        rows = self._connection.execute("SELECT tip, gas_used FROM tx WHERE block = ?", (number,))
        return [(int(tip), gas_used) for tip, gas_used in rows]

    def logs(
        self,
        first: int,
        last: int,
        addresses: Sequence[bytes],
        topics: Sequence[Sequence[bytes]],
        limit: int,
    ) -> list[bytes]:
        """Return at most ``limit`` logs as JSON, in chain order.

        ``topics`` holds the accepted values by position; an empty list accepts every value that
        is there.
        """
        clauses, values = ["block BETWEEN ? AND ?"], [first, last]
        arguments: list[object] = list(values)
        for column, accepted in (
            ("address", addresses),
            *((f"topic{position}", accepted) for position, accepted in enumerate(topics)),
        ):
            if accepted:
                clauses.append(f"{column} IN ({', '.join('?' * len(accepted))})")
                arguments.extend(accepted)
            elif column != "address":
                clauses.append(f"{column} IS NOT NULL")
        # Only column names and question marks are put together here, never a value.
        query = f"SELECT body FROM log WHERE {' AND '.join(clauses)} ORDER BY block, idx LIMIT ?"  # noqa: S608
        rows = self._connection.execute(query, (*arguments, limit))
        return [bytes(row[0]) for row in rows]

    def _insert(self, block: Sealed) -> None:
        head = block.head
        self._connection.execute(
            "INSERT INTO block VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                head.number,
                head.hash,
                head.timestamp,
                head.base_fee,
                head.gas_used,
                head.state_root,
                block.header,
            ),
        )
        self._connection.executemany(
            "INSERT INTO tx VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (tx.hash, head.number, position, tx.gas_used, str(tx.tip), tx.body, tx.receipt)
                for position, tx in enumerate(block.transactions)
            ],
        )
        self._connection.executemany(
            "INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    head.number,
                    log.index,
                    log.address,
                    *(log.topics + (None,) * (4 - len(log.topics))),
                    log.body,
                )
                for log in block.logs
            ],
        )

    def _one_head(self, query: str, arguments: tuple[object, ...]) -> Head | None:
        row = self._connection.execute(query, arguments).fetchone()
        return None if row is None else Head(*row)
