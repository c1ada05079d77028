"""Durable acknowledgements per second at 256 callers: the lane's writer and two alternatives.

Each caller writes a voucher's row (the window's 64 leaves in it), waits until it is durable, and
writes the next. The alternatives on the same disk, in turns: SQLite with one transaction per
row, and the node's own journal, whose callers share transactions and whose writes run at once.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Final

import outcome
import trio

from benchmarks.report import Report, parser
from deai.lane.writer import Writer, open_database
from node.store.calls import InThreads
from node.store.group import Writer as GroupWriter

CALLERS: Final = 256
ROUNDS: Final = 5
SECONDS: Final = 3.0
QUICK_SECONDS: Final = 0.5
ROW_BYTES: Final = 64 * 32 + 200
"""The leaves of a full window, and the rest of a voucher."""
SCHEMA: Final = "CREATE TABLE IF NOT EXISTS rows (number INTEGER PRIMARY KEY, body BLOB) STRICT;"
INSERT: Final = "INSERT INTO rows VALUES (?, ?)"


class Numbers:
    """Row numbers, and how many rows were acknowledged until the end."""

    def __init__(self, seconds: float) -> None:
        self.began = time.perf_counter()
        self.end = self.began + seconds
        self.given = 0
        self.acknowledged = 0

    def next(self) -> int | None:
        """A new row's number; None once it is time to stop."""
        if time.perf_counter() >= self.end:
            return None
        self.given += 1
        return self.given

    def rate(self) -> float:
        """Acknowledged rows per second."""
        return self.acknowledged / (time.perf_counter() - self.began)


async def _callers(numbers: Numbers, write: Callable[[int], Awaitable[object]]) -> None:
    async def call() -> None:
        while (number := numbers.next()) is not None:
            await write(number)
            numbers.acknowledged += 1

    async with trio.open_nursery() as nursery:
        for _ in range(CALLERS):
            nursery.start_soon(call)


async def lane_writer(path: Path, seconds: float) -> float:
    """`deai.lane.writer`: a thread that takes everything that waits into one flush."""
    db, body = open_database(path, SCHEMA), os.urandom(ROW_BYTES)
    writer = Writer(db)

    async def write(number: int) -> None:
        task = trio.lowlevel.current_task()
        done: outcome.Value[object] = outcome.Value(None)
        writer.put([(INSERT, (number, body))], lambda: trio.lowlevel.reschedule(task, done))
        await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)

    numbers = Numbers(seconds)
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        await _callers(numbers, write)
        found = numbers.rate()
        nursery.cancel_scope.cancel()
    _check(db, numbers)
    return found


async def node_journal(path: Path, seconds: float) -> float:
    """The writer of the node's journal of escrow tasks."""
    db, body = open_database(path, SCHEMA), os.urandom(ROW_BYTES)
    writer = GroupWriter(db, InThreads(1))

    async def write(number: int) -> None:
        await writer.write(lambda: db.execute(INSERT, (number, body)))

    numbers = Numbers(seconds)
    await _callers(numbers, write)
    found = numbers.rate()
    _check(db, numbers)
    return found


async def one_by_one(path: Path, seconds: float) -> float:
    """A transaction and a flush for each row, as a program without group commit does it."""
    db, body = open_database(path, SCHEMA), os.urandom(ROW_BYTES)
    numbers = Numbers(seconds)

    def work() -> None:
        while (number := numbers.next()) is not None:
            db.execute(INSERT, (number, body))
            numbers.acknowledged += 1

    await trio.to_thread.run_sync(work)
    found = numbers.rate()
    _check(db, numbers)
    return found


def _check(db: sqlite3.Connection, numbers: Numbers) -> None:
    (kept,) = db.execute("SELECT count(*) FROM rows").fetchone()
    assert kept == numbers.acknowledged == numbers.given
    db.close()


async def measure(seconds: float, rounds: int) -> Report:
    """The three in turns, so that a disk whose speed drifts is as slow for each."""
    report = Report(
        "journal", parameters={"callers": CALLERS, "row_bytes": ROW_BYTES, "seconds": seconds}
    )
    ways = {"lane": lane_writer, "node_journal": node_journal, "one_by_one": one_by_one}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            with tempfile.TemporaryDirectory() as folder:
                found[name].append(await way(Path(folder) / "rows.db", seconds))
    report.add("durable_per_s", median(found["lane"]), "1/s")
    report.add("durable_per_s_lowest", min(found["lane"]), "1/s")
    report.baseline("node_journal_per_s", median(found["node_journal"]), "1/s")
    report.baseline("one_by_one_per_s", median(found["one_by_one"]), "1/s")
    return report


def main() -> None:
    """Measure and print."""
    options = parser(__doc__).parse_args()
    seconds, rounds = (QUICK_SECONDS, 1) if options.quick else (SECONDS, ROUNDS)
    trio.run(measure, seconds, rounds).emit(as_json=options.json)


if __name__ == "__main__":
    main()
