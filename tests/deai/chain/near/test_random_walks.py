"""Whatever anybody sends in whatever order: the chain and the ledger in memory agree on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deai import actions as act
from deai.chain.ledger import Cursor
from deai.events import LedgerRecord
from deai.money import Amount
from tests.deai.chain.near.harness import NearChain, near_chain, near_world
from tests.deai.chain.near.twin import NearTwin
from tests.deai.chain.test_random_channels import Walk as ChannelWalk
from tests.deai.chain.test_random_rewards import Walk as RewardWalk
from tests.deai.chain.test_random_walks import Walk
from tests.support.ledger_conformance import World, batches_until, client

pytestmark = [pytest.mark.chain, pytest.mark.network, pytest.mark.slow]


@pytest.fixture
def new_chain(tmp_path: Path) -> Iterator[NearChain]:
    """One for each walk: every token that there is has to be accounted for."""
    with near_chain(tmp_path, accounts=60) as chain:
        yield chain.embedded("not every token there is ours")


async def everything(chain: NearChain, world: World) -> list[LedgerRecord]:
    until = (await world.reader.head()).number
    batches = await batches_until(world.reader, Cursor(chain.entry.deployed_at, ""), until)
    return [record for batch in batches for record in batch.records]


@pytest.mark.parametrize("seed", range(2))
async def test_the_chain_and_the_tables_agree_on_any_sequence_to_the_base_unit(
    new_chain: NearChain, seed: int
) -> None:
    """Events, refusals, balances, standing, reputation, lanes, and what was burned."""
    async with near_world(new_chain) as world:
        twin = NearTwin(new_chain, world)
        walk = Walk(twin.world(), 1_000 + seed)
        await walk.begin()
        for _ in range(100):
            await walk.step()
        await twin.meet(await everything(new_chain, world))
    assert walk.accepted > 10
    assert walk.refused > 5
    assert twin.compared > 20


@pytest.mark.parametrize("seed", range(2))
async def test_the_chain_and_the_table_of_channels_agree_on_any_sequence(
    new_chain: NearChain, seed: int
) -> None:
    """Events, refusals, records, and every token that left a channel or came into one."""
    async with near_world(new_chain) as world:
        twin = NearTwin(new_chain, world)
        walk = ChannelWalk(twin.world(), 3_000 + seed)
        await walk.begin()
        for _ in range(120):
            await walk.step()
        await twin.meet(await everything(new_chain, world))
    assert walk.accepted > 15
    assert walk.refused > 10
    assert twin.compared > 15


@pytest.mark.parametrize("seed", range(2))
async def test_the_chain_and_the_table_of_rewards_agree_on_any_sequence(
    new_chain: NearChain, seed: int
) -> None:
    """Events, refusals, roots, what was paid, and every token that came in or left."""
    async with near_world(new_chain) as world:
        twin = NearTwin(new_chain, world)
        walk = RewardWalk(twin.world(), 5_000 + seed)
        for _ in range(120):
            await walk.step()
        await twin.meet(await everything(new_chain, world))
    assert walk.accepted > 25
    assert walk.refused > 15
    assert twin.compared > 15


async def test_a_difference_of_one_base_unit_is_noticed(new_chain: NearChain) -> None:
    async with near_world(new_chain) as world:
        twin = NearTwin(new_chain, world)
        payer = await client(twin.world())
        await (await twin.world().ledger(payer)).submit(act.WithdrawVault(payer.account, Amount(7)))
        twin.steps[-1].action = act.WithdrawVault(payer.account, Amount(8))
        with pytest.raises(AssertionError):
            await twin.meet(await everything(new_chain, world))
