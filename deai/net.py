"""The port to peers: one long-lived, authenticated, typed stream per peer and protocol.

`p2p` implements it over libp2p and in memory; node, client and coordinator only see this.
A peer that breaks a rule of a protocol is the link's problem: `receive` raises
`MalformedMessage` after the link was closed, and nobody else notices.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Generic, NoReturn, Protocol, TypeVar

import trio

from deai.ids import PeerId

M = TypeVar("M")

MAX_FRAME_BYTES = 256 * 1024
"""Largest frame on the wire; a blob chunk (64 KiB) and every message fit with room."""


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """Where a peer may be reached: its id and at most 16 multiaddrs without `/p2p/…`."""

    peer_id: PeerId
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dialect(Generic[M]):
    """One protocol: its id (`/deai/task/2`) and how its messages become bytes.

    `encode` and `decode` raise `MalformedMessage`; `is_bulk` says which messages are paced
    (at most 256 KiB unacknowledged per link) so that blobs never starve small messages.
    """

    protocol_id: str
    encode: Callable[[M], bytes]
    decode: Callable[[bytes], M]
    is_bulk: Callable[[M], bool] = field(default=lambda _message: False)
    max_frame_bytes: int = MAX_FRAME_BYTES


class Link(Protocol[M]):
    """One open stream to one peer. Safe for many senders; one receiver."""

    @property
    def peer_id(self) -> PeerId:
        """The authenticated id of the other side."""
        ...

    @property
    def has_room(self) -> bool:
        """Whether the next message will be queued without waiting."""
        ...

    async def send(self, message: M) -> None:
        """Queue one message, waiting while the bounded queue (or the bulk window) is full.

        The wait is bounded: a peer that reads nothing meanwhile is cut off. Raises
        `PeerUnreachable` once the link is gone; it is then unknown which of the
        messages sent before were read.
        """
        ...

    async def drained(self) -> None:
        """Wait until whatever was queued has been handed to the transport (or the link is gone).

        Who builds its next message only then puts into it all that has come up meanwhile: large
        writes under load, none that waits when there is none.
        """
        ...

    async def receive(self) -> M:
        """Return the next message.

        Raises `PeerUnreachable` when the peer closed, vanished or stopped answering pings,
        and `MalformedMessage` when it broke the protocol.
        """
        ...

    async def aclose(self) -> None:
        """Flush what is queued (bounded in time), then close. Idempotent."""
        ...


LinkHandler = Callable[[Link[M]], Awaitable[None]]


class Net(Protocol):
    """This process's place among the peers."""

    @property
    def peer_id(self) -> PeerId:
        """Our own id."""
        ...

    @property
    def addresses(self) -> tuple[str, ...]:
        """Multiaddrs on which we listen (empty for a pure dialler)."""
        ...

    def dial(
        self, peer: PeerAddress, dialect: Dialect[M], *, timeout: float
    ) -> AbstractAsyncContextManager[Link[M]]:
        """Open a link; all addresses together get `timeout` seconds.

        Raises `PeerUnreachable`. Leaving the context closes the link.
        """
        ...

    async def serve(
        self,
        dialect: Dialect[M],
        handler: LinkHandler[M],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> NoReturn:
        """Run `handler(link)` in a child of its own for every inbound link, until cancelled.

        A handler ends by returning, or by `PeerUnreachable` or `ProtocolError` (both counted,
        never fatal); any other exception is a bug and stops the program.
        """
        ...

    def stats(self) -> dict[str, Any]:
        """Counters: links by direction, frames, bytes, refused, malformed, dead peers."""
        ...
