"""Which orders a node takes, and what it hands over for which signatures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio.testing

from deai.actions import RequestThaw
from deai.hashing import blob_digest, chunks, leaf
from deai.ids import SEI, TaskId
from deai.messages import BlobChunk, BlobHeader
from deai.money import UNIT, Amount
from deai.order_messages import Abandon, Turned
from deai.orders import sign_order, sign_result
from deai.tasks import Policy
from tests.node.orders.scripted import FEE, Buyer, buyer
from tests.node.orders.support import config, held, nodes, settlements
from tests.node.support.bench import SmallBench
from tests.node.support.names import key, until
from tests.node.support.world import Provider, World, open_world

Clock = trio.testing.MockClock

pytestmark = pytest.mark.world
DAY = 24 * 3600


async def three(world: World, one: Buyer, tokens: float = 50) -> list[Provider]:
    await one.fund(tokens)
    return await nodes(world)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an order that ends after a thaw": ({"valid_until": 2 * DAY}, "too_long"),
    "one that leaves no time": ({"valid_until": 20}, "too_short"),
    "one that has ended": ({"valid_until": -1}, "too_short"),
    "a fee below the price": ({"fee": Amount(1000)}, "price"),
    "a policy that compares outputs": ({"policy": Policy.TOL32}, "policy"),
    "the nonce that stands for the page": ({"nonce": 256}, "bad_order"),
    "a page that was not bought": ({"nonce": 257}, "page_closed"),
    "more than is risked": ({"fee": Amount(20 * UNIT)}, "exposure"),
    "a spec that the order does not name": ({"spec_hash": bytes(32)}, "bad_spec"),
}


@pytest.mark.parametrize(("fields", "code"), REFUSED.values(), ids=REFUSED.keys())
async def test_a_node_takes_no_order_that_it_may_not_be_paid_for(
    tmp_path: Path, autojump_clock: Clock, fields: dict[str, Any], code: str
) -> None:
    async with open_world(tmp_path) as world, buyer(world) as one:
        chosen = await three(world, one)
        if "valid_until" in fields:
            fields = {**fields, "valid_until": world.chain.now + fields["valid_until"]}
        assert await one.ask(chosen[0], one.sign(chosen, **fields)) == code
        reasons = chosen[0].live.reasons
        assert code in reasons


async def test_an_order_of_other_nodes_or_of_another_key_is_not_taken(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world, buyer(world) as one:
        chosen = await three(world, one)
        other = await world.provider("other", orders=True)
        assert await one.ask(other, one.sign(chosen)) == "bad_order"
        place = one.sign(chosen)
        forged = sign_order(world.chain.info.orders, key("thief"), place.order)
        place = type(place)(place.order, forged, place.spec)
        assert await one.ask(chosen[0], place) == "bad_signature"


async def test_money_that_thaws_covers_nothing(tmp_path: Path, autojump_clock: Clock) -> None:
    async with open_world(tmp_path) as world, buyer(world) as one:
        chosen = await three(world, one, 1)
        ledger = world.chain.ledger(one.signer)
        await ledger.submit(RequestThaw(Amount(UNIT - FEE)))
        assert await one.ask(chosen[0], one.sign(chosen)) == "not_covered"
        await ledger.submit(RequestThaw(Amount(UNIT - 3 * FEE)))
        assert await one.ask(chosen[0], one.sign(chosen)) == "taken"


async def test_what_is_promised_already_covers_nothing_else(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world, buyer(world) as one:
        chosen = await three(world, one, 0.1)  # an order costs 0.06
        async with one.link(chosen[0]) as first, one.link(chosen[0]) as second:
            assert await first.place(one.sign(chosen)) == "taken"
            assert await second.place(one.sign(chosen)) == "not_covered"


async def test_a_nonce_is_worked_for_once_at_a_time(tmp_path: Path, autojump_clock: Clock) -> None:
    async with open_world(tmp_path) as world, buyer(world) as one:
        chosen = await three(world, one)
        async with one.link(chosen[0]) as talk:
            place = one.sign(chosen)
            assert await talk.place(place) == "taken"
            assert await talk.place(place) == "taken"  # the same again is no second one
            assert await talk.place(one.sign(chosen, nonce=place.order.nonce)) == "nonce_taken"


async def test_an_output_leaves_only_for_the_signatures_of_a_quorum(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world, buyer(world) as one:
        chosen = await three(world, one)
        place = one.sign(chosen)
        first, second, third = await one.signatures(chosen, place)
        assert first.output_digest == second.output_digest == third.output_digest
        digest = first.output_digest
        async with one.link(chosen[0]) as talk:
            assert await talk.place(place) == "taken"
            assert await talk.fetch() == "not_secured"
            assert await talk.show(digest, [first.signature, None, None]) == "no_quorum"
            forged = sign_result(
                world.chain.info.orders, key("thief"), talk.order, chosen[1].node_id, digest
            )
            assert await talk.show(digest, [None, forged, None]) == "bad_signature"
            # A seat's signature counts for its own seat alone.
            assert await talk.show(digest, [None, third.signature, None]) == "bad_signature"
            assert await talk.show(bytes(31) + b"\1", [None, None, None]) == "other_digest"
            assert await talk.fetch() == "not_secured"
            assert await talk.show(digest, [None, second.signature, None]) == "secured"
            assert await talk.fetch() == b"HELLO"
        book = await held(chosen[0], first.order_id)
        assert book.signed == 2


async def test_a_stranger_who_read_the_order_on_chain_gets_no_output(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with (
        open_world(tmp_path) as world, buyer(world) as one, buyer(world, "stranger") as stranger
    ):  # fmt: skip
        chosen = await nodes(world, 1)
        await one.fund(10)
        place = one.sign(chosen)
        await one.signatures(chosen, place)
        stranger.salts = 10  # it does not know the client's
        async with stranger.link(chosen[0]) as talk:
            told = type(place)(place.order, place.signature, stranger.sign(chosen).spec)
            assert await talk.place(told) == "bad_spec"
            assert await talk.fetch() == "unknown_order"


async def lose(one: Buyer, chosen: list[Provider]) -> None:
    """Have an order computed by every seat and show nobody the signatures."""
    await one.signatures(chosen, one.sign(chosen, valid_until=one.world.chain.now + 60))


async def test_a_client_that_never_shows_the_signatures_is_served_for_so_much_and_no_more(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world, buyer(world) as one:
        chosen = await three(world, one)
        for _ in range(5):  # 0.02 each, of 0.1 that may be at risk
            await lose(one, chosen)
        assert await one.ask(chosen[0], one.sign(chosen)) == "exposure"
        await trio.sleep(70)
        await until(lambda: not chosen[0].live.orders.live)  # type: ignore[union-attr]
        # The orders ended, and what they cost the node is remembered for a day.
        assert await one.ask(chosen[0], one.sign(chosen)) == "exposure"
        reasons = chosen[0].live.reasons
        assert reasons["order_lost"].count == 5
        assert "exposure" in reasons
        assert not settlements(world)
        orders = chosen[0].live.orders
        assert orders is not None
        now, account = world.chain.now, one.signer.account
        assert (await orders.book.record(SEI, account, now - DAY)).lost == 5 * FEE
        # A day later.
        assert (await orders.book.record(SEI, account, now + 1)).lost == 0


async def test_an_order_dearer_than_what_is_risked_is_not_taken_from_a_committee(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world, buyer(world) as one:
        chosen = await three(world, one)
        dear = Amount(UNIT // 5)
        assert await one.ask(chosen[0], one.sign(chosen, fee=dear)) == "exposure"
        # Alone the node can settle whatever it signs.
        assert await one.ask(chosen[0], one.sign(chosen[:1], fee=dear)) == "taken"


async def test_what_a_client_cost_is_remembered_by_the_next_life_of_the_node(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world, buyer(world) as one:
        chosen = await three(world, one)
        for _ in range(5):
            await lose(one, chosen)
        await chosen[0].kill()
        await trio.sleep(70)
        await chosen[0].start()
        await until(lambda: not chosen[0].live.orders.live)  # type: ignore[union-attr]
        assert await one.ask(chosen[0], one.sign(chosen)) == "exposure"


async def test_a_slot_whose_input_does_not_come_is_given_to_others(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world, buyer(world) as one:
        (node,) = await nodes(world, 1)
        await one.fund(50)
        for _ in range(4):
            assert await one.ask(node, one.sign([node])) == "taken"
        assert await one.ask(node, one.sign([node])) == "capacity"
        await trio.sleep(40)
        assert await one.ask(node, one.sign([node])) == "taken"


async def test_an_input_that_comes_again_and_again_holds_no_slot_for_ever(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world, buyer(world) as one:
        (node,) = await nodes(world, 1)
        await one.fund(50)
        data = b"a" * 100_000
        parts = chunks(data)
        async with one.link(node) as talk:
            assert await talk.place(one.sign([node], data)) == "taken"
            task = TaskId(talk.order)
            leaves = tuple(leaf(part) for part in parts)
            with trio.move_on_after(60):
                while node.live.orders.live:  # type: ignore[union-attr]
                    await talk.link.send(BlobHeader(task, "input", 0, len(data), leaves))
                    await talk.link.send(BlobChunk(task, "input", 0, 0, parts[0]))
                    await trio.sleep(2)
            assert not node.live.orders.live  # type: ignore[union-attr]
            assert (await talk.hear(Turned)).code == "input_late"
            signed = await talk.compute(one.sign([node], data), data)  # in two pieces, at once
            assert signed.output_digest == blob_digest(data.upper())


async def test_who_gives_orders_up_again_and_again_has_to_wait(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world, buyer(world) as one:
        (node,) = await nodes(world, 1)
        await one.fund(50)
        said: list[str] = []
        async with one.link(node) as talk:
            while "capacity" not in said:
                said.append(await talk.place(one.sign([node], nonce=1)))
                await talk.link.send(Abandon(talk.order))
                assert len(said) < 1000
        assert len(said) > 100


async def test_a_bad_task_is_signed_by_nobody_and_looked_at_a_few_times(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world, buyer(world) as one:
        (node,) = await nodes(world, 1)
        await one.fund(50)
        for _ in range(8):
            async with one.link(node) as talk:
                assert await talk.place(one.sign([node], b"bad")) == "taken"
                await talk.send_input(b"bad")
                assert (await talk.hear(Turned)).code == "workload_fault"
        assert await one.ask(node, one.sign([node])) == "too_many_faults"


async def test_a_node_that_fails_says_so_and_owes_nothing(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world, buyer(world) as one:
        bench = SmallBench()
        node = await world.provider("weak", orders=True, bench=bench, config=config())
        bench.fail = "out of memory"
        await one.fund(50)
        async with one.link(node) as talk:
            assert await talk.place(one.sign([node])) == "taken"
            await talk.send_input(b"hello")
            assert (await talk.hear(Turned)).code == "node_fault"
        assert not node.live.orders.live  # type: ignore[union-attr]
