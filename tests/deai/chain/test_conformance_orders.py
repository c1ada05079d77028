"""Signed orders: the same on the ledger in memory and on every chain that settles them."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from deai import actions as act
from deai.errors import InsufficientFunds
from deai.events import (
    EarningsCollected,
    LedgerEvent,
    OrderFeesSwept,
    OrderSettled,
    OrdersFunded,
    OrderSkipped,
    PageOpened,
    ThawRequested,
    ThawWithdrawn,
    TokensMoved,
)
from deai.ids import OrderId, node_id
from deai.money import Amount
from deai.orders import BalanceState, OrderBalance
from deai.tasks import Policy
from rewards.fees import paid
from tests.deai.chain.conftest import WITH_ORDERS
from tests.support.ledger_conformance import World, events_of, refused
from tests.support.order_conformance import FEE, FUNDS, OUTPUT, ordering

pytestmark = pytest.mark.parametrize("chain", WITH_ORDERS, indirect=True)
PAID = paid(FEE, 100_000)


async def told(world: World, block: int) -> list[LedgerEvent]:
    """What a block and those after it reported."""
    return [record.event for record in await events_of(world, block)]


async def test_money_is_set_aside_and_pages_are_bought(world: World) -> None:
    one = await ordering(world, seats=1, funds=0)
    client, reader = one.client.account, world.reader
    assert await one.balance() == OrderBalance()
    assert await reader.order_page(client, 0) == 0
    done = await one.fund(50)
    assert await told(world, done.block) == [
        TokensMoved(client, one.domain.contract, Amount(50)),
        PageOpened(client, 0),
        OrdersFunded(client, Amount(50), Amount(50)),
    ]
    done = await one.fund(7, page=(1 << 56) - 1)
    assert [type(event) for event in await told(world, done.block)] == [
        TokensMoved, PageOpened, OrdersFunded,
    ]  # fmt: skip
    done = await one.fund(1)
    assert [type(event) for event in await told(world, done.block)] == [TokensMoved, OrdersFunded]
    assert await one.balance() == OrderBalance(balance=Amount(58), is_open=True)
    pages = [await reader.order_page(client, page) for page in (0, 1, (1 << 56) - 1)]
    assert pages == [1, 0, 1]
    await refused(one.fund(0), "BadData")
    error = await refused(one.fund(4 * FUNDS), "ERC20InsufficientBalance")
    assert isinstance(error, InsufficientFunds)


async def test_a_settled_order_pays_who_signed_and_costs_the_fee_of_every_seat(
    world: World,
) -> None:
    one = await ordering(world)
    first, second = one.order(), one.order()
    done = await one.settle(one.signed(first), one.signed(second, silent=[1]))
    assert await told(world, done.block) == [
        OrderSettled(one.id(first), first, OUTPUT, (Amount(PAID),) * 3),
        OrderSettled(one.id(second), second, OUTPUT, (Amount(PAID), Amount(0), Amount(PAID))),
    ]
    assert (await one.balance()).balance == FUNDS - 6 * FEE
    earned = [await one.earned(at) for at in range(3)]
    assert earned == [(2 * PAID, 6 * FEE - 5 * PAID), (PAID, 0), (2 * PAID, 0)]
    assert await world.reader.order_page(one.client.account, 0) == 0b111
    again = one.settle(one.signed(first))
    assert (await refused(again, "NothingSettled", reason="AlreadySettled")).hint
    node = await world.reader.node(one.providers[0].node)
    assert node is not None
    assert (node.reputation, node.checked_tasks) == (100_000, 0)


async def test_one_seat_is_settled_without_company(world: World) -> None:
    one = await ordering(world, seats=1)
    await one.settle(one.signed(one.order()))
    assert await one.earned(0) == (PAID, FEE - PAID)


async def test_what_was_earned_goes_to_owners_and_the_treasury(world: World) -> None:
    one = await ordering(world)
    await one.settle(one.signed(one.order()))
    owners = [each.owner.account for each in one.providers]
    treasury = (await world.reader.parameters()).treasury
    contract = one.domain.contract
    done = await one.as_stranger(act.CollectEarnings(owners[1]))
    assert await told(world, done.block) == [
        EarningsCollected(owners[1], Amount(PAID)),
        TokensMoved(contract, owners[1], Amount(PAID)),
    ]
    nothing = one.as_stranger(act.CollectEarnings(owners[1]))
    await refused(nothing, "NothingEarned", owner=owners[1])
    fees = Amount(3 * (FEE - PAID))
    done = await one.as_stranger(act.SweepOrderFees((owners[1], owners[0], owners[0])))
    assert await told(world, done.block) == [
        OrderFeesSwept(owners[0], fees),
        TokensMoved(contract, treasury, fees),
    ]
    assert await one.earned(0) == (PAID, 0)
    done = await one.as_stranger(act.SweepOrderFees((owners[0],)))
    assert await told(world, done.block) == []


async def test_many_are_settled_and_one_that_cannot_be_stops_none(world: World) -> None:
    one = await ordering(world)
    changed = msgspec.structs.replace
    await one.fund(3 * FEE, page=2)
    good, other = one.order(), one.order(513)
    rich = one.order(fee=Amount(FUNDS))
    late = one.order(valid_until=1)
    closed = one.order(257)
    forged = one.order()
    quiet = one.order()
    batch = (
        one.signed(one.order(256)),
        one.signed(good),
        one.signed(late),
        one.signed(closed),
        one.signed(good),
        one.signed(rich),
        one.signed(forged, by=world.holder),
        one.signed(quiet, silent=[0, 2]),
        changed(one.signed(quiet), results=(None,)),
        one.signed(other),
    )
    done = await one.settle(*batch)
    nothing = OrderId("0x" + "00" * 32)
    paid_all = (Amount(PAID),) * 3
    assert await told(world, done.block) == [
        OrderSkipped(nothing, "BadOrder"),
        OrderSettled(one.id(good), good, OUTPUT, paid_all),
        OrderSkipped(one.id(late), "TooLate"),
        OrderSkipped(one.id(closed), "PageClosed"),
        OrderSkipped(one.id(good), "AlreadySettled"),
        OrderSkipped(one.id(rich), "Insufficient"),
        OrderSkipped(one.id(forged), "BadSignature"),
        OrderSkipped(one.id(quiet), "NoQuorum"),
        OrderSkipped(nothing, "BadOrder"),
        OrderSettled(one.id(other), other, OUTPUT, paid_all),
    ]
    assert (await one.balance()).balance == FUNDS - 3 * FEE
    await refused(one.settle(*batch), "NothingSettled", reason="BadOrder")
    await refused(one.settle(), "NothingSettled", reason="")
    await one.settle(one.signed(quiet))


async def test_nothing_else_than_what_was_signed_settles(world: World) -> None:
    one = await ordering(world)
    order, changed = one.order(), msgspec.structs.replace
    signed = one.signed(order)
    altered = [
        changed(order, fee=Amount(FEE - 1)),
        changed(order, policy=Policy.TOL32),
        changed(order, valid_until=order.valid_until + 1),
        changed(order, nonce=order.nonce + 1),
        changed(order, spec_hash=bytes(32)),
        changed(order, nodes=(order.nodes[1], order.nodes[0], order.nodes[2])),
        changed(order, nodes=(node_id(world.holder.account, 7), *order.nodes[1:])),
    ]
    for other in altered:
        attempt = one.settle(changed(signed, order=other))
        await refused(attempt, "NothingSettled", reason="BadSignature")
    domains = [
        replace(one.domain, chain_id=1),
        replace(one.domain, name="deai channels"),
        replace(one.domain, contract=world.reader.info.escrow.contract),
    ]
    for domain in domains:
        attempt = one.settle(one.signed(order, domain=domain))
        await refused(attempt, "NothingSettled", reason="BadSignature")
    attempt = one.settle(changed(signed, output_digest=b"\x07" * 32))
    await refused(attempt, "NothingSettled", reason="NoQuorum")
    for bad in (
        changed(order, nodes=order.nodes[:2]),
        changed(order, nodes=(order.nodes[0], order.nodes[0], order.nodes[1])),
        changed(order, policy=Policy.NONE),
        changed(order, fee=Amount(1)),
    ):
        await refused(one.settle(one.signed(bad)), "NothingSettled", reason="BadOrder")
    await one.settle(signed)


async def test_a_node_that_left_is_not_paid_and_the_others_are(world: World) -> None:
    one = await ordering(world)
    leaving, stays = one.providers[0], one.providers[1]
    record = await world.reader.node(leaving.node)
    assert record is not None
    await leaving.owns(act.RequestUnstake(leaving.node, Amount(record.stake)))
    await one.settle(one.signed(one.order(), silent=[1]))  # its stake can still be taken
    assert (await one.earned(0))[0] == PAID
    record = await world.reader.node(leaving.node)
    assert record is not None
    await world.pass_(record.unbond_at)
    await leaving.owns(act.WithdrawStake(leaving.node, leaving.owner.account))
    order = one.order(valid_until=await world.now() + 10_000)
    await refused(
        one.settle(one.signed(order, silent=[1])), "NothingSettled", reason="NoQuorum"
    )  # fmt: skip
    await one.settle(one.signed(order))
    assert (await one.earned(0))[0] == PAID
    assert (await world.reader.order_earnings(stays.owner.account)).earned == PAID


async def test_a_thaw_is_seen_before_money_leaves(world: World) -> None:
    one = await ordering(world)
    client, period = one.client.account, (await world.reader.parameters()).thaw_period
    assert period > 0
    await refused(one.withdraw(), "BadState", state=int(BalanceState.FUNDED))
    await refused(one.thaw(0), "BadState", client=client)
    await refused(one.thaw(FUNDS + 1), "Insufficient", account=client, available=FUNDS)
    done = await one.thaw(FUNDS)
    thaws_at = done.time + period
    assert await told(world, done.block) == [ThawRequested(client, Amount(FUNDS), thaws_at)]
    record = await one.balance()
    assert (record.state, record.free, record.thaws_at) == (BalanceState.THAWING, 0, thaws_at)
    await refused(one.withdraw(), "StillThawing", thawsAt=thaws_at)
    await one.settle(one.signed(one.order()))  # settlements go on meanwhile
    await world.pass_(thaws_at)
    done = await one.withdraw()
    rest = Amount(FUNDS - 3 * FEE)
    assert await told(world, done.block) == [
        ThawWithdrawn(client, client, rest),
        TokensMoved(one.domain.contract, client, rest),
    ]
    assert await one.balance() == OrderBalance(is_open=True)
    attempt = one.settle(one.signed(one.order(valid_until=await world.now() + 1000)))
    await refused(attempt, "NothingSettled", reason="Insufficient")


async def test_a_request_is_replaced_and_taken_back(world: World) -> None:
    one = await ordering(world, seats=1)
    await one.thaw(5)
    done = await one.thaw(3)
    period = (await world.reader.parameters()).thaw_period
    record = await one.balance()
    assert (record.thawing, record.thaws_at) == (3, done.time + period)
    done = await one.thaw(0)
    assert await told(world, done.block) == [ThawRequested(one.client.account, Amount(0), 0)]
    assert (await one.balance()).state is BalanceState.FUNDED


async def test_nobody_thaws_what_nobody_set_aside(world: World) -> None:
    one = await ordering(world, seats=1, funds=0)
    await refused(one.thaw(1), "BadState", state=int(BalanceState.NONE))
    await refused(one.withdraw(), "BadState", state=int(BalanceState.NONE))
    attempt = one.settle(one.signed(one.order()))
    await refused(attempt, "NothingSettled", reason="PageClosed")


async def test_the_same_batch_under_the_same_key_is_settled_once(world: World) -> None:
    one = await ordering(world, seats=1)
    action = act.SettleOrders((one.signed(one.order()),))
    first = await one.as_stranger(action, key=f"batch {one.id(action.settlements[0].order)}")
    again = await one.as_stranger(action, key=f"batch {one.id(action.settlements[0].order)}")
    assert first == again
    assert (await one.balance()).balance == FUNDS - FEE
