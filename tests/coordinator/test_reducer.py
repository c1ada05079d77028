"""The reducer: every event, sums that hold, and the chain's own word on each node."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given, strategies as st

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
from deai import actions as act
from deai.chain.memory import DEFAULT_PARAMETERS, MemoryChain
from deai.chain.tasks_view import TaskView
from deai.channels import ChannelState
from deai.events import (
    BatchMatured,
    BatchStarted,
    ChannelClosed,
    ChannelClosing,
    ChannelOpened,
    ChannelToppedUp,
    Delegated,
    LedgerEvent,
    LedgerRecord,
    NodeBeat,
    NodeRegistered,
    PoolOpened,
    PoolSlashed,
    Position,
    UndelegationPaid,
    VoucherRedeemed,
)
from deai.hashing import ZERO, keccak
from deai.ids import AccountId, ChannelId, NodeId, TaskId, node_id
from deai.lifecycle import TaskState
from deai.money import UNIT, Amount, Count
from deai.pools import PoolRecord, PoolState
from deai.signing import LocalSigner, Signer
from deai.standing import Standing
from deai.tasks import Policy
from rewards.rules import RULES
from tests.coordinator.world import Chain
from tests.support.channel_conformance import ROOT, paying
from tests.support.examples import examples
from tests.support.ledger_conformance import RIGHT, WRONG, World, play, provider
from tests.support.pool_walk import Walk


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
    numbers = itertools.count(1)

    def signer() -> LocalSigner:
        return LocalSigner(keccak(b"reducer", next(numbers).to_bytes(4, "big")))

    holder = signer()
    parameters = msgspec.structs.replace(DEFAULT_PARAMETERS, min_lease=5, min_window=20)
    chain = MemoryChain(RULES, holder=holder.account, parameters=parameters)

    async def opened(who: LocalSigner) -> object:
        return chain.ledger(who)

    async def advance(seconds: int) -> None:
        chain.advance(seconds)

    def operator(_owner: Signer) -> LocalSigner:
        return signer()

    world = World("memory", chain.ledger(), holder, opened, advance, signer, operator)  # type: ignore[arg-type]
    return world, chain


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


async def test_a_paid_task_and_a_loser_leave_nodes_as_the_chain_has_them() -> None:
    world, chain = memory_world()
    playing = await play(world)
    await playing.commit(0, 1, 2, digests={2: WRONG})
    await playing.finalise()
    index = await agrees_with_the_chain(chain)
    first, _, liar = (index.nodes[one.node] for one in playing.providers)
    assert first.earned == 2 * UNIT * 8600 // 10000
    assert (first.completed, first.failed) == (1, 0)
    assert (liar.completed, liar.failed, liar.earned) == (0, 1, 0)
    assert liar.reputation < 100_000 < first.reputation


async def test_a_tolerance_task_with_an_outsider_adds_up() -> None:
    world, chain = memory_world()
    playing = await play(world, policy=Policy.TOL32)
    await playing.commit(0, 1, 2, digests={2: WRONG})
    await playing.finalise(masks={0: 0b011, 1: 0b011, 2: 0b100})
    index = await agrees_with_the_chain(chain)
    assert [index.nodes[one.node].completed for one in playing.providers] == [1, 1, 0]


async def test_an_unchecked_task_pays_without_moving_reputation() -> None:
    world, chain = memory_world()
    playing = await play(world, policy=Policy.NONE)
    result = playing.result(0, RIGHT)
    await playing.as_client(act.DeliverResult(playing.task, await playing.committee(), result))
    playing.secrets[0] = (RIGHT, ZERO)
    await playing.finalise()
    index = await agrees_with_the_chain(chain)
    assert index.nodes[playing.providers[0].node].reputation == 100_000
    assert index.nodes[playing.providers[0].node].completed == 1


async def test_a_proven_equivocation_takes_stake_and_jails_as_on_chain() -> None:
    world, chain = memory_world()
    playing = await play(world)
    await playing.commit(0, 1, 2)
    await playing.as_stranger(
        act.ProveEquivocation(
            playing.task, await playing.committee(), 1,
            playing.result(1, RIGHT), playing.result(1, WRONG),
        )
    )  # fmt: skip
    await playing.finalise()
    index = await agrees_with_the_chain(chain)
    liar = index.nodes[playing.providers[1].node]
    assert liar.standing is Standing.JAILED
    assert liar.slashed == 100 * UNIT
    assert index.sums.burned


async def test_replaced_and_released_seats_are_told_apart() -> None:
    world, chain = memory_world()
    deadline = await world.now() + 600
    playing = await play(world, commit_deadline=deadline)
    substitute, second = await provider(world), await provider(world)
    committee = await playing.committee()
    await playing.providers[0].operates(act.ReleaseSeat(playing.task, committee, 0))
    until = playing.task.commit_deadline
    await playing.as_client(
        act.ReassignSeat(
            playing.task, committee, 0, substitute.accepts(playing.id, 0, until, attempt=1)
        )
    )
    await world.pass_((await playing.committee())[1].lease_end)
    await playing.as_client(
        act.ReassignSeat(
            playing.task, await playing.committee(), 1,
            second.accepts(playing.id, 1, until, attempt=1),
        )
    )  # fmt: skip
    index = await agrees_with_the_chain(chain)
    gave_back, silent = (index.nodes[one.node] for one in playing.providers[:2])
    assert (gave_back.released, gave_back.failed) == (1, 0)
    assert (silent.released, silent.failed) == (0, 1)
    assert index.sums.reassigned == 2


async def test_stakes_that_come_and_go_are_those_of_the_registry() -> None:
    world, chain = memory_world()
    one, other = await provider(world), await provider(world)
    await one.owns(act.AddStake(one.node, Amount(5 * UNIT)), key="add")
    await one.owns(act.RequestUnstake(one.node, Amount(2 * UNIT)))
    await one.owns(act.RequestUnstake(one.node, Amount(1 * UNIT)))
    record = await chain.ledger().node(other.node)
    assert record is not None
    await other.owns(act.RequestUnstake(other.node, Amount(record.stake)))
    await agrees_with_the_chain(chain)
    await world.pass_(await world.now() + chain.parameters.unbonding_seconds)
    await one.owns(act.WithdrawStake(one.node, one.owner.account))
    await other.owns(act.WithdrawStake(other.node, other.owner.account))
    index = await agrees_with_the_chain(chain)
    assert index.nodes[other.node].standing is Standing.EXITED
    assert index.nodes[one.node].unbonding == 0


@given(seed=st.integers(0, 2**32), events=st.integers(20, 400))
@examples(40)
def test_sums_hold_after_any_history(seed: int, events: int) -> None:
    chain = Chain(seed)
    chain.run(events)
    index = Index().take(chain.records)
    assert index.sums.anomalies == 0
    holds_together(index)
    staked = sum(sum(stake) for stake in chain.stakes.values())
    assert staked == sum(node.stake for node in index.nodes.values())


@given(seed=st.integers(0, 2**32), order=st.randoms(use_true_random=False))
@examples(30)
def test_events_in_any_order_are_counted_and_never_raise(seed: int, order: object) -> None:
    chain = Chain(seed)
    chain.run(120)
    shuffled = list(chain.records)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    index = Index().take(shuffled + shuffled)
    assert index.sums.anomalies > 0
    held = sum(task.money.held for task in index.tasks.values())
    sums = index.sums
    assert sums.escrowed == sums.paid + sums.refunded + sums.protocol_fees + held


async def agrees_about_channels(chain: MemoryChain) -> Index:
    """Fold everything and compare every channel with the chain's own record of it."""
    index = await agrees_with_the_chain(chain)
    ledger = chain.ledger()
    assert index.channels
    for one in index.channels.values():
        record = await ledger.channel(one.id)
        assert (one.state, one.epoch) == (record.state, record.epoch)
        assert (one.held, one.closes_at) == (record.remaining, record.closes_at)
        if one.state is not ChannelState.CLOSED:  # the index keeps the figures of the last epoch
            assert (one.deposit, one.claimed) == (record.deposit, record.claimed)
    return index


async def test_a_channel_is_followed_through_every_epoch_and_earns_for_its_node() -> None:
    world, chain = memory_world()
    worker = await provider(world)
    playing = await paying(world, owner=worker.owner)
    assert playing.channel.node == worker.node
    await playing.open(50)
    await playing.top_up(10, "top-up")
    await playing.redeem(20)
    await agrees_about_channels(chain)
    await playing.request_close()
    await playing.redeem(35)
    index = await agrees_about_channels(chain)
    assert index.sums.channels_closing == 1
    await world.pass_(index.channels[playing.id].closes_at)
    await playing.finish()
    index = await agrees_about_channels(chain)
    kept = index.channels[playing.id]
    assert (kept.deposit, kept.claimed, kept.refunded, kept.receipts_root) == (60, 35, 25, ROOT)
    await playing.open(100, epoch=2)
    await playing.close(7, epoch=2)
    index = await agrees_about_channels(chain)
    assert index.channels[playing.id].redeemed == 42
    assert index.nodes[worker.node].earned == 42 == index.sums.rewarded
    assert index.nodes[worker.node].completed == 0
    sums = index.by_node[worker.node]
    assert (sums.deposited, sums.redeemed, sums.returned, sums.closed) == (160, 42, 118, 1)


async def test_what_many_vouchers_pay_is_counted_channel_by_channel() -> None:
    world, chain = memory_world()
    worker = await provider(world)
    several = [await paying(world, owner=worker.owner, deposit=100) for _ in range(3)]
    stale = (several[0].channel, several[0].voucher(0))
    vouchers = tuple((one.channel, one.voucher(10 + i)) for i, one in enumerate(several))
    await several[0].as_stranger(act.RedeemMany((*vouchers, stale)))
    index = await agrees_about_channels(chain)
    assert index.nodes[worker.node].earned == 33
    assert [index.channels[one.id].claimed for one in several] == [10, 11, 12]


async def test_vouchers_for_a_node_that_nobody_registered_are_nobody_s_earnings() -> None:
    world, chain = memory_world()
    await provider(world)
    playing = await paying(world, deposit=100)
    await playing.redeem(30)
    index = await agrees_about_channels(chain)
    assert index.sums.redeemed == 30
    assert index.sums.rewarded == 0
    assert index.by_node[playing.channel.node].redeemed == 30


def test_what_a_channel_cannot_have_done_is_an_anomaly_and_changes_nothing() -> None:
    chain = Chain(5)
    made, other = chain.new_channel(), chain.new_channel()
    chain.open_channel(made, 100)
    chain.redeem(made, 40)
    index = Index().take(chain.records)
    before = (dict(index.channels), dict(index.by_node), dict(index.nodes), dict(index.days))
    lies = (
        ChannelOpened(made.id, made.channel, 2, Amount(1)),  # while it is open
        ChannelOpened(other.id, other.channel, 2, Amount(1)),  # the second epoch first
        ChannelToppedUp(made.id, Amount(1), Amount(100)),
        ChannelToppedUp(other.id, Amount(1), Amount(1)),  # never opened
        VoucherRedeemed(made.id, Amount(1), Amount(40), bytes(32)),
        VoucherRedeemed(made.id, Amount(61), Amount(101), bytes(32)),  # above the deposit
        ChannelClosed(made.id, 2, Amount(40), Amount(60)),
        ChannelClosed(made.id, 1, Amount(40), Amount(61)),
        ChannelClosed(made.id, 1, Amount(41), Amount(59)),
    )
    at = chain.records[-1].position
    index.take(LedgerRecord(at, lie) for lie in lies)
    assert (index.channels, index.by_node, index.nodes, index.days) == before
    assert index.sums.anomalies == len(lies)
    chain.close_channel(made)
    index.take([chain.records[-1]])
    renamed = ChannelOpened(made.id, other.channel, 2, Amount(1))
    index.take([LedgerRecord(at, renamed), LedgerRecord(at, ChannelClosing(made.id, 9))])
    assert index.sums.anomalies == len(lies) + 2
    assert index.channels[made.id].state is ChannelState.CLOSED
    channels_hold_together(index)


def test_an_event_that_fits_nothing_changes_only_the_count() -> None:
    chain = Chain(1)
    opened = chain.post()
    chain.assign(opened)
    index = Index().take(chain.records)
    before = (dict(index.nodes), dict(index.tasks))
    last = chain.records[-1]
    stranger = NodeId("0x" + "99" * 32)
    for event in (last.event, NodeBeat(stranger, 3)):
        index.take([LedgerRecord(last.position, event)])
    assert (index.nodes, index.tasks) == before
    assert index.sums.anomalies == 2


def test_a_task_is_followed_even_if_its_nodes_are_unknown() -> None:
    chain = Chain(2)
    opened = chain.post()
    chain.assign(opened)
    for seat in range(3):
        chain.commit(opened, seat)
    chain.finalise(opened)
    without = [r for r in chain.records if not isinstance(r.event, NodeRegistered)]
    index = Index().take(without)
    assert index.tasks[opened.task_id].state is TaskState.COMPLETED
    assert index.sums.anomalies == 3
    assert not index.nodes


@pytest.mark.parametrize("kind", LedgerEvent.__args__, ids=lambda kind: str(kind.__name__))
def test_every_kind_of_event_is_known_to_the_reducer(kind: type[msgspec.Struct]) -> None:
    """An unknown node or task is an anomaly; an unknown kind would be an error."""
    chain = Chain(3)
    values = {
        "node": NodeId("0x" + "ab" * 32),
        "task_id": TaskId("0x" + "cd" * 32),
        "addresses": (),
        "committee": (),
        "seats": (),
        "task": chain.post().task,
        "channel_id": ChannelId("0x" + "ef" * 32),
        "channel": chain.new_channel().channel,
        "standing": Standing.ACTIVE,
        "released": False,
        "fault": False,
    }
    hints = {f.name: f.type for f in msgspec.structs.fields(kind)}
    event = kind(
        **{
            name: values.get(
                name,
                Amount(1)
                if hint is Amount
                else 0
                if hint is int
                else b"x"
                if hint in (bytes, bytes | None)
                else "0x" + "0" * 40,
            )
            for name, hint in hints.items()
        }
    )
    at = Position(1, 0, "0x", 1, "0x")
    Index().take([LedgerRecord(at, event)])  # type: ignore[arg-type]


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
