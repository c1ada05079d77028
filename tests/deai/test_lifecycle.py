"""Every state meets every event; money never waits without an exit."""

from __future__ import annotations

import pytest

from deai.errors import IllegalTransition
from deai.lifecycle import (
    ANYBODY_ENDS,
    SEAT_TRANSITIONS,
    TERMINAL,
    TRANSITIONS,
    SeatEvent,
    SeatState,
    TaskEvent,
    TaskState,
    advance,
    advance_seat,
)
from deai.standing import ON_CHAIN, Standing, StandingEvent, advance_standing


@pytest.mark.parametrize(("state", "event"), [(s, e) for s in TaskState for e in TaskEvent])
def test_a_step_is_in_the_table_or_illegal(state: TaskState, event: TaskEvent) -> None:
    if event in TRANSITIONS[state]:
        assert advance(state, event) is TRANSITIONS[state][event]
    else:
        with pytest.raises(IllegalTransition, match=f"{state}.*{event}"):
            advance(state, event)


@pytest.mark.parametrize(("state", "event"), [(s, e) for s in SeatState for e in SeatEvent])
def test_a_seat_steps_by_its_table(state: SeatState, event: SeatEvent) -> None:
    if event in SEAT_TRANSITIONS[state]:
        assert advance_seat(state, event) is SEAT_TRANSITIONS[state][event]
    else:
        with pytest.raises(IllegalTransition):
            advance_seat(state, event)


@pytest.mark.parametrize(("state", "event"), [(s, e) for s in Standing for e in StandingEvent])
def test_a_standing_steps_by_its_table(state: Standing, event: StandingEvent) -> None:
    if event in ON_CHAIN[state]:
        assert advance_standing(state, event) is ON_CHAIN[state][event]
    else:
        with pytest.raises(IllegalTransition):
            advance_standing(state, event)


@pytest.mark.parametrize("state", TaskState)
def test_money_never_waits_for_somebodys_cooperation(state: TaskState) -> None:
    if state in TERMINAL:
        assert state not in ANYBODY_ENDS
        return
    exits = ANYBODY_ENDS[state]
    assert exits
    assert all(advance(state, event) in TERMINAL for event in exits)


def test_every_state_can_be_reached() -> None:
    reached, fresh = {TaskState.PENDING}, {TaskState.PENDING}
    while fresh:
        fresh = {after for state in fresh for after in TRANSITIONS[state].values()} - reached
        reached |= fresh
    assert reached == set(TaskState)
