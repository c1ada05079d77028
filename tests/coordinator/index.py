"""The reducer's rows in memory, and what must be true of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from coordinator.indexer.reducer import apply
from coordinator.indexer.state import (
    ChannelEntry,
    DayEarned,
    Entity,
    NodeChannels,
    NodeState,
    PoolEntry,
    Totals,
)
from deai.chain.memory import DEFAULT_PARAMETERS, MemoryChain
from deai.chain.tasks_view import TaskView
from deai.channels import ChannelState
from deai.events import LedgerRecord
from deai.ids import ChannelId, NodeId, TaskId
from deai.lifecycle import TaskState
from tests.deai.chain.conftest import memory_world as any_memory_world
from tests.support.ledger_conformance import World


@dataclass
class Index:
    """The reducer's rows in memory."""

    nodes: dict[NodeId, NodeState] = field(default_factory=dict)
    tasks: dict[TaskId, TaskView] = field(default_factory=dict)
    days: dict[tuple[NodeId, str], DayEarned] = field(default_factory=dict)
    channels: dict[ChannelId, ChannelEntry] = field(default_factory=dict)
    by_node: dict[NodeId, NodeChannels] = field(default_factory=dict)
    pools: dict[NodeId, PoolEntry] = field(default_factory=dict)
    sums: Totals = field(default_factory=Totals)

    def node(self, node: NodeId) -> NodeState | None:
        return self.nodes.get(node)

    def task(self, task: TaskId) -> TaskView | None:
        return self.tasks.get(task)

    def day(self, node: NodeId, day: str) -> DayEarned | None:
        return self.days.get((node, day))

    def channel(self, channel: ChannelId) -> ChannelEntry | None:
        return self.channels.get(channel)

    def node_channels(self, node: NodeId) -> NodeChannels | None:
        return self.by_node.get(node)

    def pool(self, node: NodeId) -> PoolEntry | None:
        return self.pools.get(node)

    def totals(self) -> Totals:
        return self.sums

    def take(self, records: Iterable[LedgerRecord]) -> Index:
        for record in records:
            self.put(apply(self, record))
        return self

    def put(self, changes: Iterable[Entity]) -> None:
        for entity in changes:
            match entity:
                case NodeState():
                    self.nodes[entity.node] = entity
                case TaskView():
                    self.tasks[entity.task_id] = entity
                case DayEarned():
                    self.days[entity.node, entity.day] = entity
                case ChannelEntry():
                    self.channels[entity.id] = entity
                case NodeChannels():
                    self.by_node[entity.node] = entity
                case PoolEntry():
                    self.pools[entity.node] = entity
                case Totals():
                    self.sums = entity


def memory_world() -> tuple[World, MemoryChain]:
    """A memory chain as the conformance suite sees chains."""
    return any_memory_world(msgspec.structs.replace(DEFAULT_PARAMETERS, min_lease=5, min_window=20))


async def agrees_with_the_chain(chain: MemoryChain) -> Index:
    """Fold everything and compare every node with the chain's own record."""
    index = Index().take(chain.records)
    assert index.sums.anomalies == 0
    assert index.nodes
    ledger = chain.ledger()
    for node, state in index.nodes.items():
        record = await ledger.node(node)
        assert record is not None
        assert state.operator == record.operator
        assert state.standing is record.standing
        assert (state.bonded, state.unbonding) == (record.stake, record.unbonding)
        assert state.checked_tasks == record.checked_tasks
        assert state.reputation == record.reputation
    holds_together(index)
    return index


def holds_together(index: Index) -> None:
    """What must be true of every index whatever happened."""
    sums = index.sums
    held = sum(task.money.held for task in index.tasks.values())
    assert sums.escrowed == sums.paid + sums.refunded + sums.protocol_fees + held
    assert sums.rewarded == sum(node.earned for node in index.nodes.values())
    of_registered = sum(one.redeemed for one in index.by_node.values() if one.node in index.nodes)
    assert sums.rewarded == sums.paid + of_registered
    channels_hold_together(index)
    assert sums.seats_paid == sum(node.completed for node in index.nodes.values())
    assert sums.slashed == sum(node.slashed for node in index.nodes.values())
    for node in index.nodes.values():
        days = [day for day in index.days.values() if day.node == node.node]
        assert sum(day.earned for day in days) == node.earned
        assert sum(day.completed for day in days) == node.completed
    for state in TaskState:
        assert getattr(sums, state.value) == sum(
            task.state is state for task in index.tasks.values()
        )


def channels_hold_together(index: Index) -> None:
    """Each channel, the sums over a node's channels, and those of the chain tell the same."""
    sums, everything = index.sums, list(index.channels.values())
    held = sum(one.held for one in everything)
    assert sums.deposited == sums.redeemed + sums.returned + held
    assert sums.redeemed == sum(one.redeemed for one in everything)
    for state in (ChannelState.OPEN, ChannelState.CLOSING, ChannelState.CLOSED):
        number = sum(one.state is state for one in everything)
        assert getattr(sums, f"channels_{state.label}") == number
    for node, known in index.by_node.items():
        own = [one for one in everything if one.channel.node == node]
        assert known.deposited == known.redeemed + known.returned + sum(one.held for one in own)
        assert known.redeemed == sum(one.redeemed for one in own)
        assert known.open + known.closing + known.closed == len(own)
    for one in everything:
        assert 0 <= one.claimed <= one.deposit
        if one.state is ChannelState.CLOSED:
            assert (one.held, one.closes_at) == (0, 0)
