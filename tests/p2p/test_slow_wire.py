"""Over a thin wire everybody still gets a turn, and nobody is taken for dead."""

from __future__ import annotations

import pytest
import trio

from deai.net import Link, PeerAddress
from p2p.limits import NetLimits
from p2p.net import open_net
from tests.p2p.proxy import Proxy
from tests.p2p.worlds import AT_EASE, TALK, Blob, Said, Text, identity

pytestmark = [pytest.mark.network, pytest.mark.slow]

CHUNK = 64 * 1024
PATIENT = NetLimits(ping_interval=0.5, ping_timeout=30.0, handshake_timeout=30.0)


async def test_small_calls_pass_between_the_pieces_of_an_upload() -> None:
    """2.5 MiB at 500 kB/s: unpaced, a call made at its start would return after 5 s."""
    pieces, waits = 40, []
    consumed = 0

    async def consume(link: Link[Said]) -> None:
        nonlocal consumed
        while True:
            message = await link.receive()
            if isinstance(message, Blob):
                consumed += 1
            else:
                await link.send(message)

    async with (
        open_net(identity("server"), listen=["/ip4/127.0.0.1/tcp/0"], limits=PATIENT) as server,
        open_net(identity("client"), limits=PATIENT) as client,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(server.serve, TALK, consume)
        proxy = Proxy(int(server.addresses[0].rsplit("/", 1)[1]), rate=500_000)
        port = await nursery.start(proxy.run)
        there = PeerAddress(server.peer_id, (f"/ip4/127.0.0.1/tcp/{port}",))
        async with (
            client.dial(there, TALK, timeout=AT_EASE) as uploading,
            client.dial(there, TALK, timeout=AT_EASE) as calling,
            trio.open_nursery() as both,
        ):

            async def upload() -> None:
                for number in range(pieces):
                    await uploading.send(Blob(number, bytes(CHUNK)))
                both.cancel_scope.cancel()

            both.start_soon(upload)
            for number in range(1_000):
                begun = consumed
                await calling.send(Text(number))
                assert await calling.receive() == Text(number)
                waits.append(consumed - begun)
        assert proxy.connections == 1
        assert client.stats()["dead_peers"] == server.stats()["dead_peers"] == 0
        nursery.cancel_scope.cancel()
    assert len(waits) >= 5
    assert max(waits) <= 10
