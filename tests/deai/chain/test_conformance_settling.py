"""How a task is settled: the same on the ledger in memory and on real chains."""

from __future__ import annotations

import msgspec

from deai import actions as act
from deai.chain.tasks_view import Verdict
from deai.hashing import ZERO, keccak
from deai.lifecycle import SeatState, TaskState
from deai.tasks import (
    FaultCode,
    Opening,
    Policy,
    fault_digest,
)
from rewards import fees, reputation
from tests.support.ledger_conformance import (
    FEE,
    RIGHT,
    STAKE,
    START,
    TIP,
    WINDOW,
    WRONG,
    Play,
    World,
    play,
    refused,
)


async def test_three_agreeing_seats_are_paid_and_gain_reputation(world: World) -> None:
    playing = await play(world)
    await playing.commit(0, 1, 2)
    before = (await world.reader.balances(playing.client.account)).vault
    await playing.finalise()
    view = await playing.view()
    assert view.state is TaskState.COMPLETED
    assert view.result == RIGHT
    w0 = int((await world.reader.parameters()).weight_fee)
    due = fees.paid(FEE, START)
    for seat in range(3):
        settled = view.attempt(seat).settlement
        assert settled is not None
        assert (settled.payment, settled.before, settled.verdict) == (due, START, Verdict.PAID)
        assert settled.after == reputation.success(START, FEE, w0)
        owner = playing.providers[seat].owner.account
        assert (await world.reader.balances(owner)).vault == due
        record = await world.reader.node(playing.providers[seat].node)
        assert record is not None
        assert (record.reputation, record.checked_tasks) == (settled.after, 1)
    assert view.money.paid == 3 * due
    assert view.money.refunded == TIP
    assert view.money.protocol_fee == 3 * (FEE - due)
    assert (await world.reader.balances(playing.client.account)).vault == before + TIP
    lane = await world.reader.lane(playing.client.account, 0)
    assert (lane.nonce, lane.closed, lane.is_busy) == (1, 1, False)
    assert lane.accrued == view.money.protocol_fee
    assert lane.committed == 0b111
    assert lane.acc == view.acc


async def test_the_lane_shows_a_task_in_flight(world: World) -> None:
    playing = await play(world)
    lane = await world.reader.lane(playing.client.account, 0)
    assert (lane.nonce, lane.closed, lane.acc, lane.is_busy) == (1, 0, 0, True)
    await playing.commit(2)
    lane = await world.reader.lane(playing.client.account, 0)
    view = await playing.view()
    assert (lane.committed, lane.acc) == (0b100, view.acc)
    unused = await world.reader.lane(playing.client.account, 5)
    assert (unused.nonce, unused.closed, unused.acc) == (0, 0, 0)


async def test_a_stranger_who_finalises_gets_the_tip(world: World) -> None:
    playing = await play(world)
    await playing.commit(0, 1, 2)
    before = (await world.reader.balances(world.holder.account)).vault
    await playing.finalise(stranger=True)
    view = await playing.view()
    assert view.money.tip == TIP
    assert view.money.refunded == 0
    assert (await world.reader.balances(world.holder.account)).vault == before + TIP


async def test_a_lost_vote_forfeits_the_fee_and_reputation_but_no_stake(world: World) -> None:
    playing = await play(world)
    await playing.commit(0, 1, 2, digests={1: WRONG})
    await playing.finalise()
    view = await playing.view()
    lost = view.attempt(1).settlement
    assert lost is not None
    w0 = int((await world.reader.parameters()).weight_fee)
    assert (lost.payment, lost.verdict) == (0, Verdict.LOST)
    assert lost.after == reputation.lost_vote(START, FEE, w0)
    assert view.attempt(1).state is SeatState.FORFEITED
    assert view.money.refunded == TIP, "lying never turns into a refund"
    record = await world.reader.node(playing.providers[1].node)
    assert record is not None
    assert record.stake == STAKE


async def test_no_majority_fails_the_task_and_moves_no_reputation(world: World) -> None:
    playing = await play(world)
    await playing.commit(0, 1, 2, digests={1: WRONG, 2: keccak(b"third")})
    await playing.finalise()
    view = await playing.view()
    assert (view.state, view.result) == (TaskState.FAILED, None)
    assert view.money.protocol_fee == 3 * FEE
    for seat in range(3):
        settled = view.attempt(seat).settlement
        assert settled is not None
        assert settled.verdict == Verdict.FORFEITED
        record = await world.reader.node(playing.providers[seat].node)
        assert record is not None
        assert record.reputation == START


async def test_a_unanimous_fault_pays_a_tenth_and_refunds_the_rest(world: World) -> None:
    playing = await play(world)
    bad = fault_digest(playing.id, FaultCode.NOT_FINITE)
    await playing.commit(0, 1, 2, digests=dict.fromkeys(range(3), bad))
    await playing.finalise()
    view = await playing.view()
    assert view.state is TaskState.FAILED
    assert view.settlement is not None
    assert view.settlement.fault
    assert view.result == bad
    assert view.money.paid == 3 * (FEE // 10)
    assert view.money.protocol_fee == 0


async def test_a_fault_that_one_seat_denies_wins_nothing(world: World) -> None:
    playing = await play(world)
    bad = fault_digest(playing.id, FaultCode.NOT_FINITE)
    await playing.commit(0, 1, 2, digests={0: bad, 1: bad})
    await playing.finalise()
    view = await playing.view()
    assert (view.state, view.result) == (TaskState.FAILED, None)
    assert view.money.protocol_fee == 3 * FEE


async def test_one_of_three_never_commits_and_the_others_settle_after_the_deadline(
    world: World,
) -> None:
    playing = await play(world)
    await playing.commit(0, 1)
    await refused(playing.finalise(), "TooEarly", time=playing.task.commit_deadline)
    await world.pass_(playing.task.commit_deadline)
    await playing.finalise()
    view = await playing.view()
    assert view.state is TaskState.COMPLETED
    assert view.attempt(2).state is SeatState.LAPSED
    assert view.money.refunded == FEE + TIP
    await refused(playing.commit(2), "TooLate")


async def test_what_was_revealed_on_chain_decides_after_the_window(world: World) -> None:
    playing = await play(world)
    await playing.commit(2, 0, 1)
    view = await playing.view()
    committee = view.committee
    await playing.as_stranger(
        act.RevealResults(playing.task, committee, await playing.openings(0, 2))
    )
    await refused(playing.finalise(0, 2), "TooEarly", time=view.window_until)
    view = await playing.view()
    assert view.revealed == 0b101
    assert (await world.reader.lane(playing.client.account, 0)).revealed == 0b101
    again = act.RevealResults(playing.task, committee, await playing.openings(0))
    await refused(playing.as_stranger(again), "BadOpening")
    await world.pass_(view.window_until)
    late = act.RevealResults(playing.task, committee, await playing.openings(1))
    await refused(playing.as_stranger(late), "TooLate")
    await refused(playing.finalise(), "BadOpening")
    await playing.finalise(0, 2, stranger=True)
    view = await playing.view()
    assert view.state is TaskState.COMPLETED
    silent = view.attempt(1).settlement
    assert silent is not None
    assert (silent.verdict, silent.after) == (Verdict.SILENT, reputation.silent(START))
    assert view.attempt(1).state is SeatState.SILENT
    assert view.money.refunded == FEE


async def test_nothing_is_revealed_before_everybody_committed(world: World) -> None:
    playing = await play(world)
    await playing.commit(0, 1)
    early = act.RevealResults(playing.task, await playing.committee(), await playing.openings())
    await refused(playing.as_stranger(early), "TooEarly", time=playing.task.commit_deadline)


async def test_nobody_wins_a_task_that_nobody_opened(world: World) -> None:
    playing = await play(world)
    await playing.commit(0, 1, 2)
    view = await playing.view()
    await world.pass_(view.window_until)
    openings = tuple(Opening(seat, ZERO, value) for seat, value in view.commitments)
    action = act.FinaliseTask(playing.task, view.committee, openings, ())
    await playing.as_stranger(action)
    view = await playing.view()
    assert (view.state, view.result) == (TaskState.FAILED, None)
    assert view.money.refunded == 3 * FEE
    assert {view.attempt(seat).state for seat in range(3)} == {SeatState.SILENT}


async def test_openings_must_be_those_of_the_chain(world: World) -> None:
    playing = await play(world)
    await playing.commit(0, 1, 2)
    committee, honest = await playing.committee(), await playing.openings()
    forged = Opening(honest[0].seat, WRONG, honest[0].salt)
    for openings in (honest[1:], honest[::-1], (forged, *honest[1:]), (), honest[:1] * 3):
        action = act.FinaliseTask(playing.task, committee, openings, ())
        await refused(playing.as_client(action), "BadOpening")
    spare = await playing.approval(0, 0b111)
    action = act.FinaliseTask(playing.task, committee, honest, (spare,))
    await refused(playing.as_client(action), "BadApproval")


async def test_approvals_pay_the_seats_that_most_members_mask(world: World) -> None:
    playing = await play(world, policy=Policy.TOL32)
    outputs = {0: keccak(b"a"), 1: keccak(b"b"), 2: keccak(b"c")}
    await playing.commit(1, 2, 0, digests=outputs)
    honest = {0: 0b011, 1: 0b011, 2: 0b100}
    for missing in range(3):
        some = {seat: mask for seat, mask in honest.items() if seat != missing}
        await refused(playing.finalise(masks=some), "BadApproval")
    await playing.finalise(masks=honest)
    view = await playing.view()
    assert view.state is TaskState.COMPLETED
    assert view.result == outputs[0], "the lowest index on ties"
    verdicts = [s.verdict for s in view.settlement.seats] if view.settlement else []
    assert verdicts == [Verdict.PAID, Verdict.PAID, Verdict.FORFEITED]
    record = await world.reader.node(playing.providers[2].node)
    assert record is not None
    assert record.reputation == START, "unapproved under a tolerance policy: no change"


async def test_reveals_and_approvals_on_chain_settle_a_tolerance_task(world: World) -> None:
    playing = await play(world, policy=Policy.TOL32)
    await playing.commit(0, 1, 2)
    view = await playing.view()
    task, committee = playing.task, view.committee
    reveal = act.RevealResults(task, committee, await playing.openings(0, 1))
    await playing.as_stranger(reveal)
    for seat in (0, 1, 2):
        action = act.ApproveOutputs(task, committee, await playing.approval(seat, 0b111))
        await playing.as_stranger(action)
    again = act.ApproveOutputs(task, committee, await playing.approval(0, 0b001))
    await refused(playing.as_stranger(again), "BadApproval")
    nobody = act.ApproveOutputs(task, committee, await playing.approval(1, 0))
    await refused(playing.as_stranger(nobody), "BadApproval")
    forged = msgspec.structs.replace(await playing.approval(0, 0b111), seat=1)
    await refused(playing.as_stranger(act.ApproveOutputs(task, committee, forged)), "BadApproval")
    view = await playing.view()
    assert {seat: one.mask for seat, one in view.approvals.items()} == dict.fromkeys(range(3), 7)
    await world.pass_(view.window_from + WINDOW // 2)
    late = act.RevealResults(task, committee, await playing.openings(2))
    await refused(playing.as_stranger(late), "TooLate")
    await world.pass_(view.window_until)
    action = act.ApproveOutputs(task, committee, await playing.approval(2, 0b010))
    await refused(playing.as_stranger(action), "TooLate")
    await playing.finalise(0, 1, stranger=True)
    view = await playing.view()
    assert view.state is TaskState.COMPLETED
    assert view.settlement is not None
    assert [s.verdict for s in view.settlement.seats] == [2, 2, 4]


async def test_masks_that_approve_nobody_pay_nobody(world: World) -> None:
    playing = await play(world, policy=Policy.TOL32)
    await playing.commit(0, 1, 2)
    await playing.finalise(masks={0: 0b110, 1: 0b101, 2: 0b011})
    view = await playing.view()
    assert view.state is TaskState.FAILED, "everybody was masked by two, nobody masks itself"
    assert view.money.protocol_fee == 3 * FEE


async def test_only_tolerance_policies_take_approvals(world: World) -> None:
    playing = await play(world)
    await playing.commit(0, 1, 2)
    action = act.ApproveOutputs(
        playing.task, await playing.committee(), await playing.approval(0, 0b111)
    )
    await refused(playing.as_stranger(action), "BadTask")


async def unchecked(world: World) -> Play:
    playing = await play(world, policy=Policy.NONE)
    action = act.DeliverResult(
        playing.task, await playing.committee(), playing.result(0, RIGHT, WRONG)
    )
    await playing.as_stranger(action)
    return playing


async def test_an_unchecked_result_is_paid_and_moves_no_reputation(world: World) -> None:
    playing = await unchecked(world)
    view = await playing.view()
    assert view.delivered is not None
    assert (view.delivered.output_digest, view.delivered.evidence_digest) == (RIGHT, WRONG)
    opening = (Opening(0, RIGHT, ZERO),)
    action = act.FinaliseTask(playing.task, view.committee, opening, ())
    await refused(playing.as_stranger(action), "TooEarly", time=view.window_until)
    await playing.as_client(action)
    view = await playing.view()
    assert view.state is TaskState.COMPLETED
    settled = view.attempt(0).settlement
    assert settled is not None
    assert (settled.payment, settled.verdict) == (fees.paid(FEE, START), Verdict.UNCHECKED)
    record = await world.reader.node(playing.providers[0].node)
    assert record is not None
    assert (record.reputation, record.checked_tasks) == (START, 0)


async def test_anybody_settles_an_unchecked_result_after_the_window(world: World) -> None:
    playing = await unchecked(world)
    view = await playing.view()
    await world.pass_(view.window_until)
    opening = (Opening(0, RIGHT, ZERO),)
    await playing.as_stranger(act.FinaliseTask(playing.task, view.committee, opening, ()))
    assert (await playing.view()).state is TaskState.COMPLETED
    await refused(playing.as_client(act.ObjectToResult(playing.task, view.committee)), "NotOpen")


async def test_an_objection_sends_the_fee_to_the_pot_and_the_tip_back(world: World) -> None:
    playing = await unchecked(world)
    committee = await playing.committee()
    action = act.ObjectToResult(playing.task, committee)
    await refused(playing.as_stranger(action), "Forbidden")
    await playing.as_client(action)
    view = await playing.view()
    assert view.state is TaskState.FAILED
    assert (view.money.paid, view.money.refunded, view.money.protocol_fee) == (0, TIP, FEE)


async def test_objections_and_deliveries_have_their_conditions(world: World) -> None:
    playing = await play(world, policy=Policy.NONE)
    committee = await playing.committee()
    objection = act.ObjectToResult(playing.task, committee)
    await refused(playing.as_client(objection), "BadTask")
    good = playing.result(0, RIGHT)
    forged = msgspec.structs.replace(good, output_digest=WRONG)
    await refused(
        playing.as_client(act.DeliverResult(playing.task, committee, forged)), "BadSignature"
    )
    nothing = act.DeliverResult(playing.task, committee, playing.result(0, ZERO))
    await refused(playing.as_client(nothing), "BadTask")
    commit = act.CommitResults(playing.task, committee, (await playing.commitment(0),))
    await refused(playing.as_client(commit), "BadTask")
    await playing.as_stranger(act.DeliverResult(playing.task, committee, good))
    await refused(
        playing.as_client(act.DeliverResult(playing.task, committee, good), key="2"), "SeatTaken"
    )
    view = await playing.view()
    await world.pass_(view.window_until)
    await refused(playing.as_client(objection), "TooLate", deadline=view.window_until)
