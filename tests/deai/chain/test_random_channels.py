"""Whatever anybody does with channels in whatever order: no token appears, disappears or sticks.

On a real chain the same walk is replayed in memory (see `twin`, and `near/test_random_walks.py`):
refusals, events and records must be equal, also for the sequences that nobody thought of.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import pytest

from deai import actions as act
from deai.channels import ChannelState, Voucher
from deai.errors import LedgerRejected
from deai.events import ChannelClosed, ChannelOpened, ChannelToppedUp, VoucherRedeemed
from tests.deai.chain.conftest import WITH_CHANNELS, memory_world
from tests.support.channel_conformance import Paying, paying
from tests.support.ledger_conformance import World

pytestmark = pytest.mark.slow

SUMS = (0, 1, 5, 40, 100, 250)


class Walk:
    """Two clients, two owners, three nodes, and a source of ideas."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.chance = random.Random(seed)
        self.channels: list[Paying] = []
        self.accepted = self.refused = self.count = 0

    async def begin(self) -> None:
        first = await paying(self.world)
        second = await paying(self.world)
        third = await paying(self.world, client=first.client, owner=first.owner, index=1)
        fourth = await paying(self.world, client=second.client, owner=first.owner)
        self.channels = [first, second, third, fourth]

    async def step(self) -> None:
        ideas: list[Callable[[Paying], Awaitable[object]]] = [
            self.open, self.open, self.top_up, self.redeem, self.redeem, self.redeem,
            self.redeem_many, self.redeem_many, self.close, self.request, self.finish, self.wait,
        ]  # fmt: skip
        self.count += 1
        try:
            await self.chance.choice(ideas)(self.chance.choice(self.channels))
            self.accepted += 1
        except LedgerRejected:
            self.refused += 1

    @property
    def key(self) -> str:
        """Every step is an intent of its own, and so is every walk on one chain."""
        return f"{self.channels[0].id}:{self.count}"

    async def voucher(self, on: Paying) -> Voucher:
        record = await on.record()
        epoch = max(1, record.epoch - self.chance.choice([0, 0, 0, 0, 0, 1]))
        key = on.owner if self.chance.random() < 0.1 else on.session
        return on.voucher(self.chance.choice(SUMS), epoch, by=key)

    async def open(self, on: Paying) -> None:
        await on.as_client(on.opening(self.chance.choice(SUMS)), key=self.key)

    async def top_up(self, on: Paying) -> None:
        await on.top_up(self.chance.choice(SUMS), self.key)

    async def redeem(self, on: Paying) -> None:
        action = act.RedeemVoucher(on.channel, await self.voucher(on))
        await on.as_stranger(action, key=self.key)

    async def redeem_many(self, on: Paying) -> None:
        chosen = self.chance.choices(self.channels, k=self.chance.randrange(1, 6))
        batch = tuple([(one.channel, await self.voucher(one)) for one in chosen])
        await on.as_stranger(act.RedeemMany(batch), key=self.key)

    async def close(self, on: Paying) -> None:
        voucher = await self.voucher(on) if self.chance.random() < 0.7 else None
        by = on.as_owner if self.chance.random() < 0.8 else on.as_stranger
        await by(act.CloseChannel(on.channel, 1, voucher), key=self.key)

    async def request(self, on: Paying) -> None:
        by = on.as_client if self.chance.random() < 0.8 else on.as_stranger
        await by(act.RequestClose(on.channel, 1), key=self.key)

    async def finish(self, on: Paying) -> None:
        await on.as_stranger(act.FinishClose(on.channel, 1), key=self.key)

    async def wait(self, on: Paying) -> None:
        period = (await self.world.reader.parameters()).close_period
        await self.world.advance(self.chance.choice([1, period // 2, period, period + 1]))


@pytest.mark.parametrize("seed", range(30))
async def test_no_sequence_makes_or_loses_money_in_memory(seed: int) -> None:
    world, chain = memory_world()
    walk = Walk(world, seed)
    await walk.begin()
    supply, contract = chain.total_tokens(), chain.info.contracts["PaymentChannels"]
    for _ in range(150):
        await walk.step()
        assert chain.total_tokens() == supply
        assert chain.holdings().get(contract, 0) == chain.in_channels()
        for one in walk.channels:
            record = await one.record()
            assert record.claimed <= record.deposit
    assert walk.accepted > 30, "a walk that is always refused shows nothing"
    assert walk.refused > 30
    put = dict.fromkeys([one.id for one in walk.channels], 0)
    for event in (record.event for record in chain.records):
        match event:
            case (
                ChannelOpened(channel_id=id_, deposit=amount)
                | ChannelToppedUp(channel_id=id_, amount=amount)
            ):
                put[id_] += amount
            case VoucherRedeemed(channel_id=id_, paid=amount):
                put[id_] -= amount
            case ChannelClosed(channel_id=id_, refunded=amount):
                put[id_] -= amount
                assert put[id_] == 0, "a closed channel holds nothing"
            case _:
                pass
    for one in walk.channels:
        record = await one.record()
        assert put[one.id] == record.remaining
        assert record.remaining == 0 or record.state in (ChannelState.OPEN, ChannelState.CLOSING)


@pytest.mark.slow
@pytest.mark.parametrize("chain", WITH_CHANNELS[1:3], indirect=True)
@pytest.mark.parametrize("seed", range(2))
async def test_a_real_chain_and_the_table_agree_on_any_sequence(world: World, seed: int) -> None:
    walk = Walk(world, 2_000 + seed)
    await walk.begin()
    for _ in range(60):
        await walk.step()
    assert walk.accepted > 10
    assert walk.refused > 10
