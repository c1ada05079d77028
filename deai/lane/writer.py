"""One thread that makes rows durable, many at a time, and tells when they are.

SQLite in WAL mode with `synchronous=FULL`. Whoever puts rows goes on at once; the callback runs
on the event loop after the flush, so that nothing is acknowledged before the disk has it. Rows
that arrive during a flush share the next one, and the loop is woken once per flush.

A full, locked or read-only disk holds everything up (`problem` says why, and it is tried again):
no row is lost and none acknowledged. Anything else that happens to the thread ends the writer, and
whoever waits for it is told.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias

import trio

from deai.errors import DeaiError, NodeFault

Row: TypeAlias = tuple[str, tuple[object, ...]]
"""A statement and what it is given."""
Done: TypeAlias = Callable[[], None]

RETRY: Final = 0.25
"""Seconds between two tries while the disk refuses."""
LAZY: Final = 0.05
"""Seconds for which rows that nobody waits for may wait for others to share their flush."""
_SMOOTHING: Final = 0.2
_PASSING: Final = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_BUSY: "another process holds the journal",
    sqlite3.SQLITE_LOCKED: "another process holds the journal",
    sqlite3.SQLITE_READONLY: "the journal cannot be written to",
}


def open_database(path: Path, schema: str) -> sqlite3.Connection:
    """A connection for a `Writer`, with the tables of `schema` (`CREATE … IF NOT EXISTS`).

    Raises `sqlite3.Error`: whoever keeps the file knows what to say of it.
    """
    db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.executescript(schema)
    except sqlite3.Error:
        db.close()
        raise
    return db


class Writer:
    """The only writer of a database; `run` keeps its thread."""

    def __init__(self, db: sqlite3.Connection, *, delay: float = 0.0) -> None:
        """`db` is used by the thread alone while `run` runs, and was opened for that.

        `delay` is added to every flush, in seconds: what a slower disk would do, for experiments.
        """
        self._db = db
        self.delay = delay
        self._queue: list[tuple[tuple[Row, ...], Done]] = []
        self._is_urgent = False
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stop = False
        self._put = 0
        self._waiting = 0
        self._news = trio.Event()
        self._ended = trio.Event()
        self._failure: DeaiError | None = None
        self.problem = ""
        """Why nothing is written at the moment, for people; empty while all is well."""
        self.flush_seconds = 0.0
        """What a flush takes, smoothed."""
        self.flushes = 0

    def put(self, rows: Iterable[Row], done: Done, *, lazy: bool = False) -> None:
        """Write rows in one transaction; `done` is called on the loop once they are durable.

        Rows become durable in the order in which they were put; lazy ones with the next that are
        not, or after `LAZY` seconds.
        """
        self._put += 1
        self._waiting += 1
        with self._lock:
            self._queue.append((tuple(rows), done))
            # The thread has to know of the first row, and of the first that is urgent.
            has_news = len(self._queue) == 1 or not (lazy or self._is_urgent)
            self._is_urgent = self._is_urgent or not lazy
        if has_news:
            self._wake.set()

    async def flushed(self) -> None:
        """Wait until everything that was put by now is durable; raises what ended the writer.

        What others put meanwhile is not waited for: there is no end of it on a busy node.
        """
        with self._lock:
            self._is_urgent = True
        self._wake.set()
        until = self._put
        while self._put - self._waiting < until and not self._ended.is_set():
            await self._news.wait()
        if self._failure is not None:
            raise self._failure
        await trio.lowlevel.checkpoint()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write until cancelled; what was put by then is still written. Raises `NodeFault`."""
        token = trio.lowlevel.current_trio_token()
        thread = threading.Thread(target=self._work, args=(token,), name="lane writer", daemon=True)
        thread.start()
        task_status.started()
        try:
            await self._ended.wait()
        finally:
            self._stop = True
            self._wake.set()
            with trio.CancelScope(shield=True):
                await self._ended.wait()
            thread.join()
        if self._failure is not None:
            raise self._failure

    def _work(self, token: trio.lowlevel.TrioToken) -> None:
        try:
            while batch := self._next():
                if not self._write(batch):
                    break
                token.run_sync_soon(self._written, batch)
        except BaseException as error:  # noqa: BLE001 - the outermost of a thread: nobody else would say it
            is_disk = isinstance(error, sqlite3.Error)
            what = str(error) if is_disk else f"{type(error).__name__}: {error}"
            self._failure = NodeFault(
                f"the journal of the lane failed: {what}",
                hint="look at the disk: its space, rights and errors; nothing promised is lost"
                if is_disk
                else "a fault of this program; nothing promised is lost",
            )
            self._failure.__cause__ = error
        finally:
            token.run_sync_soon(self._end)

    def _next(self) -> list[tuple[tuple[Row, ...], Done]]:
        """Everything that waits; nothing once the writer is to stop and is done."""
        deadline = 0.0
        while True:
            with self._lock:
                left = deadline - time.monotonic() if deadline else LAZY
                if self._stop or (self._queue and (self._is_urgent or left <= 0)):
                    batch, self._queue, self._is_urgent = self._queue, [], False
                    return batch
                if self._queue and not deadline:
                    deadline = time.monotonic() + LAZY
                is_empty = not self._queue
                self._wake.clear()
            self._wake.wait(None if is_empty else left)

    def _write(self, batch: list[tuple[tuple[Row, ...], Done]]) -> bool:
        """Whether it is durable; False if the writer was stopped while the disk refused."""
        while True:
            began = time.perf_counter()
            try:
                self._execute([row for rows, _ in batch for row in rows])
            except sqlite3.OperationalError as error:
                reason = _PASSING.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
                if reason is None:
                    raise
                self.problem = reason
                if self._stop:
                    return False
                time.sleep(RETRY)
                continue
            if self.delay:
                time.sleep(self.delay)
            took = time.perf_counter() - began
            self.flush_seconds += (took - self.flush_seconds) * (
                _SMOOTHING if self.flushes else 1.0
            )
            self.flushes += 1
            self.problem = ""
            return True

    def _execute(self, rows: list[Row]) -> None:
        if len(rows) == 1:
            # A transaction of its own: each statement more may have to wait for the interpreter.
            self._db.execute(*rows[0])
            return
        with _transaction(self._db):
            for statement, values in rows:
                self._db.execute(statement, values)

    def _written(self, batch: list[tuple[tuple[Row, ...], Done]]) -> None:
        self._waiting -= len(batch)
        for _, done in batch:
            done()
        self._tell()

    def _end(self) -> None:
        self._ended.set()
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")
