"""Leaving, slashing and closing pools: the same on every chain on which nodes take delegations."""

from __future__ import annotations

import pytest

from deai import actions as act
from deai.events import (
    BatchMatured,
    BatchStarted,
    IncomeShared,
    NodeSlashed,
    PoolClosed,
    PoolSlashed,
    StakeWithdrawn,
    StandingChanged,
    TokensMoved,
    UnbondingStarted,
    UndelegationPaid,
    UndelegationRequested,
)
from deai.money import UNIT, Amount, Count
from deai.pools import PoolState
from deai.standing import Standing
from tests.deai.chain.conftest import WITH_ORDERS
from tests.support.ledger_conformance import World, refused
from tests.support.pool_conformance import STAKE, bounty_of, pooling, unbonding

pytestmark = pytest.mark.parametrize("chain", WITH_ORDERS, indirect=True)


async def test_shares_leave_in_batches_that_do_not_wait_for_each_other(world: World) -> None:
    one = await pooling(world, lent=[2 * STAKE, 2 * STAKE])
    first, second = one.lenders
    done = await one.undelegate(STAKE)
    matures_at = done.time + await unbonding(world)
    assert await one.told(done) == [
        UndelegationRequested(one.node, first.account, Count(STAKE), 1),
        UnbondingStarted(one.node, Amount(STAKE), matures_at),
        BatchStarted(one.node, 1, Count(STAKE), Amount(STAKE), matures_at),
    ]
    await refused(one.undelegate(1), "StillLeaving", batch=1)
    done = await one.undelegate(STAKE // 2, by=1)
    assert await one.told(done) == [
        UndelegationRequested(one.node, second.account, Count(STAKE // 2), 2)
    ]
    await one.undelegate(STAKE // 2, by=1)
    pool = await one.pool()
    assert (pool.batch, pool.matures_at) == (2, matures_at)
    assert (pool.leaving, pool.leaving_shares, pool.unbonding) == (STAKE, STAKE, STAKE)
    assert (pool.assets, pool.shares, pool.queued) == (4 * STAKE, 4 * STAKE, STAKE)
    record = await one.of(second)
    assert (record.shares, record.queued, record.queued_batch) == (STAKE, STAKE, 2)
    await refused(one.claim(first), "NothingToClaim", account=first.account)
    await world.pass_(matures_at)
    held = await one.tokens(first)
    done = await one.claim(first)
    events = await one.told(done)
    registry = world.reader.info.registry.contract
    assert [event for event in events if not isinstance(event, BatchStarted)] == [
        StakeWithdrawn(one.node, one.owner, Amount(STAKE)),
        TokensMoved(registry, one.owner, Amount(STAKE)),
        BatchMatured(one.node, 1, Amount(STAKE)),
        UnbondingStarted(one.node, Amount(STAKE), done.time + await unbonding(world)),
        UndelegationPaid(one.node, first.account, 1, Amount(STAKE)),
        TokensMoved(one.owner, first.account, Amount(STAKE)),
    ]
    assert await one.tokens(first) == held + STAKE
    assert (await one.of(first)).queued == 0
    pool = await one.pool()
    assert (pool.batch, pool.leaving, pool.queued) == (3, STAKE, 0)


async def test_a_batch_earns_nothing_any_more_and_is_divided_by_shares(world: World) -> None:
    one = await pooling(world, lent=[2 * STAKE, 2 * STAKE])
    await one.undelegate(UNIT)  # a batch of its own, so that the next have time to gather
    await one.undelegate(STAKE, by=1)
    await one.submit(one.manager, act.Delegate(one.node, Amount(STAKE)))
    await one.manages(act.Undelegate(one.node, Count(STAKE // 3)))
    await one.mature()
    await one.advance()
    leaving = (await one.pool()).leaving
    assert leaving == STAKE + STAKE // 3
    await one.give(100 * UNIT)
    await one.advance()
    await one.mature()
    await one.advance()
    assert (await one.of(one.manager)).claimable + (await one.of(one.lenders[1])).claimable in (
        leaving, leaving - 1,
    )  # fmt: skip
    for who, part in ((one.lenders[1], STAKE), (one.manager, STAKE // 3)):
        before = await one.tokens(who)
        await one.claim(who)
        assert await one.tokens(who) - before == part
    await refused(one.claim(one.manager), "NothingToClaim")


async def test_a_manager_keeps_its_own_part_in(world: World) -> None:
    one = await pooling(world, lent=[4 * STAKE])
    least = int((await world.reader.parameters()).min_stake)

    def out(shares: int) -> act.Undelegate:
        return act.Undelegate(one.node, Count(shares))

    low = one.manages(out(STAKE - least + 1))
    await refused(low, "OwnPartTooLow", amount=least - 1, least=least)
    await one.delegate(5 * STAKE, by=1)
    # The others may be nine times as much as what stays.
    await refused(
        one.manages(out(1)), "Overleveraged", shares=10 * STAKE - 1, most=10 * (STAKE - 1)
    )
    await refused(one.manages(out(0)), "BadData")
    await refused(one.undelegate(4 * STAKE + 1), "Insufficient", available=4 * STAKE)
    await refused(one.submit(world.holder, out(1)), "Insufficient", available=0)


async def test_a_slash_is_borne_by_shares_and_its_bounty_by_the_manager(world: World) -> None:
    one = await pooling(world, lent=[3 * STAKE, STAKE])
    await one.undelegate(STAKE, by=1)
    await one.equivocate()
    done = await one.advance()
    taken = 5 * STAKE // 5
    bounty = int((await world.reader.parameters()).bounty)
    slashed = (await one.told(done))[0]
    assert isinstance(slashed, PoolSlashed)
    assert (slashed.amount, slashed.bounty) == (taken, bounty)
    common = taken - bounty
    pool = await one.pool()
    assert pool.leaving == STAKE - -(-common // 5)
    assert pool.assets == 5 * STAKE - taken - pool.leaving
    theirs = await one.worth(one.lenders[0])
    assert 0 <= 3 * STAKE - common * 3 // 5 - theirs <= 2
    mine = await one.worth(one.manager)
    assert abs(STAKE - common // 5 - bounty - mine) <= 2
    record = await world.reader.node(one.node)
    assert record is not None
    assert record.standing is Standing.JAILED
    await refused(one.delegate(STAKE), "Jailed", node=one.node)
    before = await one.tokens(one.lenders[1])
    await one.mature()
    await one.claim(one.lenders[1])
    assert await one.tokens(one.lenders[1]) - before == pool.leaving


async def test_nobody_gets_out_between_a_slash_and_its_recognition(world: World) -> None:
    one = await pooling(world, lent=[STAKE])
    await one.equivocate()
    done = await one.undelegate(STAKE)
    events = await one.told(done)
    assert isinstance(events[0], PoolSlashed)
    started = next(event for event in events if isinstance(event, BatchStarted))
    common = 2 * STAKE // 5 - await bounty_of(world)
    assert 0 <= STAKE - common // 2 - started.amount <= 2


async def test_a_pool_closes_when_what_unbonds_is_paid_and_everybody_gets_his_part(
    world: World,
) -> None:
    one = await pooling(world, lent=[STAKE, STAKE])
    await one.undelegate(STAKE // 2)
    await one.undelegate(STAKE // 2, by=1)  # waits, and is given back by the closing
    await refused(one.submit(world.holder, act.ClosePool(one.node)), "Forbidden")
    done = await one.manages(act.ClosePool(one.node))
    assert await one.told(done) == [PoolClosed(one.node)]
    pool = await one.pool()
    assert (pool.state, pool.queued, pool.leaving) == (PoolState.CLOSING, 0, STAKE // 2)
    record = await one.of(one.lenders[1])
    assert (record.shares, record.queued, record.queued_batch) == (STAKE, 0, 0)
    for attempt in (
        one.delegate(STAKE),
        one.undelegate(1, by=1),
        one.manages(act.ClosePool(one.node)),
        one.manages(act.AnnounceCommission(one.node, 1)),
        one.manages(act.PoolUnjail(one.node)),
    ):
        await refused(attempt, "BadState", state=int(PoolState.CLOSING))
    await one.mature()
    done = await one.advance()
    kinds = [type(event) for event in await one.told(done)]
    assert kinds == [
        StakeWithdrawn, TokensMoved, BatchMatured, UnbondingStarted, StandingChanged, BatchStarted,
    ]  # fmt: skip
    await refused(one.claim(one.lenders[1]), "NothingToClaim")
    await one.mature()
    parts = []
    for who in (one.lenders[0], one.lenders[1], one.manager):
        before = await one.tokens(who)
        await one.claim(who)
        parts.append(await one.tokens(who) - before)
    assert parts == [STAKE, STAKE, STAKE]
    pool, record_of_node = await one.pool(), await world.reader.node(one.node)
    assert (pool.state, pool.assets, pool.shares) == (PoolState.CLOSED, 0, 0)
    assert record_of_node is not None
    assert record_of_node.standing is Standing.EXITED
    assert (await world.reader.balances(one.owner)).tokens == 0
    await one.give(UNIT + 1)  # nobody is left to share it with
    before = await one.tokens(one.manager)
    done = await one.advance()
    shared = await one.told(done)
    assert shared[0] == IncomeShared(one.node, Amount(UNIT), Amount(UNIT), Count(0))
    assert await one.tokens(one.manager) - before == UNIT


async def test_too_little_stake_left_closes_the_pool(world: World) -> None:
    one = await pooling(world, stake=101 * UNIT, lent=[20 * UNIT])
    await one.equivocate()
    await one.advance()
    done = await one.undelegate(20 * UNIT)  # below the least stake without it
    kinds = [type(event) for event in await one.told(done)]
    assert kinds == [
        UndelegationRequested, PoolClosed, UnbondingStarted, StandingChanged, BatchStarted,
    ]  # fmt: skip
    assert (await one.pool()).state is PoolState.CLOSING
    assert (await one.of(one.lenders[0])).shares == 20 * UNIT


async def test_a_pool_that_closes_is_slashed_like_any_other(world: World) -> None:
    one = await pooling(world, lent=[STAKE])
    proof = await one.proof()
    await one.manages(act.ClosePool(one.node))
    await one.submit(world.holder, proof)
    taken = 2 * STAKE // 5
    done = await one.advance()
    slashed = next(event for event in await one.told(done) if isinstance(event, PoolSlashed))
    assert slashed.amount == taken
    await one.mature()
    got = []
    for who in (one.manager, one.lenders[0]):
        before = await one.tokens(who)
        await one.claim(who)
        got.append(await one.tokens(who) - before)
    assert sum(got) == 2 * STAKE - taken
    common = taken - await bounty_of(world)
    assert abs(STAKE - common // 2 - got[1]) <= 2


async def test_a_slash_is_told_by_the_registry_and_by_the_pool(world: World) -> None:
    one = await pooling(world, lent=[STAKE])
    proof = await one.proof()
    done = await one.submit(world.holder, proof)
    told = next(event for event in await one.told(done) if isinstance(event, NodeSlashed))
    done = await one.advance()
    slashed = (await one.told(done))[0]
    assert slashed == PoolSlashed(
        one.node,
        told.amount,
        told.bounty,
        slashed.bounty_shares,  # type: ignore[union-attr]
    )
