"""Turning what happens to a task into updates for whoever follows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import trio

from deai.chain.tasks_view import TaskView
from deai.client.members import Member
from deai.client.updates import Feed, Kind, TaskUpdate
from deai.lifecycle import SeatState

MOST_TOLD: Final = 2000
"""Different things that are told once; what comes after that is dropped."""


class Teller:
    """Publishes updates of one task; `started` is the local time its submission began."""

    def __init__(self, feed: Feed, started: float) -> None:
        self.started = started
        self._feed = feed
        self._told: set[tuple[str, int, int]] = set()

    def note(self, message: str) -> None:
        """Something unusual, once."""
        self.once("note", None, message)

    def once(
        self,
        kind: Kind,
        member: Member | None,
        message: str = "",
        *,
        transaction: str = "",
        amount: int = 0,
    ) -> None:
        """Publish unless the same was published before."""
        seat, attempt = (member.index, member.seat.attempt) if member is not None else (-1, 0)
        key = (f"{kind}{message if kind == 'note' else ''}", seat, attempt)
        if key in self._told or len(self._told) >= MOST_TOLD:
            return
        self._told.add(key)
        self.tell(kind, member, message, transaction=transaction, amount=amount)

    def tell(
        self,
        kind: Kind,
        member: Member | None,
        message: str = "",
        *,
        done: float = 0.0,
        transaction: str = "",
        amount: int = 0,
    ) -> None:
        """Publish an update."""
        self._feed.publish(
            TaskUpdate(
                kind=kind,
                at=trio.current_time() - self.started,
                message=message,
                seat=member.index if member is not None else None,
                attempt=member.seat.attempt if member is not None else 0,
                node=member.node if member is not None else None,
                done=done,
                transaction=transaction,
                amount=amount,
            )
        )

    def changes(self, view: TaskView, members: Sequence[Member]) -> None:
        """Whatever the chain says that was not told yet."""
        for member in members:
            held = view.attempt(member.index)
            if held.committed_at is not None:
                self.once("committed", member, transaction=held.committed_at.transaction)
            if held.state is SeatState.RELEASED:
                self.once("released", member, "the node gave its seat back")
            if member.seat.attempt:
                former = [a for a in view.attempts if a.index == member.index][-2]
                self.once("replaced", member, f"took over from {former.seat.node}")
        for proof in view.equivocations:
            self.once("caught", members[proof.seat], "signed two different results")
        if view.is_over:
            self.once(
                "settled",
                None,
                str(view.state),
                transaction=view.updated.transaction,
                amount=view.money.paid,
            )
