"""The life of a task, from posted to paid.

Rule 1: every transition is a row of `TRANSITIONS`. The contract implements this table, the
memory ledger and the indexer run it, and the diagram in the docs is drawn from it.

Rule 2: nothing here knows the time, a peer or a chain. Callers observe the world and pass in
what they saw.

A seat that is released or whose lease ran out is, in the words of the public specification, a
failed attempt that makes the task Pending and Assigned again; the contract keeps the task
where it is, so those rows are loops here.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from deai.errors import IllegalTransition


class TaskState(StrEnum):
    """Where a task is in its life."""

    PENDING = "pending"  # escrow funded, no committee yet
    ASSIGNED = "assigned"  # every seat is held by a provider with a lease
    IN_PROGRESS = "in_progress"  # at least one seat has committed to a result
    COMPLETED = "completed"  # a result won, its seats are paid
    FAILED = "failed"  # no result won, or nobody worked; what is due went back
    CANCELLED = "cancelled"  # taken back by the client before anybody was assigned


class TaskEvent(StrEnum):
    """What can happen to a task."""

    ASSIGNED = "assigned"  # the client named the committee
    CANCELLED = "cancelled"  # the client took it back
    RELEASED = "released"  # a provider gave its seat back
    REASSIGNED = "reassigned"  # the client gave a free or lapsed seat to another node
    COMMITTED = "committed"  # a seat committed (or, under none/1, delivered its result)
    REVEALED = "revealed"  # a seat opened its commitment on chain
    APPROVED = "approved"  # a member approved outputs on chain
    SETTLED = "settled"  # finalised with a winner
    UNDECIDED = "undecided"  # finalised without a winner, or all agree that the task is bad
    OBJECTED = "objected"  # the client refused an unchecked result; its fee goes to the pot
    EXPIRED = "expired"  # the commit deadline passed and nobody had committed


TRANSITIONS: Final[Mapping[TaskState, Mapping[TaskEvent, TaskState]]] = {
    TaskState.PENDING: {
        TaskEvent.ASSIGNED: TaskState.ASSIGNED,
        TaskEvent.CANCELLED: TaskState.CANCELLED,
        TaskEvent.EXPIRED: TaskState.FAILED,
    },
    TaskState.ASSIGNED: {
        TaskEvent.RELEASED: TaskState.ASSIGNED,
        TaskEvent.REASSIGNED: TaskState.ASSIGNED,
        TaskEvent.COMMITTED: TaskState.IN_PROGRESS,
        TaskEvent.EXPIRED: TaskState.FAILED,
    },
    TaskState.IN_PROGRESS: {
        TaskEvent.RELEASED: TaskState.IN_PROGRESS,
        TaskEvent.REASSIGNED: TaskState.IN_PROGRESS,
        TaskEvent.COMMITTED: TaskState.IN_PROGRESS,
        TaskEvent.REVEALED: TaskState.IN_PROGRESS,
        TaskEvent.APPROVED: TaskState.IN_PROGRESS,
        TaskEvent.SETTLED: TaskState.COMPLETED,
        TaskEvent.UNDECIDED: TaskState.FAILED,
        TaskEvent.OBJECTED: TaskState.FAILED,
    },
    TaskState.COMPLETED: {},
    TaskState.FAILED: {},
    TaskState.CANCELLED: {},
}

TERMINAL: Final = frozenset(state for state in TaskState if not TRANSITIONS[state])

ANYBODY_ENDS: Final[Mapping[TaskState, frozenset[TaskEvent]]] = {
    TaskState.PENDING: frozenset({TaskEvent.EXPIRED}),
    TaskState.ASSIGNED: frozenset({TaskEvent.EXPIRED}),
    TaskState.IN_PROGRESS: frozenset({TaskEvent.SETTLED, TaskEvent.UNDECIDED}),
}
"""For each state in which money waits: what anybody may cause once its deadline passed."""


class SeatState(StrEnum):
    """Where one attempt at one seat is."""

    HELD = "held"  # accepted, computing under its lease
    COMMITTED = "committed"  # commitment on chain
    REVEALED = "revealed"  # opened on chain
    RELEASED = "released"  # given back by the provider
    REPLACED = "replaced"  # another node holds the seat now
    PAID = "paid"
    FORFEITED = "forfeited"  # revealed and not paid: the fee went to the pot
    SILENT = "silent"  # committed and never revealed: refunded, reputation lost
    LAPSED = "lapsed"  # never committed: refunded


class SeatEvent(StrEnum):
    """What can happen to one attempt at one seat."""

    RELEASED = "released"
    REASSIGNED = "reassigned"
    COMMITTED = "committed"
    REVEALED = "revealed"
    PAID = "paid"
    FORFEITED = "forfeited"
    SILENT = "silent"
    LAPSED = "lapsed"


SEAT_TRANSITIONS: Final[Mapping[SeatState, Mapping[SeatEvent, SeatState]]] = {
    SeatState.HELD: {
        SeatEvent.RELEASED: SeatState.RELEASED,
        SeatEvent.REASSIGNED: SeatState.REPLACED,
        SeatEvent.COMMITTED: SeatState.COMMITTED,
        SeatEvent.LAPSED: SeatState.LAPSED,
    },
    SeatState.RELEASED: {
        SeatEvent.REASSIGNED: SeatState.REPLACED,
        SeatEvent.COMMITTED: SeatState.COMMITTED,  # it may change its mind until replaced
        SeatEvent.LAPSED: SeatState.LAPSED,
    },
    SeatState.COMMITTED: {
        SeatEvent.REVEALED: SeatState.REVEALED,
        SeatEvent.PAID: SeatState.PAID,
        SeatEvent.FORFEITED: SeatState.FORFEITED,
        SeatEvent.SILENT: SeatState.SILENT,
    },
    SeatState.REVEALED: {
        SeatEvent.PAID: SeatState.PAID,
        SeatEvent.FORFEITED: SeatState.FORFEITED,
    },
    SeatState.REPLACED: {},
    SeatState.PAID: {},
    SeatState.FORFEITED: {},
    SeatState.SILENT: {},
    SeatState.LAPSED: {},
}


def advance(state: TaskState, event: TaskEvent) -> TaskState:
    """Return the state that follows; raise `IllegalTransition` if there is none."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise IllegalTransition(f"a task that is {state} cannot be {event}") from None


def advance_seat(state: SeatState, event: SeatEvent) -> SeatState:
    """Return the seat state that follows; raise `IllegalTransition` if there is none."""
    try:
        return SEAT_TRANSITIONS[state][event]
    except KeyError:
        raise IllegalTransition(f"a seat that is {state} cannot be {event}") from None
