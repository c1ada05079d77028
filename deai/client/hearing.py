"""What the members of a committee send: checked, kept, and asked for where it is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from deai.client.members import Member
from deai.client.planner import ClientView, result_seats
from deai.ids import PeerId
from deai.messages import (
    ApprovedOutputs,
    BlobChunk,
    BlobHeader,
    Committed,
    FailedSeat,
    Opened,
    Progress,
    TaskMessage,
)

if TYPE_CHECKING:
    from deai.client.following import Following

ASK_AGAIN: Final = 2.0
"""Seconds after which something that should have come is asked for."""


class Hearing:
    """The ear of one task; a `Listener` of the sessions."""

    def __init__(self, following: Following) -> None:
        self._of = following

    def heard(self, peer: PeerId, message: TaskMessage) -> None:
        """Note what a member sent, if it is right."""
        member = self._by_peer(peer)
        if member is None or not self._of.has_view:
            return
        member.heard_at = trio.current_time()
        if not self._note_message(member, message) and member.complaint:
            self._of.teller.note(f"seat {member.index}, {member.node}: {member.complaint}")
            member.complaint = ""

    def _note_message(self, member: Member, message: TaskMessage) -> bool:
        domain, view = self._of.tools.ledger.info.escrow, self._of.view
        if getattr(message, "seat", member.index) != member.index:
            return False
        match message:
            case Progress():
                self._progress(member, message)
                return True
            case Committed():
                is_right = member.commit(domain, view, message, trio.current_time())
            case Opened():
                is_right = member.open(domain, view, message)
            case ApprovedOutputs():
                is_right = member.approve(domain, view, message)
            case BlobHeader(kind="output"):
                is_right = self._wants_output(member) and member.announce(view, message)
            case BlobChunk(kind="output"):
                if not self._wants_output(member):
                    member.drop_output()  # another member's was here first
                    return True
                is_right = member.take(message)
                if not is_right:
                    return not member.complaint
                self._of.teller.once("output", member, f"{len(member.output or b'')} bytes")
            case FailedSeat():
                self._of.teller.once("note", member, f"gives up: {message.reason or message.code}")
                is_right = True
            case _:
                return True
        if is_right:
            self._of.poke()
        return is_right

    def _wants_output(self, member: Member) -> bool:
        if self._of.view.task.policy.is_tolerance:
            return True
        # One output is enough where all agree on its digest.
        return not any(
            other.output is not None and other is not member for other in self._of.members
        )

    def _progress(self, member: Member, message: Progress) -> None:
        done = message.done / 1000
        if message.attempt == member.seat.attempt and int(done * 100) > int(member.done * 100):
            member.done = done
            self._of.teller.tell("progress", member, done=done)

    def lost(self, peer: PeerId) -> None:
        """A link ended."""
        member = self._by_peer(peer)
        if member is not None:
            member.is_connected = False
            member.drop_output()
            self._of.poke()

    def _by_peer(self, peer: PeerId) -> Member | None:
        for member in self._of.members:
            if member.peer is not None and member.peer.peer_id == peer:
                return member
        return None

    def want_missing(self, known: ClientView) -> None:
        """Ask for what should have come by now."""
        view, now = self._of.view, trio.current_time()
        if not view.is_over and window_is_shut(known):
            return
        since = self._of.marks.setdefault("window", now)
        wanted = result_seats(known)
        for member in self._of.members:
            if now - max(since, member.asked_at) < ASK_AGAIN or not member.is_connected:
                continue
            member.asked_at = now
            member.asks.clear()
            member.sent.discard(("ask", 0))
            is_due = view.is_over or member.index in wanted or view.task.policy.is_tolerance
            is_missing = self._of.output() is None and member.output is None
            if is_due and is_missing and member.receiver is None:
                member.asks.append("output")
            if not view.is_over and member.index not in known.openings:
                member.asks.append("opening")
            if view.task.policy.is_tolerance and member.index not in known.approvals:
                member.asks.append("approval")
            if member.asks:
                self._of.poke()


def window_is_shut(known: ClientView) -> bool:
    """Whether no member may open or deliver anything yet."""
    chain = known.chain
    return not chain.commitments or (
        len(chain.commitments) < chain.task.seats and known.now <= chain.task.commit_deadline
    )
