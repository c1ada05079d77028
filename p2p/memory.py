"""A network in this process: the same links over pipes, with latency, partitions and deaths.

Everything waits on trio's clock and nothing on a socket, so that a whole network runs under a
mock clock. A partitioned or frozen peer is silent, as a real one would be: it is the links' own
pings that find out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from deai.errors import PeerUnreachable
from deai.ids import PeerId
from deai.net import PeerAddress
from p2p.limits import NetLimits
from p2p.link import ByteStream
from p2p.switchboard import Switchboard, single_error

_READ_BYTES = 64 * 1024


class MemoryNetwork:
    """The wire between any number of nets; `latency` is seconds one way."""

    def __init__(self, *, latency: float = 0.0) -> None:
        self.latency = latency
        self._nets: dict[PeerId, MemoryNet] = {}
        self._wires: set[_Wire] = set()
        self._parted: set[frozenset[PeerId]] = set()
        self._frozen: set[PeerId] = set()
        self._changed = trio.Event()  # a way that was closed has opened

    @asynccontextmanager
    async def open_net(
        self, peer_id: PeerId, *, limits: NetLimits | None = None
    ) -> AsyncIterator[MemoryNet]:
        """A net for `peer_id`, reachable at `/memory/<peer id>` until the context ends."""
        if peer_id in self._nets:
            raise ValueError(f"{peer_id} is open already")
        with single_error():
            async with trio.open_nursery() as nursery:
                net = MemoryNet(self, peer_id, limits or NetLimits(), nursery)
                self._nets[peer_id] = net
                try:
                    yield net
                finally:
                    self.kill(peer_id)
                    nursery.cancel_scope.cancel()

    def partition(self, a: PeerId, b: PeerId) -> None:
        """From now on nothing passes between `a` and `b`; what is on its way waits."""
        self._parted.add(frozenset((a, b)))

    def heal(self, a: PeerId, b: PeerId) -> None:
        """Undo `partition`; what waited arrives now."""
        self._parted.discard(frozenset((a, b)))
        self._stir()

    def freeze(self, peer: PeerId) -> None:
        """Stop everything from and to `peer`, as SIGSTOP would."""
        self._frozen.add(peer)

    def thaw(self, peer: PeerId) -> None:
        """Undo `freeze`."""
        self._frozen.discard(peer)
        self._stir()

    def drop(self, peer: PeerId, other: PeerId | None = None) -> None:
        """Reset the connections of `peer` (to `other`); they may connect again."""
        for wire in [wire for wire in self._wires if peer in wire.ends]:
            if other is None or other in wire.ends:
                wire.cut()

    def kill(self, peer: PeerId) -> None:
        """Reset every connection of `peer` and take it off the network, as SIGKILL would."""
        self._nets.pop(peer, None)
        self.drop(peer)

    def is_passable(self, ends: frozenset[PeerId]) -> bool:
        """Whether anything passes between these two now."""
        return not (self._parted or self._frozen) or (
            ends not in self._parted and not ends & self._frozen
        )

    async def connect(self, source: MemoryNet, peer: PeerAddress, protocol_id: str) -> ByteStream:
        """Open a stream from `source`; raise `PeerUnreachable`, or wait while nothing passes."""
        names = {f"/memory/{peer.peer_id}"} & set(peer.addresses)
        ends = frozenset((source.peer_id, peer.peer_id))
        await trio.sleep(2 * self.latency)
        while not self.is_passable(ends):
            await self._changed.wait()
        target = self._nets.get(peer.peer_id)
        if self._nets.get(source.peer_id) is not source or target is None or not names:
            raise PeerUnreachable(f"nobody answers for {peer.peer_id}")
        if not target.serves(protocol_id):
            raise PeerUnreachable(f"{peer.peer_id} does not speak {protocol_id}")
        wire = _Wire(self, ends)
        self._wires.add(wire)
        target.take_in(protocol_id, _MemoryStream(wire, source.peer_id, wire.there, wire.back))
        return _MemoryStream(wire, peer.peer_id, wire.back, wire.there)

    def forget(self, wire: _Wire) -> None:
        """Drop a wire that is no more."""
        self._wires.discard(wire)

    def _stir(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
        for wire in self._wires:
            wire.stir()


class MemoryNet(Switchboard):
    """One peer's `Net` on a `MemoryNetwork`."""

    def __init__(
        self, network: MemoryNetwork, peer_id: PeerId, limits: NetLimits, nursery: trio.Nursery
    ) -> None:
        super().__init__(peer_id, limits, nursery)
        self._network = network
        self._served: set[str] = set()

    @property
    def addresses(self) -> tuple[str, ...]:
        return (f"/memory/{self.peer_id}",)

    def _announce(self, protocol_id: str) -> None:
        self._served.add(protocol_id)

    def _withdraw(self, protocol_id: str) -> None:
        self._served.discard(protocol_id)

    def serves(self, protocol_id: str) -> bool:
        """Whether a stream of this protocol would be taken."""
        return protocol_id in self._served

    def take_in(self, protocol_id: str, stream: ByteStream) -> None:
        """Carry an inbound stream from now on."""
        self._nursery.start_soon(self._accept, protocol_id, stream)

    async def _open(self, peer: PeerAddress, protocol_id: str, timeout: float) -> ByteStream:
        try:
            with trio.fail_after(timeout):
                return await self._network.connect(self, peer, protocol_id)
        except trio.TooSlowError:
            raise PeerUnreachable(f"{peer.peer_id} did not answer in {timeout:g} s") from None


class _Pipe:
    """One direction: what was written, each piece with the moment it arrives. `None` is the end."""

    def __init__(self) -> None:
        self.pieces: deque[tuple[float, bytes | None]] = deque()
        self.wake = trio.Event()

    def put(self, at: float, piece: bytes | None) -> None:
        self.pieces.append((at, piece))
        self.wake.set()


class _Wire:
    """Both directions between two peers, and whether they are still connected."""

    def __init__(self, network: MemoryNetwork, ends: frozenset[PeerId]) -> None:
        self.network = network
        self.ends = ends
        self.there = _Pipe()
        self.back = _Pipe()
        self.is_cut = False
        self._holders = 2

    def let_go(self) -> None:
        self._holders -= 1
        if not self._holders:
            self.network.forget(self)

    def cut(self) -> None:
        self.is_cut = True
        self.stir()

    def stir(self) -> None:
        self.there.wake.set()
        self.back.wake.set()


class _MemoryStream:
    """One end of a wire."""

    def __init__(self, wire: _Wire, peer_id: PeerId, source: _Pipe, sink: _Pipe) -> None:
        self._wire = wire
        self._peer_id = peer_id
        self._source = source
        self._sink = sink
        self._is_aborted = False
        self._is_released = False

    @property
    def peer_id(self) -> PeerId:
        return self._peer_id

    async def read(self) -> bytes:
        pieces, network = self._source.pieces, self._wire.network
        waited = False
        while True:
            self._check()
            open_now = bool(pieces) and network.is_passable(self._wire.ends)
            if open_now and pieces[0][0] <= trio.current_time():
                if not waited:
                    await trio.lowlevel.checkpoint()
                    self._check()
                return self._gather()
            waited = True
            self._source.wake = trio.Event()
            if open_now:
                with trio.move_on_at(pieces[0][0]):
                    await self._source.wake.wait()
            else:
                await self._source.wake.wait()

    async def write(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()  # a pipe takes everything at once
        self._check()
        self._sink.put(trio.current_time() + self._wire.network.latency, data)

    def write_now(self, data: bytes) -> bool:
        if self._is_aborted or self._wire.is_cut:
            return False
        self._sink.put(trio.current_time() + self._wire.network.latency, data)
        return True

    async def end(self) -> None:
        await trio.lowlevel.checkpoint()
        self._sink.put(trio.current_time() + self._wire.network.latency, None)

    async def release(self) -> None:
        self._let_go()
        await trio.lowlevel.checkpoint()

    async def abort(self) -> None:
        self._is_aborted = True
        self._wire.cut()
        self._let_go()
        await trio.lowlevel.checkpoint()

    def _let_go(self) -> None:
        if not self._is_released:
            self._is_released = True
            self._wire.let_go()

    def _check(self) -> None:
        # A reset does not pass where nothing passes; whoever cut the wire knows anyway.
        is_told = self._wire.is_cut and self._wire.network.is_passable(self._wire.ends)
        if self._is_aborted or is_told:
            raise PeerUnreachable("the connection was reset")

    def _gather(self) -> bytes:
        pieces, now, data = self._source.pieces, trio.current_time(), bytearray()
        while pieces and pieces[0][0] <= now and len(data) < _READ_BYTES:
            at, piece = pieces[0]
            if piece is None:
                break  # the end stays where it is: every later read finds it again
            room = _READ_BYTES - len(data)
            data += piece[:room]
            pieces.popleft()
            if len(piece) > room:
                pieces.appendleft((at, piece[room:]))
        return bytes(data)
