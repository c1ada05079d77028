"""Nothing is said to be durable before it is; a disk that refuses holds up and loses nothing."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from deai.errors import NodeFault
from deai.lane.writer import Writer, open_database
from tests.support.polling import until

pytestmark = pytest.mark.slow

SCHEMA = "CREATE TABLE IF NOT EXISTS said (number INTEGER PRIMARY KEY) STRICT;"
INSERT = "INSERT INTO said VALUES (?)"
AT_EASE = 60


def rows(path: Path) -> list[int]:
    db = sqlite3.connect(path)
    try:
        return [number for (number,) in db.execute("SELECT number FROM said ORDER BY number")]
    finally:
        db.close()


@asynccontextmanager
async def writing(path: Path) -> AsyncIterator[tuple[Writer, sqlite3.Connection]]:
    db = open_database(path, SCHEMA)
    writer = Writer(db)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(writer.run)
            yield writer, db
            nursery.cancel_scope.cancel()
    finally:
        db.close()


async def test_rows_are_on_disk_when_their_callback_comes_and_in_order(tmp_path: Path) -> None:
    path, told = tmp_path / "lane.db", list[int]()

    def note(number: int) -> None:
        assert rows(path)[: number + 1] == list(range(number + 1))
        told.append(number)

    async with writing(path) as (writer, _):
        for number in range(50):
            writer.put([(INSERT, (number,))], partial(note, number))
        with trio.fail_after(AT_EASE):
            await writer.flushed()
    assert told == list(range(50))
    assert 0 < writer.flushes <= 50
    assert writer.flush_seconds > 0


async def test_what_was_put_before_the_end_is_still_written(tmp_path: Path) -> None:
    async with writing(tmp_path / "lane.db") as (writer, _):
        for number in range(100):
            writer.put([(INSERT, (number,))], lambda: None)
    assert rows(tmp_path / "lane.db") == list(range(100))


async def test_a_flush_is_over_also_where_others_go_on_writing(tmp_path: Path) -> None:
    async with writing(tmp_path / "lane.db") as (writer, _):
        said = 0

        def again() -> None:
            nonlocal said
            said += 1
            writer.put([(INSERT, (said,))], again)

        again()
        with trio.fail_after(AT_EASE):
            await writer.flushed()
        assert said >= 2


async def test_while_another_process_holds_the_file_nothing_is_said_and_nothing_lost(
    tmp_path: Path,
) -> None:
    path, told = tmp_path / "lane.db", trio.Event()
    async with writing(path) as (writer, _):
        other = sqlite3.connect(path, isolation_level=None, timeout=0)
        other.execute("BEGIN IMMEDIATE")
        writer.put([(INSERT, (1,))], told.set)
        await until(lambda: writer.problem)
        assert "another process" in writer.problem
        assert not told.is_set()
        other.execute("ROLLBACK")
        other.close()
        with trio.fail_after(AT_EASE):
            await told.wait()
        assert writer.problem == ""
    assert rows(path) == [1]


async def test_a_full_disk_holds_up_until_there_is_room(tmp_path: Path) -> None:
    path, told = tmp_path / "lane.db", trio.Event()
    async with writing(path) as (writer, db):
        with trio.fail_after(AT_EASE):
            await writer.flushed()
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count={pages}")
        writer.put([(INSERT, (number,)) for number in range(20_000)], told.set)
        await until(lambda: writer.problem)
        assert "full" in writer.problem
        assert not told.is_set()
        db.execute("PRAGMA max_page_count=1000000")  # between two tries: the thread only sleeps
        with trio.fail_after(AT_EASE):
            await told.wait()
    assert len(rows(path)) == 20_000


async def test_a_writer_that_ends_while_the_disk_refuses_says_nothing(tmp_path: Path) -> None:
    path, told = tmp_path / "lane.db", threading.Event()
    other = None
    try:
        async with writing(path) as (writer, _):
            other = sqlite3.connect(path, isolation_level=None, timeout=0)
            other.execute("BEGIN IMMEDIATE")
            writer.put([(INSERT, (1,))], told.set)
            await until(lambda: writer.problem)
    finally:
        if other is not None:
            other.close()
    assert not told.is_set()
    assert rows(path) == []


async def test_a_statement_that_cannot_be_right_ends_the_writer_with_its_reason(
    tmp_path: Path,
) -> None:
    db = open_database(tmp_path / "lane.db", SCHEMA)
    writer = Writer(db)
    writer.put([("INSERT INTO nowhere VALUES (1)", ())], lambda: None)
    with pytest.raises(NodeFault, match="nowhere"), trio.fail_after(AT_EASE):
        await writer.run()
    with pytest.raises(NodeFault, match="nowhere"):
        await writer.flushed()
    db.close()


KILLED = """
import sys, trio
from pathlib import Path
from deai.lane.writer import Writer, open_database
async def main(path):
    writer = Writer(open_database(path, sys.argv[2]))
    first = int(sys.argv[3])
    def put(number):
        def said():
            sys.stdout.write(f"{number}\\n")
            sys.stdout.flush()
            put(number + 8)
        writer.put([("INSERT INTO said VALUES (?)", (number,))], said)
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        for number in range(first, first + 8):
            put(number)
trio.run(main, Path(sys.argv[1]))
"""


def test_whatever_was_acknowledged_outlives_a_kill(tmp_path: Path) -> None:
    path, first = tmp_path / "lane.db", 0
    for kill in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(path), SCHEMA, str(first)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        told = [int(process.stdout.readline()) for _ in range(20 + 17 * kill)]
        os.kill(process.pid, signal.SIGKILL)
        told += [int(line) for line in process.stdout if line.endswith("\n")]
        process.stdout.close()
        process.wait()
        kept = rows(path)
        assert set(told) <= set(kept)
        first = kept[-1] + 1


async def test_rows_nobody_waits_for_share_the_next_flush_or_have_one_soon(tmp_path: Path) -> None:
    path, told = tmp_path / "lane.db", list[int]()
    async with writing(path) as (writer, _):
        flushed = trio.Event()

        def last() -> None:
            told.append(2)
            flushed.set()

        writer.put([(INSERT, (0,))], partial(told.append, 0), lazy=True)
        writer.put([(INSERT, (1,))], partial(told.append, 1), lazy=True)
        writer.put([(INSERT, (2,))], last)
        with trio.fail_after(AT_EASE):
            await flushed.wait()
        assert told == [0, 1, 2]
        assert writer.flushes == 1
        alone = trio.Event()
        writer.put([(INSERT, (3,))], alone.set, lazy=True)
        with trio.fail_after(AT_EASE):
            await alone.wait()
    assert rows(path) == [0, 1, 2, 3]


async def test_whatever_ends_the_thread_reaches_those_who_wait(tmp_path: Path) -> None:
    db = open_database(tmp_path / "lane.db", SCHEMA)
    writer = Writer(db)
    ended: list[NodeFault] = []

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        try:
            await writer.run(task_status=task_status)
        except NodeFault as error:
            ended.append(error)

    with trio.fail_after(AT_EASE):
        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            writer.put([(INSERT, (1 << 64,))], lambda: pytest.fail("nothing was written"))
            with pytest.raises(NodeFault, match="OverflowError") as caught:
                await writer.flushed()
    assert isinstance(caught.value.__cause__, OverflowError)
    assert ended == [caught.value]
    db.close()
