"""Strangers with a stock libp2p host or a bare socket, against a net of ours.

Every attack was seen to kill, fill or block a stock py-libp2p 0.8.1 host. After each, an honest
peer that was connected all along and one that comes anew are both served.
"""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub.pb import rpc_pb2
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE, Transport as Noise
from libp2p.stream_muxer.yamux.yamux import (
    FLAG_SYN,
    PROTOCOL_ID as YAMUX,
    TYPE_DATA,
    TYPE_PING,
    TYPE_WINDOW_UPDATE,
    YAMUX_HEADER_FORMAT,
    Yamux,
)
from libp2p.utils import encode_delim, encode_varint_prefixed
from multiaddr import Multiaddr

from deai.errors import PeerUnreachable
from deai.net import Link, Net, PeerAddress
from p2p.limits import NetLimits
from p2p.net import LibP2PNet, open_net
from tests.p2p.test_net_conformance import echo, to, until
from tests.p2p.worlds import TALK, Said, Text, identity

pytestmark = [pytest.mark.network, pytest.mark.slow]

LIMITS = NetLimits(
    max_pending_per_ip=8,
    handshake_timeout=2.0,
    idle_timeout=2.0,
    ping_interval=1.0,
    ping_timeout=4.0,
)
ANYTHING: tuple[type[BaseException], ...] = (
    BaseLibp2pError,
    OSError,
    ValueError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)


@dataclass
class Victim:
    """A net of ours under attack."""

    net: LibP2PNet

    @property
    def port(self) -> int:
        return int(self.net.addresses[0].rsplit("/", 1)[1])

    @property
    def peer_id(self) -> ID:
        return ID.from_base58(self.net.peer_id)

    @property
    def swarm(self) -> Any:
        return self.net._host.get_network()

    @property
    def full_address(self) -> Multiaddr:
        return Multiaddr(f"{self.net.addresses[0]}/p2p/{self.net.peer_id}")


async def assert_served(link: Link[Said]) -> None:
    with trio.fail_after(10):
        await link.send(Text(1, b"honest"))
        assert await link.receive() == Text(1, b"honest")


async def assert_serves_a_newcomer(net: Net, name: str) -> None:
    async with (
        open_net(identity(name)) as newcomer,
        newcomer.dial(to(net), TALK, timeout=5) as link,
    ):
        await assert_served(link)


@asynccontextmanager
async def victim(limits: NetLimits = LIMITS) -> AsyncIterator[Victim]:
    """A serving net; on leaving, it must still serve the old peer and a new one."""
    async with (
        open_net(identity("victim"), listen=["/ip4/127.0.0.1/tcp/0"], limits=limits) as net,
        open_net(identity("honest")) as honest,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(net.serve, TALK, echo)
        async with honest.dial(to(net), TALK, timeout=5) as link:
            await assert_served(link)
            yield Victim(net)
            await assert_served(link)
            await assert_serves_a_newcomer(net, "newcomer")
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def stock_host(**options: Any) -> AsyncIterator[Any]:
    """An unguarded host as the library makes it (Noise and Yamux)."""
    keys = create_new_key_pair()
    noise = Noise(keys, noise_privkey=create_noise_key_pair().private_key)
    settings: dict[str, Any] = {
        "key_pair": keys,
        "sec_opt": {NOISE: noise},
        "muxer_opt": {TProtocol(YAMUX): Yamux},
    }
    host = new_host(**(settings | options))
    async with host.run(listen_addrs=options.get("listen_addrs", [])):
        yield host
        with trio.move_on_after(2):
            await host.close()


@asynccontextmanager
async def attacker_of(target: Victim) -> AsyncIterator[tuple[Any, Any]]:
    """A stock host that is connected, and its muxed connection."""
    async with stock_host() as host:
        with trio.fail_after(10):
            await host.connect(info_from_p2p_addr(target.full_address))
        yield host, host.get_network().get_connections(target.peer_id)[0].muxed_conn


async def say(host: Any, target: Victim, protocol: str, body: bytes) -> None:
    """Negotiate a protocol, say something, and wait until the victim has reacted."""
    with suppress(*ANYTHING), trio.move_on_after(3):
        stream = await host.new_stream(target.peer_id, [TProtocol(protocol)])
        await stream.write(body)
        await stream.read(1)


async def raw_stream(host: Any, target: Victim, body: bytes) -> None:
    """Write `body` where the negotiation of a protocol is expected."""
    with suppress(*ANYTHING), trio.move_on_after(3):
        stream = await host.get_network().new_stream(target.peer_id)
        await stream.write(body)
        while await stream.read(100):
            pass


HELLO = encode_delim(b"/multistream/1.0.0")
GOSSIP_WITH_BAD_KEY = rpc_pb2.RPC(
    publish=[
        rpc_pb2.Message(
            data=b"x",
            topicIDs=["t"],
            from_id=b"\x12\x20" + b"a" * 32,
            seqno=b"1" * 8,
            signature=b"z",
            key=b"\xff\xff",
        )
    ]
).SerializeToString()


async def protocol_name_that_is_no_text(host: Any, target: Victim) -> None:
    await raw_stream(host, target, HELLO + encode_delim(b"\xff\xfe\xfd"))


async def empty_protocol_name(host: Any, target: Victim) -> None:
    await raw_stream(host, target, HELLO + encode_delim(b""))


async def endless_protocol_name(host: Any, target: Victim) -> None:
    await raw_stream(host, target, b"\xff" * 9 + b"\x01" + bytes(200_000))


async def garbage_instead_of_gossip(host: Any, target: Victim) -> None:
    await say(host, target, "/meshsub/1.1.0", encode_varint_prefixed(b"\xff" * 50))


async def gossip_with_a_malformed_key(host: Any, target: Victim) -> None:
    await say(host, target, "/meshsub/1.1.0", encode_varint_prefixed(GOSSIP_WITH_BAD_KEY))


async def garbage_pushed_as_identity(host: Any, target: Victim) -> None:
    await say(host, target, "/ipfs/id/push/1.0.0", encode_varint_prefixed(b"\xff" * 500))


async def endless_ping(host: Any, target: Victim) -> None:
    await say(host, target, "/ipfs/ping/1.0.0", bytes(100_001))


@pytest.mark.parametrize(
    "attack",
    [
        protocol_name_that_is_no_text,
        empty_protocol_name,
        endless_protocol_name,
        garbage_instead_of_gossip,
        gossip_with_a_malformed_key,
        garbage_pushed_as_identity,
        endless_ping,
    ],
)
async def test_one_bad_stream_concerns_nobody_else(
    attack: Callable[[Any, Victim], Awaitable[None]],
) -> None:
    async with victim() as target, attacker_of(target) as (host, _):
        await attack(host, target)


async def read_to_its_end(stream: Any) -> None:
    with suppress(*ANYTHING):
        while await stream.read(100):
            pass


async def test_the_length_of_a_protocol_name_is_refused_before_the_name_arrives() -> None:
    async with victim() as target, attacker_of(target) as (host, _):
        stream = await host.get_network().new_stream(target.peer_id)
        await stream.write(b"\xff\xff\x7f")  # 2 MiB are announced
        with trio.fail_after(LIMITS.handshake_timeout / 2):
            await read_to_its_end(stream)


async def test_fuzzed_streams_of_every_protocol_concern_nobody_else() -> None:
    chance = random.Random(11)
    async with victim() as target:
        protocols = [*target.net._host.multiselect.handlers, "/no/such/1"]
        for protocol in map(str, protocols):
            async with attacker_of(target) as (host, _):
                for _ in range(12):
                    await fuzz_one(host, target, protocol, chance)


async def fuzz_one(host: Any, target: Victim, protocol: str, chance: random.Random) -> None:
    with suppress(*ANYTHING), trio.move_on_after(2):
        stream = await host.new_stream(target.peer_id, [TProtocol(protocol)])
        body = chance.randbytes(chance.randint(1, 2000))
        await stream.write(chance.choice([body, encode_varint_prefixed(body)]))
        await (stream.close() if chance.random() < 0.5 else stream.reset())


async def test_nobody_is_taken_for_somebody_else_over_plaintext() -> None:
    keys = create_new_key_pair()
    plaintext = {TProtocol(PLAINTEXT_PROTOCOL_ID): InsecureTransport(keys)}
    async with victim() as target, stock_host(key_pair=keys, sec_opt=plaintext) as host:
        with pytest.raises(ANYTHING), trio.fail_after(10):
            await host.connect(info_from_p2p_addr(target.full_address))
        assert host.get_id() not in target.swarm.connections


async def test_data_beyond_the_window_ends_the_connection() -> None:
    """10 MiB on a stream whose other end reads nothing yet (it negotiates)."""
    chunk = bytes(60_000)
    most = 0
    async with victim() as target, attacker_of(target) as (host, muxed):
        stream = await host.get_network().new_stream(target.peer_id)
        head = struct.pack(
            YAMUX_HEADER_FORMAT, 0, TYPE_DATA, 0, stream.muxed_stream.stream_id, len(chunk)
        )
        (theirs,) = target.swarm.get_connections(host.get_id())
        with suppress(*ANYTHING):
            for _ in range(10 * (1 << 20) // len(chunk)):
                await muxed.secured_conn.write(head + chunk)
                most = max(most, sum(map(len, theirs.muxed_conn.stream_buffers.values())))
        await until(lambda: theirs.muxed_conn.is_closed)
    assert most < 4 << 20


async def test_an_oversized_frame_ends_the_connection() -> None:
    async with victim() as target, attacker_of(target) as (host, muxed):
        (theirs,) = target.swarm.get_connections(host.get_id())
        head = struct.pack(YAMUX_HEADER_FORMAT, 0, TYPE_DATA, FLAG_SYN, 1001, 0xFFFFFFFF)
        await muxed.secured_conn.write(head)
        await until(lambda: theirs.muxed_conn.is_closed)


async def test_a_flood_of_streams_ends_the_connection() -> None:
    async with victim() as target, attacker_of(target) as (host, muxed):
        (theirs,) = target.swarm.get_connections(host.get_id())
        before = trio.lowlevel.current_statistics().tasks_living
        with suppress(*ANYTHING):
            for number in range(20_000):
                await muxed.secured_conn.write(
                    struct.pack(
                        YAMUX_HEADER_FORMAT, 0, TYPE_WINDOW_UPDATE, FLAG_SYN, 1001 + 2 * number, 0
                    )
                )
                if theirs.muxed_conn.is_closed:
                    break
        await until(lambda: theirs.muxed_conn.is_closed)
        await until(lambda: trio.lowlevel.current_statistics().tasks_living <= before)
        assert target.net.stats()["refused"] >= 1


async def test_a_flood_of_pings_is_survived() -> None:
    async with victim() as target, attacker_of(target) as (_, muxed):
        with suppress(*ANYTHING):
            for number in range(5_000):
                await muxed.secured_conn.write(
                    struct.pack(YAMUX_HEADER_FORMAT, 0, TYPE_PING, FLAG_SYN, 0, number)
                )


async def test_fuzzed_frames_of_the_muxer_concern_nobody_else() -> None:
    chance = random.Random(23)
    async with victim() as target:
        for _ in range(20):
            async with attacker_of(target) as (_, muxed):
                with suppress(*ANYTHING), trio.move_on_after(1):
                    for _ in range(20):
                        head = struct.pack(
                            YAMUX_HEADER_FORMAT,
                            chance.choice([0, 0, 0, 1, 255]),
                            chance.randint(0, 4),
                            chance.choice([0, 1, 2, 4, 8, 15, 0xFFFF]),
                            chance.choice([0, 1, 2, 3, 1001, 2**32 - 1]),
                            chance.choice([0, 1, 100, 70_000, 2**32 - 1]),
                        )
                        await muxed.secured_conn.write(
                            head + chance.randbytes(chance.randint(0, 200))
                        )


async def test_a_record_that_does_not_decrypt_ends_the_connection() -> None:
    async with victim() as target:
        for _ in range(5):
            async with attacker_of(target) as (host, muxed):
                (theirs,) = target.swarm.get_connections(host.get_id())
                wire = muxed.secured_conn.conn.read_writer.read_write_closer
                await wire.write(struct.pack(">H", 64) + bytes(64))
                await until(lambda theirs=theirs: theirs.muxed_conn.is_closed)  # type: ignore[misc]


async def tcp(port: int, *, source: str = "127.0.0.2") -> trio.SocketStream:
    """Connect from an address of loopback that honest peers do not use."""
    return await trio.open_tcp_stream("127.0.0.1", port, local_address=source)


OPENINGS = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    bytes(100),
    b"\xff" * 1000,
    HELLO + encode_delim(b"/noise") + b"\x00\x05hello",
    HELLO + encode_delim(b"\xff\xfe"),
    HELLO + encode_delim(b"/plaintext/2.0.0"),
    encode_delim(b"x" * 100_000),
]


async def test_garbage_on_bare_sockets_is_survived() -> None:
    chance = random.Random(5)
    async with victim() as target, trio.open_nursery() as nursery:

        async def one(number: int) -> None:
            opening = OPENINGS[number % (len(OPENINGS) + 1)] if number % 8 < 7 else None
            with suppress(*ANYTHING), trio.move_on_after(5):
                async with await tcp(target.port) as stream:
                    await stream.send_all(opening or chance.randbytes(500))
                    while await stream.receive_some(1000):
                        pass

        for number in range(160):
            nursery.start_soon(one, number)


MULTISTREAM = HELLO + encode_delim(b"/noise")


@pytest.mark.parametrize(
    "answer",
    [
        *OPENINGS,
        b"",
        MULTISTREAM + b"\x00\x00",
        MULTISTREAM + b"\x00\x20" + bytes(32),
        MULTISTREAM + b"\x00\x80" + b"\xff" * 128,
        MULTISTREAM + b"\xff\xff" + bytes(0xFFFF),
        HELLO + encode_delim(b"na"),
        encode_delim(b"/multistream/2.0.0"),
    ],
)
async def test_whatever_answers_a_dial_is_a_peer_or_unreachable(answer: bytes) -> None:
    async def reply(stream: trio.SocketStream) -> None:
        with suppress(*ANYTHING):
            await stream.receive_some(1000)
            await stream.send_all(answer)
            while await stream.receive_some(1000):
                pass

    async with (
        open_net(identity("us"), limits=LIMITS) as net,
        open_net(identity("honest"), listen=["/ip4/127.0.0.1/tcp/0"]) as honest,
        trio.open_nursery() as nursery,
    ):
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, reply, [listener])
        port = listener.socket.getsockname()[1]
        trap = PeerAddress(identity("honest").peer_id, (f"/ip4/127.0.0.1/tcp/{port}",))
        with pytest.raises(PeerUnreachable):
            async with net.dial(trap, TALK, timeout=1):
                pass
        await nursery.start(honest.serve, TALK, echo)
        both = PeerAddress(trap.peer_id, trap.addresses + honest.addresses)
        async with net.dial(both, TALK, timeout=5) as link:
            await assert_served(link)
        nursery.cancel_scope.cancel()


async def test_silent_sockets_lock_nobody_out() -> None:
    async with victim() as target:
        streams = [await tcp(target.port) for _ in range(150)]
        await assert_serves_a_newcomer(target.net, "meanwhile")
        await until(lambda: target.net.stats()["refused"] >= 150 - LIMITS.max_pending_per_ip)
        # Those that were let in are hung up on once the handshake has taken too long.
        for stream in streams:
            with trio.fail_after(3 * LIMITS.handshake_timeout), suppress(trio.BrokenResourceError):
                while await stream.receive_some(1000):
                    pass
            await stream.aclose()


async def test_a_connection_without_a_link_is_closed_after_a_while() -> None:
    async with victim() as target, attacker_of(target) as (host, muxed):
        assert target.swarm.get_connections(host.get_id())
        await until(lambda: muxed.is_closed, 3 * LIMITS.idle_timeout)
        await until(lambda: not target.swarm.get_connections(host.get_id()))


async def test_nobody_can_make_us_dial() -> None:
    """A stranger names an address of somebody else as its own, and leaves."""
    dialled = []

    async def trap(stream: trio.SocketStream) -> None:
        dialled.append(stream.socket.getpeername())

    async with victim() as target, trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, trap, [listener])
        port = listener.socket.getsockname()[1]
        announce = [Multiaddr(f"/ip4/127.0.0.1/tcp/{port}")]
        for _ in range(3):
            async with stock_host(announce_addrs=announce) as host:
                await host.connect(info_from_p2p_addr(target.full_address))
                peers = target.swarm.peerstore
                await until(lambda peers=peers, host=host: bool(peers.addrs(host.get_id())))  # type: ignore[misc]
            await until(lambda host=host: not target.swarm.get_connections(host.get_id()))  # type: ignore[misc]
        # And should an address of a stranger ever stay behind, nobody dials it either.
        stranger = ID.from_pubkey(create_new_key_pair().public_key)
        target.swarm.peerstore.add_addrs(stranger, announce, 3600)
        with trio.move_on_after(5):
            await target.swarm.auto_connector.maybe_connect()
        nursery.cancel_scope.cancel()
    assert dialled == []


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_reconnects_leave_nothing_behind() -> None:
    """200 peers come, talk and go, each with a new identity."""
    async with victim() as target:

        async def visit(number: int) -> None:
            async with (
                open_net(identity(f"visitor {number}")) as visitor,
                visitor.dial(to(target.net), TALK, timeout=5) as link,
            ):
                await assert_served(link)

        async def settled() -> tuple[int, int, int]:
            await until(lambda: len(target.swarm.get_connections()) == 1)
            await until(lambda: target.net.stats()["links_inbound_open"] == 1)
            swarm = target.swarm
            return (
                descriptors(),
                swarm._inbound_limiter.borrowed_tokens,
                len(swarm.peerstore.peer_data_map),
            )

        async def visits(first: int, count: int) -> None:
            for start in range(first, first + count, 5):
                async with trio.open_nursery() as nursery:
                    for number in range(start, start + 5):
                        nursery.start_soon(visit, number)

        await visits(0, 10)
        before, tasks = await settled(), trio.lowlevel.current_statistics().tasks_living
        await visits(10, 200)
        after = await settled()
        await until(lambda: trio.lowlevel.current_statistics().tasks_living <= tasks)
        assert after[0] <= before[0] + 1
        assert after[1:] == before[1:]


async def test_one_peer_may_reconnect_as_often_as_it_likes() -> None:
    """More often than there are inbound slots, which 0.8.1 never gives back."""
    limits = NetLimits(max_connections=6, idle_timeout=2.0)
    async with victim(limits) as target, stock_host() as host:
        info = info_from_p2p_addr(target.full_address)
        for _ in range(15):
            with trio.fail_after(5):
                await host.connect(info)
                await host.disconnect(info.peer_id)
            await until(lambda: not target.swarm.get_connections(host.get_id()))


async def test_a_net_that_ends_gives_its_port_back() -> None:
    port = free_port()
    for crash in (False, True, False):
        with suppress(ZeroDivisionError):
            async with (
                open_net(identity("victim"), listen=[f"/ip4/127.0.0.1/tcp/{port}"]) as net,
                trio.open_nursery() as nursery,
            ):
                await nursery.start(net.serve, TALK, echo)
                await assert_serves_a_newcomer(net, "newcomer")
                if crash:
                    raise ZeroDivisionError
                nursery.cancel_scope.cancel()
        with pytest.raises(OSError):  # noqa: PT011  whichever way the system refuses
            await tcp(port)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
