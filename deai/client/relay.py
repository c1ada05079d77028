"""Keeping the members of a committee told, over whatever links their nodes have meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import trio

from deai.client.blobs import OutgoingBlob
from deai.client.members import Item, Member
from deai.client.sessions import Session
from deai.errors import PeerUnreachable
from deai.messages import Ask, Assigned, Ended, Member as WireMember, Resume

if TYPE_CHECKING:
    from deai.client.following import Following

DIAL_TIMEOUT: Final = 3.0
FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 5.0


class Relay:
    """What is sent to the members of one task."""

    def __init__(self, following: Following) -> None:
        self._of = following
        self._outgoing: dict[int, OutgoingBlob] = {}

    async def keep_told(self, member: Member, scope: trio.CancelScope) -> None:
        """Send a member all it shall know, again after every reconnect, until cancelled."""
        pause = FIRST_PAUSE
        with scope:
            while True:
                try:
                    session = await self._connect(member)
                    pause = FIRST_PAUSE
                    await self._serve(member, session)
                except PeerUnreachable as error:
                    self._of.teller.once("silent", member, str(error))
                member.is_connected = False
                member.was_connected = True
                self._of.poke()
                await trio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    async def _connect(self, member: Member) -> Session:
        if member.peer is None:
            found = await self._of.tools.directory.find([member.node])
            member.peer = found.get(member.node)
        if member.peer is None:
            raise PeerUnreachable(f"nobody knows where {member.node} listens")
        session = await self._of.tools.sessions.open(member.peer, timeout=DIAL_TIMEOUT)
        # A new link may lead to a new life of the node: it is told everything again.
        member.sent.clear()
        member.is_connected = True
        member.asked_at = trio.current_time()
        if member.early is session:
            self._has_sent(member, ("input", 0))
        self._of.poke()
        return session

    async def _serve(self, member: Member, session: Session) -> None:
        while session.is_open:
            item = next((one for one in self._due(member) if one not in member.sent), None)
            if item is None:
                await self._of.changed()
                continue
            await self._send(member, session, item)
            self._has_sent(member, item)

    async def _send(self, member: Member, session: Session, item: Item) -> None:
        task, view = self._of.task, self._of.view
        kind, number = item
        match kind:
            case "assigned":
                await session.send(self._assigned())
            case "resume":
                await session.send(Resume(task))
            case "input":
                assert self._of.input is not None
                for message in self._of.input.messages(task, "input", member.index):
                    await session.send(message)
            case "opening":
                other = self._of.members[number]
                # Without its signed result (read from the chain) every member can read it there.
                if other.opened is not None:
                    await session.send(other.opened)
            case "output":
                for message in self._outgoing_of(number).messages(task, "output", number):
                    await session.send(message)
            case "ask":
                for what in list(member.asks):
                    await session.send(Ask(task, what, member.index))
            case "ended":
                await session.send(Ended(task, view.updated.block))

    def _assigned(self) -> Assigned:
        view = self._of.view
        members = tuple(
            WireMember(one.index, one.peer.peer_id, one.peer.addresses)
            for one in self._of.members
            if one.peer is not None
        )
        block = max(view.attempt(seat).since.block for seat in range(len(view.current)))
        return Assigned(self._of.task, block, view.committee, members)

    def _due(self, member: Member) -> Iterator[Item]:
        """What this member shall know, in the order of sending."""
        view = self._of.view
        if view.is_over:
            if self._of.is_done():
                yield ("ended", 0)
                return
            if member.was_connected:
                yield ("resume", 0)
            if member.asks:
                yield ("ask", 0)
            return
        yield ("assigned", len(view.attempts))
        if member.was_connected:
            yield ("resume", 0)
        held = view.attempt(member.index)
        if self._of.input is not None and held.value is None and member.commitment is None:
            yield ("input", 0)
        for other in self._of.members:
            if other is not member and other.opening(view) is not None:
                yield ("opening", other.index)
        if view.task.policy.is_tolerance:
            for other in self._of.members:
                if other is not member and other.output is not None:
                    yield ("output", other.index)
        if member.asks:
            yield ("ask", 0)

    def _outgoing_of(self, seat: int) -> OutgoingBlob:
        """A member's output, cut for passing it on."""
        if seat not in self._outgoing:
            self._outgoing[seat] = OutgoingBlob(self._of.members[seat].output or b"")
        return self._outgoing[seat]

    def _has_sent(self, member: Member, item: Item) -> None:
        """Note that a member was told."""
        member.sent.add(item)
        if item[0] == "input":
            member.has_input = True
            if self._of.all_have_input() and "input" not in self._of.marks:
                self._of.marks["input"] = trio.current_time()
                self._of.teller.tell("input", None, f"input sent to {len(self._of.members)} nodes")
                self._of.tools.crash("input_sent")
        elif item[0] == "opening" and "relayed" not in self._of.marks:
            seats = {m.index for m in self._of.members}
            if all(("opening", s) in m.sent for m in self._of.members for s in seats - {m.index}):
                self._of.marks["relayed"] = trio.current_time()
                self._of.tools.crash("openings_relayed")
        self._of.poke()
