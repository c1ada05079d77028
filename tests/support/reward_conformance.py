"""Rewards as their parties see them, on any chain that has them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from deai import actions as act
from deai.chain.ledger import Transaction
from deai.claims import Claim, ClaimTree, Reason, Share, Statement
from deai.ids import AccountId
from deai.money import Amount
from rewards.epoch import statement
from tests.support.ledger_conformance import World, batches_until

_COUNTER = itertools.count()


@dataclass
class Rewarding:
    """A chain with rewards; the holder of its tokens proposes and cancels."""

    world: World

    @property
    def contract(self) -> AccountId:
        return self.world.reader.info.rewards.contract

    async def as_holder(self, action: act.Action, *, key: str = "") -> Transaction:
        """Every time another intent, unless a key is given."""
        ledger = await self.world.ledger(self.world.holder)
        return await ledger.submit(action, key=key or f"{next(_COUNTER)}:{act.intent_key(action)}")

    async def fund(self, amount: int, **shares: dict[AccountId, int]) -> Transaction:
        """Pay in; with `audit={account: amount}` for somebody."""
        named = [
            (Reason[name.upper()], tuple(Share(to, Amount(sum_)) for to, sum_ in shared.items()))
            for name, shared in shares.items()
        ] or [(Reason.POT, ())]
        ((reason, told),) = named
        return await self.as_holder(act.FundRewards(Amount(amount), reason, told))

    async def epoch_over(self) -> int:
        """Let the present epoch end; its number."""
        seconds = (await self.world.reader.parameters()).epoch_seconds
        epoch = await self.world.now() // seconds
        await self.world.pass_((epoch + 1) * seconds)
        return epoch

    async def statement(self, epoch: int) -> Statement:
        """What anybody computes from the chain's events."""
        reader = self.world.reader
        batches = await batches_until(reader, None, (await reader.head()).number)
        records = [record for batch in batches for record in batch.records]
        seconds = (await reader.parameters()).epoch_seconds
        return statement(records, reader.info.rewards, seconds, epoch)

    async def propose(self, found: Statement) -> Transaction:
        return await self.as_holder(self.proposal(found))

    @staticmethod
    def proposal(found: Statement) -> act.ProposeRewards:
        return act.ProposeRewards(found.epoch, found.root, found.total, found.digest)

    async def in_force(self) -> Statement:
        """The present epoch's root, proposed and its delay over."""
        found = await self.statement(await self.epoch_over())
        await self.propose(found)
        await self.delay_over()
        return found

    async def delay_over(self) -> None:
        waiting = (await self.world.reader.rewards()).waiting
        assert waiting is not None
        await self.world.pass_(waiting.active_at - 1)

    def claim_of(self, found: Statement, account: AccountId) -> Claim:
        claim = ClaimTree(self.world.reader.info.rewards, found.leaves).claim(account)
        assert claim is not None
        return claim

    async def tokens(self, account: AccountId) -> int:
        return (await self.world.reader.balances(account)).tokens
