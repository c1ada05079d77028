"""What every net does alike: links, handlers, limits and counters over streams of bytes.

A transport adds how a stream to a peer is opened, and hands inbound streams to `_accept`.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar

import trio

from deai.errors import MalformedMessage, PeerUnreachable, ProtocolError
from deai.ids import PeerId
from deai.net import MAX_FRAME_BYTES, Dialect, Link, LinkHandler, PeerAddress
from p2p.counters import Counters
from p2p.limits import NetLimits
from p2p.link import ByteStream, StreamLink

M = TypeVar("M")
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Server(Generic[M]):
    dialect: Dialect[M]
    handler: LinkHandler[M]
    nursery: trio.Nursery


class Switchboard(ABC):
    """The `Net` of `deai.net` but for the transport. `nursery` outlives every outbound link."""

    def __init__(
        self,
        peer_id: PeerId,
        limits: NetLimits,
        nursery: trio.Nursery,
        counters: Counters | None = None,
    ) -> None:
        self._peer_id = peer_id
        self._limits = limits
        self._nursery = nursery
        self._counters = counters or Counters()
        self._servers: dict[str, _Server[Any]] = {}
        self._inbound: Counter[PeerId] = Counter()

    @property
    def peer_id(self) -> PeerId:
        return self._peer_id

    @property
    @abstractmethod
    def addresses(self) -> tuple[str, ...]:
        """Multiaddrs on which we listen."""

    @abstractmethod
    async def _open(self, peer: PeerAddress, protocol_id: str, timeout: float) -> ByteStream:
        """Open a stream within `timeout` seconds or raise `PeerUnreachable`."""

    @asynccontextmanager
    async def dial(
        self, peer: PeerAddress, dialect: Dialect[M], *, timeout: float
    ) -> AsyncIterator[Link[M]]:
        _check(dialect)
        try:
            stream = await self._open(peer, dialect.protocol_id, timeout)
        except PeerUnreachable:
            self._counters.dials_failed += 1
            raise
        link = StreamLink(stream, dialect, self._limits, self._counters)
        self._nursery.start_soon(self._run_outbound, link)
        try:
            yield link
        finally:
            await link.aclose()

    async def serve(
        self,
        dialect: Dialect[M],
        handler: LinkHandler[M],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> NoReturn:
        _check(dialect)
        if dialect.protocol_id in self._servers:
            raise ValueError(f"{dialect.protocol_id} is served already")
        async with trio.open_nursery() as nursery:
            self._servers[dialect.protocol_id] = _Server(dialect, handler, nursery)
            try:
                self._announce(dialect.protocol_id)
                task_status.started()
                await trio.sleep_forever()
            finally:
                del self._servers[dialect.protocol_id]
                self._withdraw(dialect.protocol_id)
        raise AssertionError("unreachable")

    def stats(self) -> dict[str, Any]:
        return self._counters.snapshot()

    @abstractmethod
    def _announce(self, protocol_id: str) -> None:
        """Tell the transport that a protocol is served from now on."""

    @abstractmethod
    def _withdraw(self, protocol_id: str) -> None:
        """Tell the transport that a protocol is served no more."""

    async def _accept(self, protocol_id: str, stream: ByteStream) -> None:
        """Carry one inbound stream to its end."""
        server = self._servers.get(protocol_id)
        if (
            server is None
            or self._inbound.total() >= self._limits.max_links
            or self._inbound[stream.peer_id] >= self._limits.max_links_per_peer
        ):
            self._counters.refused += 1
            await stream.release()
            return
        link = StreamLink(stream, server.dialect, self._limits, self._counters)
        self._inbound[stream.peer_id] += 1
        self._counters.links_inbound += 1
        self._counters.links_inbound_open += 1
        try:
            server.nursery.start_soon(self._handle, server.handler, link)
            await link.run()
        finally:
            self._counters.links_inbound_open -= 1
            self._inbound[stream.peer_id] -= 1
            if not self._inbound[stream.peer_id]:
                del self._inbound[stream.peer_id]

    async def _handle(self, handler: LinkHandler[M], link: StreamLink[M]) -> None:
        try:
            await handler(link)
        except* PeerUnreachable:
            self._counters.handlers_ended_by_peer += 1
        except* ProtocolError as group:
            self._counters.handlers_ended_by_peer += 1
            logger.info(
                "a peer broke the protocol",
                extra={"action": "peer_cut_off", "peer_id": link.peer_id, "cause": repr(group)},
            )
            link.cut_off(MalformedMessage("the peer broke the protocol"))
        finally:
            link.close_soon()

    async def _run_outbound(self, link: StreamLink[Any]) -> None:
        self._counters.links_outbound += 1
        self._counters.links_outbound_open += 1
        try:
            await link.run()
        finally:
            self._counters.links_outbound_open -= 1


@contextmanager
def single_error() -> Iterator[None]:
    """Let an error that is alone in its group out without the group.

    Opening a net takes nurseries inside; they are nothing that a caller should have to know.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if error is group:
            raise
        raise error from error.__cause__


def _check(dialect: Dialect[Any]) -> None:
    if not 0 < dialect.max_frame_bytes <= MAX_FRAME_BYTES:
        raise ValueError(f"{dialect.protocol_id}: frames may have at most {MAX_FRAME_BYTES} bytes")
