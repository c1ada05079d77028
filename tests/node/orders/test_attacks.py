"""Clients that try to have work for nothing, or to stop a node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio.testing

from deai.actions import Action, RotateOperator, SettleOrders
from deai.chain.ledger import Transaction
from deai.errors import LedgerRejected
from deai.ids import SEI, OrderId
from deai.order_messages import Fetch, SignedResult, Turned
from deai.orders import sign_result
from deai.tasks import operate_digest
from node.orders import book
from node.orders.records import OrderState
from node.orders.service import PRUNE_EVERY
from node.orders.taking import DAY
from node.ports import Ports
from tests.node.orders.scripted import FEE, Buyer, buyer
from tests.node.orders.support import config, held, nodes, settlements
from tests.node.support.bench import SmallBench
from tests.node.support.names import key, until
from tests.node.support.world import Provider, World, open_world

Clock = trio.testing.MockClock

pytestmark = pytest.mark.world


def open_orders(one: Provider) -> dict[OrderId, Any]:
    assert one.live.orders is not None
    return one.live.orders.live


async def lost(one: Provider, client: Buyer) -> int:
    """What the node remembers to have lost to a client; base units."""
    assert one.live.orders is not None
    return (await one.live.orders.book.record(SEI, client.signer.account, 0)).lost


async def test_a_client_that_reads_nothing_neither_stops_a_node_nor_holds_it_up(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world, buyer(world) as one:
        (node,) = await nodes(world, 1)
        await one.fund(50)
        place, began = one.sign([node]), trio.current_time()
        async with one.link(node) as deaf, one.link(node) as talk:
            assert await deaf.place(place) == "taken"
            assert await talk.place(place) == "taken"
            await trio.sleep_until(began + 24)
            with trio.move_on_after(1):
                while True:  # until the node has no room for another answer to it
                    await deaf.link.send(Fetch(deaf.order))
            await trio.sleep_until(began + 30)
            # The time for the input is over, and this comes before the node could say so.
            await until(lambda: not open_orders(node), seconds=2)
            await talk.send_input(b"hello")
            await trio.sleep(60)
        assert await one.ask(node, one.sign([node])) == "taken"


async def stolen(
    one: Buyer, victim: Provider, chosen: Sequence[Provider], ally: Provider, **fields: Any
) -> str:
    """The output of an order whose second seat signs whatever the first has signed."""
    world = one.world
    place = one.sign(chosen, valid_until=world.chain.now + 100, **fields)
    async with one.link(victim) as talk:
        if (said := await talk.place(place)) != "taken":
            return said
        await talk.send_input(b"hello")
        signed = await talk.hear(SignedResult)
        copied = sign_result(
            world.chain.info.orders, ally.signer, talk.order, ally.node_id, signed.output_digest
        )
        assert await talk.show(signed.output_digest, [None, copied, None]) == "secured"
        assert await talk.fetch() == b"HELLO"
        return ""


async def rotate(world: World, one: Provider) -> None:
    new, till = key("new operator"), world.chain.now + 3600
    digest = operate_digest(world.chain.info.registry, one.node_id, new.account, till)
    owner = world.chain.ledger(key(f"{one.name} owner"))
    await owner.submit(RotateOperator(one.node_id, new.account, till, new.sign(digest)))


async def test_seats_that_rotate_their_keys_away_cost_no_more_than_is_risked(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world, buyer(world) as one:
        chosen = await nodes(world, 3)
        await one.fund(50)
        victim, ally, _ = chosen
        for provider in chosen[1:]:
            await provider.kill()
        for _ in range(4):  # 0.02 each: with 0.1 the node settles
            assert await stolen(one, victim, chosen, ally) == ""
        await rotate(world, ally)
        await until(lambda: not open_orders(victim))
        assert not settlements(world)
        assert await lost(victim, one) == 4 * FEE
        assert victim.live.reasons["order_unpaid"].count == 4
        place = one.sign(chosen)
        assert await one.ask(victim, place) == "taken"
        assert await one.ask(victim, one.sign(chosen)) == "exposure"


async def test_a_node_settles_once_it_holds_as_much_of_a_client_as_it_risks(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world, buyer(world) as one:
        chosen = await nodes(world, 3, config=config(settle_minutes=600))
        await one.fund(50)
        for provider in chosen[1:]:
            await provider.kill()
        for _ in range(5):
            assert await stolen(one, chosen[0], chosen, chosen[1]) == ""
        await until(lambda: len(settlements(world)) == 5, seconds=20)


async def test_a_balance_that_many_nodes_work_for_costs_none_more_than_is_risked(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world, buyer(world) as one:
        chosen = await nodes(world, 3, config=config(settle_minutes=600))
        await one.fund(0.3)
        ends = world.chain.now + 300
        for _ in range(20):
            for provider in chosen:
                place = one.sign([provider], valid_until=ends)
                async with one.link(provider) as talk:
                    if await talk.place(place) == "taken":
                        await talk.send_input(b"hello")
                        await talk.hear(SignedResult)
        for provider in chosen:
            await until(lambda one=provider: not open_orders(one), seconds=400)  # type: ignore[misc]
            assert await lost(provider, one) <= 5 * FEE
        assert len(settlements(world)) == 15


async def test_of_many_overdrawn_orders_each_counts_and_none_is_shown_to_the_chain(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world, buyer(world) as one:
        chosen = await nodes(world, 3, config=config(exposure="0.21CT"))
        poor, other, _ = chosen
        await one.fund(0.2)
        for provider in (poor, other):
            for _ in range(10):
                place = one.sign([provider], valid_until=world.chain.now + 200)
                await one.signatures([provider], place)
        await until(lambda: not open_orders(poor))
        await until(lambda: not open_orders(other))
        assert sorted([await lost(poor, one), await lost(other, one)]) == [0, 10 * FEE]
        loser = poor if await lost(poor, one) else other
        assert await one.ask(loser, one.sign(chosen)) == "exposure"
        assert loser.live.counters["submitted.settle_orders"] == 0


@pytest.mark.parametrize("code", ["timeout", "underpaid", "memory_limit"])
async def test_tasks_that_only_cost_time_are_computed_a_few_times_a_day(
    tmp_path: Path, autojump_clock: Clock, code: str
) -> None:
    async with open_world(tmp_path) as world, buyer(world) as one:
        bench = SmallBench()
        (node,) = await nodes(world, 1, bench=bench)
        bench.fail, bench.fail_code = "too much", code
        await one.fund(50)
        said: list[str] = []
        for _ in range(9):
            async with one.link(node) as talk:
                said.append(await talk.place(one.sign([node])))
                if said[-1] == "taken":
                    await talk.send_input(b"hello")
                    await talk.hear(Turned)
        assert said == ["taken"] * 8 + ["too_many_faults"]


class Narrow:
    """A chain whose blocks take two orders at most."""

    def __init__(self, ports: Ports) -> None:
        self._ledger = ports.ledger

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    async def submit(self, action: Action, *, key: str = "") -> Transaction:
        if isinstance(action, SettleOrders) and len(action.settlements) > 2:
            raise LedgerRejected("Refused", {"message": "gas required exceeds allowance"})
        return await self._ledger.submit(action, key=key)


async def test_a_transaction_that_the_chain_does_not_hold_is_sent_in_parts(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    def wrap(ports: Ports) -> Ports:
        return replace(ports, ledger=Narrow(ports))

    async with open_world(tmp_path) as world, buyer(world) as one:
        (node,) = await nodes(world, 1, wrap=wrap, config=config(settle_minutes=1))
        await one.fund(50)
        for _ in range(9):
            await one.signatures([node], one.sign([node]))
        await until(lambda: len(settlements(world)) == 9, seconds=300)
        await until(lambda: not open_orders(node))
        assert "settle_failed" not in node.live.problems


async def test_what_is_settled_without_a_seat_that_computes_ends_its_computing(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world, buyer(world) as one:
        bench = SmallBench(seconds=600)
        slow = await world.provider("slow", orders=True, config=config(), bench=bench)
        quick = await nodes(world, 2, config=config(settle_count=1))
        await one.fund(50)
        chosen = [slow, *quick]
        place = one.sign(chosen)
        results: list[SignedResult] = []
        async with one.link(slow) as first, one.link(quick[0]) as second:
            assert await first.place(place) == "taken"
            await first.send_input(b"hello")
            async with one.link(quick[1]) as third:
                results = [await second.compute(place), await third.compute(place)]
            shown = [None, *(each.signature for each in results)]
            assert await second.show(results[0].output_digest, shown) == "secured"
            await until(lambda: settlements(world))
            await until(lambda: not open_orders(slow))
        await until(lambda: not bench.slots.borrowed_tokens, seconds=2)
        assert (await held(slow, results[0].order_id)).state is OrderState.LEFT_OUT


async def test_orders_that_are_over_are_forgotten_however_many_they_are(
    tmp_path: Path, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book, "PRUNED_AT_ONCE", 2)
    async with open_world(tmp_path) as world, buyer(world) as one:
        (node,) = await nodes(world, 1, config=config(settle_count=1))
        await one.fund(50)
        names = [(await one.signatures([node], one.sign([node])))[0].order_id for _ in range(7)]
        await until(lambda: len(settlements(world)) == 7)
        await until(lambda: not open_orders(node))
        assert (await held(node, names[0])).state is OrderState.PAID
        world.chain.advance(int(node.config.retention_hours * 3600) + DAY + 1)
        await trio.sleep(PRUNE_EVERY + 30)
        orders = node.live.orders
        assert orders is not None
        assert [await orders.book.find(SEI, OrderId(name)) for name in names] == [None] * 7


async def test_an_output_is_sent_again_and_not_for_ever(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world, buyer(world) as one:
        (node,) = await nodes(world, 1)
        await one.fund(50)
        async with one.link(node) as talk:
            await talk.compute(one.sign([node]))
            said = [await talk.fetch() for _ in range(17)]
        assert said == [b"HELLO"] * 16 + ["fetched"]
