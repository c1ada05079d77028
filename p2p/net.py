"""The `Net` port over libp2p. Entry point `net` of the group `deai.adapters`: `open_net`."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, cast

import trio
from libp2p.abc import INetConn, INetStream
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.host.basic_host import BasicHost
from libp2p.peer.id import ID
from libp2p.protocol_muxer.exceptions import ProtocolNotSupportedError
from libp2p.protocol_muxer.multiselect_client import MultiselectClient
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.stream_muxer.yamux.yamux import Yamux
from multiaddr import Multiaddr

from deai.errors import PeerUnreachable
from deai.ids import PeerId
from deai.net import PeerAddress
from p2p.counters import Counters
from p2p.discovery import MAX_ADDRESSES
from p2p.guards import cut
from p2p.host import PARSING, open_host
from p2p.identity import Identity, load_identity
from p2p.libp2p_stream import LibP2PStream
from p2p.limits import NetLimits
from p2p.link import ByteStream
from p2p.switchboard import Switchboard, single_error

DIALS_AT_ONCE: Final = 64
_STAGGER: Final = 0.25  # seconds before the next address is tried beside the last one
_DIALLABLE: Final = re.compile(
    r"/(ip4/[0-9.]{7,15}|ip6/[0-9a-fA-F:.]{2,45}|dns[46]?/[\w.-]{1,253})/tcp/\d{1,5}"
)


@asynccontextmanager
async def open_net(
    identity: Identity | Path,
    *,
    listen: Sequence[str] = (),
    announce: Sequence[str] = (),
    limits: NetLimits | None = None,
) -> AsyncIterator[LibP2PNet]:
    """Join the peers: a `deai.net.Net` over libp2p, until the context ends.

    `identity` is a key file of `p2p.identity` or what was loaded from one; `listen` are
    multiaddrs (`/ip4/0.0.0.0/tcp/4001`; port 0 takes a free one; none: only dial), `announce`
    what others shall be told instead. Raises `ConfigError`.
    """
    if isinstance(identity, Path):
        identity = load_identity(identity)
    limits = limits or NetLimits()
    counters = Counters()
    with single_error():
        async with (
            open_host(identity, listen, limits, counters) as host,
            trio.open_nursery() as nursery,
        ):
            net = LibP2PNet(host, identity.peer_id, tuple(announce), limits, nursery, counters)
            nursery.start_soon(net.close_idle_connections)
            try:
                yield net
            finally:
                nursery.cancel_scope.cancel()


class LibP2PNet(Switchboard):
    """This process's place among the peers. Made by `open_net`."""

    def __init__(
        self,
        host: BasicHost,
        peer_id: PeerId,
        announce: tuple[str, ...],
        limits: NetLimits,
        nursery: trio.Nursery,
        counters: Counters,
    ) -> None:
        super().__init__(peer_id, limits, nursery, counters)
        self._host = host
        self._announced = announce
        self._dialling: dict[PeerId, trio.Lock] = {}
        self._streams: set[LibP2PStream] = set()
        self._dial_limit = trio.CapacityLimiter(DIALS_AT_ONCE)

    @property
    def addresses(self) -> tuple[str, ...]:
        if self._announced:
            return self._announced
        own = (str(address).split("/p2p/")[0] for address in self._host.get_transport_addrs())
        # Nobody can dial "any address"; which of ours others reach is not ours to guess.
        return tuple(
            address.replace("/ip4/0.0.0.0/", "/ip4/127.0.0.1/").replace("/ip6/::/", "/ip6/::1/")
            for address in own
        )

    async def close_idle_connections(self) -> None:
        """Close, until cancelled, every connection that has carried no link for a while."""
        idle_since: dict[INetConn, float] = {}
        while True:
            await trio.sleep(self._limits.idle_timeout / 4)
            now = trio.current_time()
            connections = self._host.get_network().get_connections()
            busy = {stream.connection for stream in self._streams}
            idle = [one for one in connections if one.muxed_conn not in busy]
            idle_since = {one: idle_since.get(one, now) for one in idle}
            for connection, since in idle_since.items():
                if now - since >= self._limits.idle_timeout:
                    await _cut(connection)

    def _announce(self, protocol_id: str) -> None:
        async def accept(stream: INetStream) -> None:
            await self._accept(protocol_id, LibP2PStream(stream, self._streams))

        self._host.set_stream_handler(TProtocol(protocol_id), accept)

    def _withdraw(self, protocol_id: str) -> None:
        self._host.remove_stream_handler(TProtocol(protocol_id))

    async def _open(self, peer: PeerAddress, protocol_id: str, timeout: float) -> ByteStream:
        # libp2p must not be cancelled within a write on a connection that others use. So a child
        # of the net does the work, and a caller who is cancelled only stops waiting for it.
        attempt = _Attempt(peer, TProtocol(protocol_id))
        try:
            self._nursery.start_soon(self._run_attempt, attempt, timeout)
        except RuntimeError as error:
            raise PeerUnreachable("this net is closed") from error
        try:
            await attempt.done.wait()
        except trio.Cancelled:
            attempt.is_abandoned = True
            raise
        if attempt.stream is None:
            raise PeerUnreachable(f"{peer.peer_id}: {attempt.failure[:300]}")
        return attempt.stream

    async def _run_attempt(self, attempt: _Attempt, timeout: float) -> None:
        try:
            with trio.fail_after(timeout):
                async with self._dial_limit:
                    attempt.stream = await self._stream_to(attempt, timeout)
        except trio.TooSlowError:
            attempt.failure = f"no answer in {timeout:g} s"
        except PeerUnreachable as error:
            attempt.failure = str(error)
        finally:
            attempt.done.set()
        if attempt.is_abandoned and attempt.stream is not None:
            await attempt.stream.release()

    async def _stream_to(self, attempt: _Attempt, timeout: float) -> LibP2PStream:
        peer_id = _parse_peer_id(attempt.peer)
        async with self._alone(attempt.peer.peer_id):
            for connection in self._live(peer_id):
                # It may be dead without anybody knowing yet; leave time for a new one.
                with trio.move_on_after(timeout / 3):
                    with suppress(_ConnectionLost):
                        return await self._open_on(connection, attempt.protocol)
            connection = await self._dial_any(peer_id, attempt.peer.addresses)
        return await self._open_on(connection, attempt.protocol)

    async def _open_on(self, connection: INetConn, protocol: TProtocol) -> LibP2PStream:
        """Negotiate a stream; a connection that does not answer is cut."""
        client, muxed = MultiselectClient(), cast("Yamux", connection.muxed_conn)
        stream: INetStream | None = None
        try:
            with trio.fail_after(self._limits.handshake_timeout):
                stream = await connection.new_stream()
                communicator = MultiselectCommunicator(stream)
                await client.handshake(communicator)
                stream.set_protocol(await client.try_select(communicator, protocol))
            return LibP2PStream(stream, self._streams)
        except ProtocolNotSupportedError as error:
            failure: PeerUnreachable = PeerUnreachable(f"the peer does not speak {protocol}")
            failure.__cause__ = error
        except (trio.TooSlowError, trio.Cancelled) as error:
            with trio.CancelScope(shield=True):
                await cut(muxed)
            if isinstance(error, trio.Cancelled):
                raise
            raise _ConnectionLost("the connection does not answer") from error
        except Exception as error:
            if stream is None or muxed.event_shutting_down.is_set():
                raise _ConnectionLost(f"the connection is dead: {error!r}") from error
            failure = PeerUnreachable(f"the peer refused the stream: {error!r}")
            failure.__cause__ = error
        # The connection is as good as before; others may be using it.
        if stream is not None:
            await stream.reset()
        raise failure

    def _live(self, peer_id: ID) -> list[INetConn]:
        connections = self._host.get_network().get_connections(peer_id)
        return [one for one in connections if not one.is_closed and not one.muxed_conn.is_closed]

    @asynccontextmanager
    async def _alone(self, peer: PeerId) -> AsyncIterator[None]:
        """Let one dial per peer run at a time, so that later ones find its connection."""
        lock = self._dialling.setdefault(peer, trio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked() and not lock.statistics().tasks_waiting:
                self._dialling.pop(peer, None)

    async def _dial_any(self, peer_id: ID, addresses: Sequence[str]) -> INetConn:
        """Connect to whichever address answers first; raise `PeerUnreachable` if none does."""
        targets = [one for text in addresses[:MAX_ADDRESSES] if (one := _parse_address(text))]
        connected: list[INetConn] = []
        failures: list[str] = []

        async def attempt(target: Multiaddr, failed: trio.Event) -> None:
            try:
                connected.append(await self._host.get_network().dial_addr(target, peer_id))
                nursery.cancel_scope.cancel()
            except Exception as error:  # noqa: BLE001  whatever a stranger's answer brings about
                failures.append(f"{target}: {error}")
                failed.set()

        async with trio.open_nursery() as nursery:
            for target in targets:
                failed = trio.Event()
                nursery.start_soon(attempt, target, failed)
                with trio.move_on_after(_STAGGER):
                    await failed.wait()
        if not connected:
            raise PeerUnreachable("; ".join(failures) or "no address that can be dialled")
        for spare in connected[1:]:
            await _cut(spare)
        return connected[0]


class _ConnectionLost(PeerUnreachable):
    """This connection is dead; another one may not be."""


class _Attempt:
    """One dial: who, what, and how it ended."""

    def __init__(self, peer: PeerAddress, protocol: TProtocol) -> None:
        self.peer = peer
        self.protocol = protocol
        self.done = trio.Event()
        self.stream: LibP2PStream | None = None
        self.failure = "the net was closed"
        self.is_abandoned = False


async def _cut(connection: INetConn) -> None:
    await cut(cast("Yamux", connection.muxed_conn))


def _parse_peer_id(peer: PeerAddress) -> ID:
    try:
        return ID.from_base58(peer.peer_id)
    except (BaseLibp2pError, ValueError) as error:
        raise PeerUnreachable(f"not a peer id: {peer.peer_id[:80]!r}") from error


def _parse_address(text: str) -> Multiaddr | None:
    """The multiaddr if it is one that we dial: an IP or a name, then TCP."""
    if not _DIALLABLE.fullmatch(text):
        return None
    try:
        return Multiaddr(text)
    except PARSING:
        return None
