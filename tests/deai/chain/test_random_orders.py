"""Whatever anybody does with orders in whatever order: no token appears, disappears or sticks.

On a real chain the same walk is replayed in memory (see `twin`): refusals, events and records must
be equal, also for the sequences that nobody thought of.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from deai import actions as act
from deai.errors import LedgerRejected
from deai.events import OrderSettled, OrdersFunded, ThawWithdrawn
from deai.money import Amount
from deai.orders import Settlement
from tests.deai.chain.conftest import WITH_ORDERS, memory_world
from tests.support.ledger_conformance import World
from tests.support.order_conformance import FEE, Ordering, ordering

pytestmark = pytest.mark.slow


class Walk:
    """Two clients, six nodes, and a source of ideas."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.chance = random.Random(seed)
        self.clients: list[Ordering] = []
        self.accepted = self.refused = 0

    async def begin(self) -> None:
        first = await ordering(self.world, funds=20 * FEE)
        second = await ordering(self.world, funds=0)
        self.clients = [first, second]

    async def step(self) -> None:
        ideas: list[Callable[[Ordering], Awaitable[object]]] = [
            self.fund, self.settle, self.settle, self.settle, self.thaw, self.withdraw,
            self.collect, self.sweep, self.wait,
        ]  # fmt: skip
        try:
            await self.chance.choice(ideas)(self.chance.choice(self.clients))
            self.accepted += 1
        except LedgerRejected:
            self.refused += 1

    async def fund(self, by: Ordering) -> None:
        await by.fund(self.chance.choice([0, 1, FEE, 9 * FEE]), self.chance.choice([0, 0, 1]))

    async def signed(self, by: Ordering) -> Settlement:
        until = await self.world.now() + self.chance.choice([-1, 10_000, 10_000, 10_000])
        order = by.order(self.chance.choice([*range(1, 30), 256, 257]), valid_until=until)
        seats = [[], [], [0], [1, 2]]
        signed = by.signed(order, silent=self.chance.choice(seats))
        if self.chance.random() < 0.1:
            signed = msgspec.structs.replace(signed, signature=bytes(64))
        return signed

    async def settle(self, by: Ordering) -> None:
        chosen = self.chance.choices([by, *self.clients], k=self.chance.randrange(1, 5))
        await by.settle(*[await self.signed(one) for one in chosen])

    async def thaw(self, by: Ordering) -> None:
        await by.thaw(self.chance.choice([0, 1, FEE, 30 * FEE]))

    async def withdraw(self, by: Ordering) -> None:
        await by.withdraw()

    async def collect(self, by: Ordering) -> None:
        owner = self.chance.choice(by.providers).owner.account
        await by.as_stranger(act.CollectEarnings(owner))

    async def sweep(self, by: Ordering) -> None:
        owners = tuple(one.owner.account for one in by.providers)
        await by.as_stranger(act.SweepOrderFees(owners))

    async def wait(self, _: Ordering) -> None:
        period = (await self.world.reader.parameters()).thaw_period
        await self.world.advance(self.chance.choice([1, period // 2, period + 1]))


@pytest.mark.parametrize("seed", range(15))
async def test_no_sequence_makes_or_loses_money_in_memory(seed: int) -> None:
    world, chain = memory_world()
    walk = Walk(world, seed)
    await walk.begin()
    supply, contract = chain.total_tokens(), chain.info.contracts["OrderSettlement"]
    for _ in range(120):
        await walk.step()
        assert chain.total_tokens() == supply
        assert chain.holdings().get(contract, 0) == chain.in_orders()
    assert walk.accepted > 30, "a walk that is always refused shows nothing"
    assert walk.refused > 20
    put = {one.client.account: Amount(0) for one in walk.clients}
    seen: set[tuple[str, int]] = set()
    for event in (record.event for record in chain.records):
        match event:
            case OrdersFunded(client=client, amount=amount):
                put[client] = Amount(put[client] + amount)
            case ThawWithdrawn(client=client, amount=amount):
                put[client] = Amount(put[client] - amount)
            case OrderSettled(order=order):
                put[order.client] = Amount(put[order.client] - order.cost)
                assert event.protocol_fee + sum(event.payments) == order.cost
                assert (order.client, order.nonce) not in seen, "settled twice"
                seen.add((order.client, order.nonce))
            case _:
                pass
    assert len(seen) > 5
    for one in walk.clients:
        assert (await one.balance()).balance == put[one.client.account]


@pytest.mark.parametrize("chain", WITH_ORDERS[1:2], indirect=True)
async def test_a_real_chain_says_what_memory_says(world: World) -> None:
    walk = Walk(world, 7)
    await walk.begin()
    for _ in range(30):
        await walk.step()
    assert walk.accepted > 8
