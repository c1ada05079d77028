"""The reducer: pools as the contract has them."""

from __future__ import annotations

import pytest

from coordinator.indexer.state import PoolEntry
from deai.chain.memory import DEFAULT_PARAMETERS
from deai.events import (
    BatchMatured,
    BatchStarted,
    Delegated,
    LedgerEvent,
    LedgerRecord,
    PoolOpened,
    PoolSlashed,
    Position,
    UndelegationPaid,
)
from deai.ids import AccountId, node_id
from deai.money import UNIT, Amount, Count
from deai.pools import PoolRecord, PoolState
from tests.coordinator.index import Index, holds_together, memory_world
from tests.support.pool_walk import Walk


@pytest.mark.parametrize(
    "seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 15))]
)
async def test_pools_are_followed_through_whatever_happens(seed: int) -> None:
    world, chain = memory_world()
    walk, index, done = Walk(world, seed), Index(), 0
    await walk.begin()
    for _ in range(100):
        await walk.step()
        index.take(chain.records[done:])
        done = len(chain.records)
        for one in walk.pools:
            agrees_about_a_pool(index.pools[one.node], await one.pool(), await world.now())
    assert index.sums.anomalies == 0
    assert set(index.pools) == {one.node for one in walk.pools}
    holds_together(index)


def agrees_about_a_pool(entry: PoolEntry, record: PoolRecord, now: int) -> None:
    """What follows from events is what the contract says."""
    names = ["manager", "state", "batch", "matures_at", "assets", "leaving", "leaving_shares"]
    if record.state is not PoolState.CLOSED:  # what is left of it is told by what it is worth
        names += ["shares", "manager_shares", "queued"]
    for name in names:
        assert getattr(entry, name) == getattr(record, name), name
    assert abs(entry.shares - record.shares) <= entry.shares // 10**6 + 10**6
    epoch = now // DEFAULT_PARAMETERS.epoch_seconds
    assert entry.commission_at(epoch) == record.commission


def test_an_event_of_a_pool_that_cannot_follow_changes_nothing_and_is_counted() -> None:
    node, who = node_id(AccountId("0x" + "aa" * 20), 0), AccountId("0x" + "bb" * 20)
    stake = Amount(100 * UNIT)
    opened = PoolOpened(node, who, Count(2**96 - 1), 500, stake)
    strange: list[LedgerEvent] = [
        opened,
        BatchMatured(node, 1, Amount(5)),
        BatchStarted(node, 1, Count(101 * UNIT), stake, 9),
        PoolSlashed(node, Amount(101 * UNIT), Amount(0), Count(0)),
        UndelegationPaid(node, who, 0, Amount(1)),
        BatchStarted(node, 0, Count(100 * UNIT), stake, 9),
        BatchMatured(node, 0, stake),
        Delegated(node_id(who, 0), who, stake, Count(1)),
    ]
    position = Position(1, 0, "0x", 1_800_000_000, "0x")
    index = Index().take([LedgerRecord(position, opened)])
    before = index.pools[node]
    index.take(LedgerRecord(position, event) for event in strange)
    assert index.sums.anomalies == len(strange)
    assert index.pools == {node: before}
    assert before.index == 2**96 - 1
