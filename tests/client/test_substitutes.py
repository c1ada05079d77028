"""Who is asked to take a seat over."""

from __future__ import annotations

from deai.client.matching import Ranked
from deai.client.substitutes import askable
from tests.client.test_matching import candidate, owner


def ranked(number: int, ask: int = 10) -> Ranked:
    return Ranked(candidate(number), ask, 1.0)


def test_those_who_were_tried_hold_a_seat_or_ask_too_much_are_not_asked() -> None:
    tried, holder, dear, free = ranked(1), ranked(2), ranked(3, ask=11), ranked(4)
    assert askable((tried, holder, dear, free), {tried.node}, {owner(2)}, fee=10) == [free]


def test_only_holders_left_means_that_the_tried_may_be_asked_again() -> None:
    away, holders = ranked(1), (ranked(2), ranked(3))
    taken = {owner(2), owner(3)}
    assert askable((away, *holders), {away.node}, taken, fee=10) == []
    assert askable((away, *holders), set(), taken, fee=10) == [away]
