"""Takes vouchers in from nodes: `/deai/tower/1`, the tower's side.

What a stranger can make grow is bounded: only the nodes that were named, or else so many that the
chain shows to be staked and in good standing, each with so many channels that hold a deposit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Final

import trio

from deai.chain.ledger import Ledger
from deai.channels import ChannelRecord
from deai.client.tower.intake import Intake
from deai.client.tower.shelf import Shelf
from deai.errors import (
    LedgerUnreachable,
    LimitExceeded,
    MalformedMessage,
    PeerUnreachable,
    ProtocolError,
)
from deai.ids import ChannelId, NodeId
from deai.lane.tower import (
    Greet,
    Keep,
    Kept,
    NotKept,
    Refused,
    TowerMessage,
    Welcome,
    tower_dialect,
    verify_greet,
)
from deai.net import Link, Net
from deai.standing import Standing

GREETING: Final = 10.0
"""Seconds for a node to say who it is, and for the chain to confirm it."""
MAX_UNANSWERED: Final = 256
"""Vouchers of one link on their way to the disk."""
GOOD: Final = frozenset({Standing.PROBATION, Standing.ACTIVE})
"""On probation a node earns already."""


class Desk:
    """Serves links; one for each node is enough, and several do no harm."""

    def __init__(
        self,
        ledger: Ledger,
        net: Net,
        shelf: Shelf,
        intake: Intake,
        *,
        nodes: Collection[NodeId] = (),
        most_nodes: int = 64,
    ) -> None:
        """Serve `nodes`, or, if none is named, at most `most_nodes` of those that come."""
        self._ledger, self._net = ledger, net
        self._shelf, self._intake = shelf, intake
        self._named, self._most_nodes = frozenset(nodes), most_nodes
        self._here: dict[NodeId, int] = {}
        self._domain = ledger.info.channels
        self._readers = trio.CapacityLimiter(4)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        dialect = tower_dialect(self._ledger.info.name)
        await self._net.serve(dialect, self._serve, task_status=task_status)

    async def _serve(self, link: Link[TowerMessage]) -> None:
        try:
            with trio.fail_after(GREETING):
                greet = await link.receive()
                if not isinstance(greet, Greet):
                    raise MalformedMessage("a node says first who it is")
                refused = await self._judge(greet, link)
        except trio.TooSlowError:
            raise ProtocolError("no greeting came, or nobody could check it") from None
        if refused is not None:
            with trio.move_on_after(GREETING), suppress(PeerUnreachable):
                await link.send(refused)
                await link.drained()
            return
        self._here[greet.node] = self._here.get(greet.node, 0) + 1
        try:
            await link.send(Welcome(self._shelf.per_node))
            await _Conversation(self._intake, link, greet.node).run()
        finally:
            self._here[greet.node] -= 1
            if not self._here[greet.node]:
                del self._here[greet.node]

    async def _judge(self, greet: Greet, link: Link[TowerMessage]) -> Refused | None:
        """Why a node is not served. Raises `BadSignature` for one that is somebody else."""
        node = greet.node
        if self._named and node not in self._named:
            return Refused("not_served", "this tower serves the nodes that it was told to")
        known = {one for one, number in self._shelf.by_node.items() if number} | set(self._here)
        if not self._named and node not in known and len(known) >= self._most_nodes:
            return Refused("full", f"this tower serves {self._most_nodes} nodes, and has them")
        try:
            async with self._readers:
                record = await self._ledger.node(node)
        except LedgerUnreachable:
            return Refused("chain", "the chain does not answer: it tells whose node this is")
        if record is None or record.standing not in GOOD or not record.stake:
            return Refused("not_active", "the node is not registered, or not in good standing")
        verify_greet(self._domain, greet, record.operator, link.peer_id, self._net.peer_id)
        return None


class _Conversation:
    """One greeted link: vouchers come in, answers go out in the same order."""

    def __init__(self, intake: Intake, link: Link[TowerMessage], node: NodeId) -> None:
        self._intake, self._link, self._node = intake, link, node
        self._answers: deque[TowerMessage] = deque()
        self._unwritten = 0
        self._changed = trio.Event()

    async def run(self) -> None:
        """Until the node leaves or breaks a rule."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._answer)
            while True:
                message = await self._link.receive()
                if not isinstance(message, Keep):
                    raise MalformedMessage("a node hands over vouchers, and nothing else")
                while self._unwritten + len(self._answers) >= MAX_UNANSWERED:
                    await self._changed.wait()
                await self._take(message)

    async def _take(self, keep: Keep) -> None:
        channel, voucher = keep.channel, keep.voucher
        if channel.node != self._node:
            raise MalformedMessage("a voucher for another node than the one that greeted")
        self._intake.check(channel, voucher)
        answer = await self._intake.take_in(channel, voucher, is_paced=True)
        if isinstance(answer, ChannelRecord):
            try:
                self._intake.hold(channel, voucher, answer, self._written(voucher.channel))
            except LimitExceeded as error:
                answer = NotKept(voucher.channel, "full", str(error))
            else:
                self._unwritten += 1
                return
        while self._unwritten:  # answers keep the order of what they answer
            await self._changed.wait()
        self._say(answer)

    def _written(self, channel: ChannelId) -> Callable[[], None]:
        def done() -> None:
            self._unwritten -= 1
            voucher = self._intake.newest(channel)
            if voucher is None:
                self._say(NotKept(channel, "gone", "the channel is closed"))
            else:
                self._say(Kept(channel, voucher.epoch, voucher.cumulative_amount))

        return done

    def _say(self, answer: TowerMessage) -> None:
        self._answers.append(answer)
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _answer(self) -> None:
        while True:
            while self._answers:
                await self._link.send(self._answers.popleft())
            self._tell()
            await self._changed.wait()
