"""What keeps py-libp2p 0.8.1 alive among strangers. Two of these replace private methods: pinned.

The stock host dies of one frame from anybody. Each guard names the defect that it answers; every
one has an attack in `tests/attacks/p2p` that kills or fills an unguarded host.

D1 D2 D4  an exception of one stream (a protocol name that is no UTF-8, a garbage message, a
          handler's own) ends the whole host: one wrapper around negotiation and handler
D6        an inbound connection holds its slot until the host ends: it is given back with it
D7        the receive window is logged, not enforced: `BoundedYamux` ends the connection
D8        streams are opened at any rate: token bucket and count per connection
and       the length of a protocol name is not limited: capped;
          the host dials addresses that strangers name: it dials nobody by itself;
          handshakes of strangers are unlimited: capped in total and per address; what the host
          remembers of a peer outlives its connections: forgotten with the last of them

The others are answered by how `p2p.host` builds a host: D5 (plaintext offered by default) by
naming Noise only, D3 by having no gossip, D9 (a listener that survives its host) by closing
listeners itself, D10 (no dead-peer detection) by the pings of `p2p.link`.
"""

from __future__ import annotations

import logging
import types
from collections import Counter
from typing import Final, cast
from weakref import WeakKeyDictionary

import trio
from libp2p.abc import INetConn, INetStream, INetwork, INotifee
from libp2p.exceptions import ParseError
from libp2p.io.abc import Closer, Reader, ReadWriteCloser
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.stream.exceptions import StreamError
from libp2p.network.swarm import Swarm
from libp2p.peer.peerstore import PeerStore
from libp2p.protocol_muxer import multiselect_communicator
from libp2p.stream_muxer import muxer_multistream
from libp2p.stream_muxer.yamux import yamux
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.utils import read_varint_prefixed_bytes_limited
from multiaddr import Multiaddr

from p2p.counters import Counters
from p2p.flow import TokenBucket
from p2p.limits import NetLimits

logger = logging.getLogger(__name__)

MAX_WINDOW: Final = 1 << 20
"""Largest receive window of one stream; stock lets it grow to 16 MiB for every stranger."""
MAX_PROTOCOL_NAME: Final = 1024


class BoundedYamux(Yamux):
    """Yamux that ends the connection of a peer which sends more than it was allowed."""

    async def _read_data_body(self, length: int) -> bytes:
        # Twice the granted windows, because 0.8.1 itself hands back a little more than was read.
        allowed = 2 * sum(stream.target_recv_window for stream in self.streams.values())
        buffered = sum(map(len, self.stream_buffers.values()))
        if buffered + length > allowed + yamux.DEFAULT_WINDOW_SIZE:
            logger.info(
                "a peer exceeded its receive window",
                extra={"action": "peer_cut_off", "peer_id": str(self.peer_id)},
            )
            raise trio.TooSlowError  # the one error that ends the connection and not a stream
        return await super()._read_data_body(length)


def guard(swarm: Swarm, limits: NetLimits, counters: Counters) -> None:
    """Install every guard on a swarm that is not running yet."""
    yamux.MAX_WINDOW_SIZE = MAX_WINDOW
    # Whatever class a host is given for Yamux, this module makes its own.
    setattr(muxer_multistream, "Yamux", BoundedYamux)  # noqa: B010
    setattr(multiselect_communicator, "read_delim", _read_protocol_name)  # noqa: B010
    _guard_streams(swarm, limits, counters)
    _guard_connections(swarm, limits, counters)
    swarm.register_notifee(_Forgetful())
    # With every watermark at 0 the auto-connector still dials whomever the host has heard of.
    setattr(swarm.auto_connector, "maybe_connect", _do_nothing)  # noqa: B010
    setattr(swarm.auto_connector, "record_disconnect", lambda _peer_id: None)  # noqa: B010


def _guard_streams(swarm: Swarm, limits: NetLimits, counters: Counters) -> None:
    negotiate_and_handle = swarm.common_stream_handler
    buckets: WeakKeyDictionary[Yamux, TokenBucket] = WeakKeyDictionary()
    running: Counter[int] = Counter()

    async def handle(stream: INetStream) -> None:
        connection, now = cast("Yamux", stream.muxed_conn), trio.current_time()
        bucket = buckets.get(connection)
        if bucket is None:
            bucket = TokenBucket.full(limits.streams_per_second, limits.stream_burst, now)
            buckets[connection] = bucket
        if bucket.take(1, now) or running[id(connection)] >= limits.max_streams_per_connection:
            counters.refused += 1
            await cut(connection)
            return
        running[id(connection)] += 1
        try:
            await negotiate_and_handle(stream)
        except StreamError:
            pass  # they hung up
        # A stranger's bytes choose what is raised; it concerns one stream and no other.
        except Exception as error:  # noqa: BLE001
            counters.malformed += 1
            logger.info(
                "an inbound stream failed",
                extra={
                    "action": "stream_failed",
                    "peer_id": str(connection.peer_id),
                    "cause": repr(error),
                },
            )
            await cut(connection)
        finally:
            running[id(connection)] -= 1
            if not running[id(connection)]:
                del running[id(connection)]

    swarm.set_stream_handler(handle)


def _guard_connections(swarm: Swarm, limits: NetLimits, counters: Counters) -> None:
    pending: Counter[str] = Counter()

    async def admit(
        self: Swarm, wire: ReadWriteCloser, address: Multiaddr, _failure: object
    ) -> None:
        ip = (wire.get_remote_address() or ("?", 0))[0]
        if pending.total() >= limits.max_pending or pending[ip] >= limits.max_pending_per_ip:
            counters.refused += 1
            await wire.close()
            return
        raw = RawConnection(wire, False)
        muxed: Yamux | None = None
        try:
            pending[ip] += 1
            try:
                muxed = cast("Yamux", await self.upgrade_inbound_raw_conn(raw, address))
            finally:
                pending[ip] -= 1
                if not pending[ip]:
                    del pending[ip]
            await muxed.event_closed.wait()
        # Cryptography, protobuf, libp2p: what a handshake raises is up to the other side.
        except Exception as error:  # noqa: BLE001
            counters.refused += 1
            logger.debug("an inbound connection failed: %r", error)
        finally:
            with trio.CancelScope(shield=True):
                await (cut(muxed) if muxed is not None else _close_quietly(raw))

    setattr(swarm, "_do_handle_inbound_connection", types.MethodType(admit, swarm))  # noqa: B010


async def _read_protocol_name(reader: Reader) -> bytes:
    """Read one line of multistream-select; raise `ParseError`, also for what is no text."""
    line = await read_varint_prefixed_bytes_limited(reader, MAX_PROTOCOL_NAME)
    if not line.endswith(b"\n"):
        raise ParseError("a line of the negotiation does not end in a line feed")
    try:
        line.decode()
    except UnicodeDecodeError as error:
        raise ParseError("a protocol name is no text") from error
    return line[:-1]


async def _do_nothing() -> None: ...


class _Forgetful(INotifee):
    """Drops what the host remembers of a peer with its last connection."""

    async def disconnected(self, network: INetwork, conn: INetConn) -> None:
        peer_id, peers = conn.muxed_conn.peer_id, network.peerstore
        if not network.get_connections(peer_id) and isinstance(peers, PeerStore):
            peers.peer_data_map.pop(peer_id, None)
            peers.peer_record_map.pop(peer_id, None)

    async def connected(self, network: INetwork, conn: INetConn) -> None: ...

    async def opened_stream(self, network: INetwork, stream: INetStream) -> None: ...

    async def closed_stream(self, network: INetwork, stream: INetStream) -> None: ...

    async def listen(self, network: INetwork, multiaddr: Multiaddr) -> None: ...

    async def listen_close(self, network: INetwork, multiaddr: Multiaddr) -> None: ...


async def cut(connection: Yamux) -> None:
    """End a muxed connection at once: first its socket, which frees whoever is stuck on it."""
    await _close_quietly(connection.secured_conn)
    await _close_quietly(connection)


async def _close_quietly(closable: Closer | Yamux) -> None:
    with trio.move_on_after(2):
        try:
            await closable.close()
        # Runs in clean-up: an error here would hide the one that led to it.
        except Exception as error:  # noqa: BLE001
            logger.debug("closing a connection failed: %r", error)
