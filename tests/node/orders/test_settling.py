"""When orders become money, who settles them, and what keeps one from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio.testing

from deai.actions import RequestThaw
from deai.money import UNIT, Amount
from node import documents
from node.orders import policy
from node.orders.records import OrderState
from tests.node.orders.scripted import Buyer, buyer
from tests.node.orders.support import config, fund, held, nodes, payer, settlements, submit
from tests.node.support.names import key, until
from tests.node.support.world import Provider, open_world

Clock = trio.testing.MockClock

pytestmark = pytest.mark.world


async def secured(one: Buyer, chosen: Sequence[Provider], **fields: Any) -> str:
    """An order that every seat computed and holds all signatures of."""
    place = one.sign(chosen, **fields)
    results = await one.signatures(chosen, place)
    for provider in chosen:
        async with one.link(provider) as talk:
            assert await talk.place(place) == "taken"
            shown = await talk.show(results[0].output_digest, [r.signature for r in results])
            assert shown == "secured"
    return results[0].order_id


async def test_seats_that_settle_at_once_are_both_paid_once(
    tmp_path: Path, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "STAGGER", 0)
    async with open_world(tmp_path) as world, buyer(world) as one:
        chosen = await nodes(world, config=config(settle_count=1))
        await one.fund(50)
        name = await secured(one, chosen)
        await until(lambda: all(not p.live.orders.live for p in chosen))  # type: ignore[union-attr]
        assert len(settlements(world)) == 1
        for provider in chosen:
            book = await held(provider, name)
            assert book.state is OrderState.PAID
            assert int(book.payment) > 0
            assert "settle_failed" not in provider.live.problems


async def test_one_order_that_cannot_be_settled_keeps_no_other_from_it(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with (
        open_world(tmp_path) as world, buyer(world, "poor") as poor, buyer(world, "rich") as rich
    ):  # fmt: skip
        (node,) = await nodes(world, 1, config=config(settle_minutes=1.0))
        other = await world.provider("other", orders=True, config=config(settle_count=1))
        await poor.fund(0.02)
        await rich.fund(1)
        ends = world.chain.now + 100
        bad = await secured(poor, [node], valid_until=ends)
        good = await secured(rich, [node], valid_until=ends)
        # What the other node holds of the same balance is settled first.
        await secured(poor, [other], valid_until=ends)
        await until(lambda: len(settlements(world)) == 2)
        assert (await held(node, good)).state is OrderState.PAID
        await until(lambda: not node.live.orders.live)  # type: ignore[union-attr]
        book = await held(node, bad)
        assert (book.state, book.reason) == (OrderState.UNPAID, "Insufficient")
        # The client signed more than it had: what that cost counts against it.
        assert book.was_in_vain
        assert "order_unpaid" in node.live.reasons


async def test_what_a_leaving_client_signed_is_settled_before_its_money_leaves(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world, buyer(world) as one:
        chosen = await nodes(world, config=config(settle_minutes=600))
        await one.fund(50)
        name = await secured(one, chosen)
        await trio.sleep(5)
        assert not settlements(world)
        ledger = world.chain.ledger(one.signer)
        await ledger.submit(RequestThaw(Amount(50 * UNIT)))
        await until(lambda: settlements(world), seconds=20)
        assert str(settlements(world)[0].order_id) == name


async def test_a_client_that_thaws_a_little_and_leaves_it_there_hurries_nobody(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world, buyer(world) as one:
        chosen = await nodes(world, config=config(settle_minutes=600))
        await one.fund(50)
        await secured(one, chosen)
        await world.chain.ledger(one.signer).submit(RequestThaw(Amount(1)))
        await trio.sleep(100)
        await secured(one, chosen)
        await trio.sleep(100)
        assert not settlements(world)


async def test_a_thaw_that_was_asked_for_while_the_node_was_down_is_noticed(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world, buyer(world) as one:
        (node,) = await nodes(world, 1, config=config(settle_minutes=600))
        await one.fund(50)
        await secured(one, [node])
        await node.kill()
        await world.chain.ledger(one.signer).submit(RequestThaw(Amount(50 * UNIT)))
        await node.start()
        await until(lambda: settlements(world), seconds=20)


async def test_a_nonce_signed_to_two_committees_is_settled_once_and_ends_the_trust(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world, buyer(world) as one:
        first, second = await nodes(world, 2, config=config(settle_minutes=600))
        await one.fund(50)
        place = one.sign([first])
        name = await secured(one, [first], nonce=place.order.nonce)
        twice = await secured(one, [second], nonce=place.order.nonce)
        first.whole.stop.set()  # it settles what it has and leaves
        await until(lambda: settlements(world))
        assert str(settlements(world)[0].order_id) == name
        await until(lambda: not second.live.orders.live)  # type: ignore[union-attr]
        assert (await held(second, twice)).state is OrderState.OUTRUN
        assert await one.ask(second, one.sign([second])) == "cheated"


async def test_a_seat_that_is_left_out_counts_it_against_the_client_and_keeps_its_output(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world, buyer(world) as one:
        chosen = await nodes(world, config=config(settle_count=1))
        await one.fund(50)
        place = one.sign(chosen)
        first, second, _ = await one.signatures(chosen, place)
        async with one.link(chosen[0]) as talk:
            assert await talk.place(place) == "taken"
            shown = await talk.show(first.output_digest, [None, second.signature, None])
            assert shown == "secured"
        await until(lambda: settlements(world))
        await until(lambda: not chosen[2].live.orders.live)  # type: ignore[union-attr]
        book = await held(chosen[2], first.order_id)
        assert book.state is OrderState.LEFT_OUT
        assert book.was_in_vain
        async with one.link(chosen[2]) as talk:
            assert await talk.place(place) == "taken"
            assert await talk.fetch() == "not_secured"
        assert "order_left_out" in chosen[2].live.reasons


async def test_a_node_that_leaves_settles_first(tmp_path: Path, autojump_clock: Clock) -> None:
    async with open_world(tmp_path) as world:
        chosen = await nodes(world, config=config(settle_minutes=600))
        await fund(world)
        async with payer(world, tmp_path / "client") as client:
            outcome = await (await submit(client)).wait()
            assert outcome.ok
            chosen[0].whole.stop.set()
            await chosen[0].stopped.wait()
            assert len(settlements(world)) == 1


async def test_what_orders_earned_is_counted_and_sent_to_the_owner(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        chosen = await nodes(world, config=config(settle_count=1, collect_amount="0.001CT"))
        await fund(world)
        owner = key("node-0 owner").account
        before = (await world.chain.ledger().balances(owner)).tokens
        async with payer(world, tmp_path / "client") as client:
            outcome = await (await submit(client)).wait()
            assert outcome.ok
            await until(lambda: all(not p.live.orders.live for p in chosen))  # type: ignore[union-attr]
            paid = int(settlements(world)[0].payments[0])
            earned = await documents.earnings(chosen[0].whole)
            node = chosen[0]
            mine = int((await held(node, outcome.task_id)).payment)
            assert earned["paid"] == str(mine)
            assert earned["orders"]["paid"] == str(mine)
            assert mine in {int(one) for one in settlements(world)[0].payments}
            assert paid

        async def arrived() -> bool:
            return (await world.chain.ledger().balances(owner)).tokens == before + mine

        with trio.fail_after(200):
            while not await arrived():
                await trio.sleep(1)


async def test_a_transaction_that_the_chain_does_not_answer_is_sent_again(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world, buyer(world) as one:
        (node,) = await nodes(world, 1, config=config(settle_minutes=1.0))
        await one.fund(50)
        await secured(one, [node])
        world.chain.set_reachable(False)
        await trio.sleep(90)
        assert not settlements(world)
        world.chain.set_reachable(True)
        await until(lambda: settlements(world))
        assert len(settlements(world)) == 1
