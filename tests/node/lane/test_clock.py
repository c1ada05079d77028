"""The machine's clock jumps: no sum changes, nothing promised is forgotten, money is fetched."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import msgspec
import pytest
import trio
from hypothesis import given, strategies as st

from deai.chain.memory import GENESIS_TIME
from deai.ids import SEI
from node import documents
from node.config import Lane
from node.lane.book import DAY, LaneBook
from node.lane.policy import why_redeem
from tests.node.lane.support import PRICE, at_work, lanes_of
from tests.node.lane.test_book import channel_of, promise, rows, written
from tests.node.lane.test_policy import LANE, at, entry
from tests.node.support.names import until
from tests.node.support.world import CONFIG

YEAR = 365 * DAY
JUMPS = (10 * YEAR, -10 * YEAR, DAY, -DAY, 30, 0)
times = st.integers(0, 1 << 40)


@given(now=times, since=times, amount=st.integers(1, 20))
def test_no_clock_of_ours_keeps_back_what_is_worth_a_transaction(
    now: int, since: int, amount: int
) -> None:
    account = entry(amount, since=since)
    if amount >= 5:
        assert why_redeem(account, LANE, at(now)) == "amount"
    assert why_redeem(account, LANE, at(now, is_draining=True)) == "draining"
    # When a client's close is over is the chain's to say.
    account.closes_at = 1000
    assert why_redeem(account, LANE, at(now, chain_time=1000)) == "closing"
    assert why_redeem(account, LANE, at(now, chain_time=1001)) == ""


@pytest.mark.world
async def test_sums_are_the_same_whatever_the_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.lane.service.FORGET_EVERY", 1.0)
    began, jump = trio.current_time(), 0
    lane = Lane(redeem_amount="0.3CT", redeem_hours=2.0, redeem_least="0.01CT", keep_hours=1.0)
    config = msgspec.structs.replace(CONFIG, lane=lane)

    def wall() -> float:
        return GENESIS_TIME + trio.current_time() - began + jump

    async with at_work(tmp_path, paid=20, config=config, wall=wall) as client:
        node, paid = client.provider, 20
        for number, jump in enumerate(JUMPS):  # noqa: B007 - the clock reads it
            await client.work_off(*[b"x"] * 20)
            paid += 20
            await trio.sleep(3)  # old things are forgotten, by that clock
            assert client.entry.promised == paid * PRICE
            if number % 2:
                await client.hang_up()
                await node.kill()
                await node.start()
                await client.connect()
                await client.agree()
                assert client.entry.promised == paid * PRICE
        lanes_of(node).redeeming.ask()
        await client.until_claimed(paid * PRICE)
        await until(lambda: client.entry.unredeemed == 0)
        found = await documents.earnings(node.whole)
        assert (found["paid"], found["pending"]) == (str(paid * PRICE), "0")
        assert sum(int(one["paid"]) for one in found["by_day"]) == paid * PRICE
        assert found["channels"]["tasks"] == paid


@pytest.mark.world
@pytest.mark.parametrize("ahead", [10 * YEAR, -10 * YEAR])
async def test_what_was_promised_by_a_wrong_clock_is_fetched_once_it_is_right(
    tmp_path: Path, ahead: int
) -> None:
    began, jump = trio.current_time(), ahead
    lane = Lane(redeem_amount="100CT", redeem_hours=2.0, redeem_least="0.01CT")
    config = msgspec.structs.replace(CONFIG, lane=lane)

    def wall() -> float:
        return GENESIS_TIME + trio.current_time() - began + jump

    async with at_work(tmp_path, paid=20, config=config, wall=wall) as client:
        jump = 0
        await client.until_claimed(20 * PRICE)


@pytest.mark.slow
@pytest.mark.parametrize("wall", [-YEAR, 0, 1 << 40])
async def test_whatever_the_clock_says_only_what_is_over_is_forgotten(
    tmp_path: Path, wall: int
) -> None:
    path = tmp_path / "lane.db"

    def fill(book: LaneBook) -> None:
        paid = promise(book, 1, 500, at=1000)
        book.seen(paid, deposit=500, redeemed=500, is_closed=False, now=1000)
        promise(book, 2, 300, at=1000)
        gone = promise(book, 3, 50, at=1000)
        book.seen(gone, deposit=50, redeemed=40, is_closed=True, now=1000)
        book.forget(wall)

    with closing(await written(path, fill)) as book:
        sums = book.gone.get(SEI)
        kept = [one.promised for one in book.entries.values()]
        assert sum(kept) + (sums.promised if sums else 0) == 850
        assert book.entries[SEI, channel_of(2)[0], 1].unredeemed == 300
        assert sum(book.days.values()) == 540
        assert (rows(path, "vouchers") == 3) == (wall <= 0)
        assert (len(kept) == 3) == (wall <= 0)
