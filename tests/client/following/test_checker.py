"""Proposed roots that are checked, and taken back, by themselves."""

from __future__ import annotations

import pytest

from deai import actions as act
from deai.errors import LedgerRejected
from deai.hashing import ZERO
from deai.money import Amount
from tests.client.following.world import DELAY, LIE, OTHER, SECONDS, Here


async def test_right_roots_are_told_and_the_check_goes_on(here: Here) -> None:
    await here.fund(10)
    ledger, checker = here.check(cancels=False)
    here.propose()
    await here.hear("ready", 2)
    for number in (1, 2):
        epoch = here.over()
        right = await here.hear("right", number)
        assert (right.epoch, right.expected) == (epoch, None)
        here.pass_(DELAY)
        await here.fund(1)
    assert (checker.checked, checker.standing, here.ended) == (2, 0, [])
    assert ledger.followed == [None]


@pytest.mark.parametrize("is_active", [False, True])
async def test_a_wrong_root_ends_a_check_that_may_not_cancel(here: Here, is_active: bool) -> None:
    await here.fund(10)
    epoch = here.over()
    await here.lie(epoch)
    if is_active:
        here.pass_(DELAY)
    _, checker = here.check(cancels=False)
    wrong = await here.hear("wrong")
    await here.until(lambda: here.ended)
    assert (wrong.epoch, wrong.root) == (epoch, LIE)
    assert wrong.expected == (await here.computed(epoch)).root
    assert (here.ended, checker.standing) == ([None], 1)


async def test_a_guardian_takes_wrong_roots_back_while_they_wait(here: Here) -> None:
    await here.fund(10)
    ledger, checker = here.check(cancels=True)
    await here.hear("ready")
    for number in (1, 2):  # the same lie twice is two proposals
        await here.lie(here.over())
        gone = await here.hear("cancelled", number)
        assert gone.root == LIE
        assert (await here.record()).waiting is None
    assert (checker.checked, checker.cancelled, checker.standing) == (2, 2, 0)
    assert here.ended == []
    here.propose()
    await here.hear("right")
    assert len(ledger.sent) == 2


async def test_the_same_lie_for_the_same_epoch_is_taken_back_again(here: Here) -> None:
    await here.fund(10)
    epoch = here.over()
    here.check(cancels=True)
    for number in (1, 2):
        await here.lie(epoch)
        await here.hear("cancelled", number)
    assert (await here.record()).waiting is None


async def test_a_guardian_watches_on_under_a_wrong_root_that_is_in_force(here: Here) -> None:
    await here.fund(10)
    await here.lie(here.over())
    here.pass_(DELAY)
    _, checker = here.check(cancels=True)
    await here.hear("wrong")
    await here.lie(here.over())
    await here.hear("cancelled")
    assert (checker.cancelled, checker.standing, here.ended) == (1, 1, [])


async def test_a_guardian_without_the_right_key_says_so(here: Here) -> None:
    await here.fund(10)
    await here.lie(here.over())
    here.check(cancels=True, ledger=here.ledger(OTHER))
    await here.until(lambda: here.ended)
    assert here.events()[-1] == "wrong"
    assert isinstance(here.ended[0], LedgerRejected)


async def test_an_epoch_of_long_ago_is_checked_too(here: Here) -> None:
    await here.fund(10)
    old = here.over()
    found = await here.computed(old)
    await here.fund(5)
    for _ in range(4):
        here.over()
    _, checker = here.check(cancels=False)
    await here.hear("ready")
    await here.send(act.ProposeRewards(old, found.root, found.total, found.digest))
    assert (await here.hear("right")).epoch == old
    assert checker.checked == 1


async def test_roots_from_before_the_start_are_checked_in_the_first_reading(here: Here) -> None:
    for _ in range(2):
        await here.fund(10)
        epoch = here.over()
        found = await here.computed(epoch)
        here.pass_(5 * SECONDS)
        await here.send(act.ProposeRewards(epoch, found.root, found.total, found.digest))
        if (await here.record()).epoch == 0:
            here.pass_(DELAY)
    ledger, checker = here.check(cancels=False)
    await here.hear("right", 2)
    assert (checker.checked, ledger.followed) == (2, [None])


async def test_a_right_root_with_a_wrong_total_or_statement_is_wrong(here: Here) -> None:
    await here.fund(10)
    epoch = here.over()
    found = await here.computed(epoch)
    here.check(cancels=True)
    for number, lie in enumerate(
        (
            act.ProposeRewards(epoch, found.root, Amount(9), found.digest),
            act.ProposeRewards(epoch, found.root, found.total, ZERO),
        ),
        1,
    ):
        await here.send(lie)
        await here.hear("cancelled", number)
