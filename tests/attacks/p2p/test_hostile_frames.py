"""A peer that is properly connected and breaks the rules of the frames, on both nets.

Each time the peer is cut off, the breach is counted, and an honest peer is served before, after
and meanwhile.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio
from trio.abc import Clock

from deai.errors import PeerUnreachable
from deai.net import Link, Net
from p2p.framing import (
    BULK_WINDOW,
    CREDIT,
    FRAME_COST,
    HEADER,
    MESSAGE_WINDOW,
    Kind,
    encode_frame,
)
from p2p.limits import NetLimits
from p2p.link import ByteStream
from p2p.switchboard import Switchboard
from tests.p2p.pairs import Reluctant, echo, pair, to
from tests.p2p.worlds import AT_EASE, QUICK, TALK, Said, Text, World
from tests.support.polling import until

Attack = Callable[[ByteStream], Awaitable[None]]


async def open_raw(net: Net, target: Net) -> ByteStream:
    """A stream of the protocol on which the attacker writes what it likes."""
    assert isinstance(net, Switchboard)
    return await net._open(to(target), TALK.protocol_id, AT_EASE)


async def assert_served(link: Link[Said]) -> None:
    with trio.fail_after(AT_EASE):
        await link.send(Text(1, b"honest"))
        assert await link.receive() == Text(1, b"honest")


@asynccontextmanager
async def attacked(
    world: World,
    handler: Callable[[Link[Said]], Awaitable[None]] = echo,
    limits: NetLimits = QUICK,
) -> AsyncIterator[tuple[Net, ByteStream]]:
    """A server, an honest client that is served all the time, and the attacker's raw stream."""
    async with (
        pair(world, handler, limits=limits) as (client, server),
        world.open("attacker") as attacker,
        client.dial(to(server), TALK, timeout=AT_EASE) as honest,
    ):
        if handler is echo:
            await assert_served(honest)
        raw = await open_raw(attacker, server)
        yield server, raw
        if handler is echo:
            await assert_served(honest)
            async with client.dial(to(server), TALK, timeout=AT_EASE) as another:
                await assert_served(another)
        await raw.abort()


async def drain(raw: ByteStream) -> None:
    """Read until the victim hangs up."""
    try:
        while await raw.read():
            pass
    except PeerUnreachable:
        pass


async def unknown_kind(raw: ByteStream) -> None:
    await raw.write(b"\x09\0\0\0")


async def oversized(raw: ByteStream) -> None:
    await raw.write(HEADER.pack(TALK.max_frame_bytes + 1))


async def sixteen_megabytes(raw: ByteStream) -> None:
    await raw.write(b"\x01\xff\xff\xff" + bytes(10_000))


async def truncated(raw: ByteStream) -> None:
    await raw.write(HEADER.pack(1000) + bytes(500))
    await raw.end()


async def no_message(raw: ByteStream) -> None:
    await raw.write(encode_frame(Kind.MESSAGE, b"\xc1"))


async def ping_flood(raw: ByteStream) -> None:
    await raw.write(encode_frame(Kind.PING, bytes(8)) * 1000)


async def pong_flood(raw: ByteStream) -> None:
    await raw.write(encode_frame(Kind.PONG, bytes(8)) * 1000)


async def false_credit(raw: ByteStream) -> None:
    await raw.write(encode_frame(Kind.CREDIT, CREDIT.pack(1, 0)))


async def garbage(raw: ByteStream) -> None:
    await raw.write(random.Random(7).randbytes(5000))


@pytest.mark.parametrize(
    "attack",
    [
        unknown_kind,
        oversized,
        sixteen_megabytes,
        truncated,
        no_message,
        ping_flood,
        pong_flood,
        false_credit,
        garbage,
    ],
)
async def test_a_broken_rule_ends_the_link_and_no_other(
    world: World, clock: Clock | None, attack: Attack
) -> None:
    async with attacked(world) as (server, raw):
        await attack(raw)
        with trio.fail_after(AT_EASE):
            await drain(raw)
        await until(lambda: server.stats()["malformed"] == 1)
        await until(lambda: server.stats()["links_inbound_open"] == 1)


@pytest.mark.parametrize(
    ("kind", "window", "size"),
    [
        (Kind.MESSAGE, MESSAGE_WINDOW, 1000),
        (Kind.BULK, BULK_WINDOW, 60_000),
        (Kind.MESSAGE, MESSAGE_WINDOW, 0),
    ],
)
async def test_a_flood_that_ignores_the_window_is_cut_off(
    world: World, clock: Clock | None, kind: Kind, window: int, size: int
) -> None:
    """Whoever handles the link reads nothing, so nothing is handed back."""
    message = TALK.encode(Text(1, bytes(size)))
    frame = encode_frame(kind, message)
    allowed = -(-window // (FRAME_COST + len(message)))
    # Nobody pings, so that every frame is the attacker's.
    quiet = replace(QUICK, ping_interval=300.0, ping_timeout=600.0)
    async with attacked(world, Reluctant(), quiet) as (server, raw):
        await raw.write(frame * allowed)
        await until(lambda: server.stats()["frames_received"] == allowed)
        assert server.stats()["malformed"] == 0
        await raw.write(frame)
        with trio.fail_after(AT_EASE):
            await drain(raw)
        await until(lambda: server.stats()["malformed"] == 1)


async def dribble(raw: ByteStream) -> None:
    with trio.fail_after(10 * QUICK.ping_timeout):
        while True:
            await raw.write(b"x")
            await trio.sleep(QUICK.ping_interval / 2)


async def test_half_a_frame_at_a_snails_pace_is_a_dead_peer(
    world: World, clock: Clock | None
) -> None:
    async with attacked(world) as (server, raw):
        await raw.write(HEADER.pack(1000))
        with pytest.raises(PeerUnreachable):
            await dribble(raw)
        await until(lambda: server.stats()["dead_peers"] == 1)


async def test_a_peer_that_reads_nothing_is_a_dead_peer(world: World, clock: Clock | None) -> None:
    """It asks for echoes until its own window is full, and never takes one."""
    frame = encode_frame(Kind.MESSAGE, TALK.encode(Text(1, bytes(1000))))
    async with attacked(world) as (server, raw):
        with trio.move_on_after(0.2):
            await raw.write(frame * 400)
        await until(lambda: server.stats()["dead_peers"] == 1)
        await until(lambda: server.stats()["links_inbound_open"] == 1)


async def test_silence_after_the_negotiation_is_a_dead_peer(
    world: World, clock: Clock | None
) -> None:
    async with attacked(world) as (server, _raw):
        await until(lambda: server.stats()["links_inbound_open"] == 2)
        await until(lambda: server.stats()["dead_peers"] == 1)


@pytest.mark.parametrize("seed", range(20))
async def test_mutated_frames_never_hurt_anybody_else(
    world: World, clock: Clock | None, seed: int
) -> None:
    """Valid traffic with a few bytes flipped: cut off or not, everybody else is served."""
    chance = random.Random(seed)
    frames = [
        encode_frame(Kind.MESSAGE, TALK.encode(Text(number, chance.randbytes(50))))
        for number in range(20)
    ]
    frames.append(encode_frame(Kind.PING, bytes(8)))
    wire = bytearray(b"".join(frames))
    for _ in range(chance.randint(1, 8)):
        wire[chance.randrange(len(wire))] ^= 1 << chance.randrange(8)
    async with attacked(world) as (server, raw):
        await raw.write(bytes(wire))
        await raw.end()
        with trio.fail_after(AT_EASE):
            await drain(raw)
        await until(lambda: server.stats()["links_inbound_open"] == 1)
