"""The port's promises, kept by the ledger in memory and by real chains alike."""

from __future__ import annotations

import msgspec
import pytest
import trio

from deai import actions as act
from deai.chain.ledger import Cursor, EventBatch, Ledger
from deai.chain.tasks_view import Verdict, fold, task_of
from deai.errors import InsufficientFunds, LedgerRejected
from deai.events import (
    Deposited,
    EquivocationProven,
    FeesSwept,
    LedgerRecord,
    NodeAnnounced,
    NodeBeat,
    NodeRegistered,
    NodeSlashed,
    OperatorRotated,
    StakeAdded,
    StakeWithdrawn,
    StandingChanged,
    TaskFinalised,
    TokensMoved,
    UnbondingStarted,
    VaultWithdrawn,
)
from deai.hashing import ZERO, keccak
from deai.ids import TaskId, node_id
from deai.lifecycle import SeatState, TaskState
from deai.money import UNIT, Amount
from deai.standing import Standing
from deai.tasks import (
    FaultCode,
    Opening,
    Policy,
    commitment_value,
    fault_digest,
    operate_digest,
)
from rewards import fees, reputation
from tests.support.ledger_conformance import (
    ADDRESSES,
    FEE,
    LEASE,
    PEER_ID,
    RIGHT,
    STAKE,
    TIP,
    WINDOW,
    WRONG,
    Play,
    World,
    changed,
    client,
    play,
    provider,
    refused,
    registration,
)

START = reputation.START


async def events_of(world: World, since: int) -> list[LedgerRecord]:
    """Every event from block `since` on, up to now."""
    head = await world.reader.head()
    found: list[LedgerRecord] = []
    with trio.fail_after(30):
        async with world.reader.follow(Cursor(since - 1, "")) as batches:
            async for batch in batches:
                assert batch.rewind_to is None or batch.rewind_to < since
                found += [r for r in batch.records if r.position.block >= since]
                if batch.cursor.number >= head.number:
                    break
    return found


# --- money and nodes ---------------------------------------------------------------------------


async def test_tokens_are_transferred_deposited_and_withdrawn(world: World) -> None:
    signer = world.signer()
    await world.fund(signer.account, 10 * UNIT)
    ledger = await world.ledger(signer)
    first = await ledger.submit(act.Deposit(Amount(4 * UNIT)))
    await ledger.submit(act.WithdrawVault(signer.account, Amount(UNIT)))
    balances = await world.reader.balances(signer.account)
    assert (balances.tokens, balances.vault) == (7 * UNIT, 3 * UNIT)
    kinds = [
        type(record.event)
        for record in await events_of(world, first.block)
        if signer.account in msgspec.structs.astuple(record.event)
    ]
    assert kinds == [TokensMoved, Deposited, VaultWithdrawn, TokensMoved]
    assert first.kind == "Deposit"
    assert first.block <= (await world.reader.head()).number


async def test_money_for_gas_is_sent_once_and_arrives_whole(world: World) -> None:
    sender, receiver = world.signer(), world.signer()
    before = await world.reader.balances(receiver.account)
    own = await world.reader.balances(sender.account)
    ledger = await world.ledger(sender)
    portion = 10**17
    action = act.TransferGas(receiver.account, Amount(portion))

    first = await ledger.submit(action)
    again = await ledger.submit(action)

    assert again == first
    assert (await world.reader.balances(receiver.account)).gas == before.gas + portion
    assert (await world.reader.balances(sender.account)).gas <= own.gas - portion


async def test_what_is_not_there_cannot_be_spent(world: World) -> None:
    signer, other = world.signer(), world.signer()
    await world.fund(signer.account, UNIT)
    ledger = await world.ledger(signer)
    for action, name in (
        (act.TransferTokens(other.account, Amount(UNIT + 1)), "ERC20InsufficientBalance"),
        (act.Deposit(Amount(2 * UNIT)), "ERC20InsufficientBalance"),
        (act.WithdrawVault(signer.account, Amount(1)), "Insufficient"),
    ):
        error = await refused(ledger.submit(action), name)
        assert isinstance(error, InsufficientFunds)
        assert error.hint
        await refused(ledger.simulate(action), name)
    assert (await world.reader.balances(signer.account)).tokens == UNIT


async def test_a_node_registers_and_everything_about_it_can_be_read(world: World) -> None:
    one = await provider(world)
    record = await world.reader.node(one.node)
    assert record is not None
    epoch = await world.now() // (await world.reader.parameters()).epoch_seconds
    assert (record.operator, record.standing) == (one.operator.account, Standing.PROBATION)
    assert (record.stake, record.unbonding, record.reputation) == (STAKE, 0, START)
    assert record.checked_tasks == 0
    assert epoch - 1 <= record.last_epoch <= epoch
    assert await world.reader.node(node_id(one.owner.account, 7)) is None


async def test_a_registration_tells_where_the_node_listens(world: World) -> None:
    since = (await world.reader.head()).number + 1
    one = await provider(world)
    found = [r.event for r in await events_of(world, since) if isinstance(r.event, NodeRegistered)]
    assert found == [NodeRegistered(one.node, one.operator.account, STAKE, PEER_ID, ADDRESSES)]
    moved = ("/ip4/10.0.0.7/udp/4001/quic-v1",)
    await one.operates(act.Announce(one.node, PEER_ID, moved))
    found2 = [r.event for r in await events_of(world, since) if isinstance(r.event, NodeAnnounced)]
    assert found2 == [NodeAnnounced(one.node, PEER_ID, moved)]


async def test_registrations_are_refused_for_their_reasons(world: World) -> None:
    owner, operator, other = world.signer(), world.signer(), world.signer()
    await world.fund(owner.account, 10 * STAKE)
    ledger = await world.ledger(owner)

    def form(**fields: object) -> act.RegisterNode:
        return registration(world, owner, operator, **fields)  # type: ignore[arg-type]

    least = int((await world.reader.parameters()).min_stake)
    await refused(
        ledger.submit(form(stake=least - 1)), "StakeTooLow", stake=least - 1, minimum=least
    )
    await refused(ledger.submit(form(stake=11 * STAKE)), "ERC20InsufficientBalance")
    await refused(ledger.submit(form(valid_until=1)), "SignatureExpired")
    await refused(ledger.submit(form(operator=other.account)), "BadOperator")
    await refused(ledger.submit(form(operator_signature=b"")), "BadData")
    await refused(ledger.submit(form(peer_id="")), "BadData")
    await refused(ledger.submit(form(peer_id="p" * 65)), "BadData")
    await refused(ledger.submit(form(addresses=("/a" * 513,))), "BadData")
    await ledger.submit(form())
    await refused(ledger.submit(form(stake=STAKE + 1)), "BadStanding", standing=1)
    await ledger.submit(form(index=1))
    assert await world.reader.node(node_id(owner.account, 1)) is not None


async def test_stake_is_added_partly_unbonded_and_withdrawn_after_its_time(world: World) -> None:
    one = await provider(world)
    since = (await world.reader.head()).number + 1
    await one.owns(act.AddStake(one.node, Amount(UNIT)))
    least = int((await world.reader.parameters()).min_stake)
    free = STAKE + UNIT - least
    await refused(one.owns(act.RequestUnstake(one.node, Amount(0))), "BadData")
    await refused(one.owns(act.RequestUnstake(one.node, Amount(STAKE + UNIT + 1))), "BadData")
    await refused(one.owns(act.RequestUnstake(one.node, Amount(free + 1))), "StakeTooLow")
    await refused(one.operates(act.RequestUnstake(one.node, Amount(1))), "Forbidden")
    await one.owns(act.RequestUnstake(one.node, Amount(UNIT)))
    record = await world.reader.node(one.node)
    assert record is not None
    assert (record.stake, record.unbonding) == (STAKE, UNIT)
    assert record.standing is Standing.PROBATION
    await refused(one.owns(act.WithdrawStake(one.node, one.owner.account)), "TooEarly")
    await world.pass_(record.unbond_at)
    to = world.signer().account
    await refused(one.operates(act.WithdrawStake(one.node, to)), "Forbidden")
    await one.owns(act.WithdrawStake(one.node, to))
    await refused(one.owns(act.WithdrawStake(one.node, to), key="again"), "BadData")
    assert (await world.reader.balances(to)).tokens == UNIT
    about = [r.event for r in await events_of(world, since) if one.node in _words(r)]
    assert about == [
        StakeAdded(one.node, Amount(UNIT), Amount(STAKE + UNIT)),
        UnbondingStarted(one.node, Amount(UNIT), record.unbond_at),
        StakeWithdrawn(one.node, to, Amount(UNIT)),
    ]


def _words(record: LedgerRecord) -> tuple[object, ...]:
    return tuple(msgspec.structs.astuple(record.event))


async def test_taking_all_stake_out_ends_a_node_for_good(world: World) -> None:
    one, paying = await provider(world), await client(world)
    since = (await world.reader.head()).number + 1
    await one.owns(act.RequestUnstake(one.node, STAKE))
    await refused(one.owns(act.AddStake(one.node, Amount(1))), "BadStanding", standing=3)
    others = [one, await provider(world), await provider(world)]
    playing = await play(world, start=False, providers=others, payer=paying)
    await playing.post()
    await refused(playing.assign(), "BadStanding", node=one.node, standing=3)
    record = await world.reader.node(one.node)
    assert record is not None
    await world.pass_(record.unbond_at)
    await one.owns(act.WithdrawStake(one.node, one.owner.account))
    record = await world.reader.node(one.node)
    assert record is not None
    assert (record.standing, record.stake, record.unbonding) == (Standing.EXITED, 0, 0)
    ledger = await world.ledger(one.owner)
    form = registration(world, one.owner, one.operator, stake=STAKE)
    await refused(ledger.submit(form, key="back"), "BadStanding", standing=5)
    changes = [e.standing for r in await events_of(world, since)
               if isinstance(e := r.event, StandingChanged) and e.node == one.node]  # fmt: skip
    assert changes == [Standing.UNBONDING, Standing.EXITED]


async def test_a_node_beats_once_in_an_epoch_and_only_by_its_operator(world: World) -> None:
    one = await provider(world)
    length = (await world.reader.parameters()).epoch_seconds
    epoch = await world.now() // length
    await refused(one.operates(act.Heartbeat(one.node, epoch)), "AlreadyBeaten")
    await world.pass_((epoch + 1) * length - 1)
    since = (await world.reader.head()).number + 1
    await refused(one.owns(act.Heartbeat(one.node, epoch + 1)), "Forbidden")
    await one.operates(act.Heartbeat(one.node, epoch + 1))
    await refused(one.operates(act.Heartbeat(one.node, epoch + 1), key="again"), "AlreadyBeaten")
    beats = [r.event for r in await events_of(world, since) if isinstance(r.event, NodeBeat)]
    assert beats == [NodeBeat(one.node, epoch + 1)]


async def test_a_node_that_does_not_beat_gets_no_seats(world: World) -> None:
    three = [await provider(world) for _ in range(3)]
    length = (await world.reader.parameters()).epoch_seconds
    epoch = await world.now() // length
    await world.pass_((epoch + 2) * length - 1)
    paying = await client(world)
    playing = await play(world, start=False, providers=three, payer=paying)
    await playing.post()
    await refused(playing.assign(), "NoHeartbeat", node=three[0].node)
    for one in three:
        await one.operates(act.Heartbeat(one.node, epoch + 2))
    await playing.assign()


async def test_only_the_owner_rotates_the_operator_and_the_new_key_must_agree(world: World) -> None:
    one, fresh = await provider(world), world.signer()
    domain = world.reader.info.registry

    def rotation(by: object = fresh, until: int = 1 << 39) -> act.RotateOperator:
        signature = by.sign(operate_digest(domain, one.node, fresh.account, until))  # type: ignore[attr-defined]
        return act.RotateOperator(one.node, fresh.account, until, signature)

    await refused(one.operates(rotation()), "Forbidden")
    await refused(one.owns(rotation(one.operator)), "BadOperator")
    await refused(one.owns(rotation(until=5)), "SignatureExpired")
    since = (await world.reader.head()).number + 1
    await one.owns(rotation())
    record = await world.reader.node(one.node)
    assert record is not None
    assert record.operator == fresh.account
    await refused(one.operates(act.Announce(one.node, PEER_ID, ADDRESSES)), "Forbidden")
    told = [r.event for r in await events_of(world, since) if isinstance(r.event, OperatorRotated)]
    assert told == [OperatorRotated(one.node, fresh.account)]


# --- a task settles ----------------------------------------------------------------------------


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


# --- tolerance ---------------------------------------------------------------------------------


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


# --- none/1 ------------------------------------------------------------------------------------


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


# --- before and instead of settling ------------------------------------------------------------


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


# --- what is refused at the start ---------------------------------------------------------------


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
        registration(world, first.owner, world.signer(), index=1)
    )
    twin = msgspec.structs.replace(accepts[1], node=node_id(first.owner.account, 1))
    await refused(named(accepts[0], twin, accepts[2]), "OwnerTwice")
    stale = first.accepts(playing.id, 0, 1_000)
    await refused(named(stale, *accepts[1:]), "AcceptExpired", validUntil=1_000)
    elsewhere = first.accepts(TaskId("0x" + "11" * 32), 0, until)
    await refused(named(elsewhere, *accepts[1:]), "BadSignature")
    second = first.accepts(playing.id, 0, until, 1)
    await refused(named(second, *accepts[1:]), "BadSignature")
    nobody = msgspec.structs.replace(accepts[0], node=node_id(world.signer().account, 0))
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


# --- stake at risk ------------------------------------------------------------------------------


async def test_two_outputs_of_one_seat_cost_a_fifth_of_the_stake(world: World) -> None:
    playing = await play(world)
    liar, committee = playing.providers[1], await playing.committee()
    await liar.owns(act.RequestUnstake(liar.node, Amount(STAKE // 2)))
    a, b = playing.result(1, RIGHT), playing.result(1, WRONG)

    def proof(first: object, second: object, seat: int = 1) -> act.ProveEquivocation:
        return act.ProveEquivocation(playing.task, committee, seat, first, second)  # type: ignore[arg-type]

    await refused(playing.as_stranger(proof(a, a)), "BadEvidence")
    evidence_only = playing.result(1, RIGHT, WRONG)
    await refused(playing.as_stranger(proof(a, evidence_only)), "BadEvidence")
    await refused(playing.as_stranger(proof(a, b, 0)), "BadSignature")
    later = playing.result(1, WRONG, attempt=1)
    await refused(playing.as_stranger(proof(a, later)), "BadSignature")
    await refused(playing.as_stranger(proof(a, b, 3)), "BadSeat")
    before = await world.reader.balances(world.holder.account)
    since = (await world.reader.head()).number + 1
    await playing.as_stranger(proof(a, b))
    bounty = int((await world.reader.parameters()).bounty)
    record = await world.reader.node(liar.node)
    assert record is not None
    assert (record.standing, record.reputation) == (Standing.JAILED, 0)
    assert record.stake + record.unbonding == STAKE - STAKE // 5
    after = await world.reader.balances(world.holder.account)
    assert after.tokens - before.tokens == bounty
    told = [r.event for r in await events_of(world, since)]
    assert NodeSlashed(
        liar.node, world.holder.account, Amount(STAKE // 5), Amount(bounty),
        Amount(STAKE // 5 - bounty),
    ) in told  # fmt: skip
    assert EquivocationProven(playing.id, 1, liar.node, world.holder.account) in told
    await refused(playing.as_stranger(proof(b, a), key="again"), "BadEvidence")
    await playing.commit(0, 1, 2)
    await playing.finalise()
    assert (await playing.view()).state is TaskState.COMPLETED


async def test_a_jailed_node_takes_no_seat_until_its_owner_releases_it(world: World) -> None:
    playing = await play(world)
    liar, committee = playing.providers[0], await playing.committee()
    await refused(liar.owns(act.Unjail(liar.node)), "BadStanding", standing=1)
    proof = act.ProveEquivocation(
        playing.task, committee, 0, playing.result(0, RIGHT), playing.result(0, WRONG)
    )
    await playing.as_stranger(proof)
    await playing.commit(0, 1, 2)
    await playing.finalise()
    again = await play(world, start=False, providers=playing.providers, payer=playing.client)
    await refused(again.start(), "BadStanding", node=liar.node, standing=4)
    await refused(liar.operates(act.Unjail(liar.node)), "Forbidden")
    await liar.owns(act.Unjail(liar.node))
    record = await world.reader.node(liar.node)
    assert record is not None
    assert (record.standing, record.checked_tasks) == (Standing.PROBATION, 0)
    await again.start()
    spent = act.ProveEquivocation(
        playing.task, committee, 1, playing.result(1, RIGHT), playing.result(1, WRONG)
    )
    await refused(playing.as_stranger(spent), "NotOpen")


async def test_evidence_is_taken_after_the_end_and_from_the_key_that_signed(world: World) -> None:
    playing = await play(world)
    liar, fresh = playing.providers[2], world.signer()
    await playing.commit(0, 1, 2)
    await playing.finalise()
    digest = operate_digest(world.reader.info.registry, liar.node, fresh.account, 1 << 39)
    await liar.owns(act.RotateOperator(liar.node, fresh.account, 1 << 39, fresh.sign(digest)))
    proof = act.ProveEquivocation(
        playing.task, await playing.committee(), 2,
        playing.result(2, RIGHT), playing.result(2, WRONG),
    )  # fmt: skip
    await playing.as_stranger(proof)
    record = await world.reader.node(liar.node)
    assert record is not None
    assert record.standing is Standing.JAILED


async def test_accrued_fees_are_swept_to_the_treasury(world: World) -> None:
    playing = await play(world)
    await playing.commit(0, 1, 2)
    await playing.finalise()
    accrued = (await world.reader.lane(playing.client.account, 0)).accrued
    treasury = (await world.reader.parameters()).treasury
    before = (await world.reader.balances(treasury)).tokens
    since = (await world.reader.head()).number + 1
    await playing.as_stranger(act.SweepFees(playing.client.account, (0, 1), 1))
    assert (await world.reader.balances(treasury)).tokens - before == accrued > 0
    assert (await world.reader.lane(playing.client.account, 0)).accrued == 0
    told = [r.event for r in await events_of(world, since) if isinstance(r.event, FeesSwept)]
    assert told == [FeesSwept(playing.client.account, 0, Amount(accrued))]


async def test_twenty_paid_tasks_end_probation(world: World) -> None:
    playing = await play(world)
    await playing.commit(0, 1, 2)
    since = (await world.reader.head()).number + 1
    await playing.finalise()
    for _ in range(19):
        playing = await play(world, providers=playing.providers, payer=playing.client)
        await playing.commit(0, 1, 2)
        await playing.finalise()
    for one in playing.providers:
        record = await world.reader.node(one.node)
        assert record is not None
        assert (record.standing, record.checked_tasks) == (Standing.ACTIVE, 20)
    nodes = {one.node for one in playing.providers}
    told = [e for r in await events_of(world, since) if isinstance(e := r.event, StandingChanged)]
    assert {(e.node, e.standing) for e in told} == {(n, Standing.ACTIVE) for n in nodes}


# --- the port itself ----------------------------------------------------------------------------


async def test_the_same_intent_has_one_effect(world: World) -> None:
    signer, other = world.signer(), world.signer()
    await world.fund(signer.account, 10 * UNIT)
    ledger = await world.ledger(signer)
    action = act.TransferTokens(other.account, Amount(UNIT))
    first = await ledger.submit(action, key="rent of May")
    assert await ledger.submit(action, key="rent of May") == first
    done: list[str] = []

    async def pay() -> None:
        done.append((await ledger.submit(action, key="rent of June")).hash)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(pay)
    assert len(set(done)) == 1
    assert (await world.reader.balances(other.account)).tokens == 2 * UNIT


async def test_a_refused_intent_may_be_tried_again(world: World) -> None:
    signer = world.signer()
    ledger = await world.ledger(signer)
    action = act.Deposit(Amount(UNIT))
    await refused(ledger.submit(action, key="deposit"), "ERC20InsufficientBalance")
    await world.fund(signer.account, UNIT)
    await ledger.submit(action, key="deposit")
    assert (await world.reader.balances(signer.account)).vault == UNIT


async def test_of_two_intents_that_exclude_each_other_one_takes_effect(world: World) -> None:
    signer = world.signer()
    await world.fund(signer.account, UNIT)
    ledger = await world.ledger(signer)
    action = act.Deposit(Amount(UNIT))
    refusals: dict[str, LedgerRejected] = {}

    async def deposit(key: str) -> None:
        try:
            await ledger.submit(action, key=key)
        except LedgerRejected as error:
            refusals[key] = error

    async with trio.open_nursery() as nursery:
        nursery.start_soon(deposit, "one")
        nursery.start_soon(deposit, "two")
    (failed,) = refusals
    assert refusals[failed].name == "ERC20InsufficientBalance"
    assert isinstance(refusals[failed], InsufficientFunds)
    assert (await world.reader.balances(signer.account)).vault == UNIT
    await world.fund(signer.account, UNIT)
    await ledger.submit(action, key=failed)
    assert (await world.reader.balances(signer.account)).vault == 2 * UNIT


async def test_many_transactions_of_one_account_may_be_in_flight(world: World) -> None:
    signer, other = world.signer(), world.signer()
    await world.fund(signer.account, 100 * UNIT)
    ledger = await world.ledger(signer)

    async def pay(number: int) -> None:
        await ledger.submit(act.TransferTokens(other.account, Amount(number)), key=f"n{number}")

    async with trio.open_nursery() as nursery:
        for number in range(1, 31):
            nursery.start_soon(pay, number)
    assert (await world.reader.balances(other.account)).tokens == 465


async def test_simulating_changes_nothing(world: World) -> None:
    signer, other = world.signer(), world.signer()
    await world.fund(signer.account, UNIT)
    ledger = await world.ledger(signer)
    assert await ledger.simulate(act.TransferTokens(other.account, Amount(UNIT))) >= 0
    assert (await world.reader.balances(other.account)).tokens == 0


async def test_a_reader_cannot_send(world: World) -> None:
    assert world.reader.account is None
    with pytest.raises(LedgerRejected):
        await world.reader.submit(act.Deposit(Amount(1)))


async def collect(ledger: Ledger, cursor: Cursor | None, until: int) -> list[EventBatch]:
    found = []
    with trio.fail_after(30):
        async with ledger.follow(cursor) as batches:
            async for batch in batches:
                found.append(batch)
                if batch.cursor.number >= until:
                    return found
    return found


async def test_following_goes_on_from_a_cursor_without_gap_or_repetition(world: World) -> None:
    playing = await play(world)
    await playing.commit(0)
    middle = await collect(world.reader, None, (await playing.view()).updated.block)
    await playing.commit(1, 2)
    await playing.finalise()
    until = (await playing.view()).updated.block
    rest = await collect(world.reader, middle[-1].cursor, until)
    everything = await collect(world.reader, None, until)
    flat = [r for batch in (*middle, *rest) for r in batch.records]
    whole = [r for batch in everything for r in batch.records if r.position.block <= until]
    flat = [r for r in flat if r.position.block <= until]
    assert flat == whole
    positions = [(r.position.block, r.position.index) for r in whole]
    assert positions == sorted(set(positions))
    assert all(batch.rewind_to is None for batch in (*middle, *rest, *everything))
    mine = [r for r in whole if task_of(r.event) == playing.id]
    assert fold(mine) == await playing.view()
    transaction = (await playing.view()).updated.transaction
    assert {r.position.block_hash for r in mine if r.position.transaction == transaction}


async def test_followers_see_new_events_and_learn_the_head_when_idle(world: World) -> None:
    signer = world.signer()
    with trio.fail_after(60):
        start = await collect(world.reader, None, (await world.reader.head()).number)
        async with world.reader.follow(start[-1].cursor) as batches:
            await world.fund(signer.account, 3)
            seen: list[LedgerRecord] = []
            async for batch in batches:
                assert batch.head.number >= batch.cursor.number
                seen += batch.records
                if any(signer.account in _words(r) for r in seen):
                    break
            await world.advance(5)
            now = await world.now()
            async for batch in batches:
                if batch.head.time >= now:
                    break


async def test_a_cursor_of_another_chain_starts_over(world: World) -> None:
    head = await world.reader.head()
    batches = await collect(world.reader, Cursor(head.number, "0x" + "99" * 32), head.number)
    assert batches[0].rewind_to == world.reader.info.deployed_at - 1
    assert [r.event for r in batches[0].records if isinstance(r.event, TokensMoved)]


async def test_all_tokens_are_somewhere(world: World) -> None:
    playing = await play(world)
    await playing.commit(0, 1, 2, digests={2: WRONG})
    await playing.finalise(stranger=True)
    await playing.as_stranger(act.SweepFees(playing.client.account, (0,), 1))
    records = [r for b in await collect(world.reader, None, (await world.reader.head()).number)
               for r in b.records]  # fmt: skip
    held: dict[str, int] = {}
    for record in records:
        if isinstance(event := record.event, TokensMoved):
            held[event.sender] = held.get(event.sender, 0) - event.amount
            held[event.receiver] = held.get(event.receiver, 0) + event.amount
    assert sum(held.values()) == 0
    for account, expected in held.items():
        if account != "0x" + "00" * 20:
            balances = await world.reader.balances(account)  # type: ignore[arg-type]
            assert balances.tokens == expected >= 0
    vault = world.reader.info.contracts["TaskEscrow"]
    flows = sum(_vault_flow(record) for record in records)
    assert held[vault] == flows


def _vault_flow(record: LedgerRecord) -> int:
    match record.event:
        case Deposited(amount=amount):
            return int(amount)
        case VaultWithdrawn(amount=amount) | FeesSwept(amount=amount):
            return -int(amount)
        case TaskFinalised():
            return 0  # moves inside the escrow
        case _:
            return 0
