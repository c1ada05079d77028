"""The disk of a client that pays: full, torn, read-only, and what it is told then."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import trio

from deai.client.journal import JournalError
from deai.client.lane.book import FILE, Book, BookReader
from deai.client.lane.tasks import Task
from deai.errors import DeaiError
from deai.money import UNIT
from tests.client.lane.node import Cheat
from tests.client.lane.world import PRICE, LaneWorld, lane_world
from tests.support.polling import until

pytestmark = pytest.mark.world

MANY = [b"task %d" % n for n in range(1500)]
SHOUTED = [data.upper() for data in MANY]


async def test_a_damaged_book_is_named_and_moved_away_the_node_tells_the_rest(
    tmp_path: Path,
) -> None:
    async with lane_world(tmp_path, Cheat()) as world:
        async with world.client() as client, client.lane("shout", max_fee=UNIT) as lane:
            assert len([_ async for _ in lane.map(MANY[:100])]) == 100
        data = bytearray((tmp_path / FILE).read_bytes())
        data[:4096] = bytes(4096)
        (tmp_path / FILE).write_bytes(data)
        async with world.client() as client:
            with pytest.raises(JournalError) as caught:
                async with client.lane("shout", max_fee=UNIT):
                    pass
            assert caught.value.reason_code == "lane_book"
            assert "move lane.db away" in caught.value.hint
        (tmp_path / FILE).unlink()
        async with world.client() as client, client.lane("shout", max_fee=UNIT) as lane:
            assert await lane.call(b"again") == b"AGAIN"
        assert world.nodes[0].account.cumulative == 101 * PRICE


class FullDisk:
    """A connection whose disk is full from the n-th transaction on."""

    def __init__(self, db: sqlite3.Connection, after: int) -> None:
        self._db, self.left, self.is_mended = db, after, False

    def execute(self, statement: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
        if statement == "COMMIT" and not self.is_mended:
            self.left -= 1
            if self.left < 0:
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise error
        return self._db.execute(statement, values)

    @property
    def in_transaction(self) -> bool:
        return self._db.in_transaction


async def test_a_full_disk_is_said_and_nothing_undurable_is_sent(tmp_path: Path) -> None:
    async with lane_world(tmp_path, Cheat()) as world:
        async with world.client() as client:
            with trio.fail_after(20):
                async with client.lane("shout", max_fee=UNIT) as lane:
                    lane.book.writer._db = FullDisk(lane.book.writer._db, 4)  # type: ignore[assignment]
                    ended = [task async for task in lane.results(MANY)]
            error = ended[-1].error
            assert isinstance(error, JournalError)
            assert "disk is full" in str(error)
        reader = BookReader(tmp_path)
        standing = reader.standing(world.channel(world.nodes[0])[1], 1)
        reader.close()
        assert world.nodes[0].account.cumulative <= standing.promised.cumulative
        async with world.client() as client, client.lane("shout", max_fee=UNIT) as lane:
            assert [out async for out in lane.map(MANY)] == SHOUTED


async def test_a_disk_that_is_full_for_a_moment_only_holds_things_up(tmp_path: Path) -> None:
    async with lane_world(tmp_path, Cheat()) as world, world.client() as client:
        with trio.fail_after(20):
            async with client.lane("shout", max_fee=UNIT) as lane:
                disk = FullDisk(lane.book.writer._db, 4)
                lane.book.writer._db = disk  # type: ignore[assignment]

                async def mend() -> None:
                    await until(lambda: lane.book.problem)
                    disk.is_mended = True

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(mend)
                    assert [out async for out in lane.map(MANY)] == SHOUTED
        assert world.nodes[0].account.cumulative == len(MANY) * PRICE


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    with pytest.raises(DeaiError) as caught:
        Book(tmp_path / "home")
    assert caught.value.reason_code == "lane_book"


async def test_a_journal_that_cannot_be_written_for_a_moment_only_holds_things_up(
    tmp_path: Path,
) -> None:
    async with lane_world(tmp_path, Cheat()) as world, world.client() as client:
        node = world.nodes[0]
        with trio.fail_after(20):
            async with (
                client.lane("shout", max_fee=UNIT) as lane,
                trio.open_nursery() as nursery,
            ):

                async def trouble() -> None:
                    await until(lambda: len(node.computed) >= 200)
                    lane.book._db.execute("PRAGMA query_only=ON")
                    assert (
                        await until(lambda: lane.book.problem) == "the journal cannot be written to"
                    )
                    promised = node.account.number
                    await trio.sleep(0.1)
                    assert node.account.number - promised <= 1, "what is not durable is not said"
                    lane.book._db.execute("PRAGMA query_only=OFF")

                nursery.start_soon(trouble)
                assert [out async for out in lane.map(MANY)] == SHOUTED
        assert node.account.cumulative == len(MANY) * PRICE


def tear(path: Path, *pages: int, size: int = 4096) -> None:
    """Half of each page never got there: what a power cut leaves of a disk that lies."""
    with path.open("r+b") as file:
        for page in pages:
            file.seek(page * size + size // 2)
            file.write(bytes(size // 2))


async def life(world: LaneWorld, inputs: list[bytes]) -> list[bytes]:
    """What one life of the client gets done."""
    async with world.client() as client, client.lane("shout", max_fee=UNIT) as lane:
        return [out async for out in lane.map(inputs)]


@pytest.mark.parametrize("place", [0, 1, 2, 4, 8, 12, 16, 20, -2, -1])
async def test_a_torn_page_is_survived_or_named_wherever_it_is(place: int, tmp_path: Path) -> None:
    path = tmp_path / FILE
    async with lane_world(tmp_path, Cheat()) as world:
        assert await life(world, MANY) == SHOUTED
        pages = path.stat().st_size // 4096
        assert pages > 24
        tear(path, place % pages)
        error = None
        with trio.fail_after(20):
            try:
                assert await life(world, MANY[:10]) == SHOUTED[:10]
            except JournalError as caught:
                error = caught
        if error is not None:
            assert error.reason_code == "lane_book"
            assert "move lane.db away" in error.hint
            path.unlink()
            assert await life(world, MANY[:10]) == SHOUTED[:10]
        assert error is not None or place, "the first page is always missed"
        assert world.nodes[0].account.cumulative == (len(MANY) + 10) * PRICE


async def test_pages_torn_under_load_end_the_lane_and_pay_no_more_than_it_got(
    tmp_path: Path,
) -> None:
    path = tmp_path / FILE
    async with lane_world(tmp_path, Cheat()) as world:
        assert await life(world, MANY) == SHOUTED
        node, ended = world.nodes[0], list[Task]()
        with trio.fail_after(20):
            async with (
                world.client() as client,
                client.lane("shout", max_fee=UNIT) as lane,
                trio.open_nursery() as nursery,
            ):

                async def trouble() -> None:
                    await until(lambda: len(node.computed) >= len(MANY) + 200)
                    # What has been written goes where it is torn; nothing is remembered of it.
                    lane.book._reader.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                    tear(path, *range(1, path.stat().st_size // 4096))
                    for one in (lane.book._db, lane.book._reader):
                        one.execute("PRAGMA shrink_memory")

                nursery.start_soon(trouble)
                ended += [task async for task in lane.results(MANY * 4)]
        assert {type(task.error) for task in ended if task.error is not None} == {JournalError}
        assert node.account.cumulative <= (len(node.computed) + 1) * PRICE
        path.unlink()
        before = node.account.paid
        assert await life(world, MANY[:10]) == SHOUTED[:10]
        assert node.account.paid >= before + 10
