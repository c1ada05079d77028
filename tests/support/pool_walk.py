"""Whatever anybody does with two pools, in whatever order, and what must be true all the time."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

from deai import actions as act
from deai.errors import LedgerRejected
from deai.money import UNIT, Amount, Count
from deai.pools import PoolRecord, PoolState
from deai.signing import Signer
from deai.tasks import operate_digest
from tests.support.ledger_conformance import World
from tests.support.pool_conformance import STAKE, Pooling, pooling


class Walk:
    """Two pools, their managers and lenders, and a source of ideas."""

    def __init__(self, world: World, seed: int, *, slashes: int = 2) -> None:
        self.world = world
        self.chance = random.Random(seed)
        self.pools: list[Pooling] = []
        self.accepted = self.refused = 0
        self._slashes = slashes

    async def begin(self) -> None:
        self.pools = [
            await pooling(self.world, lent=[STAKE]),
            await pooling(self.world, stake=101 * UNIT, commission=2_000),
        ]

    async def step(self) -> Pooling | None:
        """Something happens, or is refused; the pool that it was about if it was done."""
        ideas: list[Callable[[Pooling], Awaitable[object]]] = [
            self.lend, self.lend, self.lend_own, self.leave, self.leave, self.leave_own,
            self.claim, self.claim, self.advance, self.earn, self.earn, self.add, self.wait,
            self.wait, self.announce, self.rotate, self.unjail, self.rarely,
        ]  # fmt: skip
        one = self.chance.choice(self.pools)
        try:
            await self.chance.choice(ideas)(one)
        except LedgerRejected:
            self.refused += 1
            return None
        self.accepted += 1
        return one

    def who(self, one: Pooling) -> Signer:
        return self.chance.choice([one.manager, *one.lenders, *one.lenders])

    async def lend(self, one: Pooling) -> None:
        amount = self.chance.choice([1, UNIT, 3 * UNIT + 7, STAKE, 5 * STAKE])
        await one.delegate(amount, self.chance.randrange(2))

    async def lend_own(self, one: Pooling) -> None:
        amount = self.chance.choice([UNIT, 50 * UNIT + 1, STAKE // 2])
        await one.manages(act.Delegate(one.node, Amount(amount)))

    async def leave(self, one: Pooling) -> None:
        by = self.chance.randrange(2)
        has = (await one.of(one.lenders[by])).shares
        shares = self.chance.choice([0, 1, has // 3, has // 2 + 1, has, has + 1])
        await one.undelegate(shares, by)

    async def leave_own(self, one: Pooling) -> None:
        has = (await one.of(one.manager)).shares
        shares = self.chance.choice([1, has // 50, has // 3, has])
        await one.manages(act.Undelegate(one.node, Count(shares)))

    async def claim(self, one: Pooling) -> None:
        await one.claim(self.who(one))

    async def advance(self, one: Pooling) -> None:
        await one.advance()

    async def earn(self, one: Pooling) -> None:
        await one.give(self.chance.choice([1, 2, 999_999, UNIT // 3, 60 * UNIT + 11]))

    async def add(self, one: Pooling) -> None:
        amount = Amount(self.chance.choice([1, UNIT]))
        await one.submit(self.world.holder, act.AddStake(one.node, amount))

    async def wait(self, one: Pooling) -> None:
        parameters = await self.world.reader.parameters()
        times = [1, parameters.unbonding_seconds // 2, parameters.unbonding_seconds + 1,
                 parameters.epoch_seconds]  # fmt: skip
        await self.world.advance(self.chance.choice(times))

    async def announce(self, one: Pooling) -> None:
        bps = self.chance.choice([0, 500, 2_000, 2_001])
        await one.manages(act.AnnounceCommission(one.node, bps))

    async def rotate(self, one: Pooling) -> None:
        hot = self.world.signer()
        until = 1 << 39
        digest = operate_digest(self.world.reader.info.registry, one.node, hot.account, until)
        new = act.PoolRotateOperator(one.node, hot.account, until, hot.sign(digest))
        await one.manages(new)
        one.operator = hot

    async def unjail(self, one: Pooling) -> None:
        await one.manages(act.PoolUnjail(one.node))

    async def rarely(self, one: Pooling) -> None:
        chosen = self.chance.randrange(6)
        if chosen == 0 and self.accepted > 20:
            await one.manages(act.ClosePool(one.node))
        elif chosen < 4 and self._slashes:
            self._slashes -= 1
            await self.beat(one)
            await one.equivocate()

    async def beat(self, one: Pooling) -> None:
        """The node is heard on chain: nobody assigns one that is not."""
        epoch = (await self.world.reader.parameters()).epoch_seconds
        node = await self.world.reader.node(one.node)
        if node is not None and node.last_epoch < await self.world.now() // epoch:
            await one.submit(one.operator, act.Heartbeat(one.node, 0))


async def shares_add_up(one: Pooling) -> PoolRecord:
    """All shares are somebody's, and no two records tell different counts of them."""
    pool = await one.pool()
    records = [await one.of(who) for who in (one.manager, *one.lenders)]
    waiting = [r for r in records if r.queued and r.queued_batch == pool.batch]
    leaving = [r for r in records if r.queued and r.queued_batch == pool.batch - 1]
    assert sum(r.queued for r in waiting) == pool.queued
    assert sum(r.shares for r in records) + pool.queued == pool.shares
    if pool.leaving_shares:
        assert sum(r.queued for r in leaving) == pool.leaving_shares
    assert records[0].shares == pool.manager_shares
    return pool


async def is_solvent(one: Pooling, pool: PoolRecord) -> None:
    """What is owed is there: bonded, unbonding, or with the account that owns the node."""
    reader = one.world.reader
    node, held = await reader.node(one.node), (await reader.balances(one.owner)).tokens
    assert node is not None
    paid = 0
    for who in (one.manager, *one.lenders):
        mine = await one.of(who)
        # Of a closed pool a claim pays the other shares besides.
        rest = int(pool.worth(mine.shares)) if pool.state is PoolState.CLOSED else 0
        paid += int(mine.claimable) - rest
    assert node.stake + node.unbonding + held >= pool.assets + pool.leaving + paid


def costs_no_less(before: PoolRecord, after: PoolRecord) -> bool:
    """Whether a share is worth as much as it was, to the last fraction of a unit."""
    return after.assets * before.shares >= before.assets * after.shares
