"""A negotiated libp2p stream as the `ByteStream` that carries a link."""

from __future__ import annotations

import logging
from typing import Final, cast

import trio
from libp2p.abc import INetStream
from libp2p.exceptions import BaseLibp2pError
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.network.stream.net_stream import NetStream
from libp2p.stream_muxer.yamux.yamux import Yamux

from deai.errors import PeerUnreachable
from deai.ids import PeerId
from p2p.guards import cut

logger = logging.getLogger(__name__)

_READ_BYTES: Final = 64 * 1024
# What libp2p lets out of a stream or a dial. ValueError covers bad text in a peer's answer.
LIBP2P_ERRORS: Final = (
    BaseLibp2pError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio.TooSlowError,
    OSError,
    ValueError,
)


class LibP2PStream:
    """A `ByteStream` over one negotiated libp2p stream; a member of `open_streams` while open."""

    def __init__(self, stream: INetStream, open_streams: set[LibP2PStream]) -> None:
        self.connection: Final = cast("Yamux", stream.muxed_conn)
        self._stream = cast("NetStream", stream)
        self._open_streams = open_streams
        self._has_ended = False  # the peer's half
        open_streams.add(self)

    @property
    def peer_id(self) -> PeerId:
        return PeerId(str(self.connection.peer_id))

    async def read(self) -> bytes:
        try:
            return bytes(await self._stream.read(_READ_BYTES))
        except StreamEOF as error:
            if self.connection.event_shutting_down.is_set():
                raise PeerUnreachable("the connection ended") from error
            self._has_ended = True
            return b""
        except LIBP2P_ERRORS as error:
            raise PeerUnreachable(f"cannot read from the peer: {error!r}") from error

    async def write(self, data: bytes) -> None:
        try:
            await self._stream.write(data)
        except LIBP2P_ERRORS as error:
            raise PeerUnreachable(f"cannot write to the peer: {error!r}") from error

    def write_now(self, data: bytes) -> bool:
        return False  # encryption, muxer and socket each may wait

    async def end(self) -> None:
        try:
            await self._stream.close_write()
        except LIBP2P_ERRORS as error:
            raise PeerUnreachable(f"cannot write to the peer: {error!r}") from error

    async def release(self) -> None:
        self._open_streams.discard(self)
        with trio.move_on_after(2):
            try:
                await (self._stream.close() if self._has_ended else self._stream.reset())
            except LIBP2P_ERRORS as error:
                logger.debug("releasing a stream failed: %r", error)

    async def abort(self) -> None:
        self._open_streams.discard(self)
        await cut(self.connection)
