"""Keeping one member of a committee told, over whatever links its node has in a task's life."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from deai.client.members import Item, Member
from deai.client.sessions import Session
from deai.errors import PeerUnreachable
from deai.messages import Ask, Assigned, Ended, Member as WireMember, Resume

if TYPE_CHECKING:
    from deai.client.following import Following

DIAL_TIMEOUT: Final = 3.0
FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 5.0


async def tell(following: Following, member: Member, scope: trio.CancelScope) -> None:
    """Send a member all it shall know, again after every reconnect, until cancelled."""
    pause = FIRST_PAUSE
    with scope:
        while True:
            try:
                session = await _connect(following, member)
                pause = FIRST_PAUSE
                await _serve(following, member, session)
            except PeerUnreachable as error:
                following.tell("silent", member, str(error), once=True)
            member.is_connected = False
            member.was_connected = True
            following.poke()
            await trio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


async def _connect(following: Following, member: Member) -> Session:
    if member.peer is None:
        found = await following.tools.directory.find([member.node])
        member.peer = found.get(member.node)
    if member.peer is None:
        raise PeerUnreachable(f"nobody knows where {member.node} listens")
    session = await following.tools.sessions.open(member.peer, timeout=DIAL_TIMEOUT)
    # A new link may lead to a new life of the node: it is told everything again.
    member.sent.clear()
    member.is_connected = True
    member.asked_at = trio.current_time()
    following.poke()
    return session


async def _serve(following: Following, member: Member, session: Session) -> None:
    while session.is_open:
        item = next((one for one in following.due(member) if one not in member.sent), None)
        if item is None:
            await following.changed()
            continue
        await _send(following, member, session, item)
        following.has_sent(member, item)


async def _send(following: Following, member: Member, session: Session, item: Item) -> None:
    task, view = following.task, following.view
    kind, number = item
    match kind:
        case "assigned":
            await session.send(_assigned(following))
        case "resume":
            await session.send(Resume(task))
        case "input":
            assert following.input is not None
            for message in following.input.messages(task, "input", member.index):
                await session.send(message)
        case "opening":
            other = following.members[number]
            # Without its signed result (read from the chain) every member can read it there too.
            if other.opened is not None:
                await session.send(other.opened)
        case "output":
            for message in following.outgoing(number).messages(task, "output", number):
                await session.send(message)
        case "ask":
            for what in list(member.asks):
                await session.send(Ask(task, what, member.index))
        case "ended":
            await session.send(Ended(task, view.updated.block))


def _assigned(following: Following) -> Assigned:
    view = following.view
    members = tuple(
        WireMember(one.index, one.peer.peer_id, one.peer.addresses)
        for one in following.members
        if one.peer is not None
    )
    block = max(view.attempt(seat).since.block for seat in range(len(view.current)))
    return Assigned(following.task, block, view.committee, members)
