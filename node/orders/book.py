"""What of orders must survive: one file for all chains of a home.

Whatever is promised or signed is durable before anybody hears of it. Sums by day stay when orders
are forgotten.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

from deai.codec import Codec, encode_canonical
from deai.errors import ConfigError
from deai.ids import AccountId, ChainName, OrderId
from node.orders.records import Held, OrderState
from node.store.calls import Caller, InThreads
from node.store.errors import raise_os, raise_sqlite
from node.store.group import Writer

T = TypeVar("T")

SCHEMA_VERSION: Final = 1
PRUNED_AT_ONCE: Final = 1_000
_HELD: Final = Codec[Held](Held, 128 * 1024)
# Amounts are text: SQLite's integers have 64 bits, amounts 96.
_TABLES: Final = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
    "CREATE TABLE orders (chain TEXT NOT NULL, id TEXT NOT NULL, client TEXT NOT NULL,"
    " state TEXT NOT NULL, ended_at INTEGER NOT NULL, body BLOB NOT NULL,"
    " PRIMARY KEY (chain, id)) STRICT",
    "CREATE INDEX orders_client ON orders (chain, client, ended_at)",
    "CREATE INDEX orders_ended ON orders (chain, ended_at)",
    "CREATE TABLE outputs (chain TEXT NOT NULL, id TEXT NOT NULL, data BLOB NOT NULL,"
    " PRIMARY KEY (chain, id)) STRICT",
    "CREATE TABLE days (chain TEXT NOT NULL, day TEXT NOT NULL, workload TEXT NOT NULL,"
    " paid TEXT NOT NULL, orders INTEGER NOT NULL, unpaid INTEGER NOT NULL,"
    " PRIMARY KEY (chain, day, workload)) STRICT",
)


@dataclass(frozen=True, slots=True)
class OrderDay:
    """Orders of one day (UTC) and workload that ended after a signature of ours."""

    day: str
    workload: str
    paid: int
    orders: int
    unpaid: int


@dataclass(frozen=True, slots=True)
class Record:
    """What a client did with its orders here."""

    lost: int
    """Fees of work in vain, since the moment asked for; base units."""
    has_cheated: bool
    """One of its nonces was settled for another order."""


class OrderBook:
    """All reads and writes; every coroutine returns after the disk has it."""

    def __init__(
        self,
        path: Path,
        *,
        max_pages: int = 0,
        read_only: bool = False,
        caller: Caller | None = None,
    ) -> None:
        """Open or create; raise `AlreadyRunning`, `ConfigError`, `StoreFull` or `NodeFault`.

        `max_pages` bounds the file (4 KiB each, 0: no bound).
        """
        self._caller = caller or InThreads(1)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise_os(error)
        try:
            self._db = sqlite3.connect(
                f"file:{path}?mode=ro" if read_only else f"file:{path}",
                uri=True, timeout=1, isolation_level=None, check_same_thread=False,
            )  # fmt: skip
            self._writer = Writer(self._db, self._caller)
            if not read_only:
                self._db.execute("PRAGMA journal_mode=WAL")
                if max_pages:
                    self._db.execute(f"PRAGMA max_page_count={int(max_pages)}")
                with self._writer.transaction():
                    _prepare(self._db)
        except sqlite3.Error as error:
            raise_sqlite(error)

    def close(self) -> None:
        """Let the file go."""
        self._db.close()

    async def put(self, chain: ChainName, held: Held, output: bytes | None = None) -> None:
        """Write an order, and a small output of it; its end adds to the sums of its day."""

        def work() -> None:
            db = self._db
            known = db.execute(
                "SELECT ended_at FROM orders WHERE chain=? AND id=?", (chain, held.id)
            ).fetchone()
            db.execute(
                "INSERT OR REPLACE INTO orders VALUES (?, ?, ?, ?, ?, ?)",
                (chain, held.id, held.order.client, held.state, held.ended_at,
                 encode_canonical(held)),
            )  # fmt: skip
            if output is not None:
                db.execute("INSERT OR REPLACE INTO outputs VALUES (?, ?, ?)",
                           (chain, held.id, output))  # fmt: skip
            if held.state.is_over and not (known and known[0]):
                _add_day(db, chain, held)

        await self._write(work)

    async def drop(self, chain: ChainName, order: OrderId) -> None:
        """Forget an order of which nothing came; anybody may place one for free."""

        def work() -> None:
            for table in ("orders", "outputs"):
                self._db.execute(
                    f"DELETE FROM {table} WHERE chain=? AND id=?",  # noqa: S608 - constants
                    (chain, order),
                )

        await self._write(work)

    async def open(self, chain: ChainName) -> list[Held]:
        """Every order that is not over."""
        return await self._read(lambda: _select(self._db, "chain=? AND ended_at=0", chain))

    async def find(self, chain: ChainName, order: OrderId) -> Held | None:
        """One order, also one that is over."""
        found = await self._read(lambda: _select(self._db, "chain=? AND id=?", chain, order))
        return found[0] if found else None

    async def output(self, chain: ChainName, order: OrderId) -> bytes | None:
        """A small output; a larger one is a blob."""

        def work() -> bytes | None:
            row = self._db.execute(
                "SELECT data FROM outputs WHERE chain=? AND id=?", (chain, order)
            ).fetchone()
            return bytes(row[0]) if row else None

        return await self._read(work)

    async def record(self, chain: ChainName, client: AccountId, since: int) -> Record:
        """What a client cost us since that second of the chain."""

        def work() -> Record:
            # Not those that were paid: of them there may be any number.
            found = _select(
                self._db, "chain=? AND client=? AND ended_at>=? AND ended_at>0 AND state<>?",
                chain, client, since, OrderState.PAID,
            )  # fmt: skip
            lost = sum(int(one.order.fee) for one in found if one.was_in_vain)
            return Record(lost, any(one.state is OrderState.OUTRUN for one in found))

        return await self._read(work)

    async def days(self, chain: ChainName) -> list[OrderDay]:
        """Sums by day and workload, oldest first."""

        def work() -> list[OrderDay]:
            rows = self._db.execute(
                "SELECT day, workload, paid, orders, unpaid FROM days WHERE chain=? ORDER BY 1, 2",
                (chain,),
            )
            return [OrderDay(row[0], row[1], int(row[2]), row[3], row[4]) for row in rows]

        return await self._read(work)

    async def prune(self, chain: ChainName, before: int) -> list[Held]:
        """Forget some orders that ended before `before`; which, so that their blobs can go too."""

        def work() -> list[Held]:
            gone = _select(
                self._db, "chain=? AND ended_at>0 AND ended_at<? LIMIT ?",
                chain, before, PRUNED_AT_ONCE,
            )  # fmt: skip
            names = [(chain, one.id) for one in gone]
            self._db.executemany("DELETE FROM orders WHERE chain=? AND id=?", names)
            self._db.executemany("DELETE FROM outputs WHERE chain=? AND id=?", names)
            return gone

        return await self._write(work)

    async def remember(self, chain: ChainName, key: str, value: str) -> None:
        """Keep a small fact about a chain."""
        await self._write(
            lambda: self._db.execute(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)", (f"{chain}:{key}", value)
            )
        )

    async def recall(self, chain: ChainName, key: str) -> str:
        """A small fact, empty if it was never kept."""

        def work() -> str:
            row = self._db.execute(
                "SELECT value FROM meta WHERE key=?", (f"{chain}:{key}",)
            ).fetchone()
            return str(row[0]) if row else ""

        return await self._read(work)

    async def _write(self, work: Callable[[], T]) -> T:
        try:
            return await self._writer.write(work)
        except sqlite3.Error as error:
            raise_sqlite(error)

    async def _read(self, work: Callable[[], T]) -> T:
        try:
            return await self._caller(work)
        except sqlite3.Error as error:
            raise_sqlite(error)


def _prepare(db: sqlite3.Connection) -> None:
    if db.execute("SELECT 1 FROM sqlite_master WHERE name='meta'").fetchone() is None:
        for statement in _TABLES:
            db.execute(statement)
        db.execute("INSERT INTO meta VALUES ('schema', ?)", (str(SCHEMA_VERSION),))
        return
    found = db.execute("SELECT value FROM meta WHERE key='schema'").fetchone()
    version = int(found[0]) if found and str(found[0]).isdigit() else 0
    if version > SCHEMA_VERSION:
        raise ConfigError(
            f"the book of orders is of version {version}, this program writes {SCHEMA_VERSION}",
            hint="install the newer program again",
        )


def _select(db: sqlite3.Connection, where: str, *values: object) -> list[Held]:
    with closing(
        db.execute(f"SELECT body FROM orders WHERE {where}", values)  # noqa: S608 - constants
    ) as rows:
        return [_HELD.decode(row[0]) for row in rows]


def _add_day(db: sqlite3.Connection, chain: ChainName, held: Held) -> None:
    if held.state is OrderState.DROPPED:
        return
    day = datetime.fromtimestamp(held.ended_at, UTC).strftime("%Y-%m-%d")
    key = (chain, day, held.spec.workload)
    row = db.execute(
        "SELECT paid, orders, unpaid FROM days WHERE chain=? AND day=? AND workload=?", key
    ).fetchone() or ("0", 0, 0)
    paid = int(held.payment)
    db.execute(
        "INSERT OR REPLACE INTO days VALUES (?, ?, ?, ?, ?, ?)",
        (*key, str(int(row[0]) + paid), row[1] + 1, row[2] + (not paid)),
    )
