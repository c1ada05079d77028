"""Whatever anybody does with pools in whatever order: no token or share appears or disappears.

On a real chain the same walk is replayed in memory (see `twin`): refusals, events and records must
be equal, also for the sequences that nobody thought of.
"""

from __future__ import annotations

from contextlib import suppress

import pytest

from deai import actions as act
from deai.chain.memory import MemoryChain
from deai.errors import LedgerRejected
from deai.events import (
    Delegated,
    IncomeShared,
    PoolOpened,
    PoolSlashed,
    UndelegationPaid,
)
from deai.ids import NodeId
from deai.pools import PoolState
from tests.deai.chain.conftest import WITH_ORDERS, memory_world
from tests.support.ledger_conformance import World
from tests.support.pool_conformance import Pooling
from tests.support.pool_walk import Walk, costs_no_less, is_solvent, shares_add_up

SEEDS = [*range(6), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(6, 40))]


@pytest.mark.parametrize("seed", SEEDS)
async def test_no_sequence_makes_or_loses_money_or_shares_in_memory(seed: int) -> None:
    world, chain = memory_world()
    walk = Walk(world, seed)
    await walk.begin()
    known = {one.node: await one.pool() for one in walk.pools}
    for _ in range(150):
        before = len(chain.records)
        one = await walk.step()
        if one is None:
            continue
        for each in walk.pools:
            pool = await shares_add_up(each)
            slashed = is_slashed(chain, before, each.node)
            if pool.shares and not slashed:
                assert costs_no_less(known[each.node], pool)
            known[each.node] = pool
        # What the registry took is not in the book before the next verb of the pool.
        if any(isinstance(record.event, PoolSlashed) for record in chain.records[before:]):
            await is_solvent(one, known[one.node])
    assert walk.accepted > 60, "a walk that is always refused shows nothing"
    assert walk.refused > 10
    for one in walk.pools:
        await everybody_leaves(one)
        adds_up(chain, one.node, (await world.reader.balances(one.owner)).tokens)


def is_slashed(chain: MemoryChain, since: int, node: NodeId) -> bool:
    """Whether a slash was recognised."""
    new = (record.event for record in chain.records[since:])
    return any(isinstance(event, PoolSlashed) and event.node == node for event in new)


async def everybody_leaves(one: Pooling) -> None:
    """The pool ends, whatever it went through, and pays out all that it has."""
    if (await one.pool()).state is PoolState.OPEN:
        await one.manages(act.ClosePool(one.node))
    for _ in range(3):
        await one.mature()
        await one.advance()
    assert (await one.pool()).state is PoolState.CLOSED
    for who in (one.manager, *one.lenders):
        with suppress(LedgerRejected):  # there may be nothing to claim, or no more
            await one.claim(who)
        left = await one.of(who)
        assert (left.shares, left.queued, left.claimable) == (0, 0, 0)
    pool = await one.pool()
    assert (pool.shares, pool.assets, pool.leaving) == (0, 0, 0)


def adds_up(chain: MemoryChain, node: NodeId, left: int) -> None:
    """What came in, less what a slash took, went out again to the last unit."""
    within, is_over = 0, False
    for event in (record.event for record in chain.records):
        match event:
            case PoolOpened() if event.node == node:
                within += event.stake
            case Delegated() if event.node == node:
                within += event.amount
            case IncomeShared() if event.node == node and not is_over:
                within += event.income
            case PoolSlashed() if event.node == node:
                within -= event.amount
            case UndelegationPaid() if event.node == node:
                within -= event.amount
                is_over = within == 0
            case _:
                pass
    assert within == 0
    assert left <= 1, "one unit stays with the account"


@pytest.mark.parametrize("chain", WITH_ORDERS[1:2], indirect=True)
async def test_a_real_chain_says_what_memory_says(world: World) -> None:
    walk = Walk(world, 111, slashes=1)  # closes a pool, and slashes one
    await walk.begin()
    for _ in range(45):
        await walk.step()
    assert walk.accepted > 12
