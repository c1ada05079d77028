"""What the client has promised itself, on disk before anybody else hears of it.

SQLite with `synchronous=FULL`. A request owns a lane and a nonce of the escrow contract from
before its first message until its task ended. At most one task per lane and nonce can ever be
posted, so whatever moment the client is killed at, the same request is never paid for twice:
the next life finds which of its proposals reached the chain, if any.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import trio

from deai.codec import decode_json, encode_json
from deai.errors import ConfigError, DeaiError, UsageError
from deai.ids import AccountId, ChainName, NodeId, TaskId
from deai.pace import Pace
from deai.tasks import Accept, Task, TaskSpec

T = TypeVar("T")
Offload = Callable[..., Awaitable[Any]]

CRASH_POINTS: Final = (
    "request_reserved",
    "accepts_collected",
    "proposal_saved",
    "posted",
    "input_sent",
    "commitments_relayed",
    "openings_relayed",
    "seat_reassigned",
    "settled",
    "output_saved",
    "receipt_saved",
    "ending_saved",
)
"""Moments after which a client may be killed; tests kill it at every one of them."""

MAX_LANES: Final = 4096
_PATIENCE: Final = 10
"""Seconds to wait for another process that writes."""
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS requests (
    id INTEGER PRIMARY KEY, digest BLOB NOT NULL, key TEXT, chain TEXT NOT NULL,
    account TEXT NOT NULL, lane INTEGER NOT NULL, nonce INTEGER NOT NULL,
    since INTEGER NOT NULL, seed BLOB NOT NULL, spec BLOB NOT NULL, policy TEXT NOT NULL,
    created REAL NOT NULL, is_open INTEGER NOT NULL DEFAULT 1, task_id TEXT, document BLOB,
    output TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS requests_key ON requests (chain, account, key)
    WHERE key IS NOT NULL;
CREATE UNIQUE INDEX IF NOT EXISTS requests_lane ON requests (chain, account, lane)
    WHERE is_open = 1;
CREATE INDEX IF NOT EXISTS requests_digest ON requests (digest) WHERE is_open = 1;
CREATE INDEX IF NOT EXISTS requests_task ON requests (task_id) WHERE task_id IS NOT NULL;
CREATE TABLE IF NOT EXISTS proposals (
    task_id TEXT PRIMARY KEY, request INTEGER NOT NULL REFERENCES requests ON DELETE CASCADE,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS proposals_request ON proposals (request);
"""


_THREADS: Final = trio.CapacityLimiter(2)


async def in_a_thread(function: Callable[..., T], *args: object) -> T:
    """Run a blocking call beside the event loop; finished even if its waiter is cancelled."""
    return await trio.to_thread.run_sync(function, *args, limiter=_THREADS)


class MemberRecord(msgspec.Struct, frozen=True):
    """Where a node that accepted a seat was reached."""

    node: NodeId
    peer_id: str
    addresses: tuple[str, ...]


class Substitute(msgspec.Struct, frozen=True):
    """The accept by which a node took over a seat."""

    seat: int
    attempt: int
    accept: Accept


class Proposal(msgspec.Struct, frozen=True):
    """A task that a full committee has accepted; it may or may not have been posted."""

    task_id: TaskId
    task: Task
    accepts: tuple[Accept, ...]
    members: tuple[MemberRecord, ...]
    substitutes: tuple[Substitute, ...] = ()


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One request and all that is known of its task."""

    id: int
    digest: bytes
    key: str | None
    chain: ChainName
    account: AccountId
    lane: int
    nonce: int
    since: int
    """Block before which nothing of the task can be on chain."""
    seed: bytes
    spec: TaskSpec
    policy: str
    created: float
    is_open: bool
    task_id: TaskId | None
    document: dict[str, Any] | None
    output: str


class Journal:
    """The client's file. One instance per process; several processes may share the file."""

    def __init__(self, path: Path | str, offload: Offload | None = None) -> None:
        """Open or create the file; raise `ConfigError`.

        `offload` runs a blocking call away from the event loop (default: one thread).
        """
        self._lock = threading.Lock()
        self._offload = offload or in_a_thread
        self._pace = Pace()
        try:
            self._db = open_file(path)
            self._db.execute("PRAGMA foreign_keys=ON")
            self._db.executescript(_SCHEMA)
            # Reads, and the one write that needs no flush, take microseconds and never wait for
            # a writer (WAL): they stay on the loop. Checkpoints are the other connection's.
            self._reader = sqlite3.connect(path, isolation_level=None, timeout=_PATIENCE)
            self._reader.execute("PRAGMA foreign_keys=ON")
            self._reader.execute("PRAGMA wal_autocheckpoint=0")
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(f"cannot open the client's journal {path}: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._reader.close()
        self._db.close()

    async def find(
        self, chain: ChainName, account: AccountId, digest: bytes, key: str
    ) -> Entry | None:
        """The request to go on with: by key, else the unfinished one of this digest.

        Raises `UsageError` when the key belongs to another request.
        """
        return await self._read(self._find, chain, account, digest, key)

    async def reserve(
        self,
        *,
        chain: ChainName,
        account: AccountId,
        digest: bytes,
        key: str,
        lane: int,
        nonce: int,
        since: int,
        seed: bytes,
        spec: TaskSpec,
        policy: str,
        created: float,
    ) -> Entry | None:
        """Take a lane for a request; None if another request holds it (or came first).

        Seen by every process at once, but not flushed: nothing is posted before `propose`, and
        that flushes this as well.
        """
        values = (digest, key or None, chain, account, lane, nonce, since, seed,
                  encode_json(spec), policy, created)  # fmt: skip
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            number = self._unwaiting(self._reserve, values)
        except sqlite3.OperationalError:
            # Somebody is writing: waited for beside the loop.
            number = await self._run(self._reserve, self._db, values)
        if number is None:
            return None
        return Entry(
            id=number,
            digest=digest,
            key=key or None,
            chain=chain,
            account=account,
            lane=lane,
            nonce=nonce,
            since=since,
            seed=seed,
            spec=spec,
            policy=policy,
            created=created,
            is_open=True,
            task_id=None,
            document=None,
            output="",
        )

    async def move(self, entry: Entry, lane: int, nonce: int, since: int) -> Entry | None:
        """Give a request that never reached the chain another lane; None if it is taken."""
        return await self._run(self._move, entry, lane, nonce, since)

    async def lanes(self, chain: ChainName, account: AccountId) -> frozenset[int]:
        """Lanes that open requests hold."""
        return await self._read(self._lanes, chain, account)

    async def propose(self, entry: Entry, proposal: Proposal) -> None:
        """Remember a committee's accepts, before the task is posted."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if not (self._pace.is_quick and self._proposed_at_once(entry, proposal)):
            await self._run(self._propose, self._db, entry, proposal)

    async def proposals(self, entry: Entry) -> tuple[Proposal, ...]:
        """What was proposed for a request, oldest first."""
        return await self._read(self._proposals, entry)

    async def bind(self, entry: Entry, task: TaskId) -> Entry:
        """The request's task is this one of its proposals."""
        if task == entry.task_id:
            return entry
        await self._run(
            self._write, "UPDATE requests SET task_id = ? WHERE id = ?", (task, entry.id)
        )
        return msgspec.structs.replace(entry, task_id=task)

    async def end(
        self,
        entry: Entry,
        document: dict[str, Any],
        output: str,
        first: Callable[[], None] = lambda: None,
    ) -> Entry:
        """The task ended on chain: keep its document and where the output lies.

        `first` is called in a thread before that: what the document names is there.
        Not flushed: if the power fails the task is open again, and the chain says how it ended.
        """
        await self._run(first)
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self._unwaiting(self._end, entry, document, output)
        except sqlite3.Error:
            # Somebody is writing, or the disk is full: tried, and told, beside the loop.
            await self._run(self._end, self._db, entry, document, output)
        return msgspec.structs.replace(entry, is_open=False, document=document, output=output)

    async def drop(self, entry: Entry) -> None:
        """Forget a request of which nothing can reach the chain any more."""
        await self._run(self._write, "DELETE FROM requests WHERE id = ?", (entry.id,))

    async def by_task(self, prefix: str) -> Entry | None:
        """The request of a task, by id or a unique prefix; raise `ConfigError` if ambiguous."""
        return await self._read(self._by_task, prefix)

    async def recent(self, limit: int) -> tuple[Entry, ...]:
        """Newest requests first."""
        return await self._read(self._recent, limit)

    def _alone(self, function: Callable[..., T], *args: object) -> T:
        with self._lock:
            return function(*args)

    # Everything below runs wherever `offload` puts it.

    def _find(self, chain: str, account: str, digest: bytes, key: str) -> Entry | None:
        if key:
            row = self._reader.execute(
                _SELECT + " WHERE chain = ? AND account = ? AND key = ?",
                (chain, account, key),
            ).fetchone()
            found = _entry(row) if row else None
            if found is not None and found.digest != digest:
                raise other_request(key)
            return found
        row = self._reader.execute(
            _SELECT + " WHERE digest = ? AND is_open = 1 ORDER BY id LIMIT 1",
            (digest,),
        ).fetchone()
        return _entry(row) if row else None

    def _unwaiting(self, function: Callable[..., T], *args: object) -> T:
        """On the loop's own connection; raise `sqlite3.OperationalError` if somebody writes."""
        self._reader.execute("PRAGMA busy_timeout=0")
        try:
            return function(self._reader, *args)
        finally:
            self._reader.execute(f"PRAGMA busy_timeout={_PATIENCE * 1000}")

    def _reserve(self, db: sqlite3.Connection, values: tuple[Any, ...]) -> int | None:
        try:
            with _transaction(db, flush=False):
                cursor = db.execute(
                    "INSERT INTO requests (digest, key, chain, account, lane, nonce, since, seed,"
                    " spec, policy, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    values,
                )
                return int(cursor.lastrowid or 0)
        except sqlite3.IntegrityError:
            return None

    def _proposed_at_once(self, entry: Entry, proposal: Proposal) -> bool:
        """False if another process is writing: that is waited for beside the loop."""
        try:
            self._unwaiting(self._propose, entry, proposal)
        except sqlite3.OperationalError:
            return False
        return True

    def _propose(self, db: sqlite3.Connection, entry: Entry, proposal: Proposal) -> None:
        with self._pace.measured(), _transaction(db):
            db.execute(
                "INSERT OR REPLACE INTO proposals (task_id, request, body) VALUES (?, ?, ?)",
                (proposal.task_id, entry.id, encode_json(proposal)),
            )
            db.execute("UPDATE requests SET task_id = ? WHERE id = ?", (proposal.task_id, entry.id))

    def _end(
        self, db: sqlite3.Connection, entry: Entry, document: dict[str, Any], output: str
    ) -> None:
        with _transaction(db, flush=False):
            db.execute(
                "UPDATE requests SET is_open = 0, document = ?, output = ? WHERE id = ?",
                (msgspec.json.encode(document), output, entry.id),
            )

    def _move(self, entry: Entry, lane: int, nonce: int, since: int) -> Entry | None:
        try:
            with _transaction(self._db):
                self._db.execute("DELETE FROM proposals WHERE request = ?", (entry.id,))
                self._db.execute(
                    "UPDATE requests SET lane = ?, nonce = ?, since = ? WHERE id = ?",
                    (lane, nonce, since, entry.id),
                )
                return _get(self._db, entry.id)
        except sqlite3.IntegrityError:
            return None

    def _lanes(self, chain: str, account: str) -> frozenset[int]:
        rows = self._reader.execute(
            "SELECT lane FROM requests WHERE chain = ? AND account = ? AND is_open = 1",
            (chain, account),
        )
        return frozenset(row[0] for row in rows)

    def _proposals(self, entry: Entry) -> tuple[Proposal, ...]:
        rows = self._reader.execute(
            "SELECT body FROM proposals WHERE request = ? ORDER BY rowid", (entry.id,)
        )
        return tuple(decode_json(row[0], Proposal) for row in rows)

    def _by_task(self, prefix: str) -> Entry | None:
        span = ids_from(prefix)
        if span is None:
            return None  # no task is called that
        rows = self._reader.execute(
            _SELECT + " WHERE task_id >= ? AND task_id < ? LIMIT 2", span
        ).fetchall()
        if len(rows) > 1:
            raise ConfigError(f"several tasks begin with {prefix}", code="ambiguous_id")
        return _entry(rows[0]) if rows else None

    def _recent(self, limit: int) -> tuple[Entry, ...]:
        rows = self._reader.execute(_SELECT + " ORDER BY id DESC LIMIT ?", (limit,))
        return tuple(_entry(row) for row in rows)

    def _write(self, statement: str, values: tuple[Any, ...]) -> None:
        with _transaction(self._db):
            self._db.execute(statement, values)

    async def _read(self, function: Callable[..., T], *args: object) -> T:
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            return function(*args)
        except sqlite3.Error as error:
            raise JournalError(f"the client's journal cannot be read: {error}") from error

    async def _run(self, function: Callable[..., T], *args: object) -> T:
        try:
            result: T = await self._offload(self._alone, function, *args)
        except sqlite3.Error as error:
            raise JournalError(f"the client's journal cannot be written: {error}") from error
        return result


def open_file(path: Path | str) -> sqlite3.Connection:
    """Open or create a file of which every commit is on the disk.

    Raises `sqlite3.Error` and `OSError`.
    """
    if isinstance(path, Path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_PATIENCE)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    return db


def other_request(key: str) -> UsageError:
    """An idempotency key was used for something else."""
    return UsageError(
        f"the idempotency key {key!r} belongs to another request",
        hint="use a new key, or repeat exactly the request that had it",
        code="idempotency_conflict",
    )


def ids_from(prefix: str) -> tuple[str, str] | None:
    """The least id that begins so, and what is above every such id; None if none does."""
    digits = prefix.lower().removeprefix("0x")
    if not digits or set(digits) - set("0123456789abcdef"):
        return None
    return f"0x{digits}", f"0x{digits}~"


class JournalError(DeaiError):
    """The journal, an output or a receipt could not be read or written (disk full, damaged)."""

    code = "journal_error"
    advice = "is the disk full? Make room and repeat the request: it goes on where it stands"


_SELECT: Final = (
    "SELECT id, digest, key, chain, account, lane, nonce, since, seed, spec, policy, created,"
    " is_open, task_id, document, output FROM requests"
)


@contextmanager
def _transaction(db: sqlite3.Connection, *, flush: bool = True) -> Iterator[None]:
    db.execute(f"PRAGMA synchronous={'FULL' if flush else 'NORMAL'}")
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")


def _get(db: sqlite3.Connection, number: int) -> Entry:
    return _entry(db.execute(_SELECT + " WHERE id = ?", (number,)).fetchone())


def _entry(row: tuple[Any, ...]) -> Entry:
    return Entry(
        id=row[0],
        digest=row[1],
        key=row[2],
        chain=ChainName(row[3]),
        account=AccountId(row[4]),
        lane=row[5],
        nonce=row[6],
        since=row[7],
        seed=row[8],
        spec=decode_json(row[9], TaskSpec),
        policy=row[10],
        created=row[11],
        is_open=bool(row[12]),
        task_id=TaskId(row[13]) if row[13] else None,
        document=msgspec.json.decode(row[14]) if row[14] else None,
        output=row[15],
    )
