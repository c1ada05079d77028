"""Tokens, nodes and their stake: the same on the ledger in memory and on real chains."""

from __future__ import annotations

from deai import actions as act
from deai.client.directory import RegistryEvents
from deai.errors import InsufficientFunds
from deai.events import (
    Deposited,
    EquivocationProven,
    FeesSwept,
    NodeAnnounced,
    NodeBeat,
    NodeRegistered,
    NodeSlashed,
    OperatorRotated,
    StakeAdded,
    StakeWithdrawn,
    StandingChanged,
    TokensMoved,
    UnbondingStarted,
    VaultWithdrawn,
)
from deai.ids import AccountId
from deai.lifecycle import TaskState
from deai.money import UNIT, Amount
from deai.standing import Standing
from deai.tasks import (
    operate_digest,
)
from tests.support.ledger_conformance import (
    ADDRESSES,
    PEER_ID,
    RIGHT,
    STAKE,
    START,
    WRONG,
    World,
    client,
    events_of,
    node_of,
    play,
    provider,
    refused,
    registration,
    words,
)


async def held(world: World, account: AccountId) -> int:
    """Tokens of an account, wherever its chain puts what a contract pays."""
    balances = await world.reader.balances(account)
    return balances.tokens + balances.vault


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
        if signer.account in words(record)
    ]
    assert kinds[:2] == [TokensMoved, Deposited]
    assert set(kinds[2:]) == {VaultWithdrawn, TokensMoved}
    assert first.kind == "Deposit"
    assert first.block <= (await world.reader.head()).number


async def test_money_for_gas_is_sent_once_and_arrives_whole(world: World) -> None:
    sender, receiver = world.signer(), world.signer()
    for one in (sender, receiver):
        await world.ledger(one)  # where accounts have to be made, they are there now
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
    assert await world.reader.node(node_of(one.owner.account, 7)) is None


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
    owner = world.signer()
    operator, other = world.operator(owner), world.operator(owner)
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
    assert await world.reader.node(node_of(owner.account, 1)) is not None


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
    about = [r.event for r in await events_of(world, since) if one.node in words(r)]
    assert about == [
        StakeAdded(one.node, Amount(UNIT), Amount(STAKE + UNIT)),
        UnbondingStarted(one.node, Amount(UNIT), record.unbond_at),
        StakeWithdrawn(one.node, to, Amount(UNIT)),
    ]


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
    one = await provider(world)
    fresh = world.operator(one.owner)
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
    before = await held(world, world.holder.account)
    since = (await world.reader.head()).number + 1
    await playing.as_stranger(proof(a, b))
    bounty = int((await world.reader.parameters()).bounty)
    record = await world.reader.node(liar.node)
    assert record is not None
    assert (record.standing, record.reputation) == (Standing.JAILED, 0)
    assert record.stake + record.unbonding == STAKE - STAKE // 5
    assert await held(world, world.holder.account) - before == bounty
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


async def test_a_slash_is_told_by_the_events_when_the_released_node_earns_again(
    world: World,
) -> None:
    playing = await play(world)
    liar, *honest = playing.providers
    await playing.as_stranger(
        act.ProveEquivocation(
            playing.task, await playing.committee(), 0,
            playing.result(0, RIGHT), playing.result(0, WRONG),
        )
    )  # fmt: skip
    await playing.commit(0, 1, 2)
    await playing.finalise()
    await liar.owns(act.Unjail(liar.node))
    again = await play(world, providers=playing.providers, payer=playing.client)
    await again.commit(0, 1, 2)
    await again.finalise()
    record = await world.reader.node(liar.node)
    assert record is not None
    assert record.standing.is_assignable
    assert record.reputation > 0
    told = {hint.node: hint.slashed for hint in await RegistryEvents(world.reader).hints()}
    assert told.pop(liar.node)
    assert not any(told[one.node] for one in honest)


async def test_evidence_is_taken_after_the_end_and_from_the_key_that_signed(world: World) -> None:
    playing = await play(world)
    liar = playing.providers[2]
    fresh = world.operator(liar.owner)
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
    before = await held(world, treasury)
    since = (await world.reader.head()).number + 1
    await playing.as_stranger(act.SweepFees(playing.client.account, (0, 1), 1))
    assert await held(world, treasury) - before == accrued > 0
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
