"""What the client promised in its channels, on disk before a node hears of it.

One row per voucher: what was signed, the window that it pays, the leaves, and later the node's
signature over the window. The newest row of an epoch is where the client stands in it. One
process pays from a home at a time: two of them would sign different vouchers with one number.
"""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Annotated, Final

import msgspec
import trio

from deai.client.journal import JournalError
from deai.client.tools import no_crash
from deai.codec import Codec
from deai.errors import ConfigError, DeaiError, MalformedMessage
from deai.ids import ChannelId
from deai.lane.messages import Pay
from deai.lane.payer import Issued, Promised
from deai.lane.receipts import WindowReceipt
from deai.lane.writer import Row, Writer
from deai.merkle import merkle_path

CRASH_POINTS: Final = (
    "voucher_signed",
    "voucher_durable",
    "voucher_sent",
    "receipt_heard",
    "receipt_durable",
    "promise_adopted",
)
"""Moments after which a client may be killed; tests kill it at every one of them."""

MAX_WINDOWS_KEPT: Final = 1 << 16
"""Windows of one epoch that are kept for proofs: four million tasks, about 150 MB."""
FILE: Final = "lane.db"
_PRUNE_EVERY: Final = 256
_DIGEST: Final = 32
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS vouchers (
    channel TEXT NOT NULL, epoch INTEGER NOT NULL, number INTEGER NOT NULL,
    first INTEGER NOT NULL, tasks INTEGER NOT NULL, body BLOB NOT NULL, leaves BLOB NOT NULL,
    signature BLOB NOT NULL DEFAULT x'', is_acknowledged INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (channel, epoch, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS grants (
    channel TEXT NOT NULL, epoch INTEGER NOT NULL, credit TEXT NOT NULL, received INTEGER NOT NULL,
    owed TEXT NOT NULL, PRIMARY KEY (channel, epoch)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS vouchers_sent ON vouchers (channel, epoch, number)
    WHERE is_acknowledged = 0;
CREATE INDEX IF NOT EXISTS vouchers_first ON vouchers (channel, epoch, first) WHERE tasks > 0;
"""
_INSERT: Final = (
    "INSERT INTO vouchers (channel, epoch, number, first, tasks, body, leaves, is_acknowledged)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_ACKNOWLEDGE: Final = (
    "UPDATE vouchers SET signature = ?, is_acknowledged = 1"
    " WHERE channel = ? AND epoch = ? AND number = ?"
)
_GRANT: Final = (
    "INSERT INTO grants (channel, epoch, credit, received, owed) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT DO UPDATE SET credit = excluded.credit, received = excluded.received,"
    " owed = excluded.owed"
)
_PRUNE: Final = (
    "DELETE FROM vouchers WHERE channel = ? AND epoch = ? AND number <= ? AND is_acknowledged = 1"
)


class _Body(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a row holds beside the leaves; `pay` is None for a promise that a node showed us."""

    promised: Promised
    window: WindowReceipt
    pay: Pay | None


class WindowProof(msgspec.Struct, frozen=True, kw_only=True):
    """Where one task stands in its window: leaf `place` of `window.tasks` under its root."""

    window: WindowReceipt
    place: Annotated[int, msgspec.Meta(ge=0)]
    leaf: bytes
    path: tuple[bytes, ...]
    signature: bytes
    """The node's, over the window."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What the book says of one epoch; sums in base units."""

    promised: Promised
    vouchers: int
    unacknowledged: int
    windows: int
    signed: int
    """Windows that the node has signed."""
    credit: int = 0
    """What the node let us owe when it last said so."""
    owed: int = 0
    """Received and not promised then."""


_BODIES: Final = Codec[_Body](_Body, 4096)


class Book:
    """The book of the process that pays; `run` keeps its writer."""

    def __init__(self, home: Path, *, crash: Callable[[str], None] = no_crash) -> None:
        """Open or create `HOME/lane.db`.

        Raises `ConfigError` while another process pays from this home, `JournalError` for a
        damaged file or a disk that takes nothing.
        """
        self._crash = crash
        self._lock = _locked(home)
        try:
            writing = _open(home / FILE)
            writing.executescript(_SCHEMA)
            self._db = writing
            self._reader = _open(home / FILE)
            self._reader.execute("PRAGMA wal_autocheckpoint=0")
        except sqlite3.Error as error:
            self._lock.close()
            raise damaged(home / FILE, error) from error
        self._path = home / FILE
        self.writer = Writer(writing)

    def close(self) -> None:
        """Close the file and let other processes pay."""
        self._reader.close()
        self._db.close()
        self._lock.close()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write until cancelled; raises `JournalError` when the disk fails for good."""
        try:
            await self.writer.run(task_status=task_status)
        except DeaiError as error:
            raise JournalError(str(error), hint=error.hint) from error

    @property
    def problem(self) -> str:
        """Why nothing is written at the moment, for people; empty while all is well."""
        return self.writer.problem

    def recover(self, channel: ChannelId, epoch: int) -> tuple[Promised, list[Issued]]:
        """Where the client stands in an epoch, and the vouchers no node has acknowledged.

        Raises `JournalError` for a damaged file.
        """
        try:
            newest = self._reader.execute(
                "SELECT body FROM vouchers WHERE channel = ? AND epoch = ?"
                " ORDER BY number DESC LIMIT 1",
                (channel, epoch),
            ).fetchone()
            waiting = self._reader.execute(
                "SELECT body, leaves FROM vouchers WHERE channel = ? AND epoch = ?"
                " AND is_acknowledged = 0 ORDER BY number",
                (channel, epoch),
            ).fetchall()
            promised = _BODIES.decode(newest[0]).promised if newest else Promised()
            return promised, [_issued(*row) for row in waiting]
        except (sqlite3.Error, MalformedMessage) as error:
            raise damaged(self._path, error) from error

    def issued(self, one: Issued, done: Callable[[], None]) -> None:
        """Write a voucher; `done` is called once it may be sent."""
        window = one.window
        number = int(window.number)
        rows: list[Row] = [(_INSERT, _values(one.promised, window, one.pay, one.leaves))]
        if number > MAX_WINDOWS_KEPT and number % _PRUNE_EVERY == 0:
            rows.append((_PRUNE, (window.channel, window.epoch, number - MAX_WINDOWS_KEPT)))

        def durable() -> None:
            self._crash("voucher_durable")
            done()

        self._crash("voucher_signed")
        self.writer.put(rows, durable)

    def acknowledged(self, done: Iterable[tuple[Issued, bytes]]) -> None:
        """Write that vouchers are durable at the node, with its signatures (empty for none)."""
        rows: list[Row] = [
            (_ACKNOWLEDGE, (sign, one.window.channel, one.window.epoch, int(one.window.number)))
            for one, sign in done
        ]
        self._crash("receipt_heard")
        # A node sends again what a crash makes us forget.
        self.writer.put(rows, lambda: self._crash("receipt_durable"), lazy=True)

    def adopted(self, channel: ChannelId, epoch: int, promised: Promised) -> None:
        """Write a promise of ours that a node showed and this file has lost."""
        window = WindowReceipt(
            channel, epoch, promised.number, promised.received, 0, promised.cumulative, bytes(32)
        )
        row: Row = (_INSERT, _values(promised, window, None, (), is_acknowledged=True))
        self.writer.put((row,), lambda: self._crash("promise_adopted"))

    def noted(self, channel: ChannelId, epoch: int, credit: int, received: int, owed: int) -> None:
        """Note the node's credit, and what was received and not promised, for who looks."""
        self.writer.put(
            ((_GRANT, (channel, epoch, str(credit), received, str(owed))),), _nothing, lazy=True
        )

    def proof(self, channel: ChannelId, epoch: int, index: int) -> WindowProof | None:
        """As `BookReader.proof`."""
        return _proof(self._reader, self._path, channel, epoch, index)

    async def flushed(self) -> None:
        """Wait until everything is durable; raises `JournalError`."""
        try:
            await self.writer.flushed()
        except DeaiError as error:
            raise JournalError(str(error), hint=error.hint) from error


class BookReader:
    """The book of a home for looking at, also while another process pays from it."""

    def __init__(self, home: Path) -> None:
        """Raises `JournalError` for a damaged file; a missing one reads as empty."""
        self._path = home / FILE
        self._db: sqlite3.Connection | None = None
        if self._path.exists():
            try:
                self._db = _open(self._path)
                self._db.executescript(_SCHEMA)
                self._db.execute("PRAGMA query_only=ON")
            except sqlite3.Error as error:
                raise damaged(self._path, error) from error

    def close(self) -> None:
        """Close the file."""
        if self._db is not None:
            self._db.close()

    def standing(self, channel: ChannelId, epoch: int) -> Standing:
        """What was promised in an epoch, and how much of it is proven; raises `JournalError`."""
        if self._db is None:
            return Standing(
                promised=Promised(), vouchers=0, unacknowledged=0, windows=0, signed=0
            )  # fmt: skip
        try:
            newest = self._db.execute(
                "SELECT body FROM vouchers WHERE channel = ? AND epoch = ?"
                " ORDER BY number DESC LIMIT 1",
                (channel, epoch),
            ).fetchone()
            counts = self._db.execute(
                "SELECT count(*), ifnull(sum(is_acknowledged = 0), 0), ifnull(sum(tasks > 0), 0),"
                " ifnull(sum(signature <> x''), 0) FROM vouchers WHERE channel = ? AND epoch = ?",
                (channel, epoch),
            ).fetchone()
            grant = self._db.execute(
                "SELECT credit, owed FROM grants WHERE channel = ? AND epoch = ?", (channel, epoch)
            ).fetchone()
            promised = _BODIES.decode(newest[0]).promised if newest else Promised()
        except (sqlite3.Error, MalformedMessage) as error:
            raise damaged(self._path, error) from error
        credit, owed = (int(grant[0]), int(grant[1])) if grant else (0, 0)
        return Standing(
            credit=credit,
            owed=owed,
            promised=promised,
            vouchers=counts[0],
            unacknowledged=counts[1],
            windows=counts[2],
            signed=counts[3],
        )

    def proof(self, channel: ChannelId, epoch: int, index: int) -> WindowProof | None:
        """The proof of the task with this receipt index; None where the node signed none.

        Raises `JournalError` for a damaged file.
        """
        return _proof(self._db, self._path, channel, epoch, index) if self._db else None


def _nothing() -> None:
    """Nobody waits for it."""


def damaged(path: Path, error: Exception) -> JournalError:
    """The error of a book that cannot be read or written."""
    return JournalError(
        f"the book of the lane at {path}: {error}",
        hint=f"make room on the disk; if the file is damaged, move {path.name} away: the nodes "
        "show what was promised to them",
        code="lane_book",
    )


def _proof(
    db: sqlite3.Connection, path: Path, channel: ChannelId, epoch: int, index: int
) -> WindowProof | None:
    try:
        row = db.execute(
            "SELECT body, leaves, signature FROM vouchers WHERE channel = ? AND epoch = ?"
            " AND first <= ? AND tasks > 0 ORDER BY first DESC LIMIT 1",
            (channel, epoch, index),
        ).fetchone()
        if row is None or not row[2]:
            return None
        window, leaves = _BODIES.decode(row[0]).window, _split(row[1])
    except (sqlite3.Error, MalformedMessage) as error:
        raise damaged(path, error) from error
    place = index - window.first
    if not 0 <= place < len(leaves):
        return None
    siblings = tuple(merkle_path(leaves, place))
    return WindowProof(
        window=window, place=place, leaf=leaves[place], path=siblings, signature=row[2]
    )


def _values(
    promised: Promised, window: WindowReceipt, pay: Pay | None, leaves: tuple[bytes, ...],
    *, is_acknowledged: bool = False,
) -> tuple[object, ...]:  # fmt: skip
    return (
        window.channel, window.epoch, int(window.number), int(window.first), window.tasks,
        _BODIES.encode(_Body(promised, window, pay)), b"".join(leaves), int(is_acknowledged),
    )  # fmt: skip


def _issued(body: bytes, leaves: bytes) -> Issued:
    one = _BODIES.decode(body)
    if one.pay is None:
        raise MalformedMessage("a voucher without what is sent")
    return Issued(one.pay, one.promised, one.window, tuple(_split(leaves)))


def _split(leaves: bytes) -> list[bytes]:
    return [leaves[at : at + _DIGEST] for at in range(0, len(leaves), _DIGEST)]


@contextmanager
def opened(home: Path, schema: str) -> Iterator[sqlite3.Connection]:
    """The file of a home's book with more tables (`CREATE … IF NOT EXISTS`), for a moment.

    Raises `JournalError`.
    """
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with closing(_open(home / FILE)) as db:
            db.executescript(_SCHEMA + schema)
            yield db
    except (sqlite3.Error, ValueError) as error:
        raise damaged(home / FILE, error) from error


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
    except sqlite3.Error:
        with suppress(sqlite3.Error):
            db.close()
        raise
    return db


def _locked(home: Path) -> IO[bytes]:
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (home / "lane.lock").open("ab")
    except OSError as error:
        raise JournalError(f"cannot open {home}: {error.strerror}", code="lane_book") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise ConfigError(
            f"another process pays for tasks from {home}",
            hint="wait until it has ended, or use another --home with channels of its own",
            code="lane_in_use",
        ) from error
    return lock
