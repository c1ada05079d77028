"""The client's journal: lanes are taken once, whoever else writes meanwhile."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import trio

from deai.client.journal import Entry, Journal
from deai.ids import AccountId, ChainName
from tests.node.test_negotiation import SPEC

CHAIN = ChainName("test")
ACCOUNT = AccountId("0x" + "22" * 20)


async def reserve(journal: Journal, digest: bytes, lane: int = 0) -> Entry | None:
    return await journal.reserve(
        chain=CHAIN, account=ACCOUNT, digest=digest, key="", lane=lane, nonce=1, since=0,
        seed=bytes(32), spec=SPEC, policy="none/1", created=0.0,
    )  # fmt: skip


async def test_a_lane_is_taken_once_and_seen_by_others(tmp_path: Path) -> None:
    first, second = Journal(tmp_path / "c.db"), Journal(tmp_path / "c.db")
    entry = await reserve(first, b"a" * 32)
    assert entry is not None
    assert await reserve(second, b"b" * 32) is None
    assert await second.lanes(CHAIN, ACCOUNT) == {0}
    ended = await first.end(entry, {"task_id": "0x"}, "")
    assert not ended.is_open
    assert await reserve(second, b"b" * 32) is not None
    first.close()
    second.close()


async def test_a_reservation_waits_for_another_writer_without_holding_the_loop(
    tmp_path: Path,
) -> None:
    journal = Journal(tmp_path / "c.db")
    other = sqlite3.connect(tmp_path / "c.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    got: list[Entry | None] = []

    async def take() -> None:
        got.append(await reserve(journal, b"a" * 32))

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            for _ in range(20):
                await trio.lowlevel.checkpoint()  # the loop turns while the lane waits
            assert not got
            other.execute("COMMIT")
    other.close()
    journal.close()
    assert got[0] is not None
