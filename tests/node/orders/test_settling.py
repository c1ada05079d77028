"""When orders become money, who settles them, and what keeps one from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio.testing

from deai.actions import RequestThaw
from deai.ids import AccountId, NodeId, OrderId
from deai.money import UNIT, Amount
from deai.orders import Order
from deai.tasks import Policy, TaskSpec
from node import documents
from node.config import OrderTerms
from node.orders import policy
from node.orders.policy import Circumstances, due
from node.orders.records import Held, OrderState
from tests.node.orders.scripted import FEE, Buyer, buyer
from tests.node.orders.support import config, fund, held, nodes, payer, settlements, submit
from tests.node.support.names import key, until
from tests.node.support.world import Provider, open_world

Clock = trio.testing.MockClock

TERMS = OrderTerms(settle_count=3, settle_amount="1CT", settle_minutes=10, settle_margin=60,
                   max_gas_price=50)  # fmt: skip
CLIENT = key("a").account
NODES = tuple(NodeId("0x" + f"{i:02x}" * 20 + "00" * 12) for i in range(1, 4))


def order(
    number: int = 1, *, secured_at: int = 0, fee: Amount = FEE, until: int = 5000, seat: int = 0,
    state: OrderState = OrderState.SECURED, client: AccountId = CLIENT,
) -> Held:  # fmt: skip
    spec = TaskSpec(
        domain="1:0x", workload="shout", workload_version=1, model="", input_digest=bytes(32),
        input_bytes=0, parameters=b"", salt=bytes(32),
    )  # fmt: skip
    return Held(
        id=OrderId("0x" + f"{number:064x}"),
        order=Order(client, fee, Policy.EXACT, until, number, bytes(32), NODES),
        signature=bytes(64), spec=spec, seat=seat, peer="peer", taken_at=0, state=state,
        digest=bytes(32), results=(bytes(64),) * 3, secured_at=secured_at,
    )  # fmt: skip


def at(
    now: int, *, gas_price: int = 10, is_draining: bool = False,
    leaving: Sequence[AccountId] = (), short: Sequence[AccountId] = (),
) -> Circumstances:  # fmt: skip
    return Circumstances(
        now=now, gas_price=gas_price, is_draining=is_draining, leaving=leaving, short=short
    )


POLICY: dict[str, tuple[list[Held], Circumstances, int, str]] = {
    "nothing": ([], at(100), 0, ""),
    "a young one": ([order()], at(599), 0, ""),
    "an old one": ([order()], at(600), 1, "age"),
    "an old one takes the young ones along": (
        [order(), order(2, secured_at=500)], at(600), 2, "age"
    ),
    "as many as are worth a transaction": ([order(n) for n in (1, 2, 3)], at(100), 3, "count"),
    "as much as is worth one": ([order(fee=Amount(UNIT))], at(100), 1, "amount"),
    "nothing that is not secured": ([order(state=OrderState.SIGNED)], at(4990), 0, ""),
    "nothing that has ended": ([order(until=50)], at(100), 0, ""),
    "gas is dear": ([order(n) for n in (1, 2, 3)], at(900, gas_price=51), 0, ""),
    "gas is dear, but it is about to end": ([order()], at(4940, gas_price=51), 1, "expiring"),
    "a later seat lets the first one do it": ([order(seat=2, secured_at=4900)], at(4940), 0, ""),
    "and does it itself then": ([order(seat=2, secured_at=4900)], at(4950), 1, "expiring"),
    "a later seat waits longer": ([order(seat=1)], at(629), 0, ""),
    "but not for ever": ([order(seat=1)], at(630), 1, "age"),
    "the client leaves": ([order()], at(100, leaving=[CLIENT]), 1, "thawing"),
    "somebody else leaves": ([order()], at(100, leaving=[key("b").account]), 0, ""),
    "the client has little left": ([order()], at(100, short=[CLIENT]), 1, "short"),
    "the node leaves": ([order()], at(100, gas_price=51, is_draining=True), 1, "draining"),
}  # fmt: skip


@pytest.mark.parametrize(("orders", "seen", "count", "why"), POLICY.values(), ids=POLICY.keys())
def test_orders_are_settled_when_they_are_worth_it(
    orders: list[Held], seen: Circumstances, count: int, why: str
) -> None:
    chosen, reason = due(orders, TERMS, seen)
    assert (len(chosen), reason) == (count, why)


def test_no_more_go_together_than_a_transaction_holds_and_the_pressing_ones_go_first() -> None:
    many = [order(n, until=5000 + n) for n in range(1, 80)]
    hurried = order(99, client=key("b").account, until=9000)
    chosen, why = due([*many, hurried], TERMS, at(100, leaving=[key("b").account]))
    assert why == "thawing"
    assert len(chosen) == policy.BATCH
    assert chosen[0] is hurried


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
