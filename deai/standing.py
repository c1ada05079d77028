"""The standing of a node: the chain's states, and those that only the index knows.

`ON_CHAIN` is what the registry contract runs; joining, draining and suspended are derived by
the index from heartbeats and are no states of money.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import Final

from deai.errors import IllegalTransition

PROBATION_TASKS: Final = 20
"""Paid and checked tasks that end probation."""


class Standing(IntEnum):
    """A node's standing; the number is the contract's."""

    NONE = 0  # never registered
    PROBATION = 1  # assignable; few tasks checked so far
    ACTIVE = 2
    UNBONDING = 3  # leaving; slashable, not assignable
    JAILED = 4  # slashed, or below the minimum stake; the owner releases it
    EXITED = 5  # stake withdrawn

    @property
    def label(self) -> str:
        """The word used in documents."""
        return self.name.lower()

    @property
    def is_assignable(self) -> bool:
        """Whether it may be given a seat (if it also beat on chain this epoch)."""
        return self in (Standing.PROBATION, Standing.ACTIVE)


class StandingEvent(StrEnum):
    """What can happen to a node's standing."""

    REGISTERED = "registered"
    PROVEN = "proven"  # the last task of probation was paid
    UNSTAKED = "unstaked"  # the owner asked for all of the stake
    SLASHED = "slashed"
    RELEASED = "released"  # the owner released it from jail
    WITHDRAWN = "withdrawn"  # the last of the stake left


ON_CHAIN: Final[Mapping[Standing, Mapping[StandingEvent, Standing]]] = {
    Standing.NONE: {StandingEvent.REGISTERED: Standing.PROBATION},
    Standing.PROBATION: {
        StandingEvent.PROVEN: Standing.ACTIVE,
        StandingEvent.UNSTAKED: Standing.UNBONDING,
        StandingEvent.SLASHED: Standing.JAILED,
    },
    Standing.ACTIVE: {
        StandingEvent.UNSTAKED: Standing.UNBONDING,
        StandingEvent.SLASHED: Standing.JAILED,
    },
    Standing.UNBONDING: {
        StandingEvent.SLASHED: Standing.JAILED,
        StandingEvent.WITHDRAWN: Standing.EXITED,
    },
    Standing.JAILED: {
        StandingEvent.RELEASED: Standing.PROBATION,
        StandingEvent.UNSTAKED: Standing.UNBONDING,
    },
    Standing.EXITED: {},
}


def advance_standing(state: Standing, event: StandingEvent) -> Standing:
    """Return the standing that follows; raise `IllegalTransition` if there is none."""
    try:
        return ON_CHAIN[state][event]
    except KeyError:
        raise IllegalTransition(f"a node that is {state.label} cannot be {event}") from None
