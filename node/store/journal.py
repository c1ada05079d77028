"""The journal: whatever a node promised or signed, durable before anybody hears of it.

SQLite, one connection, held exclusively, used by one thread at a time. Writes that wait together
share a transaction and a flush; each is answered after it. Inputs and outputs of up to
`SMALL_BYTES` lie in the rows that speak of them: no file of their own, no flush of their own.
A result is written once per (task, seat, attempt): asked again, the journal answers with what
was signed first, so that no crash can make a node sign two.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from deai.codec import Codec, encode_canonical
from deai.ids import PeerId, TaskId
from deai.messages import ApprovedOutputs, Member, Opened
from deai.tasks import Task, TaskSpec
from node.store.calls import Caller, InThreads
from node.store.errors import raise_os, raise_sqlite
from node.store.group import Writer

T = TypeVar("T")

SMALL_BYTES: Final = 16 * 1024
"""Largest input or output that is kept in the journal: a few of its pages."""
SCHEMA_VERSION: Final = 3
_LIES: Final = """
CREATE TABLE lies (
  task_id TEXT NOT NULL, seat INTEGER NOT NULL, message BLOB NOT NULL,
  PRIMARY KEY (task_id, seat)) STRICT
"""
_SCHEMA: Final = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE engagements (
  task_id TEXT NOT NULL, seat INTEGER NOT NULL, attempt INTEGER NOT NULL,
  task BLOB NOT NULL, spec BLOB NOT NULL,
  valid_until INTEGER NOT NULL, signature BLOB NOT NULL,
  since INTEGER NOT NULL, accepted_at INTEGER NOT NULL, client_peer TEXT NOT NULL,
  members BLOB, has_input INTEGER NOT NULL DEFAULT 0, input BLOB,
  ended_at INTEGER, outcome TEXT, payment TEXT, reason TEXT,
  PRIMARY KEY (task_id, seat, attempt)) STRICT;
CREATE INDEX engagements_ended ON engagements (ended_at);
CREATE TABLE results (
  task_id TEXT NOT NULL, seat INTEGER NOT NULL, attempt INTEGER NOT NULL,
  digest BLOB NOT NULL, evidence BLOB NOT NULL, salt BLOB NOT NULL, value BLOB NOT NULL,
  commit_signature BLOB NOT NULL, result_signature BLOB NOT NULL, fault INTEGER NOT NULL,
  output BLOB, PRIMARY KEY (task_id, seat, attempt)) STRICT;
CREATE TABLE openings (
  task_id TEXT NOT NULL, seat INTEGER NOT NULL, message BLOB NOT NULL,
  PRIMARY KEY (task_id, seat)) STRICT;
CREATE TABLE approvals (
  task_id TEXT NOT NULL, seat INTEGER NOT NULL, message BLOB NOT NULL,
  PRIMARY KEY (task_id, seat)) STRICT;
{_LIES.strip()};
CREATE TABLE days (
  day TEXT NOT NULL, workload TEXT NOT NULL,
  paid TEXT NOT NULL, forfeited TEXT NOT NULL, tasks INTEGER NOT NULL, unpaid INTEGER NOT NULL,
  PRIMARY KEY (day, workload)) STRICT;
"""

_TASKS: Final = Codec[Task](Task, 4096)
_SPECS: Final = Codec[TaskSpec](TaskSpec, 64 * 1024)
_MEMBERS: Final = Codec[tuple[Member, ...]](tuple[Member, ...], 256 * 1024)
_OPENED: Final = Codec[Opened](Opened, 4096)
_APPROVED: Final = Codec[ApprovedOutputs](ApprovedOutputs, 4096)


class SeatKey(msgspec.Struct, frozen=True, array_like=True):
    """One attempt at one seat of one task: what a node engages for."""

    task_id: TaskId
    seat: int
    attempt: int

    def blob(self, kind: str, seat: int | None = None) -> str:
        """The name of a blob: the input, or the output of `seat` (default: our own)."""
        of = self.seat if seat is None else seat
        return f"{self.task_id[2:]}-{self.seat}-{self.attempt}-{kind}-{of}"


class OwnResult(msgspec.Struct, frozen=True, kw_only=True):
    """What this node signed about a task; never changed, only sent again."""

    digest: bytes
    evidence: bytes
    salt: bytes
    value: bytes
    commit_signature: bytes
    result_signature: bytes
    fault: int
    """Code of `FaultCode` if the task itself is bad, else 0: then the output is a blob."""


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """An engagement as the journal knows it."""

    key: SeatKey
    task: Task
    spec: TaskSpec
    valid_until: int
    signature: bytes
    since: int
    """Newest block when the seat was accepted: every event of the task came later."""
    accepted_at: int
    client_peer: PeerId
    members: tuple[Member, ...] = ()
    has_input: bool = False
    input: bytes | None = None
    """A small input; a larger one is a blob."""
    result: OwnResult | None = None
    output: bytes | None = None
    """Our own output if it is small; a larger one is a blob."""
    openings: dict[int, Opened] = {}
    lies: dict[int, Opened] = {}
    """By seat: a result that its key signed and that is not the one on chain."""
    approvals: dict[int, ApprovedOutputs] = {}
    ended_at: int | None = None
    outcome: str = ""
    payment: int = 0
    reason: str = ""


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """Settled seats of one day (UTC) and workload; sums in base units."""

    day: str
    workload: str
    paid: int
    forfeited: int
    tasks: int
    unpaid: int


class Journal:
    """All reads and writes; every coroutine returns after the disk has it."""

    def __init__(
        self,
        path: Path,
        *,
        max_pages: int = 0,
        read_only: bool = False,
        caller: Caller | None = None,
    ) -> None:
        """Open or create; raise `AlreadyRunning`, `StoreFull` or `NodeFault`.

        `max_pages` bounds the file (4 KiB each, 0: no bound). `read_only` is for looking on
        while no daemon runs.
        """
        self._caller = caller or InThreads(1)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise_os(error)
        try:
            target = f"file:{path}?mode=ro" if read_only else f"file:{path}"
            self._db = sqlite3.connect(
                target, uri=True, timeout=1, isolation_level=None, check_same_thread=False
            )
            self._writer = Writer(self._db, self._caller)
            if not read_only:
                self._prepare(max_pages)
        except sqlite3.Error as error:
            raise_sqlite(error)

    def _prepare(self, max_pages: int) -> None:
        run = self._db.execute
        run("PRAGMA locking_mode=EXCLUSIVE")
        run("PRAGMA journal_mode=WAL")
        if max_pages:
            run(f"PRAGMA max_page_count={int(max_pages)}")
        with self._writer.transaction():
            if run("SELECT 1 FROM sqlite_master WHERE name='meta'").fetchone() is None:
                for statement in _SCHEMA.split(";\n"):
                    run(statement)
                run("INSERT INTO meta VALUES ('schema', ?)", (str(SCHEMA_VERSION).encode(),))
            else:
                self._upgrade(int(run("SELECT value FROM meta WHERE key='schema'").fetchone()[0]))

    def _upgrade(self, version: int) -> None:
        run = self._db.execute
        if version < 2:
            run("ALTER TABLE engagements ADD COLUMN input BLOB")
            run("ALTER TABLE results ADD COLUMN output BLOB")
        if version < 3:
            run(_LIES)
            run("UPDATE meta SET value=? WHERE key='schema'", (str(SCHEMA_VERSION).encode(),))

    def close(self) -> None:
        """Let the file go."""
        self._db.close()

    async def _write(self, work: Callable[[], T], *, flush: bool = True) -> T:
        try:
            return await self._writer.write(work, flush=flush)
        except sqlite3.Error as error:
            raise_sqlite(error)

    async def _call(self, work: Callable[[], T]) -> T:
        try:
            # Not abandoned on cancellation: what is being written is waited for.
            return await self._caller(work)
        except sqlite3.Error as error:
            raise_sqlite(error)

    async def accept(self, saved: Saved) -> None:
        """Record a promise before it is given."""
        key = saved.key
        await self._write(
            lambda: self._db.execute(
                "INSERT OR IGNORE INTO engagements (task_id, seat, attempt, task, spec,"
                " valid_until, signature, since, accepted_at, client_peer)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (key.task_id, key.seat, key.attempt, encode_canonical(saved.task),
                 encode_canonical(saved.spec), saved.valid_until, saved.signature, saved.since,
                 saved.accepted_at, saved.client_peer),
            )
        )  # fmt: skip

    async def renew(self, key: SeatKey, valid_until: int, signature: bytes) -> None:
        """Record a longer promise for a seat that nobody assigned yet."""
        await self._set(key, "valid_until=?, signature=?", valid_until, signature)

    async def assigned(self, key: SeatKey, members: tuple[Member, ...]) -> None:
        """Record how the other members can be reached."""
        await self._set(key, "members=?", encode_canonical(members))

    async def has_input(
        self, key: SeatKey, members: tuple[Member, ...] = (), data: bytes | None = None
    ) -> None:
        """Record that the input is complete on disk, or here (`data`), and who the members are.

        Not flushed: the result is written after it, and until then the client sends it again.
        """
        values = (data, encode_canonical(members))
        await self._set(key, "has_input=1, input=?, members=?", *values, flush=False)

    async def _set(
        self, key: SeatKey, assignments: str, *values: object, flush: bool = True
    ) -> None:
        await self._write(
            lambda: self._db.execute(
                f"UPDATE engagements SET {assignments}"  # noqa: S608 - constants of this module
                " WHERE task_id=? AND seat=? AND attempt=?",
                (*values, key.task_id, key.seat, key.attempt),
            ),
            flush=flush,
        )

    async def result(self, key: SeatKey, own: OwnResult, output: bytes | None = None) -> OwnResult:
        """Record a result once, with its small output; return the one that counts, the first."""

        def work() -> OwnResult:
            first, _ = self._result(key)
            if first is not None:
                return first
            self._db.execute(
                "INSERT INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (key.task_id, key.seat, key.attempt, own.digest, own.evidence, own.salt,
                 own.value, own.commit_signature, own.result_signature, own.fault, output),
            )  # fmt: skip
            return own

        return await self._write(work)

    def _result(self, key: SeatKey) -> tuple[OwnResult | None, bytes | None]:
        row = self._db.execute(
            "SELECT digest, evidence, salt, value, commit_signature, result_signature, fault,"
            " output"
            " FROM results WHERE task_id=? AND seat=? AND attempt=?",
            (key.task_id, key.seat, key.attempt),
        ).fetchone()
        if row is None:
            return None, None
        names = OwnResult.__struct_fields__
        return OwnResult(**dict(zip(names, row[:-1], strict=True))), row[-1]

    async def opened(self, message: Opened) -> None:
        """Record a checked opening of any seat; the first one of a seat stays."""
        await self._keep("openings", message.task_id, message.seat, encode_canonical(message))

    async def lied(self, message: Opened) -> None:
        """Record a signed result that is not the one on chain: half of a proof."""
        await self._keep("lies", message.task_id, message.seat, encode_canonical(message))

    async def approved(self, message: ApprovedOutputs) -> ApprovedOutputs:
        """Record a checked approval of any seat; return the one that counts, the first."""
        row = await self._keep(
            "approvals", message.task_id, message.seat, encode_canonical(message)
        )
        return _APPROVED.decode(row)

    async def _keep(self, table: str, task: TaskId, seat: int, data: bytes) -> bytes:
        def work() -> bytes:
            self._db.execute(f"INSERT OR IGNORE INTO {table} VALUES (?, ?, ?)", (task, seat, data))  # noqa: S608
            row = self._db.execute(
                f"SELECT message FROM {table} WHERE task_id=? AND seat=?",  # noqa: S608
                (task, seat),
            ).fetchone()
            kept: bytes = row[0]
            return kept

        return await self._write(work)

    async def ended(
        self,
        key: SeatKey,
        *,
        at: int,
        day: str,
        outcome: str,
        payment: int,
        reason: str = "",
        keep_output: bool = True,
    ) -> bool:
        """Record the end of an engagement and add it to its day, once; False if it was known.

        Nobody is told of it and the chain says it again, so it waits for no flush.
        """

        def work() -> bool:
            row = self._db.execute(
                "SELECT spec, task, ended_at FROM engagements"
                " WHERE task_id=? AND seat=? AND attempt=?",
                (key.task_id, key.seat, key.attempt),
            ).fetchone()
            if row is None or row[2] is not None:
                return False
            self._db.execute(
                "UPDATE engagements SET ended_at=?, outcome=?, payment=?, reason=?, input=NULL"
                " WHERE task_id=? AND seat=? AND attempt=?",
                (at, outcome, str(payment), reason[:512], key.task_id, key.seat, key.attempt),
            )
            if not keep_output:
                self._db.execute(
                    "UPDATE results SET output=NULL WHERE task_id=? AND seat=? AND attempt=?",
                    (key.task_id, key.seat, key.attempt),
                )
            if outcome in ("paid", "forfeited", "silent"):
                fee = _TASKS.decode(row[1]).fee
                self._add_day(
                    day,
                    _SPECS.decode(row[0]).workload,
                    paid=payment,
                    forfeited=fee if outcome == "forfeited" else 0,
                    unpaid=outcome != "paid",
                )
            return True

        return await self._write(work, flush=False)

    def _add_day(self, day: str, workload: str, *, paid: int, forfeited: int, unpaid: bool) -> None:
        row = self._db.execute(
            "SELECT paid, forfeited, tasks, unpaid FROM days WHERE day=? AND workload=?",
            (day, workload),
        ).fetchone() or ("0", "0", 0, 0)
        self._db.execute(
            "INSERT OR REPLACE INTO days VALUES (?, ?, ?, ?, ?, ?)",
            (day, workload, str(int(row[0]) + paid), str(int(row[1]) + forfeited),
             row[2] + 1, row[3] + unpaid),
        )  # fmt: skip

    async def open_engagements(self) -> tuple[Saved, ...]:
        """Everything that has not ended, with all that is known about it."""
        return await self._call(lambda: self._select("ended_at IS NULL"))

    async def find(self, task: TaskId) -> Saved | None:
        """The newest engagement for a task, also an ended one."""

        def work() -> Saved | None:
            found = self._select("task_id=?", task)
            return max(
                found, key=lambda saved: (saved.accepted_at, saved.key.attempt), default=None
            )

        return await self._call(work)

    async def history(self, limit: int) -> tuple[Saved, ...]:
        """The newest engagements, open ones first."""
        return await self._call(
            lambda: self._select(
                "1 ORDER BY ended_at IS NOT NULL, ended_at DESC, accepted_at DESC LIMIT ?", limit
            )
        )

    def _select(self, condition: str, *values: object) -> tuple[Saved, ...]:
        rows = self._db.execute(
            "SELECT task_id, seat, attempt, task, spec, valid_until, signature, since,"  # noqa: S608
            " accepted_at, client_peer, members, has_input, ended_at, outcome, payment, reason,"
            " input"
            f" FROM engagements WHERE {condition}",
            values,
        ).fetchall()
        return tuple(self._saved(row) for row in rows)

    def _saved(self, row: tuple[Any, ...]) -> Saved:
        key = SeatKey(row[0], row[1], row[2])
        openings, lies, approvals = (
            self._messages(table, row[0]) for table in ("openings", "lies", "approvals")
        )
        result, output = self._result(key)
        return Saved(
            key=key,
            task=_TASKS.decode(row[3]),
            spec=_SPECS.decode(row[4]),
            valid_until=row[5],
            signature=row[6],
            since=row[7],
            accepted_at=row[8],
            client_peer=row[9],
            members=_MEMBERS.decode(row[10]) if row[10] is not None else (),
            has_input=bool(row[11]),
            input=row[16],
            result=result,
            output=output,
            openings={seat: _OPENED.decode(data) for seat, data in openings},
            lies={seat: _OPENED.decode(data) for seat, data in lies},
            approvals={seat: _APPROVED.decode(data) for seat, data in approvals},
            ended_at=row[12],
            outcome=row[13] or "",
            payment=int(row[14] or 0),
            reason=row[15] or "",
        )

    def _messages(self, table: str, task: TaskId) -> list[tuple[int, bytes]]:
        return self._db.execute(
            f"SELECT seat, message FROM {table} WHERE task_id=?",  # noqa: S608 - as above
            (task,),
        ).fetchall()

    async def days(self) -> tuple[Day, ...]:
        """Settled seats by day and workload, oldest first."""

        def work() -> tuple[Day, ...]:
            rows = self._db.execute(
                "SELECT day, workload, paid, forfeited, tasks, unpaid FROM days ORDER BY 1, 2"
            ).fetchall()
            return tuple(
                Day(day=r[0], workload=r[1], paid=int(r[2]), forfeited=int(r[3]), tasks=r[4],
                    unpaid=r[5])
                for r in rows
            )  # fmt: skip

        return await self._call(work)

    async def prune(self, *, before: int, keep: int) -> tuple[SeatKey, ...]:
        """Forget engagements that ended before `before`, and all but the newest `keep`.

        Sums by day stay. Returns what was forgotten, so that its blobs can go too.
        """

        def work() -> tuple[SeatKey, ...]:
            rows = self._db.execute(
                "SELECT task_id, seat, attempt FROM engagements WHERE ended_at IS NOT NULL"
                " AND (ended_at < ? OR rowid NOT IN (SELECT rowid FROM engagements"
                " WHERE ended_at IS NOT NULL ORDER BY ended_at DESC LIMIT ?))",
                (before, keep),
            ).fetchall()
            for row in rows:
                where = "task_id=? AND seat=? AND attempt=?"
                self._db.execute(f"DELETE FROM engagements WHERE {where}", row)  # noqa: S608
                self._db.execute(f"DELETE FROM results WHERE {where}", row)  # noqa: S608
            for table in ("openings", "lies", "approvals"):
                self._db.execute(
                    f"DELETE FROM {table}"  # noqa: S608 - constants of this module
                    " WHERE task_id NOT IN (SELECT task_id FROM engagements)"
                )
            return tuple(SeatKey(*row) for row in rows)

        return await self._write(work)

    async def add_slashed(self, amount: int) -> None:
        """Add to what this node has lost."""

        def work() -> None:
            self._db.execute(
                "INSERT OR REPLACE INTO meta VALUES ('slashed', ?)",
                (str(self._slashed() + amount).encode(),),
            )

        await self._write(work)

    async def slashed(self) -> int:
        """What this node has lost, in base units, as far as its own process saw it."""
        return await self._call(self._slashed)

    def _slashed(self) -> int:
        row = self._db.execute("SELECT value FROM meta WHERE key='slashed'").fetchone()
        return int(row[0]) if row is not None else 0

    async def remember(self, key: str, value: bytes) -> None:
        """Keep a small fact, for example measured speeds."""
        await self._write(
            lambda: self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))
        )

    async def recall(self, key: str) -> bytes | None:
        """A small fact, None if it was never kept."""
        row = await self._call(
            lambda: self._db.execute("SELECT value FROM meta WHERE key=?", (key,)).fetchone()
        )
        return None if row is None else bytes(row[0])
