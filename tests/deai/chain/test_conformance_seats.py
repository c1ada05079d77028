"""Posting, committees and seats: the same on the ledger in memory and on real chains."""

from __future__ import annotations

import msgspec
import pytest

from deai import actions as act
from deai.errors import InsufficientFunds
from deai.hashing import ZERO
from deai.ids import TaskId
from deai.lifecycle import SeatState, TaskState
from deai.money import UNIT, Amount
from deai.tasks import (
    Opening,
    Policy,
    commitment_value,
)
from tests.support.ledger_conformance import (
    FEE,
    LEASE,
    RIGHT,
    WINDOW,
    WRONG,
    Play,
    World,
    changed,
    node_of,
    play,
    provider,
    refused,
    registration,
)


async def test_a_posted_task_can_be_cancelled_until_it_is_assigned(world: World) -> None:
    playing = await play(world, start=False)
    before = (await world.reader.balances(playing.client.account)).vault
    await playing.post()
    held = (await world.reader.balances(playing.client.account)).vault
    assert before - held == playing.task.escrowed
    await refused(playing.as_stranger(act.CancelTask(playing.task)), "Forbidden")
    await playing.as_client(act.CancelTask(playing.task))
    view = await playing.view()
    assert view.state is TaskState.CANCELLED
    assert (await world.reader.balances(playing.client.account)).vault == before
    await refused(playing.assign(), "NotOpen")
    await refused(playing.as_client(act.CancelTask(playing.task), key="2"), "NotOpen")
    second = await play(world, providers=playing.providers, payer=playing.client)
    assert second.task.nonce == 2
    await refused(second.as_client(act.CancelTask(second.task)), "NotOpen")


@pytest.mark.parametrize("assigned", [True, False])
async def test_anybody_expires_a_task_to_which_nobody_committed(
    world: World, assigned: bool
) -> None:
    playing = await play(world, start=assigned)
    if not assigned:
        await playing.post()
    expire = act.ExpireTask(playing.task, await playing.committee())
    await refused(playing.as_stranger(expire), "TooEarly", time=playing.task.commit_deadline)
    await world.pass_(playing.task.commit_deadline)
    await playing.as_stranger(expire)
    view = await playing.view()
    assert view.state is TaskState.FAILED
    assert view.money.refunded == playing.task.escrowed
    await refused(playing.as_stranger(expire, key="2"), "NotOpen")


async def test_a_committed_task_never_expires(world: World) -> None:
    playing = await play(world)
    await playing.commit(1)
    await world.pass_(playing.task.commit_deadline)
    expire = act.ExpireTask(playing.task, await playing.committee())
    await refused(playing.as_stranger(expire), "SeatTaken")
    await world.pass_(playing.task.commit_deadline + 10 * WINDOW)
    openings = tuple(Opening(s, ZERO, v) for s, v in (await playing.view()).commitments)
    action = act.FinaliseTask(playing.task, await playing.committee(), openings, ())
    await playing.as_stranger(action)
    assert (await playing.view()).is_over


async def test_a_released_seat_goes_to_another_node(world: World) -> None:
    playing = await play(world)
    committee = await playing.committee()
    release = act.ReleaseSeat(playing.task, committee, 1)
    await refused(playing.as_client(release), "Forbidden")
    await playing.providers[1].operates(release)
    await refused(playing.providers[1].operates(release, key="2"), "SeatTaken")
    assert (await playing.view()).released == 0b010
    assert (await world.reader.lane(playing.client.account, 0)).released == 0b010
    until = playing.task.commit_deadline
    new = await provider(world)

    def reassign(seat: int, accept: object, attempt: int = 1) -> act.ReassignSeat:
        return act.ReassignSeat(playing.task, committee, seat, accept)  # type: ignore[arg-type]

    good = new.accepts(playing.id, 1, until, 1)
    await refused(playing.as_stranger(reassign(1, good)), "Forbidden")
    await refused(playing.as_client(reassign(1, new.accepts(playing.id, 1, until))), "BadSignature")
    other = playing.providers[0].accepts(playing.id, 1, until, 1)
    await refused(playing.as_client(reassign(1, other)), "OwnerTwice")
    same = playing.providers[1].accepts(playing.id, 1, until, 1)
    await refused(playing.as_client(reassign(1, same)), "BadSeat")
    await refused(playing.as_client(reassign(0, new.accepts(playing.id, 0, until, 1))), "TooEarly")
    await playing.as_client(reassign(1, good))
    view = await playing.view()
    assert view.committee[1].node == new.node
    assert view.committee[1].attempt == 1
    assert view.released == 0
    stale = act.CommitResults(playing.task, committee, ())
    await refused(playing.as_client(stale), "NotOpen")
    playing.providers[1] = new
    await playing.commit(0, 1, 2)
    await playing.finalise()
    assert (await playing.view()).state is TaskState.COMPLETED


async def test_a_released_seat_may_still_commit_until_it_is_replaced(world: World) -> None:
    playing = await play(world)
    await playing.providers[0].operates(act.ReleaseSeat(playing.task, await playing.committee(), 0))
    await playing.commit(0, 1, 2)
    view = await playing.view()
    assert view.released == 0
    assert (await world.reader.lane(playing.client.account, 0)).released == 0
    release = act.ReleaseSeat(playing.task, view.committee, 1)
    await refused(playing.providers[1].operates(release), "SeatTaken")
    await playing.finalise()
    assert (await playing.view()).state is TaskState.COMPLETED


async def test_a_lapsed_seat_is_reassigned_only_after_its_lease_and_never_a_committed_one(
    world: World,
) -> None:
    deadline = await world.now() + 10 * LEASE
    playing = await play(world, commit_deadline=deadline)
    await playing.commit(0)
    committee = await playing.committee()
    spare = await provider(world)

    def reassign(seat: int) -> act.ReassignSeat:
        accept = spare.accepts(playing.id, seat, deadline, 1)
        return act.ReassignSeat(playing.task, committee, seat, accept)

    await refused(playing.as_client(reassign(2)), "TooEarly", time=committee[2].lease_end)
    await world.pass_(committee[2].lease_end)
    await refused(playing.as_client(reassign(0)), "SeatTaken")
    await playing.as_client(reassign(2))
    view = await playing.view()
    assert view.committee[2].lease_end > committee[2].lease_end
    assert next(a.state for a in view.attempts if a.index == 2) is SeatState.REPLACED
    await world.pass_(deadline - LEASE // 2)
    another = (await provider(world)).accepts(playing.id, 1, deadline, 1)
    late = act.ReassignSeat(playing.task, view.committee, 1, another)
    await refused(playing.as_client(late), "TooLate")


async def test_a_seat_is_reassigned_at_most_three_times(world: World) -> None:
    deadline = await world.now() + 10 * LEASE
    playing = await play(world, commit_deadline=deadline)
    for attempt in range(1, 5):
        committee = await playing.committee()
        await playing.providers[0].operates(act.ReleaseSeat(playing.task, committee, 0))
        new = await provider(world)
        accept = new.accepts(playing.id, 0, deadline, attempt)
        action = act.ReassignSeat(playing.task, committee, 0, accept)
        if attempt == 4:
            await refused(playing.as_client(action), "BadSeat")
        else:
            await playing.as_client(action)
            playing.providers[0] = new


async def test_a_node_may_send_its_own_commitment_without_a_signature(world: World) -> None:
    playing = await play(world)
    committee = await playing.committee()
    own = await playing.commitment(1, signed=False)
    action = act.CommitResults(playing.task, committee, (own,))
    await refused(playing.as_client(action), "BadSignature", seat=1)
    await playing.providers[1].operates(action)
    again = await playing.commitment(1, WRONG)
    await refused(
        playing.as_client(act.CommitResults(playing.task, committee, (again,))), "SeatTaken"
    )
    both = (await playing.commitment(1), await playing.commitment(0))
    await playing.as_client(act.CommitResults(playing.task, committee, both))
    assert (await playing.view()).committed == 0b011, "one that is there already stops no other"


async def test_commitments_of_others_are_worth_nothing(world: World) -> None:
    playing = await play(world)
    committee = await playing.committee()
    stolen = await playing.commitment(0)
    for forged in (
        msgspec.structs.replace(stolen, seat=1),
        msgspec.structs.replace(stolen, value=WRONG),
    ):
        action = act.CommitResults(playing.task, committee, (forged,))
        await refused(playing.as_client(action), "BadSignature")
    out = act.CommitResults(playing.task, committee, (msgspec.structs.replace(stolen, seat=3),))
    await refused(playing.as_client(out), "BadSeat", seat=3)
    await refused(playing.as_client(act.CommitResults(playing.task, committee, ())), "SeatTaken")
    # Whoever copies the value of another seat cannot open it as its own.
    copied = commitment_value(playing.id, 0, 0, playing.providers[0].node, RIGHT, ZERO)
    assert copied != commitment_value(playing.id, 1, 0, playing.providers[1].node, RIGHT, ZERO)


async def test_tasks_outside_the_limits_are_not_posted(world: World) -> None:
    good = await play(world, start=False)
    limits, now = await world.reader.parameters(), await world.now()
    for fields in (
        {"seats": 2},
        {"seats": 1},
        {"seats": 4},
        {"policy": Policy.NONE, "seats": 3},
        {"fee": Amount(limits.min_fee - 1)},
        {"lease": limits.min_lease - 1},
        {"window": limits.min_window - 1},
        {"window": limits.max_span + 1},
        {"commit_deadline": now + LEASE - 1},
        {"commit_deadline": now + limits.max_span + 1000},
    ):
        await refused(changed(good, **fields).post(), "BadTask")
    await refused(changed(good, nonce=2).post(), "BadNonce", expected=1)
    await refused(good.as_stranger(act.PostTask(good.task)), "Forbidden")
    rich = changed(good, fee=Amount(2000 * UNIT))
    error = await refused(rich.post(), "Insufficient")
    assert isinstance(error, InsufficientFunds)
    await good.post()
    await refused(changed(good, nonce=2).post(), "LaneBusy")
    await changed(good, lane=1).post()


async def test_committees_are_refused_for_their_reasons(world: World) -> None:
    playing = await play(world, start=False)
    await playing.post()
    task, accepts = playing.task, playing.accepts()
    until = task.commit_deadline

    async def named(*given: object, by: Play = playing) -> None:
        await by.as_client(act.AssignTask(task, given))  # type: ignore[arg-type]

    await refused(named(*accepts[:2]), "BadSeat")
    await refused(named(accepts[0], accepts[2], accepts[1]), "BadSignature")
    await refused(named(accepts[0], accepts[1], accepts[0]), "OwnerTwice")
    first = playing.providers[0]
    await (await world.ledger(first.owner)).submit(
        registration(world, first.owner, world.operator(first.owner), index=1)
    )
    twin = msgspec.structs.replace(accepts[1], node=node_of(first.owner.account, 1))
    await refused(named(accepts[0], twin, accepts[2]), "OwnerTwice")
    stale = first.accepts(playing.id, 0, 1_000)
    await refused(named(stale, *accepts[1:]), "AcceptExpired", validUntil=1_000)
    elsewhere = first.accepts(TaskId("0x" + "11" * 32), 0, until)
    await refused(named(elsewhere, *accepts[1:]), "BadSignature")
    second = first.accepts(playing.id, 0, until, 1)
    await refused(named(second, *accepts[1:]), "BadSignature")
    nobody = msgspec.structs.replace(accepts[0], node=node_of(world.signer().account, 0))
    await refused(named(nobody, *accepts[1:]), "BadStanding", standing=0)
    await refused(playing.as_stranger(act.AssignTask(task, accepts)), "Forbidden")
    await world.pass_(until - LEASE + 1)
    await refused(playing.assign(), "TooLate", deadline=until)


async def test_a_task_in_which_any_field_differs_is_another_task(world: World) -> None:
    playing = await play(world)
    committee = await playing.committee()
    for fields in ({"fee": Amount(FEE - 1)}, {"spec_hash": WRONG}, {"window": WINDOW + 1}):
        other = msgspec.structs.replace(playing.task, **fields)
        await refused(playing.as_client(act.CommitResults(other, committee, ())), "NotOpen")
    moved = (msgspec.structs.replace(committee[0], lease_end=1 << 39), *committee[1:])
    await refused(playing.as_client(act.CommitResults(playing.task, moved, ())), "NotOpen")
