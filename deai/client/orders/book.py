"""What the client has signed away, on disk before a node hears of it.

One row per signed order. A nonce is chosen and written in one transaction, and is not chosen again
while an order that names it could still be settled, by whichever process of this home.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import msgspec

from deai.client.journal import (
    JournalError,
    Offload,
    ids_from,
    in_a_thread,
    open_file,
    other_request,
)
from deai.codec import decode_json, encode_json
from deai.errors import ConfigError, LimitExceeded
from deai.ids import AccountId, ChainName, NodeId, OrderId
from deai.orders import PAGE_ORDERS, Order, Settlement
from deai.tasks import MAX_SEATS, TaskSpec

T = TypeVar("T")

CRASH_POINTS: Final = (
    "order_signed",
    "order_taken",
    "order_agreed",
    "order_shown",
    "order_output",
    "order_kept",
)
"""Moments after which a client may be killed; tests kill it at every one of them."""

FILE: Final = "orders.db"
OPEN: Final = ("placed", "taken", "agreed")
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS orders (
    id INTEGER PRIMARY KEY, chain TEXT NOT NULL, account TEXT NOT NULL, nonce INTEGER NOT NULL,
    order_id TEXT NOT NULL UNIQUE, digest BLOB NOT NULL, key TEXT, valid_until INTEGER NOT NULL,
    cost TEXT NOT NULL, phase TEXT NOT NULL, body BLOB NOT NULL, created REAL NOT NULL,
    document BLOB, output TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS orders_key ON orders (chain, account, key)
    WHERE key IS NOT NULL AND phase <> 'dropped';
CREATE INDEX IF NOT EXISTS orders_nonce ON orders (chain, account, valid_until);
CREATE INDEX IF NOT EXISTS orders_digest ON orders (digest);
"""
_SELECT: Final = (
    "SELECT id, chain, account, order_id, digest, key, phase, body, created, document, output"
    " FROM orders"
)


class SeatRecord(msgspec.Struct, frozen=True):
    """Who holds a seat, by which key, and where it was reached."""

    node: NodeId
    operator: AccountId
    peer_id: str
    addresses: tuple[str, ...]


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """A signed order and what came of it."""

    order_id: OrderId
    order: Order
    signature: bytes
    spec: TaskSpec
    seats: Annotated[tuple[SeatRecord, ...], msgspec.Meta(max_length=MAX_SEATS)]
    since: int
    """Block before which nothing of it can be on chain."""
    output_digest: bytes | None = None
    results: tuple[bytes | None, ...] = ()

    @property
    def settlement(self) -> Settlement:
        """What proves its result; only once seats agreed."""
        assert self.output_digest is not None
        return Settlement(self.order, self.signature, self.output_digest, self.results)


class OrderEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One row."""

    id: int
    chain: ChainName
    account: AccountId
    digest: bytes
    key: str | None
    phase: str
    """`placed`: signed, perhaps sent; `taken`: every seat took it; `agreed`: a quorum signed;
    `ended`; `dropped`: some seat did not take it, and no input was sent."""
    placed: Placed
    created: float
    document: dict[str, Any] | None
    output: str

    @property
    def is_open(self) -> bool:
        """Whether the client has something left to do for it."""
        return self.phase in OPEN


class OrderBook:
    """The client's file of orders. One instance per process; several processes may share it."""

    def __init__(self, path: Path | str, offload: Offload | None = None) -> None:
        """Open or create the file; raise `ConfigError`."""
        self._lock = threading.Lock()
        self._offload = offload or in_a_thread
        try:
            self._db = open_file(path)
            self._db.executescript(_SCHEMA)
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(f"cannot open the client's orders {path}: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    async def find(
        self, chain: ChainName, account: AccountId, digest: bytes, key: str
    ) -> OrderEntry | None:
        """The order to go on with: by key, else the unfinished one of this request.

        Raises `UsageError` when the key belongs to another request.
        """

        def work() -> OrderEntry | None:
            if key:
                found = self._one(
                    "chain=? AND account=? AND key=? AND phase<>'dropped'", chain, account, key
                )
                if found is not None and found.digest != digest:
                    raise other_request(key)
                return found
            return self._one(
                "chain=? AND account=? AND digest=? AND phase IN ('placed', 'taken', 'agreed')"
                " ORDER BY id LIMIT 1",
                chain, account, digest,
            )  # fmt: skip

        return await self._call(work)

    async def reserve(
        self,
        *,
        chain: ChainName,
        account: AccountId,
        digest: bytes,
        key: str,
        created: float,
        pages: Mapping[int, int],
        now: int,
        start: int,
        build: Callable[[int], Placed],
    ) -> OrderEntry:
        """Choose a nonce of these pages, sign with it (`build`) and write that, in one go.

        `pages` are the chain's words, `now` is chain time, `start` where in a page the search
        begins: two homes with one key would else meet at the first free bit. Raises
        `LimitExceeded` (`page_full`).
        """

        def work() -> OrderEntry:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                nonce = self._free(chain, account, pages, now, start)
                placed = build(nonce)
                cursor = self._db.execute(
                    "INSERT INTO orders (chain, account, nonce, order_id, digest, key,"
                    " valid_until, cost, phase, body, created)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'placed', ?, ?)",
                    (chain, account, nonce, placed.order_id, digest, key or None,
                     placed.order.valid_until, str(placed.order.cost), encode_json(placed),
                     created),
                )  # fmt: skip
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
            return OrderEntry(
                id=int(cursor.lastrowid or 0), chain=chain, account=account, digest=digest,
                key=key or None, phase="placed", placed=placed, created=created, document=None,
                output="",
            )  # fmt: skip

        return await self._call(work)

    async def step(self, entry: OrderEntry, phase: str, placed: Placed) -> OrderEntry:
        """The order is further, and this is what is known of it."""
        await self._call(
            lambda: self._db.execute(
                "UPDATE orders SET phase=?, body=? WHERE id=?",
                (phase, encode_json(placed), entry.id),
            )
        )
        return msgspec.structs.replace(entry, phase=phase, placed=placed)

    async def end(
        self,
        entry: OrderEntry,
        document: dict[str, Any],
        output: str,
        first: Callable[[], None] = lambda: None,
    ) -> OrderEntry:
        """Nothing is left to do: keep the document and where the output lies.

        `first` is called before that, so that what the document names is there.
        """

        def work() -> None:
            first()
            self._db.execute(
                "UPDATE orders SET phase='ended', document=?, output=? WHERE id=?",
                (msgspec.json.encode(document), output, entry.id),
            )

        await self._call(work)
        return msgspec.structs.replace(entry, phase="ended", document=document, output=output)

    async def promised(
        self, chain: ChainName, account: AccountId, pages: Mapping[int, int], now: int
    ) -> int:
        """What signed orders may still cost: neither expired nor, by these words, settled."""

        def work() -> int:
            rows = self._db.execute(
                "SELECT nonce, cost FROM orders WHERE chain=? AND account=? AND valid_until>=?"
                " AND phase<>'dropped'",
                (chain, account, now),
            )
            return sum(int(cost) for nonce, cost in rows if not _is_set(pages, nonce))

        return await self._call(work)

    async def highest_page(self, chain: ChainName, account: AccountId) -> int:
        """The page of the highest nonce that was ever used here."""

        def work() -> int:
            row = self._db.execute(
                "SELECT MAX(nonce) FROM orders WHERE chain=? AND account=?", (chain, account)
            ).fetchone()
            return int(row[0] or 0) >> 8

        return await self._call(work)

    async def by_id(self, prefix: str) -> OrderEntry | None:
        """An order by id or a unique prefix; raise `ConfigError` if ambiguous."""
        span = ids_from(prefix)
        if span is None:
            return None

        def work() -> OrderEntry | None:
            rows = self._rows("order_id>=? AND order_id<? LIMIT 2", *span)
            if len(rows) > 1:
                raise ConfigError(f"several orders begin with {prefix}", code="ambiguous_id")
            return rows[0] if rows else None

        return await self._call(work)

    async def recent(self, limit: int) -> tuple[OrderEntry, ...]:
        """Newest orders first, those that nobody took left out."""
        return await self._call(
            lambda: tuple(self._rows("phase<>'dropped' ORDER BY id DESC LIMIT ?", limit))
        )

    # Everything below runs wherever `offload` puts it.

    def _free(
        self, chain: str, account: str, pages: Mapping[int, int], now: int, start: int
    ) -> int:  # fmt: skip
        rows = self._db.execute(
            "SELECT nonce FROM orders WHERE chain=? AND account=? AND valid_until>=?",
            (chain, account, now),
        )
        used = {row[0] for row in rows}
        for page in sorted(pages):
            for offset in range(PAGE_ORDERS):
                nonce = page << 8 | (1 + (start + offset) % PAGE_ORDERS)
                if nonce not in used and not _is_set(pages, nonce):
                    return nonce
        raise LimitExceeded(
            "every nonce that this account bought is used, or named by an order that may still "
            "be settled",
            hint="`deai orders fund` buys the next page with whatever it sets aside",
            code="page_full",
        )

    def _one(self, where: str, *values: object) -> OrderEntry | None:
        rows = self._rows(where, *values)
        return rows[0] if rows else None

    def _rows(self, where: str, *values: object) -> list[OrderEntry]:
        rows = self._db.execute(f"{_SELECT} WHERE {where}", values)
        return [
            OrderEntry(
                id=row[0], chain=row[1], account=row[2], digest=row[4], key=row[5], phase=row[6],
                placed=decode_json(row[7], Placed), created=row[8],
                document=msgspec.json.decode(row[9]) if row[9] is not None else None,
                output=row[10],
            )
            for row in rows
        ]  # fmt: skip

    async def _call(self, work: Callable[[], T]) -> T:
        def alone() -> T:
            with self._lock:
                return work()

        try:
            result: T = await self._offload(alone)
        except sqlite3.Error as error:
            raise JournalError(f"the client's orders cannot be kept: {error}") from error
        return result


def _is_set(pages: Mapping[int, int], nonce: int) -> bool:
    return bool(pages.get(nonce >> 8, 0) >> (nonce & 0xFF) & 1)
