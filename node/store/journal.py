"""The journal: whatever a node promised or signed, durable before anybody hears of it.

SQLite, one file for every chain that the node serves; a `Journal` is one chain's part of it.
Writes that wait together share a transaction and a flush; each is answered after it. Inputs and
outputs of up to `SMALL_BYTES` lie in the rows that speak of them: no file of their own, no flush
of their own. A result is written once per (task, seat, attempt): asked again, the journal answers
with what was signed first, so that no crash can make a node sign two.
"""

from __future__ import annotations

from copy import copy
from pathlib import Path

from deai.codec import encode_canonical
from deai.ids import SEI, ChainName, TaskId
from deai.messages import ApprovedOutputs, Member, Opened
from node.store.calls import Caller
from node.store.file import JournalFile
from node.store.records import Day, OwnResult, Saved, SeatKey
from node.store.rows import APPROVED, SPECS, TASKS, result_of, select


class Journal:
    """All reads and writes about one chain; every coroutine returns after the disk has it."""

    def __init__(
        self,
        path: Path,
        chain: ChainName = SEI,
        *,
        max_pages: int = 0,
        read_only: bool = False,
        caller: Caller | None = None,
    ) -> None:
        """Open or create the file; `JournalFile` says what is raised and what else is meant."""
        self.chain = chain
        self._file = JournalFile(
            path, chain, max_pages=max_pages, read_only=read_only, caller=caller
        )
        self._db = self._file.db

    def on(self, chain: ChainName) -> Journal:
        """The part of another chain: the same file, which is closed once."""
        other = copy(self)
        other.chain = chain
        return other

    def close(self) -> None:
        """Let the file go, for all chains."""
        self._file.close()

    async def accept(self, saved: Saved) -> None:
        """Record a promise before it is given."""
        key = saved.key
        await self._file.write(
            lambda: self._db.execute(
                "INSERT OR IGNORE INTO engagements (task_id, seat, attempt, task, spec,"
                " valid_until, signature, since, accepted_at, client_peer, chain, has_input, input)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (key.task_id, key.seat, key.attempt, encode_canonical(saved.task),
                 encode_canonical(saved.spec), saved.valid_until, saved.signature, saved.since,
                 saved.accepted_at, saved.client_peer, self.chain, saved.has_input, saved.input),
            )
        )  # fmt: skip

    async def renew(self, key: SeatKey, valid_until: int, signature: bytes) -> None:
        """Record a longer promise for a seat that nobody assigned yet."""
        await self._set(key, "valid_until=?, signature=?", valid_until, signature)

    async def assigned(
        self, key: SeatKey, members: tuple[Member, ...], *, flush: bool = True
    ) -> None:
        """Record how the other members can be reached."""
        await self._set(key, "members=?", encode_canonical(members), flush=flush)

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
        await self._file.write(
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
            first, _ = result_of(self._db, key)
            if first is not None:
                return first
            self._db.execute(
                "INSERT INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (key.task_id, key.seat, key.attempt, own.digest, own.evidence, own.salt,
                 own.value, own.commit_signature, own.result_signature, own.fault, output),
            )  # fmt: skip
            return own

        return await self._file.write(work)

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
        return APPROVED.decode(row)

    async def _keep(self, table: str, task: TaskId, seat: int, data: bytes) -> bytes:
        def work() -> bytes:
            self._db.execute(f"INSERT OR IGNORE INTO {table} VALUES (?, ?, ?)", (task, seat, data))  # noqa: S608
            row = self._db.execute(
                f"SELECT message FROM {table} WHERE task_id=? AND seat=?",  # noqa: S608
                (task, seat),
            ).fetchone()
            kept: bytes = row[0]
            return kept

        return await self._file.write(work)

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

        Nobody is told of it and the chain says it again, so it waits for no flush. One that came
        to nothing is forgotten: anybody may propose for free, and may propose the same again.
        """

        def work() -> bool:
            row = self._db.execute(
                "SELECT spec, task, ended_at FROM engagements"
                " WHERE task_id=? AND seat=? AND attempt=?",
                (key.task_id, key.seat, key.attempt),
            ).fetchone()
            if row is None or row[2] is not None:
                return False
            if outcome == "unassigned":
                self._db.execute(
                    "DELETE FROM engagements WHERE task_id=? AND seat=? AND attempt=?",
                    (key.task_id, key.seat, key.attempt),
                )
                return True
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
                fee = TASKS.decode(row[1]).fee
                self._add_day(
                    day,
                    SPECS.decode(row[0]).workload,
                    paid=payment,
                    forfeited=fee if outcome == "forfeited" else 0,
                    unpaid=outcome != "paid",
                )
            return True

        return await self._file.write(work, flush=False)

    def _add_day(self, day: str, workload: str, *, paid: int, forfeited: int, unpaid: bool) -> None:
        row = self._db.execute(
            "SELECT paid, forfeited, tasks, unpaid FROM days"
            " WHERE chain=? AND day=? AND workload=?",
            (self.chain, day, workload),
        ).fetchone() or ("0", "0", 0, 0)
        self._db.execute(
            "INSERT OR REPLACE INTO days VALUES (?, ?, ?, ?, ?, ?, ?)",
            (self.chain, day, workload, str(int(row[0]) + paid), str(int(row[1]) + forfeited),
             row[2] + 1, row[3] + unpaid),
        )  # fmt: skip

    async def open_engagements(self) -> tuple[Saved, ...]:
        """Everything that has not ended, with all that is known about it."""
        return await self._file.read(
            lambda: select(self._db, "chain=? AND ended_at IS NULL", self.chain)
        )

    async def find(self, task: TaskId) -> Saved | None:
        """The newest engagement for a task, also an ended one."""

        def work() -> Saved | None:
            found = select(self._db, "chain=? AND task_id=?", self.chain, task)
            return max(
                found, key=lambda saved: (saved.accepted_at, saved.key.attempt), default=None
            )

        return await self._file.read(work)

    async def history(self, limit: int) -> tuple[Saved, ...]:
        """The newest engagements, open ones first."""
        return await self._file.read(
            lambda: select(
                self._db,
                "chain=? ORDER BY ended_at IS NOT NULL, ended_at DESC, accepted_at DESC LIMIT ?",
                self.chain,
                limit,
            )
        )

    async def days(self) -> tuple[Day, ...]:
        """Settled seats by day and workload, oldest first."""

        def work() -> tuple[Day, ...]:
            rows = self._db.execute(
                "SELECT day, workload, paid, forfeited, tasks, unpaid FROM days"
                " WHERE chain=? ORDER BY 1, 2",
                (self.chain,),
            ).fetchall()
            return tuple(
                Day(day=r[0], workload=r[1], paid=int(r[2]), forfeited=int(r[3]), tasks=r[4],
                    unpaid=r[5])
                for r in rows
            )  # fmt: skip

        return await self._file.read(work)

    async def prune(self, *, before: int, keep: int) -> tuple[SeatKey, ...]:
        """Forget engagements that ended before `before`, and all but the newest `keep`.

        Sums by day stay. Returns what was forgotten, so that its blobs can go too.
        """

        def work() -> tuple[SeatKey, ...]:
            rows = self._db.execute(
                "SELECT task_id, seat, attempt FROM engagements WHERE chain=? AND"
                " ended_at IS NOT NULL AND (ended_at < ? OR rowid NOT IN (SELECT rowid FROM"
                " engagements WHERE chain=? AND ended_at IS NOT NULL"
                " ORDER BY ended_at DESC LIMIT ?))",
                (self.chain, before, self.chain, keep),
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

        return await self._file.write(work)

    async def add_slashed(self, amount: int) -> None:
        """Add to what this node has lost."""

        def work() -> None:
            self._db.execute(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)",
                (self._fact("slashed"), str(self._slashed() + amount).encode()),
            )

        await self._file.write(work)

    async def slashed(self) -> int:
        """What this node has lost, in base units, as far as its own process saw it."""
        return await self._file.read(self._slashed)

    def _slashed(self) -> int:
        row = self._recall("slashed")
        return int(row) if row is not None else 0

    async def remember(self, key: str, value: bytes) -> None:
        """Keep a small fact about this chain, for example what was announced."""
        await self._file.write(
            lambda: self._db.execute(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)", (self._fact(key), value)
            )
        )

    async def recall(self, key: str) -> bytes | None:
        """A small fact, None if it was never kept."""
        return await self._file.read(lambda: self._recall(key))

    def _recall(self, key: str) -> bytes | None:
        row = self._db.execute("SELECT value FROM meta WHERE key=?", (self._fact(key),)).fetchone()
        return None if row is None else bytes(row[0])

    def _fact(self, key: str) -> str:
        return f"{self.chain}:{key}"
