"""What of the lane must survive: one file for all chains of a home, written by one thread.

Everything is also in memory, where the program reads it; the file is read when it is opened and
by whoever looks on while no daemon runs.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import trio

from deai.channels import Channel
from deai.errors import LimitExceeded
from deai.ids import ChainName, ChannelId
from deai.lane.messages import Pay
from deai.lane.payee import Taken
from deai.lane.writer import Row, Writer
from node.lane import tables
from node.lane.tables import Entry, Gone
from node.store.errors import raise_os, raise_sqlite

MAX_CHANNELS: Final = 10_000
"""Accounts kept; closed ones make room when they are old, or when it is needed."""
MADE_ROOM: Final = 100
"""Closed accounts that are dropped together, however young, where a new one finds no room."""
PRUNED_AT_ONCE: Final = 2_000
"""Rows that one pass of forgetting takes at most."""
_OPEN_WAIT: Final = 1.0
"""Seconds for another process that has the file to let it go."""

DAY: Final = 24 * 3600

Key = tuple[ChainName, ChannelId, int]


def _ignore() -> None:
    """Nobody waits for this row."""


class LaneBook:
    """All accounts, and the only writer of their file."""

    def __init__(self, path: Path, *, max_pages: int = 0, delay: float = 0.0) -> None:
        """Open or create; raise `AlreadyRunning`, `ConfigError`, `StoreFull` or `NodeFault`.

        `max_pages` bounds the file (4 KiB each, 0: no bound), `delay` is `Writer`'s.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise_os(error)
        try:
            self._db = _connect(path)
            self._read(max_pages)
            self._reader = _connect(path, read_only=True)
        except sqlite3.Error as error:
            raise_sqlite(error)
        self.path = path
        self.writer = Writer(self._db, delay=delay)

    def _read(self, max_pages: int) -> None:
        db = self._db
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        if max_pages:
            db.execute(f"PRAGMA max_page_count={int(max_pages)}")
        db.execute("BEGIN IMMEDIATE")
        try:
            tables.prepare(db)
            db.execute("COMMIT")
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")
        found = tables.entries(db)
        self._next = 1 + max((one.id for one in found), default=0)
        self.entries: dict[Key, Entry] = {(o.chain, o.channel_id, o.epoch): o for o in found}
        self._newest: dict[tuple[ChainName, ChannelId], Entry] = {}
        for one in sorted(found, key=lambda one: one.epoch):
            self._newest[one.chain, one.channel_id] = one
        self.days = tables.days(db)
        self.gone = tables.gone(db)
        # From here on a busy file is the writer's to wait for, where everybody can see it.
        db.execute("PRAGMA busy_timeout=0")

    def close(self) -> None:
        """Let the file go."""
        self._reader.close()
        self._db.close()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write until cancelled; raises `NodeFault` when the disk ends it."""
        await self.writer.run(task_status=task_status)

    def entry(self, chain: ChainName, id_: ChannelId, channel: Channel, epoch: int) -> Entry:
        """The account of an epoch; a new one is kept from its first voucher on.

        Raises `LimitExceeded` where too many are kept.
        """
        known = self.entries.get((chain, id_, epoch))
        if known is not None:
            return known
        if len(self.entries) >= MAX_CHANNELS:
            closed = [one for one in self.entries.values() if one.is_closed]
            closed.sort(key=lambda one: one.changed_at)
            self._forget(closed[:MADE_ROOM])
        if len(self.entries) >= MAX_CHANNELS:
            raise LimitExceeded(
                f"this node keeps the books of {MAX_CHANNELS} channels", code="full"
            )
        return Entry(id=0, chain=chain, channel_id=id_, channel=channel, epoch=epoch)

    def voucher(
        self, entry: Entry, pay: Pay, taken: Taken, signature: bytes, now: int,
        done: Callable[[], None],
    ) -> None:  # fmt: skip
        """Write a voucher that was taken; `done` is called when it is durable."""
        before = entry.standing
        if not entry.unredeemed:
            entry.owed_since = now
        entry.standing, entry.changed_at = taken.standing, now
        rows = [self._kept(entry)]
        if taken.leaves:  # else there is nothing to prove with it
            amount, leaves = str(int(pay.cumulative_amount)), b"".join(taken.leaves)
            values = (entry.id, pay.number, int(before.paid), pay.tasks, amount, pay.root)
            statement = "INSERT INTO vouchers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
            rows.append((statement, (*values, signature, leaves, now)))
        self.writer.put(rows, done)

    def signatures(self, entry: Entry, after: int, until: int) -> list[bytes]:
        """Ours over the windows of the vouchers in between, all durable; empty where we have none.

        Raises as opening does.
        """
        try:
            found = dict(
                self._reader.execute(
                    "SELECT number, signature FROM vouchers WHERE account=? AND number>?"
                    " AND number<=?",
                    (entry.id, after, until),
                )
            )
        except sqlite3.Error as error:
            raise_sqlite(error)
        return [found.get(number, b"") for number in range(after + 1, until + 1)]

    def changed(self, entry: Entry) -> None:
        """Write the standing, after a client was late."""
        if entry.is_kept:
            self.writer.put((entry.change(),), _ignore)

    def seen(
        self, entry: Entry, *, deposit: int, redeemed: int, is_closed: bool, now: int
    ) -> int:  # fmt: skip
        """Write what the chain says about an account; the base units redeemed since last time."""
        gained = max(0, redeemed - entry.redeemed)
        as_before = (entry.deposit, entry.is_closed) == (deposit, is_closed)
        if not gained and as_before:
            return 0
        entry.deposit, entry.is_closed, entry.changed_at = deposit, is_closed, now
        rows: list[Row] = []
        if gained:
            entry.redeemed, entry.owed_since = redeemed, now
            rows += self._gain(entry, gained, now)
        if entry.is_kept or gained:
            self.writer.put([*rows, self._kept(entry, whole=True)], _ignore)
        return gained

    def _gain(self, entry: Entry, gained: int, now: int) -> Iterator[Row]:
        key = entry.chain, datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d")
        self.days[key] = self.days.get(key, 0) + gained
        yield "INSERT OR REPLACE INTO days VALUES (?, ?, ?)", (*key, str(self.days[key]))
        if entry.redeemed >= entry.promised:
            entry.redeemed_number = int(entry.standing.number)
        elif entry.shown and entry.redeemed >= entry.shown.cumulative:
            entry.redeemed_number = int(entry.shown.number)

    def _kept(self, entry: Entry, *, whole: bool = False) -> Row:
        if entry.is_kept and not whole:
            return entry.change()
        if not entry.is_kept:
            entry.id, entry.is_kept, self._next = self._next, True, self._next + 1
            self.entries[entry.chain, entry.channel_id, entry.epoch] = entry
            self._newest[entry.chain, entry.channel_id] = entry
        return entry.row()

    def forget(self, before: int) -> None:
        """Drop vouchers that are redeemed and older, and closed accounts; so many per call."""
        rows: list[Row] = [
            (
                "DELETE FROM vouchers WHERE rowid IN (SELECT v.rowid FROM vouchers v"
                " JOIN accounts a ON a.id = v.account WHERE v.at < ? AND"
                " (a.closed OR v.number <= a.redeemed_number) LIMIT ?)",
                (before, PRUNED_AT_ONCE),
            )
        ]
        old = [
            one for one in self.entries.values() if one.is_closed and one.changed_at < before - DAY
        ]
        self.writer.put(rows, _ignore)
        self._forget(old[:PRUNED_AT_ONCE])

    def _forget(self, closed: Iterable[Entry]) -> None:
        """Drop accounts, of which only their sums are kept."""
        rows: list[Row] = []
        for one in closed:
            sums = self.gone.setdefault(one.chain, Gone())
            sums.promised += one.promised
            sums.redeemed += one.redeemed
            sums.tasks += int(one.standing.paid)
            del self.entries[one.chain, one.channel_id, one.epoch]
            if self.newest(one.chain, one.channel_id) is one:
                del self._newest[one.chain, one.channel_id]
            rows += [
                ("DELETE FROM vouchers WHERE account=?", (one.id,)),
                ("DELETE FROM accounts WHERE id=?", (one.id,)),
                sums.row(one.chain),
            ]
        if rows:
            self.writer.put(rows, _ignore)

    def newest(self, chain: ChainName, id_: ChannelId) -> Entry | None:
        """The account of a channel's newest epoch that is kept."""
        return self._newest.get((chain, id_))

    def of(self, chain: ChainName) -> list[Entry]:
        """The accounts of a chain."""
        return [one for one in self.entries.values() if one.chain == chain]


class BookView:
    """What a file holds, for reading while a daemon may or may not run."""

    def __init__(self, path: Path) -> None:
        """Read it; an absent file holds nothing. Raises as `LaneBook`."""
        self.entries: dict[Key, Entry] = {}
        self.days: dict[tuple[ChainName, str], int] = {}
        self.gone: dict[ChainName, Gone] = {}
        if not path.exists():
            return
        try:
            with closing(_connect(path, read_only=True)) as db:
                if tables.version_of(db) is not None:
                    found = tables.entries(db)
                    self.entries = {(o.chain, o.channel_id, o.epoch): o for o in found}
                    self.days, self.gone = tables.days(db), tables.gone(db)
        except sqlite3.Error as error:
            raise_sqlite(error)


def _connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{path}?mode=ro" if read_only else f"file:{path}",
        uri=True, timeout=_OPEN_WAIT, isolation_level=None, check_same_thread=False,
    )  # fmt: skip
