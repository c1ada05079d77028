"""Rewards: the same on the ledger in memory and on every chain that has them."""

from __future__ import annotations

import msgspec
import pytest

from deai import actions as act
from deai.claims import MAX_SHARES, NO_ROOT, Claim, Line, Reason, Share
from deai.errors import InsufficientFunds
from deai.events import (
    LedgerEvent,
    RewardsCancelled,
    RewardsClaimed,
    RewardsFunded,
    RewardsProposed,
    TokensMoved,
)
from deai.ids import AccountId
from deai.money import UNIT, Amount
from tests.deai.chain.conftest import WITH_REWARDS
from tests.support.ledger_conformance import FEE, RIGHT, WRONG, World, events_of, play, refused
from tests.support.reward_conformance import Rewarding

pytestmark = pytest.mark.parametrize("chain", WITH_REWARDS, indirect=True)
NOBODY = AccountId("0x" + "00" * 20)
POT, AUDIT = Reason.POT, Reason.AUDIT


async def told(world: World, block: int) -> list[LedgerEvent]:
    """What a block and those after it reported."""
    return [record.event for record in await events_of(world, block)]


async def test_a_payment_names_accounts_or_nobody(world: World) -> None:
    here = Rewarding(world)
    one, two = world.signer().account, world.signer().account
    shares = (Share(one, Amount(30)), Share(two, Amount(20)))
    done = await here.fund(100, audit={one: 30, two: 20})
    payer = world.holder.account
    assert await told(world, done.block) == [
        TokensMoved(payer, here.contract, Amount(100)),
        RewardsFunded(payer, AUDIT, Amount(100), shares),
    ]
    done = await here.fund(7)
    assert await told(world, done.block) == [
        TokensMoved(payer, here.contract, Amount(7)),
        RewardsFunded(payer, POT, Amount(7), ()),
    ]


async def test_shares_that_make_no_sense_are_refused(world: World) -> None:
    here, to = Rewarding(world), world.signer().account
    for action in (
        act.FundRewards(Amount(0), POT, ()),
        act.FundRewards(Amount(5), AUDIT, ()),
        act.FundRewards(Amount(5), POT, (Share(to, Amount(5)),)),
        act.FundRewards(Amount(5), AUDIT, (Share(to, Amount(6)),)),
        act.FundRewards(Amount(5), AUDIT, (Share(to, Amount(0)),)),
        act.FundRewards(Amount(UNIT), AUDIT, (Share(to, Amount(1)),) * (MAX_SHARES + 1)),
    ):
        await refused(here.as_holder(action), "BadData")
    if world.name != "near":  # where every name of an account may come to be somebody's
        to_nobody = act.FundRewards(Amount(5), AUDIT, (Share(NOBODY, Amount(5)),))
        await refused(here.as_holder(to_nobody), "BadData")
    poor = await world.ledger(world.signer())
    with pytest.raises(InsufficientFunds):
        await poor.submit(act.FundRewards(Amount(5), POT, ()))
    await here.fund(UNIT, delegation={to: 1})


async def test_an_epoch_is_proposed_waits_and_is_claimed(world: World) -> None:
    here, reader = Rewarding(world), world.reader
    one, two = world.signer().account, world.signer().account
    await here.fund(100, audit={one: 30, two: 20})
    found = await here.statement(await here.epoch_over())
    done = await here.propose(found)
    delay = (await reader.parameters()).reward_delay
    assert delay > 0
    active_at = done.time + delay
    assert await told(world, done.block) == [
        RewardsProposed(found.epoch, found.root, found.total, found.digest, active_at)
    ]
    record = await reader.rewards()
    assert record.waiting is not None
    assert (record.waiting.root, record.waiting.active_at) == (found.root, active_at)
    early = act.ClaimRewards(here.claim_of(found, one))
    await refused(here.as_holder(early), "BadProof")
    await here.delay_over()
    record = await reader.rewards()
    assert (record.epoch, record.root, record.total) == (found.epoch, found.root, found.total)
    assert record.waiting is None
    assert await reader.rewards_paid(one) == 0

    done = await here.as_holder(act.ClaimRewards(here.claim_of(found, one)))
    paying = [
        RewardsClaimed(one, Amount(30), Amount(30)),
        TokensMoved(here.contract, one, Amount(30)),
    ]
    # On NEAR the contract says so when the token has done its part.
    assert await told(world, done.block) == (paying[::-1] if world.name == "near" else paying)
    assert (await here.tokens(one), await reader.rewards_paid(one)) == (30, 30)
    assert (await reader.rewards()).paid == record.paid + 30
    again = act.ClaimRewards(here.claim_of(found, one))
    await refused(here.as_holder(again), "NothingNew", claimed=30)
    assert await here.tokens(two) == 0


async def test_missed_epochs_roll_up_into_one_claim(world: World) -> None:
    here, one = Rewarding(world), world.signer()
    for amount in (5, 7):
        await here.fund(amount, refund={one.account: amount})
        await here.in_force()
    await here.fund(9, slash={one.account: 8})
    await here.epoch_over()
    await here.fund(1, audit={world.signer().account: 1})
    found = await here.in_force()
    own = await world.ledger(one)
    await own.submit(act.ClaimRewards(here.claim_of(found, one.account)))
    assert await here.tokens(one.account) == 20


async def test_a_claim_is_good_for_its_leaf_only(world: World) -> None:
    here = Rewarding(world)
    one, two = world.signer().account, world.signer().account
    await here.fund(50, audit={one: 30, two: 20})
    found = await here.in_force()
    good = here.claim_of(found, one)
    change = msgspec.structs.replace
    wrong: list[Claim] = [
        change(good, account=two),
        change(good, cumulative_amount=Amount(31)),
        change(good, sides=good.sides ^ 1),
        change(good, path=good.path[:-1]),
        change(good, path=(*good.path, NO_ROOT)),
        change(good, path=()),
    ]
    for claim in wrong:
        await refused(here.as_holder(act.ClaimRewards(claim)), "BadProof")
    await here.as_holder(act.ClaimRewards(good))
    assert (await here.tokens(one), await here.tokens(two)) == (30, 0)


async def test_the_guardian_takes_a_root_back_and_another_follows(world: World) -> None:
    here, thief, one = Rewarding(world), world.signer().account, world.signer().account
    before = await world.reader.rewards()
    await here.fund(40, audit={one: 40})
    found = await here.statement(await here.epoch_over())
    lie = msgspec.structs.replace(found, root=b"\x13" * 32)
    await here.propose(lie)
    await refused(here.propose(found), "StillWaiting")
    await refused(here.as_holder(act.CancelRewards(found.epoch + 1, lie.root)), "NothingWaits")
    done = await here.as_holder(act.CancelRewards(found.epoch, lie.root))
    assert await told(world, done.block) == [RewardsCancelled(found.epoch, lie.root)]
    record = await world.reader.rewards()
    assert (record.waiting, record.root) == (None, before.root)
    await refused(here.as_holder(act.CancelRewards(found.epoch, lie.root)), "NothingWaits")
    await here.propose(found)
    await here.delay_over()
    await refused(here.as_holder(act.CancelRewards(found.epoch, found.root)), "NothingWaits")
    await here.as_holder(act.ClaimRewards(here.claim_of(found, one)))
    assert (await here.tokens(one), await here.tokens(thief)) == (40, 0)


async def test_only_proposer_and_guardian_touch_roots(world: World) -> None:
    here, stranger = Rewarding(world), world.signer()
    await here.fund(4, audit={stranger.account: 4})
    found = await here.statement(await here.epoch_over())
    theirs = await world.ledger(stranger)
    by = {"caller": stranger.account}
    await refused(theirs.submit(here.proposal(found)), "Forbidden", **by)
    await here.propose(found)
    await refused(theirs.submit(act.CancelRewards(found.epoch, found.root)), "Forbidden", **by)
    await here.delay_over()


async def test_no_root_promises_what_is_not_there_or_comes_too_early(world: World) -> None:
    here, one = Rewarding(world), world.signer().account
    await here.fund(10, audit={one: 10})
    found = await here.in_force()
    change = msgspec.structs.replace
    seconds = (await world.reader.parameters()).epoch_seconds
    await refused(here.propose(found), "BadEpoch", epoch=found.epoch)
    now = await world.now() // seconds
    ends = {"closesAt": (now + 1) * seconds}
    await refused(here.propose(change(found, epoch=now)), "TooEarly", **ends)
    next_ = await here.statement(await here.epoch_over())
    await refused(here.propose(change(next_, root=NO_ROOT)), "BadData")
    await refused(here.propose(change(next_, total=Amount(next_.total - 1))), "BadData")
    held = await here.tokens(here.contract) + (await world.reader.rewards()).paid
    more = change(next_, total=Amount(held + 1))
    await refused(here.propose(more), "Unfunded", total=held + 1, available=held)
    await here.propose(change(next_, total=Amount(held)))
    await here.delay_over()


async def test_the_pot_replaces_what_a_client_paid_to_a_proven_liar(world: World) -> None:
    here = Rewarding(world)
    playing = await play(world)
    pair = [playing.result(1, digest) for digest in (RIGHT, WRONG)]
    proof = act.ProveEquivocation(playing.task, await playing.committee(), 1, pair[0], pair[1])
    await playing.as_stranger(proof)
    await playing.commit(0, 1, 2)
    await playing.finalise()
    await here.fund(10_000 * UNIT)  # others on this chain may have been harmed before
    found = await here.in_force()
    client = playing.task.client
    assert Line(client, Reason.REFUND, FEE) in found.lines
    assert found.owed == 0
    before = await here.tokens(client)
    await here.as_holder(act.ClaimRewards(here.claim_of(found, client)))
    assert await here.tokens(client) - before == FEE
