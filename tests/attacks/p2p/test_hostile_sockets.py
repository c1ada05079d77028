"""Strangers with a bare socket, against a net of ours.

After each attack an honest peer that was connected all along and one that comes anew are both
served.
"""

from __future__ import annotations

import random
import socket
from contextlib import suppress

import pytest
import trio
from libp2p.utils import encode_delim

from deai.errors import PeerUnreachable
from deai.net import PeerAddress
from p2p.net import open_net
from tests.attacks.p2p.victim import (
    ANYTHING,
    HELLO,
    LIMITS,
    assert_served,
    assert_serves_a_newcomer,
    victim,
)
from tests.p2p.pairs import echo
from tests.p2p.worlds import AT_EASE, TALK, identity
from tests.support.polling import until

pytestmark = [pytest.mark.network, pytest.mark.slow]


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
        async with net.dial(both, TALK, timeout=AT_EASE) as link:
            await assert_served(link)
        nursery.cancel_scope.cancel()


async def test_silent_sockets_lock_nobody_out() -> None:
    async with victim() as target:
        streams = [await tcp(target.port) for _ in range(150)]
        await assert_serves_a_newcomer(target.net, "meanwhile")
        await until(lambda: target.net.stats()["refused"] >= 150 - LIMITS.max_pending_per_ip)
        # Those that were let in are hung up on once the handshake has taken too long.
        for stream in streams:
            with trio.fail_after(3 * AT_EASE), suppress(trio.BrokenResourceError):
                while await stream.receive_some(1000):
                    pass
            await stream.aclose()


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
