"""The lane's database: full, damaged, read-only, locked, of a newer program; and forgetting."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
import trio

from deai.channels import Channel, Voucher
from deai.errors import ConfigError, DeaiError, LimitExceeded, NodeFault
from deai.hashing import keccak
from deai.ids import SEI, ChannelId, NodeId, hexed
from deai.lane.messages import Halt, Pay, Welcome
from deai.lane.payee import Standing, Taken
from deai.money import Amount
from node.lane import book as book_module
from node.lane.book import MAX_CHANNELS, BookView, LaneBook
from node.lane.tables import Entry
from node.store.errors import AlreadyRunning
from tests.node.lane.support import PRICE, at_work
from tests.node.support.names import key, until

pytestmark = pytest.mark.slow

NODE = NodeId("0x" + "01" * 20 + "00" * 12)
CLIENT, SESSION = key("client").account, key("session").account


def channel_of(number: int) -> tuple[ChannelId, Channel]:
    id_ = ChannelId(hexed(keccak(str(number).encode())))
    return id_, Channel(CLIENT, NODE, SESSION)


def promise(book: LaneBook, number: int, amount: int, *, at: int = 0, times: int = 1) -> Entry:
    """A voucher of an account, with a window of two tasks."""
    id_, channel = channel_of(number)
    entry = book.entry(SEI, id_, channel, 1)
    for _ in range(times):
        before = entry.standing
        voucher = Voucher(id_, 1, Amount(amount), bytes(32), bytes(64))
        standing = Standing(
            number=before.number + 1, paid=before.paid + 2, settled=Amount(amount), voucher=voucher
        )
        pay = Pay(standing.number, 2, Amount(amount), bytes(32), bytes(64))
        taken = Taken(standing, (bytes(32), bytes(32)), None)
        book.voucher(entry, pay, taken, b"", at, lambda: None)
    return entry


async def written(path: Path, fill: Callable[[LaneBook], None], **settings: int) -> LaneBook:
    """Fill a book and wait until it is on disk; it stays open."""
    book = LaneBook(path, **settings)
    async with trio.open_nursery() as nursery:
        await nursery.start(book.run)
        fill(book)
        await book.writer.flushed()
        nursery.cancel_scope.cancel()
    return book


def rows(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


async def test_everything_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "lane.db"

    def fill(book: LaneBook) -> None:
        entry = promise(book, 1, (1 << 96) - 1, at=5)
        entry.work["shout"] = 7
        book.seen(entry, deposit=(1 << 96) - 1, redeemed=3, is_closed=False, now=86_400)
        book.changed(entry)

    (await written(path, fill)).close()
    for again in (LaneBook(path), BookView(path)):
        (entry,) = again.entries.values()
        assert entry.promised == (1 << 96) - 1
        assert (entry.redeemed, entry.deposit) == (3, (1 << 96) - 1)
        assert entry.work == {"shout": 7}
        assert again.days == {(SEI, "1970-01-02"): 3}
        if isinstance(again, LaneBook):
            assert again.newest(SEI, entry.channel_id) is entry
            again.close()


async def test_what_was_redeemed_counts_once(tmp_path: Path) -> None:
    def fill(book: LaneBook) -> None:
        entry = promise(book, 1, 100)
        for _ in range(3):
            book.seen(entry, deposit=200, redeemed=60, is_closed=False, now=0)
        book.seen(entry, deposit=200, redeemed=100, is_closed=False, now=0)
        assert entry.unredeemed == 0

    with closing(await written(tmp_path / "lane.db", fill)) as book:
        assert book.days == {(SEI, "1970-01-01"): 100}


async def test_old_redeemed_windows_are_forgotten_and_their_sums_are_not(tmp_path: Path) -> None:
    path = tmp_path / "lane.db"
    many = book_module.PRUNED_AT_ONCE + 10

    def fill(book: LaneBook) -> None:
        old = promise(book, 1, 500, at=10, times=many)
        book.seen(old, deposit=500, redeemed=500, is_closed=False, now=10)
        promise(book, 2, 300, at=10)  # not redeemed
        fresh = promise(book, 3, 200, at=5_000_000)
        book.seen(fresh, deposit=200, redeemed=200, is_closed=False, now=5_000_000)
        gone = promise(book, 4, 50, at=10)
        book.seen(gone, deposit=50, redeemed=40, is_closed=True, now=10)
        assert gone.lost == 10
        book.forget(1_000_000)

    book = await written(path, fill)
    book.close()
    assert 2 < rows(path, "vouchers") <= 2 + 11  # the first pass took as many as it may

    def again(book: LaneBook) -> None:
        book.forget(1_000_000)

    with closing(await written(path, again)) as book:
        assert rows(path, "vouchers") == 2
        assert len(book.entries) == 3
        assert book.gone[SEI].promised == 50
        first = book.entries[SEI, channel_of(1)[0], 1]
        assert first.promised == 500
        assert first.standing.paid == 2 * many


def not_a_database(path: Path) -> None:
    path.write_bytes(b"these are not the rows you look for" * 200)


def newer(path: Path) -> None:
    LaneBook(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE meta SET value='2'")
        db.commit()


def torn_account(path: Path) -> None:
    LaneBook(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute(
            "INSERT INTO accounts VALUES"
            " (1, 'sei', 'x', 1, x'00', x'00', '0', '0', 0, 0, '{}', 0, 0)"
        )
        db.commit()


def a_folder(path: Path) -> None:
    path.mkdir(parents=True)


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [(not_a_database, NodeFault), (newer, ConfigError), (torn_account, NodeFault),
     (a_folder, NodeFault)],
)  # fmt: skip
async def test_a_file_that_cannot_be_used_says_so(
    tmp_path: Path, spoil: Callable[[Path], None], kind: type[DeaiError]
) -> None:
    path = tmp_path / "lane.db"
    spoil(path)
    with pytest.raises(kind):
        LaneBook(path)


async def test_a_file_that_another_process_writes_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "lane.db"
    LaneBook(path).close()
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(AlreadyRunning):
            LaneBook(path)


async def test_a_locked_file_holds_vouchers_up_and_loses_none(tmp_path: Path) -> None:
    async with at_work(tmp_path, paid=40) as client:
        node = client.provider
        with closing(sqlite3.connect(node.home / "lane.db")) as other:
            other.execute("BEGIN IMMEDIATE")
            await client.pay(0, more=PRICE)
            await client.ask_for(*[b"held up"] * 100)
            await client.hear_until(lambda: "store_full" in [one.code for one in client.halts])
            assert client.acknowledged == client.number - 1
            await until(lambda: "lane_store_full" in node.whole.problems)
            other.rollback()
        await client.hear_until(lambda: client.acknowledged == client.number)
        await until(lambda: "lane_store_full" not in node.whole.problems)


async def test_a_full_disk_holds_vouchers_up_and_a_restart_knows_what_was_acknowledged(
    tmp_path: Path,
) -> None:
    async with at_work(tmp_path, lane_pages=14) as client:
        node = client.provider
        with trio.move_on_after(60):
            while not client.halts:
                await client.pay(len(client.unpaid), more=PRICE)
                await client.ask_for(b"x")
                with trio.move_on_after(2):
                    await client.hear_until(lambda: client.unpaid or client.halts)
        assert client.halts[-1].code == "store_full"
        known = client.acknowledged
        assert 0 < known < client.number
        await node.kill()
        node.lane_pages = 0
        await node.start()
        answer = await client.connect()
        assert isinstance(answer, Welcome)
        assert answer.number >= known


async def test_a_disk_that_fails_ends_the_lane_and_not_the_node(tmp_path: Path) -> None:
    async with at_work(tmp_path) as client:
        node = client.provider
        await client.work_off(b"a")
        with closing(sqlite3.connect(node.home / "lane.db")) as other:
            other.execute("DROP TABLE vouchers")
            other.commit()
        await client.pay(0, more=PRICE)
        await client.ask_for(b"b")
        await client.hear_until(lambda: client.unpaid)
        await client.pay(1)
        await until(lambda: "lane_store" in node.whole.problems)
        answer = await client.connect()
        assert isinstance(answer, Halt)
        assert answer.code == "store_full"
        assert node.live.is_ready


async def test_ten_thousand_channels_are_kept_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "lane.db"

    def fill(book: LaneBook) -> None:
        for number in range(MAX_CHANNELS):
            promise(book, number, 100)
        id_, channel = channel_of(MAX_CHANNELS)
        with pytest.raises(LimitExceeded):
            book.entry(SEI, id_, channel, 1)
        # Known ones go on.
        promise(book, 5, 200)
        closed = book.entries[SEI, channel_of(7)[0], 1]
        book.seen(closed, deposit=100, redeemed=100, is_closed=True, now=1)
        assert not book.entry(SEI, id_, channel, 1).is_kept
        assert book.gone[SEI].redeemed == 100
        promise(book, MAX_CHANNELS, 100)

    (await written(path, fill)).close()
    with closing(LaneBook(path)) as book:
        assert len(book.entries) == MAX_CHANNELS
        assert book.entries[SEI, channel_of(5)[0], 1].promised == 200
        assert (
            msgspec.structs.asdict(book.entries[SEI, channel_of(6)[0], 1].standing)["number"] == 1
        )
