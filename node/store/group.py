"""Group commit: writers that wait together share one transaction and one flush.

A flush costs the same for one write as for fifty, and while one is under way others arrive.
Whoever gets its turn takes everybody who waits into its transaction; each is answered after the
flush, never before.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import trio

from deai.pace import Pace
from node.store.calls import Caller

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class _Waiting(Generic[T]):
    """One write: what to do, and what became of it."""

    work: Callable[[], T]
    flush: bool
    result: T | None = None
    error: BaseException | None = None
    is_done: bool = False

    def run(self) -> None:
        self.result = self.work()

    def answer(self) -> T:
        if self.error is not None:
            raise self.error
        return self.result  # type: ignore[return-value] # None only where T allows it


class Writer:
    """Runs writes on one connection, as many per transaction as are waiting."""

    def __init__(self, db: sqlite3.Connection, caller: Caller) -> None:
        """`caller` runs one blocking call at a time; nobody else writes over `db` meanwhile."""
        self._db = db
        self._caller = caller
        self._turn = trio.Lock()
        self._waiting: list[_Waiting[object]] = []
        self._flushes: bool | None = None
        self._pace = Pace()

    async def write(self, work: Callable[[], T], *, flush: bool = True) -> T:
        """What `work` returns or raises, once the disk has what it wrote.

        `work` only speaks to the connection and may be run twice, the first time rolled back.
        Without `flush` the write is atomic and in order but may be lost with the power: for
        what can be found out again. Not abandoned on cancellation.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        mine: _Waiting[T] = _Waiting(work, flush)
        if not self._turn.locked() and (self._pace.is_quick or not flush):
            # Alone: nobody waits for the loop. Unflushed it is a copy in memory.
            self._commit([mine])  # type: ignore[list-item] # only `run` is called there
            return mine.answer()
        self._waiting.append(mine)  # type: ignore[arg-type] # only `run` is called there
        with trio.CancelScope(shield=True):
            async with self._turn:
                if not mine.is_done:
                    batch, self._waiting = self._waiting, []
                    await self._caller(lambda: self._commit(batch))
        return mine.answer()

    def _commit(self, batch: Sequence[_Waiting[object]]) -> None:
        try:
            with self._pace.measured():
                if not self._together(batch):
                    for one in batch:
                        self._alone(one)
        finally:
            for one in batch:
                one.is_done = True

    def _together(self, batch: Sequence[_Waiting[object]]) -> bool:
        """All in one transaction; False if one of them failed and nothing was written."""
        if len(batch) == 1:
            return False
        try:
            with self.transaction(flush=any(one.flush for one in batch)):
                for one in batch:
                    one.run()
        # Whatever one piece of work raises: its own writer gets it when that is done alone.
        except Exception:  # noqa: BLE001
            return False
        return True

    def _alone(self, one: _Waiting[object]) -> None:
        try:
            with self.transaction(flush=one.flush):
                one.run()
        # Raised where the work is waited for: in another task than this thread serves.
        except BaseException as error:  # noqa: BLE001
            one.error = error

    @contextmanager
    def transaction(self, *, flush: bool = True) -> Iterator[None]:
        """Everything inside or nothing."""
        if flush is not self._flushes:
            self._db.execute(f"PRAGMA synchronous={'FULL' if flush else 'NORMAL'}")
            self._flushes = flush
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
