"""Roots that are proposed by themselves once an epoch is over."""

from __future__ import annotations

import pytest
import trio

from deai import actions as act
from deai.chain.refusals import refusal
from deai.claims import Reason
from deai.client.rewards_following import RETRY_S
from deai.errors import LedgerRejected, LedgerUnreachable
from deai.money import Amount
from tests.client.following.world import DELAY, LIE, ONE, OTHER, SECONDS, TWO, Here


async def test_each_epoch_is_proposed_once_it_is_over(here: Here) -> None:
    await here.fund(10)
    ledger, _ = here.propose()
    await here.hear("ready")
    for amount in (5, 7):
        epoch = here.over()
        told = await here.hear("proposed", len(ledger.sent) + 1)
        found = await here.computed(epoch)
        assert (told.epoch, told.root, told.total) == (epoch, found.root, found.total)
        record = await here.record()
        assert record.waiting is not None
        assert (record.waiting.root, record.waiting.active_at) == (found.root, told.active_at)
        assert told.next_at == (epoch + 2) * SECONDS
        here.pass_(DELAY)
        await here.fund(amount, TWO)
    assert len(ledger.sent) == 2
    assert ledger.followed == [None]


async def test_it_waits_for_the_clock_of_the_chain_and_not_for_its_own(here: Here) -> None:
    await here.fund(10)
    here.propose()
    await here.hear("ready")
    await trio.sleep(1)
    assert here.events() == ["ready", "nothing_owed"]
    ends = (here.epoch + 1) * SECONDS
    here.pass_(ends - here.chain.now - 2)
    await trio.sleep(1)
    assert here.chain.now < ends
    assert "proposed" not in here.events()
    here.pass_(1)
    await here.hear("proposed")


async def test_what_gives_nobody_anything_is_not_proposed(here: Here) -> None:
    ledger, _ = here.propose()
    await here.hear("nothing_owed")
    await here.fund(10)
    here.over()
    await here.hear("proposed")
    here.pass_(DELAY)
    await here.send(act.FundRewards(Amount(9), Reason.POT, ()))
    here.over()
    await here.hear("nothing_new")
    assert len(ledger.sent) == 1


async def test_a_root_waits_until_the_one_before_it_is_in_force(here: Here) -> None:
    await here.fund(10)
    epoch = here.over()
    found = await here.computed(epoch)
    await here.send(act.ProposeRewards(epoch, found.root, found.total, found.digest))
    await here.fund(10)
    here.chain.advance(1)
    here.over()
    record = await here.record()
    assert record.waiting is not None
    here.propose()
    held = await here.hear("held")
    assert held.active_at == record.waiting.active_at
    here.pass_(DELAY)
    await here.hear("proposed")
    assert here.events().count("held") == 1


async def test_who_never_reads_to_the_end_of_a_busy_chain_proposes_too(here: Here) -> None:
    await here.fund(10)
    ledger = here.ledger()
    ledger.is_behind = True
    here.propose(ledger)
    await here.hear("ready")
    assert here.events()[0] == "reading"
    epoch = here.over()
    told = await here.hear("proposed")
    assert (told.epoch, told.root) == (epoch, (await here.computed(epoch)).root)


async def test_two_proposers_send_one_root(here: Here) -> None:
    await here.fund(10)
    ledgers = [here.propose()[0] for _ in range(2)]
    await here.hear("ready", 2)
    here.over()
    await here.hear("proposed")
    await here.hear("proposed_before")
    assert sum(len(ledger.sent) for ledger in ledgers) <= 2
    assert "problem" not in here.events()


async def test_a_second_life_goes_on_where_the_first_ended(here: Here) -> None:
    await here.fund(10)
    ledger, life = here.propose()
    await here.hear("ready")
    here.over()
    await here.hear("proposed")
    life.cancel()
    here.propose(ledger)
    await here.hear("proposed_before")
    here.pass_(DELAY)
    await here.fund(5)
    here.over()
    await here.hear("proposed", 2)
    assert len(ledger.sent) == 2


async def test_what_the_guardian_took_back_is_not_proposed_again(here: Here) -> None:
    await here.fund(10)
    ledger, life = here.propose()
    await here.hear("ready")
    epoch = here.over()
    told = await here.hear("proposed")
    assert told.root is not None
    await here.send(act.CancelRewards(epoch, told.root))
    life.cancel()
    _, life = here.propose(ledger)
    await here.hear("cancelled_before")
    life.cancel()
    # Nor where a liar came in between, so that the events tell of another root last.
    await here.lie(epoch)
    await here.send(act.CancelRewards(epoch, LIE))
    here.propose(ledger)
    await here.hear("cancelled_before", 2)
    assert (await here.record()).waiting is None
    assert here.events().count("proposed") == 1


async def test_a_lie_that_is_taken_back_is_followed_by_the_truth(here: Here) -> None:
    await here.fund(10)
    epoch = here.over()
    await here.lie(epoch)
    here.propose()
    wrong = await here.hear("wrong")
    found = await here.computed(epoch)
    assert (wrong.root, wrong.expected) == (LIE, found.root)
    await trio.sleep(10)
    assert here.events().count("wrong") == 1
    await here.send(act.CancelRewards(epoch, LIE))
    assert (await here.hear("proposed")).root == found.root


async def test_a_chain_out_of_reach_is_told_once_and_asked_again(here: Here) -> None:
    await here.fund(10)
    ledger, _ = here.propose()
    await here.hear("ready")
    ledger.trouble = LedgerUnreachable("no endpoint answers")
    here.over()
    assert (await here.hear("problem")).code == "ledger_unreachable"
    await trio.sleep(3 * RETRY_S)
    assert here.events().count("problem") == 1
    ledger.trouble = None
    await here.hear("proposed")
    await here.hear("solved")


async def test_a_silent_chain_is_taken_up_where_it_fell_silent(here: Here) -> None:
    await here.fund(10)
    ledger, _ = here.propose()
    await here.hear("ready")
    ledger.is_silent = True
    assert (await here.hear("problem")).code == "chain"
    ledger.is_silent = False
    here.over()
    await here.hear("proposed")
    assert len(ledger.followed) > 1
    assert None not in ledger.followed[1:]


async def test_replaced_blocks_are_read_again_from_the_beginning(here: Here) -> None:
    replace_blocks = here.chain.snapshot()
    await here.fund(10, ONE)
    ledger, _ = here.propose()
    await here.hear("ready")
    await trio.sleep(2)
    replace_blocks()
    await here.fund(3, TWO)
    epoch = here.over()
    told = await here.hear("proposed")
    found = await here.computed(epoch)
    assert [(one.account, one.amount) for one in found.leaves] == [(TWO, 3)]
    assert told.root == found.root
    assert ledger.followed == [None, None]


@pytest.mark.parametrize("name", ["GasMoney", "Unfunded"])
async def test_a_refusal_is_told_and_tried_again(here: Here, name: str) -> None:
    await here.fund(10)
    ledger, _ = here.propose()
    await here.hear("ready")
    ledger.trouble = refusal(name)
    here.over()
    assert (await here.hear("problem")).code == name
    ledger.trouble = None
    await here.hear("proposed")


async def test_a_key_that_may_not_propose_ends_it(here: Here) -> None:
    await here.fund(10)
    here.over()
    here.propose(here.ledger(OTHER))
    await here.until(lambda: here.ended)
    (error,) = here.ended
    assert isinstance(error, LedgerRejected)
    assert error.name == "Forbidden"


async def test_under_a_root_for_too_much_it_waits_until_as_much_is_owed(here: Here) -> None:
    await here.fund(7)
    await here.send(act.FundRewards(Amount(3), Reason.POT, ()))
    epoch = here.over()
    await here.lie(epoch)  # for 10
    here.pass_(DELAY)
    ledger, _ = here.propose()
    await here.hear("ready")
    here.over()
    told = await here.hear("total_falls")
    assert told.total == 7
    assert not ledger.sent
    await here.fund(5)
    here.over()
    assert (await here.hear("proposed")).total == 12
    assert "problem" not in here.events()
