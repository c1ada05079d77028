"""Pools: the same on the ledger in memory and on every chain on which nodes take delegations."""

from __future__ import annotations

import msgspec
import pytest

from deai import actions as act
from deai.events import (
    CommissionAnnounced,
    Delegated,
    EarningsCollected,
    IncomeShared,
    NodeRegistered,
    OperatorRotated,
    PoolOpened,
    StakeAdded,
    StandingChanged,
    TokensMoved,
    VaultWithdrawn,
)
from deai.hashing import ZERO
from deai.ids import NodeId, node_id
from deai.money import UNIT, Amount, Count
from deai.pools import PoolState, pool_owner
from deai.standing import Standing
from deai.tasks import Opening, Policy, operate_digest
from rewards.fees import paid
from tests.deai.chain.conftest import WITH_ORDERS
from tests.support.ledger_conformance import ADDRESSES, FEE, PEER_ID, RIGHT, World, play, refused
from tests.support.order_conformance import FUNDS, Ordering
from tests.support.pool_conformance import COMMISSION, STAKE, Pooling, bounty_of, opening, pooling
from tests.support.reward_conformance import Rewarding

pytestmark = pytest.mark.parametrize("chain", WITH_ORDERS, indirect=True)
NOBODY = NodeId("0x" + "ab" * 32)


async def test_a_pool_owns_a_node_that_its_manager_runs(world: World) -> None:
    manager, operator = world.signer(), world.signer()
    await world.fund(manager.account, 2 * STAKE)
    info, index = world.reader.info, 7
    owner = pool_owner(info.delegations, manager.account, index)
    node = node_id(owner, 0)
    assert await world.reader.pool(node) is None
    ledger = await world.ledger(manager)
    done = await ledger.submit(opening(world, manager, operator, index=index))
    one = Pooling(world, manager, operator, node, [])
    contract, stake = info.delegations.contract, Amount(STAKE)
    assert await one.told(done) == [
        TokensMoved(manager.account, contract, stake),
        PoolOpened(node, manager.account, Count(index), COMMISSION, stake),
        TokensMoved(contract, owner, stake),
        TokensMoved(owner, info.registry.contract, stake),
        NodeRegistered(node, operator.account, stake, PEER_ID, ADDRESSES),
    ]
    pool, record = await one.pool(), await world.reader.node(node)
    assert record is not None
    assert (record.operator, record.stake) == (operator.account, STAKE)
    assert (pool.manager, pool.commission, pool.state) == (
        manager.account, COMMISSION, PoolState.OPEN,
    )  # fmt: skip
    assert (pool.assets, pool.shares, pool.manager_shares) == (STAKE, STAKE, STAKE)
    assert (pool.own, pool.delegated, pool.batch, pool.matures_at) == (STAKE, 0, 1, 0)
    assert (await one.of(manager)).shares == STAKE


async def test_what_no_pool_can_be_opened_with_is_refused(world: World) -> None:
    manager, operator = world.signer(), world.signer()
    await world.fund(manager.account, 2 * STAKE)
    ledger = await world.ledger(manager)

    def attempt(**changed: object) -> act.OpenPool:
        return opening(world, manager, operator, **changed)  # type: ignore[arg-type]

    await refused(ledger.submit(attempt(commission_bps=2_001)), "CommissionTooHigh")
    least = (await world.reader.parameters()).min_stake
    await refused(ledger.submit(attempt(stake=least - 1)), "StakeTooLow", minimum=least)
    await refused(ledger.submit(attempt(stake=9 * STAKE)), "ERC20InsufficientBalance")
    await refused(ledger.submit(attempt(valid_until=1)), "SignatureExpired")
    forged = msgspec.structs.replace(attempt(), operator=manager.account)
    await refused(ledger.submit(forged), "BadOperator")
    await ledger.submit(attempt(commission_bps=2_000))
    twice = ledger.submit(attempt(commission_bps=1))
    await refused(twice, "BadState", state=int(PoolState.OPEN))


async def test_whoever_lends_gets_shares_at_their_worth(world: World) -> None:
    one = await pooling(world)
    lender, info = one.lenders[0].account, world.reader.info
    done = await one.delegate(STAKE)
    assert await one.told(done) == [
        TokensMoved(lender, info.delegations.contract, Amount(STAKE)),
        Delegated(one.node, lender, Amount(STAKE), Count(STAKE)),
        TokensMoved(info.delegations.contract, info.registry.contract, Amount(STAKE)),
        StakeAdded(one.node, Amount(STAKE), Amount(2 * STAKE)),
    ]
    await one.give(STAKE + 1)  # one unit stays with the account for good
    await one.delegate(3 * STAKE, by=1)  # shares out first
    pool = await one.pool()
    second = (await one.of(one.lenders[1])).shares
    assert pool.assets == 6 * STAKE
    assert 3 * STAKE - 2 <= pool.worth(second) <= 3 * STAKE
    # Of the income a tenth went to the manager, and of the rest a half each.
    half = 9 * STAKE // 20
    assert abs(await one.worth(one.lenders[0]) - (STAKE + half)) <= 2
    assert abs(await one.worth(one.manager) - (STAKE + half + STAKE // 10)) <= 2


async def test_who_may_not_lend_is_refused(world: World) -> None:
    one = await pooling(world)
    least = (await world.reader.parameters()).min_delegation
    assert least > 0
    await refused(one.delegate(least - 1), "TooSmall", found=least - 1, least=least)
    nothing = Pooling(world, one.manager, one.operator, NOBODY, one.lenders)
    for attempt in (nothing.delegate(STAKE), nothing.undelegate(1), nothing.advance()):
        await refused(attempt, "BadState", state=int(PoolState.NONE))
    await one.delegate(9 * STAKE)
    most = 10 * STAKE
    await refused(one.delegate(least, by=1), "Overleveraged", shares=most + least, most=most)
    await one.submit(one.manager, act.Delegate(one.node, Amount(STAKE)))  # its own part
    await one.delegate(least, by=1)
    assert await world.reader.pool(NOBODY) is None
    assert (await world.reader.delegation(NOBODY, one.manager.account)).shares == 0


async def test_income_of_every_kind_is_shared_less_commission(world: World) -> None:
    one = await pooling(world, lent=[STAKE])
    playing = await play(world, policy=Policy.NONE, providers=[one.provider()])
    await one.submit(
        world.holder,
        act.DeliverResult(playing.task, await playing.committee(), playing.result(0, RIGHT)),
    )
    await world.pass_(playing.task.commit_deadline + playing.task.window)
    opened = (Opening(0, RIGHT, ZERO),)
    finalise = act.FinaliseTask(playing.task, await playing.committee(), opened, ())
    await one.submit(world.holder, finalise)
    earned = paid(int(FEE), 100_000)
    assert (await world.reader.balances(one.owner)).vault == earned
    client = world.signer()
    await world.fund(client.account, FUNDS)
    orders = Ordering(world, client, [one.provider()], await world.now() + 10_000)
    await orders.fund(FUNDS)
    await orders.settle(orders.signed(orders.order()))
    by_orders = (await world.reader.order_earnings(one.owner)).earned
    await one.give(UNIT + 1)
    income = earned + by_orders + UNIT
    assert by_orders
    kept = income * COMMISSION // 10_000
    bought = kept * 2 * STAKE // (2 * STAKE + income - kept)
    done = await one.advance()
    info = world.reader.info
    assert await one.told(done) == [
        VaultWithdrawn(one.owner, one.owner, Amount(earned)),
        TokensMoved(info.escrow.contract, one.owner, Amount(earned)),
        EarningsCollected(one.owner, Amount(by_orders)),
        TokensMoved(info.orders.contract, one.owner, Amount(by_orders)),
        IncomeShared(one.node, Amount(income), Amount(kept), Count(bought)),
        TokensMoved(one.owner, info.registry.contract, Amount(income)),
        StakeAdded(one.node, Amount(income), Amount(2 * STAKE + income)),
    ]
    assert (await one.pool()).assets == 2 * STAKE + income
    theirs = await one.worth(one.lenders[0])
    assert 0 <= STAKE + (income - kept) // 2 - theirs <= 1
    assert await one.told(await one.advance()) == []  # at any time, also for nothing


async def test_what_others_add_to_the_stake_is_income(world: World) -> None:
    one = await pooling(world, lent=[STAKE])
    await one.submit(world.holder, act.AddStake(one.node, Amount(UNIT)))
    done = await one.advance()
    kept = UNIT * COMMISSION // 10_000
    (shared,) = await one.told(done)
    assert isinstance(shared, IncomeShared)
    assert (shared.income, shared.commission) == (UNIT, kept)
    assert (await one.pool()).assets == 2 * STAKE + UNIT


async def test_a_jailed_node_is_released_by_the_manager_with_a_whole_part(world: World) -> None:
    one = await pooling(world, stake=101 * UNIT, lent=[101 * UNIT])
    await one.equivocate()
    stranger = one.submit(one.lenders[0], act.PoolUnjail(one.node))
    await refused(stranger, "Forbidden", caller=one.lenders[0].account)
    await refused(one.manages(act.PoolUnjail(one.node)), "OwnPartTooLow")
    await one.submit(one.manager, act.Delegate(one.node, Amount(50 * UNIT)))
    done = await one.manages(act.PoolUnjail(one.node))
    assert await one.told(done) == [StandingChanged(one.node, Standing.PROBATION)]
    await one.delegate(UNIT)
    await refused(one.manages(act.PoolUnjail(one.node)), "BadStanding")


async def test_a_new_operator_is_the_manager_s_business(world: World) -> None:
    one = await pooling(world)
    hot = world.signer()
    digest = operate_digest(world.reader.info.registry, one.node, hot.account, 1 << 39)
    action = act.PoolRotateOperator(one.node, hot.account, 1 << 39, hot.sign(digest))
    await refused(one.submit(hot, action), "Forbidden")
    assert await one.told(await one.manages(action)) == [OperatorRotated(one.node, hot.account)]
    record = await world.reader.node(one.node)
    assert record is not None
    assert record.operator == hot.account
    wrong = act.PoolRotateOperator(one.node, world.holder.account, 1 << 39, hot.sign(digest))
    await refused(one.manages(wrong), "BadOperator")


async def test_a_commission_is_announced_a_whole_epoch_ahead(world: World) -> None:
    one = await pooling(world, lent=[STAKE])
    seconds = (await world.reader.parameters()).epoch_seconds
    done = await one.manages(act.AnnounceCommission(one.node, 2_000))
    epoch = done.time // seconds + 2
    assert await one.told(done) == [CommissionAnnounced(one.node, 2_000, epoch)]
    pool = await one.pool()
    assert (pool.commission, pool.next_commission, pool.next_commission_epoch) == (
        COMMISSION, 2_000, epoch,
    )  # fmt: skip
    await refused(one.manages(act.AnnounceCommission(one.node, 2_001)), "CommissionTooHigh")
    await refused(one.submit(world.holder, act.AnnounceCommission(one.node, 1)), "Forbidden")
    await world.pass_(epoch * seconds)
    pool = await one.pool()
    assert (pool.commission, pool.next_commission, pool.next_commission_epoch) == (2_000, 0, 0)
    await one.give(10 * UNIT + 1)
    done = await one.advance()
    shared = next(event for event in await one.told(done) if isinstance(event, IncomeShared))
    assert (shared.income, shared.commission) == (10 * UNIT, 2 * UNIT)
    done = await one.manages(act.AnnounceCommission(one.node, 0))  # lowering waits, too
    assert (await one.pool()).commission == 2_000


async def test_the_same_intent_lends_once(world: World) -> None:
    one = await pooling(world)
    action = act.Delegate(one.node, Amount(STAKE))
    done = await one.submit(one.lenders[0], action, key="lend")
    assert await one.submit(one.lenders[0], action, key="lend") == done
    assert (await one.of(one.lenders[0])).shares == STAKE


async def test_what_an_epoch_owes_the_node_s_owner_reaches_who_lent_and_so_does_a_slash(
    world: World,
) -> None:
    one = await pooling(world, lent=[STAKE])
    rewards, income = Rewarding(world), 100 * UNIT + 1  # one unit stays with the account
    await rewards.fund(income, audit={one.owner: income})
    found = await rewards.in_force()
    claim = rewards.claim_of(found, one.owner)
    await one.submit(one.lenders[1], act.ClaimRewards(claim))  # by anybody, as of any account
    assert (await world.reader.balances(one.owner)).tokens == income
    done = await one.advance()
    shared = next(event for event in await one.told(done) if isinstance(event, IncomeShared))
    assert (shared.income, shared.commission) == (100 * UNIT, 10 * UNIT)
    with_income = STAKE + 45 * UNIT  # half of what the commission left
    assert 0 <= with_income - await one.worth(one.lenders[0]) <= 1
    assert abs(STAKE + 55 * UNIT - await one.worth(one.manager)) <= 2
    await one.submit(one.operator, act.Heartbeat(one.node, 0))  # epochs went by
    await one.equivocate()
    await one.advance()
    whole = 2 * STAKE + 100 * UNIT
    common = whole // 5 - await bounty_of(world)
    borne = common * with_income // whole
    assert abs(with_income - borne - await one.worth(one.lenders[0])) <= 2
