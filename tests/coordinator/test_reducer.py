"""The reducer: every event, sums that hold, and the chain's own word on each node."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, strategies as st

from deai import actions as act
from deai.events import LedgerEvent, LedgerRecord, NodeBeat, NodeRegistered, Position
from deai.hashing import ZERO
from deai.ids import ChannelId, NodeId, TaskId
from deai.lifecycle import TaskState
from deai.money import UNIT, Amount
from deai.standing import Standing
from deai.tasks import Policy
from tests.coordinator.index import Index, agrees_with_the_chain, holds_together, memory_world
from tests.coordinator.world import Chain
from tests.support.examples import examples
from tests.support.ledger_conformance import RIGHT, WRONG, play, provider


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
