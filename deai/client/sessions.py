"""One warm link per node, shared by all tasks of this client.

A link carries many tasks. Whatever a node sends is handed to the task it names, synchronously:
a listener only notes what came and never waits, so no task can hold up another one's messages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import trio

from deai.errors import MalformedMessage, PeerUnreachable
from deai.ids import ChainName, PeerId, TaskId
from deai.messages import (
    TASK_DIALECTS,
    AskOffer,
    OfferReply,
    TaskMessage,
)
from deai.net import Link, Net, PeerAddress
from deai.offers import Signed

MAX_SESSIONS: Final = 512
"""Links at once; beyond them the one that was silent for longest makes room."""


class Listener(Protocol):
    """A task's ear. Both methods return at once."""

    def heard(self, peer: PeerId, message: TaskMessage) -> None:
        """A message about this task."""
        ...

    def lost(self, peer: PeerId) -> None:
        """The link to `peer` ended."""
        ...


class Session:
    """A link to one node."""

    def __init__(self, peer_id: PeerId) -> None:
        self.peer_id = peer_id
        self.link: Link[TaskMessage] | None = None
        self.ready = trio.Event()
        self.closed = trio.Event()
        self.error: Exception | None = None
        self.scope = trio.CancelScope()
        self.used_at = trio.current_time()
        """When something was last sent or heard."""
        self.is_warm = False
        """Whether the node took the last seat that it was asked to take on this link."""
        self._offers: list[trio.MemorySendChannel[Signed]] = []

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self.link is not None and not self.closed.is_set()

    async def send(self, message: TaskMessage) -> None:
        """Send one message; raise `PeerUnreachable` when the link is gone or stuck."""
        if self.link is None or self.closed.is_set():
            raise PeerUnreachable(f"the link to {self.peer_id} is gone")
        self.used_at = trio.current_time()
        await self.link.send(message)

    async def ask_offer(self, timeout: float) -> Signed:
        """The node's present signed offer (unchecked); raise `PeerUnreachable`."""
        sender, receiver = trio.open_memory_channel[Signed](1)
        self._offers.append(sender)
        try:
            with trio.fail_after(timeout):
                await self.send(AskOffer())
                return await receiver.receive()
        except (trio.TooSlowError, trio.EndOfChannel) as error:
            raise PeerUnreachable(f"{self.peer_id} made no offer in {timeout:g} s") from error
        finally:
            self._offers.remove(sender)
            sender.close()

    def offered(self, signed: Signed) -> None:
        """Pass an offer to whoever asked."""
        for sender in self._offers:
            try:
                sender.send_nowait(signed)
            except (trio.WouldBlock, trio.BrokenResourceError):
                continue


class Sessions:
    """All links of this client, about the tasks of one chain."""

    def __init__(
        self, net: Net, nursery: trio.Nursery, chain: ChainName, most: int = MAX_SESSIONS
    ) -> None:
        self._net = net
        self._most = most
        self._dialect = TASK_DIALECTS[chain]
        self._nursery = nursery
        self._sessions: dict[PeerId, Session] = {}
        self._listeners: dict[TaskId, list[Listener]] = {}

    def listen(self, task: TaskId, listener: Listener) -> Callable[[], None]:
        """Hand messages about `task` to `listener`; returns how to stop that."""
        self._listeners.setdefault(task, []).append(listener)

        def stop() -> None:
            remaining = self._listeners.get(task, [])
            if listener in remaining:
                remaining.remove(listener)
            if not remaining:
                self._listeners.pop(task, None)

        return stop

    async def open(self, peer: PeerAddress, *, timeout: float) -> Session:
        """The link to a node, dialled if there is none; raise `PeerUnreachable`."""
        session = self._sessions.get(peer.peer_id)
        if session is None or session.closed.is_set():
            if len(self._sessions) >= self._most:
                self._forget_one()
            session = Session(peer.peer_id)
            self._sessions[peer.peer_id] = session
            self._nursery.start_soon(self._carry, session, peer, timeout)
        if not session.ready.is_set():
            with trio.move_on_after(timeout + 1):
                await session.ready.wait()
        if not session.is_open:
            raise PeerUnreachable(
                f"cannot reach {peer.peer_id}: {session.error or 'no answer'}"
            ) from session.error
        return session

    def is_open(self, peer: PeerId) -> bool:
        """Whether there is a live link to `peer`."""
        session = self._sessions.get(peer)
        return session is not None and session.is_open

    async def _carry(self, session: Session, peer: PeerAddress, timeout: float) -> None:
        try:
            with session.scope:
                async with self._net.dial(peer, self._dialect, timeout=timeout) as link:
                    session.link = link
                    session.ready.set()
                    while True:
                        message = await link.receive()
                        session.used_at = trio.current_time()
                        self._route(session, message)
        except (PeerUnreachable, MalformedMessage) as error:
            session.error = error
        finally:
            session.closed.set()
            session.ready.set()
            if self._sessions.get(peer.peer_id) is session:
                del self._sessions[peer.peer_id]
            for listeners in list(self._listeners.values()):
                for listener in list(listeners):
                    listener.lost(peer.peer_id)

    def _route(self, session: Session, message: TaskMessage) -> None:
        if isinstance(message, OfferReply):
            session.offered(message.offer)
            return
        task = getattr(message, "task_id", None)
        for listener in list(self._listeners.get(task, ())) if task is not None else ():
            listener.heard(session.peer_id, message)

    def _forget_one(self) -> None:
        """End the link that was silent for longest; who still needs it dials again."""
        idle = min(self._sessions.values(), key=lambda one: one.used_at)
        del self._sessions[idle.peer_id]
        idle.scope.cancel()
