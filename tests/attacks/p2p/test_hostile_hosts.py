"""Strangers with a stock libp2p host, against a net of ours.

Every attack was seen to kill, fill or block a stock py-libp2p 0.8.1 host. After each, an honest
peer that was connected all along and one that comes anew are both served.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.peer.peerstore import PeerStoreError
from libp2p.pubsub.pb import rpc_pb2
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
from libp2p.stream_muxer.yamux.yamux import (
    FLAG_SYN,
    TYPE_DATA,
    TYPE_PING,
    TYPE_WINDOW_UPDATE,
    YAMUX_HEADER_FORMAT,
)
from libp2p.utils import encode_delim, encode_varint_prefixed
from multiaddr import Multiaddr

from p2p.limits import NetLimits
from p2p.net import open_net
from tests.attacks.p2p.victim import (
    ANYTHING,
    HELLO,
    LIMITS,
    Victim,
    assert_served,
    attacker_of,
    stock_host,
    victim,
)
from tests.p2p.pairs import to
from tests.p2p.worlds import AT_EASE, TALK, identity
from tests.support.polling import until

pytestmark = [pytest.mark.network, pytest.mark.slow]


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
    limits = replace(LIMITS, handshake_timeout=4 * AT_EASE)
    async with victim(limits) as target, attacker_of(target) as (host, _):
        stream = await host.get_network().new_stream(target.peer_id)
        await stream.write(b"\xff\xff\x7f")  # 2 MiB are announced
        with trio.fail_after(AT_EASE):
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
        with pytest.raises(ANYTHING), trio.fail_after(AT_EASE):
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


async def test_a_connection_without_a_link_is_closed_after_a_while() -> None:
    async with (
        victim(replace(LIMITS, idle_timeout=5.0)) as target,
        attacker_of(target) as (host, muxed),
    ):
        assert target.swarm.get_connections(host.get_id())
        await until(lambda: muxed.is_closed)
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
                await until(lambda host=host: has_addresses(target, host.get_id()))  # type: ignore[misc]
            await until(lambda host=host: not target.swarm.get_connections(host.get_id()))  # type: ignore[misc]
        # And should an address of a stranger ever stay behind, nobody dials it either.
        stranger = ID.from_pubkey(create_new_key_pair().public_key)
        target.swarm.peerstore.add_addrs(stranger, announce, 3600)
        with trio.move_on_after(5):
            await target.swarm.auto_connector.maybe_connect()
        nursery.cancel_scope.cancel()
    assert dialled == []


def has_addresses(target: Victim, peer: ID) -> bool:
    """Whether the victim knows an address of the peer; it may not have met it yet."""
    try:
        return bool(target.swarm.peerstore.addrs(peer))
    except PeerStoreError:
        return False


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_reconnects_leave_nothing_behind() -> None:
    """200 peers come, talk and go, each with a new identity."""
    async with victim() as target:

        async def visit(number: int) -> None:
            async with (
                open_net(identity(f"visitor {number}")) as visitor,
                visitor.dial(to(target.net), TALK, timeout=AT_EASE) as link,
            ):
                await assert_served(link)

        async def settled() -> None:
            await until(lambda: len(target.swarm.get_connections()) == 1)
            await until(lambda: target.net.stats()["links_inbound_open"] == 1)

        async def visits(first: int, count: int) -> None:
            for start in range(first, first + count, 5):
                async with trio.open_nursery() as nursery:
                    for number in range(start, start + 5):
                        nursery.start_soon(visit, number)

        def held() -> tuple[int, ...]:
            swarm = target.swarm
            return (
                trio.lowlevel.current_statistics().tasks_living,
                descriptors(),
                swarm._inbound_limiter.borrowed_tokens,
                len(swarm.peerstore.peer_data_map),
            )

        await visits(0, 10)
        await settled()
        before = held()
        await visits(10, 200)
        await settled()
        # What a connection held is given back a moment after it is gone.
        await until(lambda: all(now <= then for now, then in zip(held(), before, strict=True)))


async def test_one_peer_may_reconnect_as_often_as_it_likes() -> None:
    """More often than there are inbound slots, which 0.8.1 never gives back."""
    limits = NetLimits(max_connections=6, idle_timeout=5.0, handshake_timeout=30.0)
    async with victim(limits) as target, stock_host() as host:
        info = info_from_p2p_addr(target.full_address)
        for _ in range(15):
            with trio.fail_after(AT_EASE):
                await host.connect(info)
                await host.disconnect(info.peer_id)
            await until(lambda: not target.swarm.get_connections(host.get_id()))
