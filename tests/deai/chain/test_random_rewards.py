"""Whatever proposers, guardians and claimants do in whatever order: no more is paid than came in.

On a real chain the same walk is replayed in memory (see `twin`, and `near/test_random_walks.py`):
refusals, events and records must be equal, also for the sequences that nobody thought of.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from deai import actions as act
from deai.claims import ClaimTree, Reason, Share
from deai.errors import LedgerRejected
from deai.events import RewardsClaimed, RewardsFunded
from deai.hashing import ZERO
from deai.ids import AccountId
from deai.money import Amount
from tests.deai.chain.conftest import WITH_ORDERS, memory_world
from tests.support.ledger_conformance import World
from tests.support.reward_conformance import Rewarding

pytestmark = pytest.mark.slow

SUMS = (0, 1, 5, 40, 100)


class Walk:
    """A treasury that proposes and guards, three accounts, and a source of ideas."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.here = Rewarding(world)
        self.chance = random.Random(seed)
        self.accounts = sorted(world.signer().account for _ in range(3))
        self.stranger = world.signer()
        self.owed = dict.fromkeys(self.accounts, 0)
        self.proposed = [self.leaves()]
        """What was put on chain so far, right or not."""
        self.accepted = self.refused = self.count = 0

    def leaves(self) -> tuple[Share, ...]:
        return tuple(Share(one, Amount(sum_)) for one, sum_ in sorted(self.owed.items()) if sum_)

    async def step(self) -> None:
        ideas: list[Callable[[], Awaitable[object]]] = [
            self.fund, self.fund, self.propose, self.propose, self.propose, self.cancel,
            self.claim, self.claim, self.claim, self.wait, self.wait,
        ]  # fmt: skip
        self.count += 1
        try:
            await self.chance.choice(ideas)()
            self.accepted += 1
        except LedgerRejected:
            self.refused += 1

    async def send(self, action: act.Action, *, most: float = 1.0) -> None:
        """By the treasury, or in a part of the cases by somebody else."""
        by = self.world.holder if self.chance.random() < most else self.stranger
        await (await self.world.ledger(by)).submit(action, key=f"{self.accounts}:{self.count}")

    async def fund(self) -> None:
        named = self.chance.sample(self.accounts, self.chance.randrange(3))
        shares = tuple(Share(one, Amount(self.chance.choice(SUMS))) for one in named)
        reason = self.chance.choice([Reason.AUDIT, Reason.REFUND]) if shares else Reason.POT
        amount = sum(one.amount for one in shares) + self.chance.choice([-1, 0, 0, 7])
        await self.send(act.FundRewards(Amount(max(0, amount)), reason, shares))
        for one in shares:
            self.owed[one.account] += one.amount

    async def propose(self) -> None:
        epoch = await self._now() - self.chance.choice([0, 1, 1, 1, 2])
        leaves = self.leaves()
        total = sum(one.amount for one in leaves) + self.chance.choice([-1, 0, 0, 0, 0, 3])
        root = ClaimTree(self.world.reader.info.rewards, leaves).root
        action = act.ProposeRewards(epoch, root, Amount(max(0, total)), ZERO)
        await self.send(action, most=0.9)
        self.proposed.append(leaves)

    async def cancel(self) -> None:
        record = await self.world.reader.rewards()
        epoch = record.waiting.epoch if record.waiting is not None else await self._now()
        action = act.CancelRewards(epoch - self.chance.choice([0, 0, 0, 1]), ZERO)
        await self.send(action, most=0.8)

    async def claim(self) -> None:
        tree = ClaimTree(self.world.reader.info.rewards, self.chance.choice(self.proposed[-3:]))
        claim = tree.claim(self.chance.choice(self.accounts))
        if claim is None:
            return
        more = self.chance.choice([0, 0, 0, 0, 1])
        claim = msgspec.structs.replace(
            claim, cumulative_amount=Amount(claim.cumulative_amount + more)
        )
        await self.send(act.ClaimRewards(claim), most=0.5)

    async def wait(self) -> None:
        parameters = await self.world.reader.parameters()
        if self.chance.random() < 0.5:
            await self.world.advance(parameters.reward_delay)
        else:
            await self.here.epoch_over()

    async def _now(self) -> int:
        return await self.world.now() // (await self.world.reader.parameters()).epoch_seconds


@pytest.mark.parametrize("seed", range(30))
async def test_no_sequence_pays_more_than_came_in_or_than_was_owed(seed: int) -> None:
    world, chain = memory_world()
    walk = Walk(world, seed)
    supply, contract = chain.total_tokens(), chain.info.rewards.contract
    for _ in range(150):
        await walk.step()
        record = await world.reader.rewards()
        assert chain.total_tokens() == supply
        assert record.paid <= record.total
    came, paid = 0, dict[AccountId, int]()
    for event in (record.event for record in chain.records):
        match event:
            case RewardsFunded(amount=amount):
                came += amount
            case RewardsClaimed(account=account, amount=amount, cumulative=cumulative):
                paid[account] = paid.get(account, 0) + amount
                assert paid[account] == cumulative
            case _:
                pass
    assert chain.holdings().get(contract, 0) == came - sum(paid.values())
    assert (await world.reader.rewards()).paid == sum(paid.values())
    for account, sum_ in paid.items():
        assert sum_ <= walk.owed[account]
        assert await world.reader.rewards_paid(account) == sum_ == chain.holdings()[account]
    assert walk.accepted > 30, "a walk that is always refused shows nothing"
    assert walk.refused > 30


@pytest.mark.parametrize("chain", WITH_ORDERS[1:], indirect=True)
@pytest.mark.parametrize("seed", range(2))
async def test_a_real_chain_and_the_table_agree_on_any_sequence(world: World, seed: int) -> None:
    walk = Walk(world, 4_000 + seed)
    for _ in range(60):
        await walk.step()
    assert walk.accepted > 15
    assert walk.refused > 10
