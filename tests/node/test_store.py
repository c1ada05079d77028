"""The journal and the blobs: first word counts, everything bounded, nothing half there."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
import trio
import trio.testing

from deai.errors import ConfigError, MalformedMessage, NodeFault
from deai.hashing import CHUNK_BYTES, blob_digest, chunks, leaf
from deai.ids import NEAR, SEI, PeerId, TaskId
from deai.messages import ApprovedOutputs, Member, Opened
from node.engagement import Engagement
from node.store.blobs import BlobStore
from node.store.calls import InThreads
from node.store.errors import AlreadyRunning, StoreFull
from node.store.group import Writer
from node.store.journal import Journal
from node.store.records import OwnResult, Saved, SeatKey
from tests.node.test_negotiation import SPEC, TASK

T = TypeVar("T")
KEY = SeatKey(TaskId("0x" + "11" * 32), 0, 0)
SAVED = Saved(
    key=KEY, task=TASK, spec=SPEC, valid_until=5, signature=bytes(64), since=7, accepted_at=3,
    client_peer=PeerId("12D3KooWclient"),
)  # fmt: skip
OWN = OwnResult(
    digest=b"d" * 32, evidence=bytes(32), salt=b"s" * 32, value=b"v" * 32,
    commit_signature=b"c" * 64, result_signature=b"r" * 64, fault=0,
)  # fmt: skip


async def test_a_journal_remembers_across_lives(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    journal = Journal(path)
    await journal.accept(SAVED)
    members = (Member(1, "12D3KooWmember", ()),)
    await journal.has_input(KEY, members, b"in")
    await journal.result(KEY, OWN, b"out")
    opened = Opened(KEY.task_id, 1, 0, b"o" * 32, b"p" * 32, bytes(32), bytes(64))
    await journal.opened(opened)
    lie = msgspec.structs.replace(opened, digest=b"x" * 32)
    await journal.lied(lie)
    journal.close()
    again = Journal(path)
    (saved,) = await again.open_engagements()
    again.close()
    assert saved == msgspec.structs.replace(
        SAVED, has_input=True, input=b"in", members=members, result=OWN, output=b"out",
        openings={1: opened}, lies={1: lie},
    )  # fmt: skip
    # Two signed results of one seat are evidence, also in the next life.
    assert Engagement.of(saved).evidence() == (1, opened, lie)


async def test_small_blobs_go_with_the_end_unless_the_output_is_kept(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "node.db")
    for attempt, keep in enumerate((True, False)):
        key = SeatKey(KEY.task_id, 0, attempt)
        await journal.accept(msgspec.structs.replace(SAVED, key=key))
        await journal.has_input(key, (), b"in")
        await journal.result(key, OWN, b"out")
        await journal.ended(key, at=1, day="d", outcome="paid", payment=1, keep_output=keep)
    kept = {saved.key.attempt: saved for saved in await journal.history(9)}
    journal.close()
    assert (kept[0].input, kept[0].output) == (None, b"out")
    assert (kept[1].input, kept[1].output) == (None, None)


async def test_writers_that_wait_together_share_a_transaction_and_fail_alone(
    tmp_path: Path,
) -> None:
    db = sqlite3.connect(tmp_path / "a.db", isolation_level=None, check_same_thread=False)
    db.execute("CREATE TABLE t (n INTEGER PRIMARY KEY)")
    begun: list[str] = []
    db.set_trace_callback(lambda line: begun.append(line) if line.startswith("BEGIN") else None)
    writer = Writer(db, InThreads(1))
    refused: list[int] = []

    async def add(number: int) -> None:
        try:
            await writer.write(lambda: db.execute("INSERT INTO t VALUES (?)", (number,)))
        except sqlite3.IntegrityError:
            refused.append(number)

    async def all_of(*numbers: int) -> None:
        async with trio.open_nursery() as nursery:
            for number in numbers:
                nursery.start_soon(add, number)

    await all_of(*range(20))
    assert len(begun) < 20
    assert not refused
    await all_of(7, 20, 21, 22)
    assert refused == [7]
    assert [row[0] for row in db.execute("SELECT n FROM t ORDER BY n")] == list(range(23))
    db.close()


async def test_a_write_goes_on_when_its_waiter_leaves(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "node.db")
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(journal.remember, "a", b"1")
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    assert await journal.recall("a") == b"1"
    journal.close()


def older(path: Path, *changes: str) -> Path:
    """A journal as version 3 wrote it, with these changes."""
    db = sqlite3.connect(path)
    db.executescript((Path(__file__).parent / "data" / "journal-3.sql").read_text())
    for change in changes:
        db.execute(change)
    db.commit()
    db.close()
    return path


@pytest.mark.parametrize("read_only", [False, True])
async def test_a_journal_of_one_chain_becomes_that_chains_part(
    tmp_path: Path, *, read_only: bool
) -> None:
    journal = Journal(older(tmp_path / "node.db"), NEAR, read_only=read_only)
    (saved,) = await journal.open_engagements()
    assert (saved.key, saved.input, saved.result, saved.output) == (KEY, b"in", OWN, b"out")
    assert [one.seat for one in saved.openings.values()] == [1]
    assert [one.outcome for one in await journal.history(9)] == ["", "paid"]
    assert [(one.day, one.paid) for one in await journal.days()] == [("2027-01-15", 42)]
    assert await journal.slashed() == 7
    assert await journal.recall("announced") == b"peer"
    other = journal.on(SEI)
    assert not await other.history(9)
    assert not await other.days()
    assert await other.slashed() == 0
    assert await other.recall("announced") is None
    journal.close()


async def test_a_journal_of_the_first_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    path = older(
        tmp_path / "node.db",
        "ALTER TABLE engagements DROP COLUMN input",
        "ALTER TABLE results DROP COLUMN output",
        "DROP TABLE lies",
        "UPDATE meta SET value=CAST('1' AS BLOB) WHERE key='schema'",
    )
    journal = Journal(path)
    await journal.has_input(KEY, (), b"in")
    await journal.lied(Opened(KEY.task_id, 1, 0, b"o" * 32, b"p" * 32, bytes(32), bytes(64)))
    (saved,) = await journal.open_engagements()
    journal.close()
    assert (saved.input, saved.output, list(saved.lies)) == (b"in", None, [1])


def test_a_journal_of_a_newer_program_is_left_alone(tmp_path: Path) -> None:
    path = older(tmp_path / "node.db", "UPDATE meta SET value=CAST('99' AS BLOB)")
    with pytest.raises(ConfigError, match="99") as caught:
        Journal(path)
    assert caught.value.reason_code == "newer_journal"


async def test_two_chains_share_a_file_and_nothing_else(tmp_path: Path) -> None:
    sei = Journal(tmp_path / "node.db")
    near = sei.on(NEAR)
    other = msgspec.structs.replace(SAVED, key=SeatKey(TaskId("0x" + "22" * 32), 0, 0))
    await sei.accept(SAVED)
    await near.accept(other)
    assert [one.key for one in await sei.open_engagements()] == [KEY]
    assert [one.key for one in await near.open_engagements()] == [other.key]
    assert await near.find(KEY.task_id) is None
    for journal, key, payment in ((sei, KEY, 5), (near, other.key, 8)):
        await journal.ended(key, at=1, day="2027-01-15", outcome="paid", payment=payment)
        await journal.add_slashed(payment)
        await journal.remember("announced", journal.chain.encode())
    assert [day.paid for day in await sei.days()] == [5]
    assert [day.paid for day in await near.days()] == [8]
    assert (await sei.slashed(), await near.slashed()) == (5, 8)
    assert (await sei.recall("announced"), await near.recall("announced")) == (b"sei", b"near")
    assert await near.prune(before=10, keep=0) == (other.key,)
    assert [one.key for one in await sei.history(9)] == [KEY]
    sei.close()


async def test_the_first_result_of_an_attempt_is_the_only_one(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "node.db")
    await journal.accept(SAVED)
    assert await journal.result(KEY, OWN) == OWN
    second = msgspec.structs.replace(OWN, digest=b"x" * 32)
    assert await journal.result(KEY, second) == OWN
    other = SeatKey(KEY.task_id, 0, 1)
    assert await journal.result(other, second) == second
    journal.close()


async def test_the_first_approval_of_a_seat_is_the_only_one(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "node.db")
    first = ApprovedOutputs(KEY.task_id, 0, bytes(32), 1, bytes(64))
    assert await journal.approved(first) == first
    assert await journal.approved(msgspec.structs.replace(first, mask=7)) == first
    journal.close()


async def test_what_was_never_assigned_is_forgotten_and_counts_when_it_comes_again(
    tmp_path: Path,
) -> None:
    journal = Journal(tmp_path / "node.db")
    for _ in range(3):
        await journal.accept(SAVED)
        assert await journal.ended(KEY, at=1, day="d", outcome="unassigned", payment=0)
        assert await journal.history(9) == ()
    # The client took long and asks for the same seat of the same task once more.
    await journal.accept(msgspec.structs.replace(SAVED, valid_until=99))
    assert [saved.valid_until for saved in await journal.open_engagements()] == [99]
    await journal.result(KEY, OWN)
    assert await journal.ended(KEY, at=2, day="d", outcome="paid", payment=9)
    assert [day.paid for day in await journal.days()] == [9]
    journal.close()


async def test_an_end_is_counted_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "node.db")
    await journal.accept(SAVED)
    for _ in range(3):
        await journal.ended(KEY, at=10, day="2027-01-15", outcome="paid", payment=42)
    (day,) = await journal.days()
    journal.close()
    assert (day.paid, day.tasks, day.unpaid) == (42, 1, 0)


async def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    first = Journal(tmp_path / "node.db")
    with pytest.raises(AlreadyRunning):
        Journal(tmp_path / "node.db")
    first.close()
    Journal(tmp_path / "node.db").close()


async def test_a_write_that_does_not_fit_is_typed_and_leaves_nothing_behind(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "node.db", max_pages=24)
    full = False
    for index in range(200):
        key = SeatKey(TaskId(f"0x{index:064x}"), 0, 0)
        try:
            await journal.accept(msgspec.structs.replace(SAVED, key=key))
        except StoreFull:
            full = True
            break
    assert full
    assert await journal.find(key.task_id) is None
    await journal.ended(SeatKey(TaskId(f"0x{0:064x}"), 0, 0), at=1, day="d", outcome="x", payment=0)
    await journal.prune(before=100, keep=0)
    journal.close()


async def test_pruning_keeps_sums_and_what_is_open(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "node.db")
    for index in range(10):
        key = SeatKey(TaskId(f"0x{index:064x}"), 0, 0)
        await journal.accept(msgspec.structs.replace(SAVED, key=key))
        await journal.result(key, OWN)
        if index:
            await journal.ended(key, at=index, day="d", outcome="paid", payment=1)
    gone = await journal.prune(before=5, keep=3)
    assert len(gone) == 6
    assert len(await journal.history(100)) == 4
    assert len(await journal.open_engagements()) == 1
    assert (await journal.days())[0].paid == 9
    journal.close()


async def test_a_blob_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, max_bytes=1 << 20)
    data = b"".join(index.to_bytes(4) for index in range(40_000))
    parts = chunks(data)
    receiver = store.receive("a", len(data), [leaf(part) for part in parts])
    assert not await receiver.put(2, parts[2])
    assert not await receiver.put(0, parts[0])
    assert "a" not in store
    with pytest.raises(MalformedMessage):
        await receiver.put(1, parts[0])
    with pytest.raises(MalformedMessage):
        await receiver.put(9, parts[0])
    assert await receiver.put(1, parts[1])
    assert "a" in store
    assert await store.read("a") == data
    assert await store.digest("a") == blob_digest(data)


async def test_a_chunk_that_the_disk_did_not_take_is_asked_for_again(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, max_bytes=1 << 20)
    data = bytes(range(256)) * 600
    parts = chunks(data)
    receiver = store.receive("a", len(data), [leaf(part) for part in parts])
    (tmp_path / "a.part").symlink_to("/dev/full")
    with pytest.raises(StoreFull):
        await receiver.put(1, parts[1])
    (tmp_path / "a.part").unlink()
    assert not await receiver.put(0, parts[0])
    assert not await receiver.put(2, parts[2]), "chunk 1 is not there"
    assert "a" not in store
    assert await receiver.put(1, parts[1])
    assert await store.read("a") == data


async def test_after_a_flush_that_failed_every_chunk_is_asked_for_again(tmp_path: Path) -> None:
    data = bytes(range(256)) * 600
    parts = chunks(data)
    calls: list[int] = []

    async def breaks_at_the_flush(work: Callable[[], T], /) -> T:
        calls.append(1)
        if len(calls) == len(parts) + 1:
            (tmp_path / "a.part").unlink()  # what a failed flush may leave: nothing
            raise OSError(errno.ENOSPC, "full")
        return work()

    store = BlobStore(tmp_path, max_bytes=1 << 20, caller=breaks_at_the_flush)
    receiver = store.receive("a", len(data), [leaf(part) for part in parts])
    for index in (0, 1):
        await receiver.put(index, parts[index])
    with pytest.raises(StoreFull):
        await receiver.put(2, parts[2])
    whole = [await receiver.put(index, parts[index]) for index in (2, 0, 1)]
    assert whole == [False, False, True]
    assert await store.read("a") == data


async def test_a_blob_that_comes_over_two_links_is_whole_when_it_appears(tmp_path: Path) -> None:
    data = bytes(range(256)) * 400
    parts = chunks(data)
    first_may_write = trio.Event()
    calls: list[int] = []

    async def keeps_the_first_back(work: Callable[[], T], /) -> T:
        calls.append(1)
        if len(calls) == 1:
            await first_may_write.wait()
        return work()

    store = BlobStore(tmp_path, max_bytes=1 << 20, caller=keeps_the_first_back)
    receiver = store.receive("a", len(data), [leaf(part) for part in parts])
    done: dict[int, bool] = {}

    async def put(index: int) -> None:
        done[index] = await receiver.put(index, parts[index])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(put, 0)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(put, 1)
        await trio.testing.wait_all_tasks_blocked()
        assert "a" not in store
        first_may_write.set()
    assert done == {0: True, 1: False}
    assert await store.read("a") == data


async def test_an_empty_blob_is_a_blob(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, max_bytes=10)
    receiver = store.receive("a", 0, [leaf(b"")])
    assert await receiver.put(0, b"")
    assert await store.digest("a") == blob_digest(b"")
    await store.write("b", b"")
    assert await store.digest("b") == blob_digest(b"")


async def test_parts_of_another_life_are_thrown_away(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, max_bytes=1 << 20)
    receiver = store.receive("a", CHUNK_BYTES + 1, [leaf(b"x" * CHUNK_BYTES), leaf(b"y")])
    await receiver.put(1, b"y")
    again = BlobStore(tmp_path, max_bytes=1 << 20)
    assert again.used == 0
    assert not list(tmp_path.iterdir())


async def test_a_store_takes_no_more_than_its_budget(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, max_bytes=100)
    await store.write("a", bytes(60))
    with pytest.raises(StoreFull):
        await store.write("b", bytes(41))
    with pytest.raises(StoreFull):
        store.receive("c", 41, [leaf(bytes(41))])
    with pytest.raises(MalformedMessage):
        store.receive("d", 40, [leaf(bytes(40))] * 2)
    assert store.used == 60
    await store.delete("a")
    await store.write("b", bytes(100))
    assert store.used == 100


async def test_a_full_disk_is_typed(tmp_path: Path) -> None:
    # /dev/full refuses every write with ENOSPC: a real full disk without filling one.
    store = BlobStore(tmp_path, max_bytes=1 << 20)
    (tmp_path / "a.part").symlink_to("/dev/full")
    with pytest.raises(StoreFull):
        await store.write("a", b"data")
    assert store.used == 0


async def test_a_disk_that_fails_otherwise_says_where_to_look(tmp_path: Path) -> None:
    (tmp_path / "node.db").write_bytes(b"no database, but long enough for a header" * 99)
    with pytest.raises(NodeFault) as caught:
        Journal(tmp_path / "node.db")
    assert "look at the disk" in caught.value.hint
    with pytest.raises(NodeFault) as caught:
        await BlobStore(tmp_path / "blobs", max_bytes=10).read("absent")
    assert "look at the disk" in caught.value.hint


async def test_a_missing_blob_is_the_nodes_fault(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, max_bytes=10)
    with pytest.raises(NodeFault):
        await store.read("nothing")
