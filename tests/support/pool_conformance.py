"""A pool as its manager, its delegators and strangers see it, on any chain that has pools."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from deai import actions as act
from deai.chain.ledger import Transaction
from deai.events import LedgerEvent
from deai.ids import AccountId, NodeId, owner_of
from deai.money import UNIT, Amount, Count
from deai.pools import DelegationRecord, PoolRecord, pool_node
from deai.signing import Signer
from deai.tasks import operate_digest
from tests.support.ledger_conformance import (
    ADDRESSES,
    PEER_ID,
    RIGHT,
    WRONG,
    Provider,
    World,
    events_of,
    many_providers,
    play,
)

STAKE = 500 * UNIT
COMMISSION = 1_000
_COUNTER = itertools.count()


@dataclass
class Pooling:
    """A node that takes delegations, its manager, and accounts that may delegate."""

    world: World
    manager: Signer
    operator: Signer
    node: NodeId
    lenders: list[Signer]

    @property
    def owner(self) -> AccountId:
        """The account that owns the node."""
        return owner_of(self.node)

    async def submit(self, by: Signer, action: act.Action, *, key: str = "") -> Transaction:
        """Every time another intent, unless a key is given."""
        ledger = await self.world.ledger(by)
        return await ledger.submit(action, key=key or f"{next(_COUNTER)}:{act.intent_key(action)}")

    async def pool(self) -> PoolRecord:
        found = await self.world.reader.pool(self.node)
        assert found is not None
        return found

    async def of(self, who: Signer) -> DelegationRecord:
        return await self.world.reader.delegation(self.node, who.account)

    async def tokens(self, who: Signer) -> int:
        return (await self.world.reader.balances(who.account)).tokens

    async def worth(self, who: Signer) -> int:
        """What an account's shares that do not leave are worth."""
        return (await self.pool()).worth((await self.of(who)).shares)

    async def delegate(self, amount: int, by: int = 0) -> Transaction:
        return await self.submit(self.lenders[by], act.Delegate(self.node, Amount(amount)))

    async def undelegate(self, shares: int, by: int = 0) -> Transaction:
        return await self.submit(self.lenders[by], act.Undelegate(self.node, Count(shares)))

    async def claim(self, who: Signer) -> Transaction:
        """By a stranger: whoever sends it, the account is paid."""
        return await self.submit(self.world.holder, act.ClaimDelegation(self.node, who.account))

    async def advance(self) -> Transaction:
        return await self.submit(self.world.holder, act.AdvancePool(self.node))

    async def manages(self, action: act.Action) -> Transaction:
        return await self.submit(self.manager, action)

    async def give(self, amount: int) -> None:
        """Tokens to the account that owns the node: income."""
        await self.world.fund(self.owner, amount)

    async def mature(self) -> None:
        """Let the time of what unbonds be over."""
        await self.world.pass_((await self.pool()).matures_at)

    async def told(self, done: Transaction) -> list[LedgerEvent]:
        """What a transaction and those after it reported."""
        return [record.event for record in await events_of(self.world, done.block)]

    def provider(self) -> Provider:
        """The node as one that takes seats; its owner signs nothing."""
        return Provider(self.world, self.manager, self.operator, self.node)

    async def proof(self) -> act.ProveEquivocation:
        """The node takes a seat of a new task, and signs two results of it."""
        others = await many_providers(self.world, 2)
        playing = await play(self.world, providers=[self.provider(), *others])
        first, second = playing.result(0, RIGHT), playing.result(0, WRONG)
        return act.ProveEquivocation(playing.task, await playing.committee(), 0, first, second)

    async def equivocate(self) -> None:
        """The same, and somebody shows it to the chain: a slash, and jail."""
        await self.submit(self.world.holder, await self.proof())


def opening(
    world: World, manager: Signer, operator: Signer, *, index: int = 0, stake: int = STAKE,
    **changed: Any,
) -> act.OpenPool:  # fmt: skip
    """A pool that can be opened, unless `changed`."""
    info, valid_until = world.reader.info, changed.pop("valid_until", 1 << 39)
    node = pool_node(info.delegations, manager.account, index)
    digest = operate_digest(info.registry, node, operator.account, valid_until)
    action = act.OpenPool(
        index, COMMISSION, Amount(stake), operator.account, valid_until, operator.sign(digest),
        PEER_ID, ADDRESSES,
    )  # fmt: skip
    return msgspec.structs.replace(action, **changed)


async def pooling(
    world: World, *, stake: int = STAKE, commission: int = COMMISSION, lent: Sequence[int] = ()
) -> Pooling:
    """A pool, and two accounts with tokens, which lend what `lent` says."""
    manager, operator = world.signer(), world.signer()
    lenders = [world.signer(), world.signer()]
    await world.fund(manager.account, 4 * stake)
    for one in lenders:
        await world.fund(one.account, 20 * stake)
    action = opening(world, manager, operator, stake=stake, commission_bps=commission)
    node = pool_node(world.reader.info.delegations, manager.account, 0)
    found = Pooling(world, manager, operator, node, lenders)
    await found.manages(action)
    for by, amount in enumerate(lent):
        await found.delegate(amount, by)
    return found


async def unbonding(world: World) -> int:
    """Seconds."""
    return (await world.reader.parameters()).unbonding_seconds


async def bounty_of(world: World) -> int:
    """The most of a slash that goes to whoever proved the fault."""
    return int((await world.reader.parameters()).bounty)
