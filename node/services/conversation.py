"""What peers say to a node, and what it answers at once; everything slower is the driver's.

Clients and members speak the same protocol. Who may do what: anybody may propose and ask for
the offer; a peer that showed a task's whole spec (its salt is known to the client and the nodes
it chose) is treated as its client; members are known by the peer ids that the client named.
Openings, outputs and approvals are judged by the chain, whoever brings them.
"""

from __future__ import annotations

import trio

from deai.errors import MalformedMessage, NodeFault, PeerUnreachable
from deai.hashing import digest_of_leaves
from deai.ids import PeerId, TaskId
from deai.messages import (
    TASK_DIALECTS,
    ApprovedOutputs,
    Ask,
    AskOffer,
    Assigned,
    BlobChunk,
    BlobHeader,
    CancelTask,
    Ended,
    Goodbye,
    OfferReply,
    Opened,
    Propose,
    Refused,
    Resume,
    TaskMessage,
)
from deai.net import Link
from node.engagement import Engagement
from node.planner import Tell
from node.services.archive import Archive
from node.services.checks import (
    is_committed_opening,
    is_committee_final,
    is_signed_opening,
    is_true_approval,
)
from node.services.negotiation import Negotiator
from node.state import Node
from node.store.blobs import SmallReceiver
from node.store.errors import StoreFull
from node.store.records import SMALL_BYTES

MAX_EARLY = 64
"""Openings kept for a task before their commitments are seen."""


class Conversation:
    """Every link to this node, and those that it opened to members."""

    def __init__(self, node: Node, negotiator: Negotiator, archive: Archive) -> None:
        self._node = node
        self._negotiator = negotiator
        self._archive = archive
        # By identity: a wrapped link need not be hashable.
        self._links: dict[int, Link[TaskMessage]] = {}

    @property
    def links(self) -> int:
        """How many peers speak with us now."""
        return len(self._links)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve inbound links about this chain's tasks until cancelled."""
        dialect = TASK_DIALECTS[self._node.info.name]
        await self._node.ports.net.serve(dialect, self.listen, task_status=task_status)

    async def listen(self, link: Link[TaskMessage]) -> None:
        """Answer one link until it ends."""
        self._links[id(link)] = link
        try:
            while True:
                message = await link.receive()
                if isinstance(message, Goodbye):
                    return
                await self._answer(link, message)
        finally:
            self._links.pop(id(link), None)
            for engagement in list(self._node.engagements.values()):
                engagement.detach(link)

    async def goodbye(self, reason: str) -> None:
        """Tell everybody that we leave; bounded in time."""
        with trio.move_on_after(2):
            for link in list(self._links.values()):
                try:
                    await link.send(Goodbye(reason))
                except PeerUnreachable:
                    continue

    async def _answer(self, link: Link[TaskMessage], message: TaskMessage) -> None:
        match message:
            case AskOffer():
                await self._offer(link)
            case Propose():
                await self._propose(link, message)
            case Refused():
                self._node.counters["refused_by_peer"] += 1
            case (
                Assigned()
                | BlobHeader()
                | BlobChunk()
                | Opened()
                | ApprovedOutputs()
                | Resume()
                | Ask()
                | CancelTask()
                | Ended()
            ):
                await self._about_a_task(link, message.task_id, message)
            case _:
                raise MalformedMessage(f"a {type(message).__name__} is nothing to tell a node")

    async def _offer(self, link: Link[TaskMessage]) -> None:
        if self._node.offer is None:
            await link.send(Refused(None, "joining", "no offer yet"))
        else:
            await link.send(OfferReply(self._node.offer))

    async def _propose(self, link: Link[TaskMessage], message: Propose) -> None:
        reply = await self._negotiator.propose(message, link.peer_id)
        engagement = self._node.engagements.get(reply.task_id)
        if engagement is not None and link.peer_id in engagement.client_peers:
            engagement.attach(link)
        await link.send(reply)

    async def _about_a_task(
        self, link: Link[TaskMessage], task: TaskId, message: TaskMessage
    ) -> None:
        engagement = self._node.engagements.get(task)
        try:
            if engagement is None:
                await self._unknown(link, task, message)
            else:
                await self._about(link, engagement, message)
        except (StoreFull, NodeFault) as error:
            # What was said is not kept, so it was not heard; the peer says it again later.
            self._node.daemon.disk_failed(error)
            await link.send(Refused(task, "disk_full", "the node cannot keep this now"))

    async def _unknown(self, link: Link[TaskMessage], task: TaskId, message: TaskMessage) -> None:
        if isinstance(message, Resume | Ask) and await self._archive.deliver(link, task):
            return
        if isinstance(message, BlobChunk | Ended):
            return  # one answer per blob is enough; an end needs none
        await link.send(Refused(task, "unknown_task", "the node holds no seat of this task"))

    async def _about(
        self, link: Link[TaskMessage], engagement: Engagement, message: TaskMessage
    ) -> None:
        task, peer = engagement.task_id, link.peer_id
        is_client = peer in engagement.client_peers
        member = member_seat(engagement, peer)
        if not is_client and member is None:
            await link.send(Refused(task, "unknown_peer", "propose the task on this link first"))
            return
        if is_client:
            engagement.attach(link)
        elif member is not None:
            engagement.member_links[member] = link
        refusal: Refused | None = None
        match message:
            case Assigned():
                refusal = await self._assigned(engagement, message, is_client=is_client)
            case BlobHeader() | BlobChunk():
                refusal = await self._blob(engagement, message)
            case Opened():
                refusal = await self._opened(engagement, message, peer)
            case ApprovedOutputs():
                refusal = await self._approved(engagement, message)
            case Ask(what=what):
                if is_client:
                    engagement.told.discard(Tell(what))
                elif member is not None:
                    engagement.asked.add(Tell(what, member))
            case Resume() if is_client:
                engagement.told.clear()
            case CancelTask() if is_client and engagement.chain is None:
                # Only what was left of the accept is not charged for.
                engagement.valid_until = min(engagement.valid_until, self._node.chain_time - 1)
            case _:
                pass
        engagement.changed()
        if refusal is not None:
            await link.send(refusal)

    async def _assigned(
        self, engagement: Engagement, message: Assigned, *, is_client: bool
    ) -> Refused | None:
        chain = engagement.chain
        if chain is not None and chain.committee and chain.committee != message.committee:
            return Refused(engagement.task_id, "wrong_committee", "the chain names another one")
        if is_client and message.members != engagement.members:
            engagement.members = message.members
            if engagement.has_input:
                # Nothing is said to any member before the result, whose flush is this one's too.
                is_late = engagement.result is not None
                await self._node.ports.journal.assigned(
                    engagement.key, message.members, flush=is_late
                )
                self._node.ports.crash("assigned.journalled")
            # Else it is written with the input: before, nothing is said to any member, and after
            # a crash the client, which still has to bring the input, says it again.
        return None

    async def _blob(
        self, engagement: Engagement, message: BlobHeader | BlobChunk
    ) -> Refused | None:
        task, node = engagement.task_id, self._node
        try:
            if message.kind == "input":
                await self._input(engagement, message)
            elif engagement.task.policy.is_tolerance:
                await self._output(engagement, message)
        except MalformedMessage as error:
            node.counters["bad_blobs"] += 1
            return Refused(task, "wrong_digest", str(error))
        except (StoreFull, NodeFault) as error:
            node.daemon.disk_failed(error)
            if message.kind == "input":
                engagement.gave_up = ("disk_full", str(error))
            return Refused(task, "disk_full", "no room for the blob")
        return None

    async def _input(self, engagement: Engagement, message: BlobHeader | BlobChunk) -> None:
        if engagement.has_input or engagement.result is not None:
            return
        blobs, name = self._node.ports.blobs, engagement.key.blob("input")
        if isinstance(message, BlobHeader):
            spec = engagement.spec
            digest = digest_of_leaves(message.length, message.leaves)
            if message.length != spec.input_bytes or digest != spec.input_digest:
                raise MalformedMessage("the input is not the one that the task names")
            if engagement.input is None:
                engagement.input = (
                    SmallReceiver(message.length, message.leaves)
                    if message.length <= SMALL_BYTES
                    else blobs.receive(name, message.length, message.leaves)
                )
            return
        if engagement.input is None:
            raise MalformedMessage("a chunk came before its header")
        if isinstance(engagement.input, SmallReceiver):
            await self._has_input(engagement, engagement.input.check(message.index, message.data))
        elif await engagement.input.put(message.index, message.data):
            self._node.ports.crash("input.written")
            await self._has_input(engagement, None)

    async def _has_input(self, engagement: Engagement, small: bytes | None) -> None:
        """Journal the end of the input, the input itself if it is small, and the members."""
        journal, members = self._node.ports.journal, engagement.members
        # Nobody is told that the input came, so the worker may begin before the disk has it; the
        # result, which is told, is journalled after it and flushes both.
        engagement.small_input, engagement.has_input = small, True
        engagement.changed()
        await journal.has_input(engagement.key, members, small)
        if engagement.members != members:
            await journal.assigned(engagement.key, engagement.members)
        if engagement.members:
            self._node.ports.crash("assigned.journalled")
        self._node.ports.crash("input.journalled")

    async def _output(self, engagement: Engagement, message: BlobHeader | BlobChunk) -> None:
        seat = message.seat
        if seat == engagement.key.seat or seat in engagement.outputs:
            return
        if isinstance(message, BlobHeader):
            digest = engagement.digests().get(seat)
            if digest is None or digest_of_leaves(message.length, message.leaves) != digest:
                raise MalformedMessage("the output is not the one that the seat opened")
            if seat not in engagement.incoming:
                name = engagement.key.blob("output", seat)
                engagement.incoming[seat] = self._node.ports.blobs.receive(
                    name, message.length, message.leaves
                )
            return
        receiver = engagement.incoming.get(seat)
        if receiver is None:
            raise MalformedMessage("a chunk came before its header")
        if await receiver.put(message.index, message.data):
            engagement.outputs.add(seat)

    async def _opened(
        self, engagement: Engagement, message: Opened, peer: PeerId
    ) -> Refused | None:
        known = engagement.openings.get(message.seat)
        if message.seat == engagement.key.seat or message == known:
            return None
        if not is_committee_final(engagement, self._node.chain_time):
            if len(engagement.early) < MAX_EARLY:
                engagement.early[message.seat, peer] = message
            return None
        return await self.take_opening(engagement, message)

    async def take_opening(self, engagement: Engagement, message: Opened) -> Refused | None:
        """Check an opening against the chain and keep it; a signed lie is kept as evidence."""
        is_signed = is_signed_opening(engagement, self._node.info.escrow, message)
        if is_signed:
            engagement.note_signed(message, trio.current_time())
        if not is_signed or not is_committed_opening(engagement, message):
            self._node.counters["bad_openings"] += 1
            if is_signed:
                await self._node.ports.journal.lied(message)
            return Refused(engagement.task_id, "wrong_opening", "it opens no commitment on chain")
        await self._node.ports.journal.opened(message)
        engagement.openings[message.seat] = message
        self._node.ports.crash("opened.journalled")
        return None

    async def take_early(self, engagement: Engagement) -> None:
        """Judge what came before the commitments were seen."""
        waiting, engagement.early = list(engagement.early.values()), {}
        for message in waiting:
            await self.take_opening(engagement, message)
        engagement.changed()

    async def _approved(self, engagement: Engagement, message: ApprovedOutputs) -> Refused | None:
        if message.seat in engagement.approvals:
            return None
        final = is_committee_final(engagement, self._node.chain_time)
        if not final or not is_true_approval(engagement, self._node.info.escrow, message):
            return Refused(engagement.task_id, "wrong_approval", "it approves other commitments")
        engagement.approvals[message.seat] = await self._node.ports.journal.approved(message)
        return None


def member_seat(engagement: Engagement, peer: PeerId) -> int | None:
    """Which other seat a peer holds, as the client named the members."""
    for member in engagement.members:
        if member.peer_id == peer and member.seat != engagement.key.seat:
            return member.seat
    return None
