"""Says to the client and to members what the planner decided to say."""

from __future__ import annotations

from typing import assert_never

import trio

from deai.errors import NodeFault, PeerUnreachable, ProtocolError
from deai.ids import PeerId
from deai.messages import (
    TASK_DIALECTS,
    Ask,
    Committed,
    FailedSeat,
    Progress,
    TaskMessage,
)
from deai.net import Link, PeerAddress
from node.engagement import Engagement
from node.planner import Action, Tell, What
from node.services.conversation import Conversation
from node.services.sending import opened, send_output
from node.state import Node
from node.store.records import OwnResult


class Delivery:
    """Carries out `Tell`."""

    def __init__(self, node: Node, conversation: Conversation, nursery: trio.Nursery) -> None:
        self._node = node
        self._conversation = conversation
        self._nursery = nursery

    @staticmethod
    def is_quick(engagement: Engagement, action: Action) -> bool:
        """Whether carrying it out waits for nobody: a word to the client, on a link with room."""
        return (
            isinstance(action, Tell)
            and action.to is None
            and engagement.link is not None
            and engagement.link.has_room
            and (action.what != "output" or engagement.small_output is not None)
        )

    async def tell(self, engagement: Engagement, action: Tell) -> None:
        """Say it; raise `PeerUnreachable` when nobody hears."""
        if action.to is None:
            if engagement.link is None:
                raise PeerUnreachable("the client is not connected")
            link = engagement.link
            await self._say(link, engagement, action.what)
            if action.what == "progress":
                engagement.progress_at = trio.current_time()
            elif engagement.link is link:
                engagement.told.add(action)
        else:
            link = await self._member(engagement, action.to)
            await self._say(link, engagement, action.what)
            engagement.asked.discard(action)
            await self._ask(link, engagement, action)
        self._crash_after(action.what)

    def _crash_after(self, what: What) -> None:
        points = {
            "committed": "commit.told",
            "opening": "opening.told",
            "output": "output.told",
            "approval": "approval.told",
        }
        if what in points:
            self._node.ports.crash(points[what])

    async def _ask(self, link: Link[TaskMessage], engagement: Engagement, action: Tell) -> None:
        """Ask a member for its own of the same kind, if we lack it."""
        seat = action.to
        assert seat is not None
        match action.what:
            case "opening" if seat not in engagement.digests():
                await link.send(Ask(engagement.task_id, "opening", seat))
            case "output" if seat not in engagement.outputs:
                await link.send(Ask(engagement.task_id, "output", seat))
            case "approval" if seat not in engagement.approvals:
                await link.send(Ask(engagement.task_id, "approval", seat))
            case _:
                pass

    async def _say(self, link: Link[TaskMessage], engagement: Engagement, what: What) -> None:
        key, own = engagement.key, engagement.result
        match what:
            case "progress":
                done = min(999, int(engagement.done * 1000))
                await link.send(Progress(key.task_id, key.seat, key.attempt, done))
            case "failed":
                code, reason = engagement.gave_up or ("node_fault", "")
                await link.send(FailedSeat(key.task_id, key.seat, key.attempt, code, reason[:512]))
            case "committed":
                own = _present(own)
                await link.send(
                    Committed(key.task_id, key.seat, key.attempt, own.value, own.commit_signature)
                )
            case "opening":
                await link.send(opened(key, _present(own)))
            case "output":
                await send_output(link, self._node.ports.blobs, key, engagement.small_output)
            case "approval":
                await link.send(engagement.approvals[key.seat])
            case _:
                assert_never(what)

    async def _member(self, engagement: Engagement, seat: int) -> Link[TaskMessage]:
        """The link to another seat's holder, dialled if there is none."""
        known = engagement.member_links.get(seat)
        if known is not None:
            return known
        for member in engagement.members:
            if member.seat == seat:
                peer = PeerAddress(PeerId(member.peer_id), member.addresses)
                link: Link[TaskMessage] = await self._nursery.start(
                    self._dial, engagement, seat, peer
                )
                return link
        raise PeerUnreachable(f"nobody told where the holder of seat {seat} is")

    async def _dial(
        self,
        engagement: Engagement,
        seat: int,
        peer: PeerAddress,
        *,
        task_status: trio.TaskStatus[Link[TaskMessage]],
    ) -> None:
        node, dialect = self._node, TASK_DIALECTS[self._node.info.name]
        timeout = node.config.patience.dial
        async with node.ports.net.dial(peer, dialect, timeout=timeout) as link:
            engagement.member_links[seat] = link
            task_status.started(link)
            try:
                await self._conversation.listen(link)
            except (PeerUnreachable, ProtocolError):
                return


def _present(own: OwnResult | None) -> OwnResult:
    if own is None:
        raise NodeFault("there is no result to speak of")
    return own
