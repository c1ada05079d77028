"""The two networks that the conformance suite runs on, and the protocol that it speaks."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import msgspec
import trio
from trio.abc import Clock
from trio.testing import MockClock

from deai.errors import MalformedMessage
from deai.net import Dialect, Net, PeerAddress
from p2p.identity import Identity
from p2p.limits import NetLimits
from p2p.memory import MemoryNetwork
from tests.p2p.proxy import Proxy


class Text(msgspec.Struct, tag="text", frozen=True, array_like=True):
    """A small message."""

    number: int
    body: bytes = b""


class Blob(msgspec.Struct, tag="blob", frozen=True, array_like=True):
    """A bulk message."""

    number: int
    body: bytes


Said = Text | Blob

_DECODER: msgspec.msgpack.Decoder[Said] = msgspec.msgpack.Decoder(Said)


def decode(data: bytes) -> Said:
    try:
        return _DECODER.decode(data)
    except msgspec.DecodeError as error:
        raise MalformedMessage(str(error)) from error


TALK: Dialect[Said] = Dialect(
    "/deai-test/talk/1",
    encode=msgspec.msgpack.encode,
    decode=decode,
    is_bulk=lambda message: isinstance(message, Blob),
)
OTHER: Dialect[Said] = Dialect("/deai-test/other/1", msgspec.msgpack.encode, decode)
GIBBERISH: Dialect[bytes] = Dialect(TALK.protocol_id, encode=bytes, decode=bytes)
"""Speaks the protocol of TALK, but bytes that are none of its messages."""

QUICK = NetLimits(
    handshake_timeout=30.0,
    ping_interval=0.2,
    pings_per_second=10,
    ping_timeout=4.0,
    close_timeout=1.0,
)
"""Quick to find the dead, and slow enough for a machine that stalls for seconds."""
AT_EASE = 30.0
"""Seconds for what ought to be done at once, over real sockets on a machine that stalls."""


def identity(name: str) -> Identity:
    return Identity.from_seed(hashlib.sha256(name.encode()).digest())


class Way(Protocol):
    """How to reach one net, and what may happen on the way."""

    @property
    def to(self) -> PeerAddress: ...

    def freeze(self) -> None:
        """From now on nothing passes; nobody is told."""
        ...

    def thaw(self) -> None: ...

    def drop(self) -> None:
        """Reset every connection that goes this way."""
        ...


class World(Protocol):
    """A network with two or more nets."""

    dead_address: str

    def clock(self) -> Clock | None: ...

    def open(self, name: str, limits: NetLimits = QUICK) -> AbstractAsyncContextManager[Net]: ...

    def way_to(self, net: Net) -> AbstractAsyncContextManager[Way]: ...


class MemoryWorld:
    dead_address = "/memory/nobody"

    def __init__(self) -> None:
        self.network = MemoryNetwork(latency=0.005)

    def clock(self) -> Clock:
        return MockClock(autojump_threshold=0)

    @asynccontextmanager
    async def open(self, name: str, limits: NetLimits = QUICK) -> AsyncIterator[Net]:
        async with self.network.open_net(identity(name).peer_id, limits=limits) as net:
            yield net

    @asynccontextmanager
    async def way_to(self, net: Net) -> AsyncIterator[Way]:
        yield _MemoryWay(self.network, PeerAddress(net.peer_id, net.addresses))


class _MemoryWay:
    def __init__(self, network: MemoryNetwork, to: PeerAddress) -> None:
        self.network = network
        self.to = to

    def freeze(self) -> None:
        self.network.freeze(self.to.peer_id)

    def thaw(self) -> None:
        self.network.thaw(self.to.peer_id)

    def drop(self) -> None:
        self.network.drop(self.to.peer_id)


class LibP2PWorld:
    dead_address = "/ip4/127.0.0.1/tcp/9"

    def clock(self) -> None:
        return None

    @asynccontextmanager
    async def open(self, name: str, limits: NetLimits = QUICK) -> AsyncIterator[Net]:
        from p2p.net import open_net  # with libp2p

        async with open_net(identity(name), listen=["/ip4/127.0.0.1/tcp/0"], limits=limits) as net:
            yield net

    @asynccontextmanager
    async def way_to(self, net: Net) -> AsyncIterator[Way]:
        (address,) = net.addresses
        async with trio.open_nursery() as nursery:
            proxy = Proxy(int(address.rsplit("/", 1)[1]))
            port = await nursery.start(proxy.run)
            yield _Detour(proxy, PeerAddress(net.peer_id, (f"/ip4/127.0.0.1/tcp/{port}",)))
            nursery.cancel_scope.cancel()


class _Detour:
    def __init__(self, proxy: Proxy, to: PeerAddress) -> None:
        self.to = to
        self.freeze = proxy.freeze
        self.thaw = proxy.thaw
        self.drop = proxy.drop
