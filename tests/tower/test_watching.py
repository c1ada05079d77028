"""A client closes on an old voucher while the node is away: the tower answers, or says why not."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import cast

import pytest
import trio

from deai.chain.ledger import Ledger
from deai.channels import ChannelState
from deai.client.tower import watch
from deai.hashing import keccak
from deai.signing import LocalSigner
from tests.tower.support import (
    PATIENCE,
    PERIOD,
    Overtaken,
    Poor,
    handing_over,
    keeps,
    open_place,
    standing,
    watched,
)

pytestmark = pytest.mark.world


async def test_a_stale_close_while_the_node_is_away_is_answered(tmp_path: Path) -> None:
    async with open_place(tmp_path) as place, standing(place) as tower:
        paid = await place.channel()
        async with handing_over(place, tower) as node:
            for amount in (100, 250, 400):
                node.offer(paid.channel, paid.voucher(amount))
            await place.until(lambda: tower.holds(paid.voucher(400)))
        # The node is away now.
        before = await place.owner_has()
        await place.ask(paid)
        await place.until(lambda: tower.tower.watch.answered, PERIOD)
        assert await place.owner_has() - before == 400
        record = await paid.record()
        assert (record.state, record.claimed) == (ChannelState.CLOSING, 400)
        assert tower.events() == ["closing", "answered"]
        assert tower.told[-1].amount == 400
        assert tower.told[-1].transaction
        await place.pass_(PERIOD)
        assert (tower.tower.watch.answered, tower.tower.watch.missed) == (1, 0)


async def test_the_node_has_its_own_time_to_answer(tmp_path: Path) -> None:
    async with watched(tmp_path) as (place, tower, paid):
        asked = place.chain.now
        await paid.request_close()
        await place.pass_(PATIENCE - 10)
        assert tower.tower.watch.answered == 0
        await paid.close(300)  # by the owner, in time
        await place.pass_(PERIOD)
        assert tower.tower.watch.answered == 0
        assert tower.events() == ["closing"]
        assert place.chain.now > asked + PERIOD


async def test_in_a_short_period_the_tower_waits_no_longer_than_a_quarter_of_it(
    tmp_path: Path,
) -> None:
    async with watched(tmp_path, patience=10 * PERIOD) as (place, tower, paid):
        await paid.request_close()
        await place.pass_(PERIOD // 4 - 10)
        assert tower.tower.watch.answered == 0
        await place.pass_(10)
        assert tower.tower.watch.answered == 1


async def test_a_tower_that_comes_too_late_says_so_once(tmp_path: Path) -> None:
    async with open_place(tmp_path) as place:
        paid = await place.channel()
        async with standing(place) as tower:
            await keeps(place, tower, paid, 300)
        await paid.request_close()
        place.chain.advance(PERIOD + 1)
        async with standing(place) as tower:
            await place.until(lambda: tower.tower.watch.missed)
            await trio.sleep(20)
            assert tower.events() == ["closing", "missed"]
            assert tower.told[-1].amount == 300
            assert (tower.tower.watch.answered, tower.tower.watch.missed) == (0, 1)
        assert (await paid.record()).claimed == 0


async def test_a_better_voucher_that_comes_during_the_period_is_shown_too(tmp_path: Path) -> None:
    async with watched(tmp_path) as (place, tower, paid):
        await place.ask(paid)
        await place.until(lambda: tower.tower.watch.answered == 1, PERIOD)
        await keeps(place, tower, paid, 450)
        await place.until(lambda: tower.tower.watch.answered == 2, PERIOD)
        assert (await paid.record()).claimed == 450
        assert [one.amount for one in tower.told if one.event == "answered"] == [300, 150]


async def test_a_better_voucher_of_the_last_minute_waits_for_nothing(tmp_path: Path) -> None:
    async with watched(tmp_path) as (place, tower, paid):
        await paid.request_close()
        place.chain.advance(PERIOD - 20)
        await place.until(lambda: tower.tower.watch.answered == 1)
        await keeps(place, tower, paid, 450)
        await place.until(lambda: tower.tower.watch.answered == 2)
        assert (await paid.record()).claimed == 450


async def test_a_close_during_a_long_downtime_is_answered_after_it(tmp_path: Path) -> None:
    async with open_place(tmp_path) as place:
        paid, other = await place.channel(), await place.channel()
        async with standing(place) as tower:
            async with handing_over(place, tower) as node:
                for one in (paid, other):
                    node.offer(one.channel, one.voucher(300))
                await place.until(lambda: len(tower.tower.shelf.held) == 2)
        place.chain.advance(30 * 24 * 3600)
        await paid.request_close()
        await other.top_up(50, "unrelated")
        place.chain.advance(PERIOD - 100)
        async with standing(place) as tower:
            await place.until(lambda: tower.tower.watch.answered, 90)
            assert tower.events() == ["closing", "answered"]
        assert ((await paid.record()).claimed, (await other.record()).claimed) == (300, 0)


async def test_a_tower_killed_after_it_answered_does_not_answer_again(tmp_path: Path) -> None:
    async with open_place(tmp_path) as place:
        paid = await place.channel()
        async with standing(place) as tower:
            await keeps(place, tower, paid, 300)
            await place.ask(paid)
            await place.until(lambda: tower.tower.watch.answered, PERIOD)
        blocks = len(place.chain.records)
        async with standing(place) as tower:
            await place.pass_(PERIOD)
            assert tower.events() == ["closing"]
            assert tower.tower.watch.answered == 0
        assert len(place.chain.records) == blocks


async def test_of_two_towers_one_pays_the_gas_and_neither_fails(tmp_path: Path) -> None:
    async with (
        open_place(tmp_path) as place,
        standing(place, "first") as first,
        standing(place, "second") as second,
    ):
        paid = await place.channel()
        async with handing_over(place, first, second) as node:
            node.offer(paid.channel, paid.voucher(300))
            await place.until(lambda: all(one.holds(paid.voucher(300)) for one in (first, second)))
        before = await place.owner_has()
        await place.ask(paid)
        await trio.sleep(40)
        assert await place.owner_has() - before == 300
        assert first.tower.watch.answered + second.tower.watch.answered == 1
        assert not first.tower.watch.problems
        assert not second.tower.watch.problems
        ends = sorted(one.events()[-1] for one in (first, second))
        assert ends in (["answered", "not_needed"], ["answered", "closing"])


async def test_an_answer_that_somebody_else_gave_a_moment_earlier_is_no_failure(
    tmp_path: Path,
) -> None:
    async with open_place(tmp_path) as place:
        own, other = (
            cast("Ledger", place.chain.ledger(LocalSigner(keccak(name)))) for name in (b"a", b"b")
        )
        late = cast("Ledger", Overtaken(own, other))
        async with standing(place, ledger=late) as tower:
            paid = await place.channel()
            await keeps(place, tower, paid, 300)
            await place.ask(paid)
            await place.until(lambda: "not_needed" in tower.events())
            await place.pass_(PERIOD)
            assert tower.events() == ["closing", "not_needed"]
            assert tower.told[-1].code == "NothingNew"
            assert (tower.tower.watch.answered, tower.tower.watch.missed) == (0, 0)
            assert not tower.tower.watch.problems


async def test_without_gas_it_warns_goes_on_trying_and_answers_once_it_can_pay(
    tmp_path: Path,
) -> None:
    async with open_place(tmp_path) as place:
        poor = Poor(cast("Ledger", place.chain.ledger(LocalSigner(keccak(b"poor")))))
        async with standing(place, ledger=cast("Ledger", poor)) as tower:
            paid = await place.channel()
            await keeps(place, tower, paid, 300)
            await place.ask(paid)
            await place.until(lambda: "gas" in tower.tower.watch.problems, PERIOD)
            await trio.sleep(100)
            assert 2 <= poor.tries <= 5, "again, and not every second"
            warned = [one for one in tower.told if one.event == "problem"]
            assert [one.code for one in warned] == ["gas"]
            poor.has_gas = True
            await place.until(lambda: tower.tower.watch.answered, 60)
            assert "gas" not in tower.tower.watch.problems
            assert (await paid.record()).claimed == 300


async def test_an_account_that_runs_low_is_told_of_before_it_matters(tmp_path: Path) -> None:
    async with open_place(tmp_path) as place, standing(place, gas_needed=1 << 200) as tower:
        await place.until(lambda: tower.tower.watch.problems)
        assert set(tower.tower.watch.problems) == {"gas"}


async def test_a_voucher_that_was_paid_already_is_not_shown(tmp_path: Path) -> None:
    async with watched(tmp_path) as (place, tower, paid):
        await paid.redeem(350)
        await place.ask(paid)
        await trio.sleep(3)
        await place.pass_(PERIOD)
        assert tower.events() == ["closing"]
        assert (tower.tower.watch.answered, tower.tower.watch.missed) == (0, 0)


async def test_what_is_not_worth_the_gas_is_left(tmp_path: Path) -> None:
    async with watched(tmp_path, least=301) as (place, tower, paid):
        await place.ask(paid)
        await place.pass_(PERIOD // 2)
        assert tower.tower.watch.answered == 0
        await keeps(place, tower, paid, 301)
        await place.until(lambda: tower.tower.watch.answered, 5)


async def test_what_was_left_for_its_gas_was_not_missed(tmp_path: Path) -> None:
    async with watched(tmp_path, least=301) as (place, tower, paid):
        await place.ask(paid)
        await place.pass_(PERIOD)
        assert tower.events() == ["closing"]
        assert (tower.tower.watch.answered, tower.tower.watch.missed) == (0, 0)


async def test_a_closed_channel_is_forgotten_a_while_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "SWEEP", 10.0)
    monkeypatch.setattr(watch, "FORGET", 30.0)
    async with open_place(tmp_path) as place, standing(place) as tower:
        paid, other = await place.channel(), await place.channel()
        for one in (paid, other):
            await keeps(place, tower, one, 300)
        await paid.close(300)
        await trio.sleep(25)
        assert paid.id in tower.tower.shelf.held
        await trio.sleep(25)
        assert set(tower.tower.shelf.held) == {other.id}
        assert tower.events() == ["forgotten"]
        await tower.tower.shelf.writer.flushed()
        with sqlite3.connect(tmp_path / "tower.db") as file:
            assert file.execute("SELECT channel_id FROM vouchers").fetchall() == [(other.id,)]


async def test_a_close_that_a_rewind_takes_back_leaves_the_voucher_good(tmp_path: Path) -> None:
    async with watched(tmp_path) as (place, tower, paid):
        undo = place.chain.snapshot()
        await paid.close(100)
        await trio.sleep(5)
        assert tower.tower.shelf.held[paid.id].is_gone
        undo()
        await place.ask(paid)
        await place.until(lambda: tower.tower.watch.answered, PERIOD)
        assert (await paid.record()).claimed == 300


async def test_an_answer_that_a_rewind_takes_back_is_given_again(tmp_path: Path) -> None:
    async with watched(tmp_path) as (place, tower, paid):
        await place.ask(paid)
        undo = place.chain.snapshot()
        await place.until(lambda: tower.tower.watch.answered == 1, PERIOD)
        undo()
        assert (await paid.record()).claimed == 0
        await place.until(lambda: tower.tower.watch.answered == 2, 120)
        assert (await paid.record()).claimed == 300


async def test_a_chain_that_is_down_is_waited_for_also_at_the_start(tmp_path: Path) -> None:
    async with open_place(tmp_path) as place:
        paid = await place.channel()
        async with standing(place) as tower:
            await keeps(place, tower, paid, 300)
        await place.ask(paid)
        place.chain.set_reachable(False)

        async def mend() -> None:
            await trio.sleep(20)
            place.chain.set_reachable(True)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(mend)
            async with standing(place) as tower:
                assert [one.event for one in tower.told][:2] == ["problem", "solved"]
                await place.until(lambda: tower.tower.watch.answered, 60)
        assert (await paid.record()).claimed == 300


async def test_many_stale_closes_at_once_are_all_answered(tmp_path: Path) -> None:
    async with open_place(tmp_path) as place, standing(place) as tower:
        several = [await place.channel() for _ in range(40)]
        async with handing_over(place, tower) as node:
            for number, one in enumerate(several):
                node.offer(one.channel, one.voucher(100 + number))
            await place.until(lambda: len(tower.tower.shelf.held) == 40)
        before = await place.owner_has()
        for one in several:
            await one.request_close()
        await place.pass_(PATIENCE)
        await place.until(lambda: tower.tower.watch.answered == 40, PERIOD)
        assert await place.owner_has() - before == sum(100 + number for number in range(40))


async def test_an_epoch_that_begins_anew_needs_a_new_voucher(tmp_path: Path) -> None:
    async with watched(tmp_path) as (place, tower, paid):
        await paid.close(0)
        await paid.open(deposit=500, epoch=2)
        await place.ask(paid, epoch=2)
        await place.pass_(PERIOD // 2)
        assert tower.tower.watch.answered == 0, "the old voucher pays nothing in the new epoch"
        async with handing_over(place, tower) as node:
            node.offer(paid.channel, paid.voucher(200, 2))
            await place.until(lambda: tower.tower.watch.answered)
        assert (await paid.record()).claimed == 200
