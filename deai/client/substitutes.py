"""Finding nodes that take a seat over: from those that are released, silent or too late."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from deai.actions import ReassignSeat
from deai.client.committee import Seated, ask_around
from deai.client.journal import MemberRecord, Substitute
from deai.client.matching import Ranked, rank
from deai.client.members import Member
from deai.errors import LedgerUnreachable
from deai.ids import AccountId, NodeId
from deai.lifecycle import SeatState
from deai.tasks import MAX_REASSIGNMENTS, Accept

if TYPE_CHECKING:
    from deai.client.following import Following

LOOK_AHEAD: Final = 15
"""Seconds before the end of a silent member's lease at which a substitute is asked."""
LINK_GRACE: Final = 3.0
"""Seconds a link may be down before its node counts as silent."""
SEEK_PAUSE: Final = 3.0


def askable(
    fit: Iterable[Ranked], tried: Collection[NodeId], taken: Collection[AccountId], fee: int
) -> list[Ranked]:
    """Who may be asked now; `tried` declined or were away, `taken` owners hold a seat already.

    Empty means that the tried are worth asking again: holders of other seats never count.
    """
    return [
        one
        for one in fit
        if one.node not in tried and one.candidate.owner not in taken and one.ask <= fee
    ]


class Substitutes:
    """Accepts of nodes that stand ready for a seat of one task."""

    def __init__(self, following: Following) -> None:
        self._of = following
        self._accepts: dict[int, tuple[int, Seated]] = {}
        self._sought_at: dict[int, float] = {}
        self._seeking = trio.Lock()
        self._tried: dict[int, set[NodeId]] = {}

    @property
    def accepts(self) -> Mapping[int, Accept]:
        """By seat: the accept of who would take it over."""
        return {seat: held.accept for seat, (_, held) in self._accepts.items()}

    def forget(self, seat: int) -> None:
        """The seat has a new holder."""
        self._accepts.pop(seat, None)

    def look(self, nursery: trio.Nursery) -> None:
        """Start looking for every seat that needs somebody."""
        if self._of.prepared is None or self._of.entry is None:
            return
        now = trio.current_time()
        for member in self._of.members:
            if self._is_needed(member, now):
                self._sought_at[member.index] = now
                nursery.start_soon(self._seek_one, member)

    def _is_needed(self, member: Member, now: float) -> bool:
        view, chain_now = self._of.view, self._of.clock.now
        held = view.attempt(member.index)
        task = view.task
        if (
            view.is_over
            or held.state not in (SeatState.HELD, SeatState.RELEASED)
            or member.commitment is not None
            or member.seat.attempt >= MAX_REASSIGNMENTS
            or chain_now + task.lease > task.commit_deadline
            or now - self._sought_at.get(member.index, -1e9) < SEEK_PAUSE
        ):
            return False
        at_hand = self._accepts.get(member.index)
        if at_hand is not None and at_hand[1].accept.valid_until > chain_now + 2:
            return False
        if held.state is SeatState.RELEASED or chain_now > member.seat.lease_end:
            return True
        quiet = now - member.heard_at
        is_silent = quiet > task.lease * 2 / 3 or (quiet > LINK_GRACE and not member.is_connected)
        if is_silent:
            self._of.teller.once("silent", member, "no sign of life")
        return is_silent and chain_now >= member.seat.lease_end - LOOK_AHEAD

    async def _seek_one(self, member: Member) -> None:
        # One at a time, so that nobody is asked to take two seats.
        async with self._seeking:
            if self._of.members[member.index] is member:
                await self._seek(member)

    async def _seek(self, member: Member) -> None:
        assert self._of.prepared is not None
        assert self._of.entry is not None
        tools, task = self._of.tools, self._of.view.task
        tried = self._tried.setdefault(member.index, {member.node})
        tried.add(member.node)
        now = self._of.clock.now
        wish = self._of.prepared.wish(max(1, task.commit_deadline - now))
        try:
            parameters = await tools.ledger.parameters()
            candidates = await tools.directory.candidates(wish, now, fresh=True)
        except LedgerUnreachable as error:
            self._of.teller.note(f"no substitute for seat {member.index}: {error}")
            return
        seed = self._of.entry.seed + bytes([member.seat.attempt])
        epoch = now // parameters.epoch_seconds
        ranking = rank(candidates, wish, now=now, epoch=epoch, seed=seed)
        taken = {
            *(other.seat.owner for other in self._of.members if other is not member),
            *(held.ranked.candidate.owner for _, held in self._accepts.values()),
        }
        fit = askable(ranking.fit, tried, taken, task.fee)
        if not fit:
            # Those who declined may have room again.
            self._tried[member.index] = {member.node}
            # Not the present holder either: the contract refuses to renew a lease this way.
            self._of.teller.note(
                f"nobody to ask for seat {member.index} now: a seat can be given to another node "
                "only; it stays empty until one has room, or the commit deadline has passed"
            )
            return
        attempt = member.seat.attempt + 1
        asked = await ask_around(
            tools.sessions,
            tools.ledger.info.escrow,
            task,
            self._of.entry.spec,
            seats=(member.index,),
            attempt=attempt,
            candidates=fit,
            taken=taken,
            now=now,
        )
        for refusal in asked.refusals:
            tried.add(refusal.node)
            self._of.teller.note(
                f"{refusal.node} does not take seat {member.index}: {refusal.reason}"
            )
        if member.index in asked.seats and self._of.members[member.index] is member:
            self._accepts[member.index] = (attempt, asked.seats[member.index])
            self._of.poke()

    async def save(self, step: ReassignSeat) -> None:
        """Journal who takes the seat over, before the transaction that says so."""
        if self._of.proposal is None or self._of.entry is None:
            return
        attempt, held = self._accepts[step.seat]
        peer = held.ranked.candidate.peer
        self._of.proposal = msgspec.structs.replace(
            self._of.proposal,
            members=(
                *self._of.proposal.members,
                MemberRecord(held.ranked.node, peer.peer_id, peer.addresses),
            ),
            substitutes=(
                *self._of.proposal.substitutes,
                Substitute(step.seat, attempt, held.accept),
            ),
        )
        await self._of.tools.journal.propose(self._of.entry, self._of.proposal)
