"""Against a peer in another process: killed, stopped, and another program on its port."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from deai.errors import ConfigError, PeerUnreachable
from deai.ids import parse_peer
from deai.net import PeerAddress
from p2p.net import open_net
from tests.p2p.worlds import AT_EASE, QUICK, TALK, Text, identity

pytestmark = [pytest.mark.network, pytest.mark.slow]


@asynccontextmanager
async def peer_process(name: str) -> AsyncIterator[tuple[trio.Process, PeerAddress]]:
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "tests.p2p.echo_peer", name], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        line = b""
        with trio.fail_after(60):
            while not line.endswith(b"\n"):
                line += await process.stdout.receive_some()
        peer_id, *addresses = line.decode().split()
        yield process, PeerAddress(parse_peer(peer_id), tuple(addresses))
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            assert process.stdout is not None
            await process.stdout.aclose()


async def test_a_stopped_process_is_found_dead_and_served_again_once_it_runs() -> None:
    async with (
        peer_process("other") as (process, there),
        open_net(identity("us"), limits=QUICK) as net,
    ):
        async with net.dial(there, TALK, timeout=AT_EASE) as link:
            await link.send(Text(1))
            assert await link.receive() == Text(1)
            process.send_signal(signal.SIGSTOP)
            with (
                trio.fail_after(AT_EASE),
                pytest.raises(PeerUnreachable, match="silent"),
            ):
                await link.receive()
        with pytest.raises(PeerUnreachable):
            async with net.dial(there, TALK, timeout=0.5):
                pass
        process.send_signal(signal.SIGCONT)
        async with net.dial(there, TALK, timeout=AT_EASE) as link:
            await link.send(Text(2))
            assert await link.receive() == Text(2)


async def test_a_killed_process_is_noticed_at_once() -> None:
    async with peer_process("other") as (process, there), open_net(identity("us")) as net:
        async with net.dial(there, TALK, timeout=AT_EASE) as link:
            await link.send(Text(1))
            assert await link.receive() == Text(1)
            process.kill()
            with trio.fail_after(AT_EASE), pytest.raises(PeerUnreachable) as told:
                await link.receive()
            assert "silent" not in str(told.value), "it was not told, it only heard nothing"
        with pytest.raises(PeerUnreachable):
            async with net.dial(there, TALK, timeout=AT_EASE):
                pass


async def test_the_port_of_another_process_is_refused() -> None:
    async with peer_process("other") as (_, there):
        with pytest.raises(ConfigError, match="cannot listen") as caught:
            async with open_net(identity("us"), listen=list(there.addresses)):
                pass
        assert caught.value.hint


@pytest.mark.parametrize(
    "listen",
    [
        "/",
        "nonsense",
        "/ip4/127.0.0.1/udp/1",
        "/ip4/300.0.0.1/tcp/1",
        "/ip6zone/字字",  # the parser raises a TypeError
        "/dns4/localhost/tcp/1",
        "/ip4/192.0.2.1/tcp/0",
    ],
)
async def test_what_cannot_be_listened_on_is_named(listen: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(listen)):
        async with open_net(identity("us"), listen=[listen]):
            pass


async def test_addresses_are_those_that_others_can_dial() -> None:
    async with open_net(identity("us"), listen=["/ip4/0.0.0.0/tcp/0"]) as net:
        (address,) = net.addresses
        assert address.startswith("/ip4/127.0.0.1/tcp/")
        assert not address.endswith("/0")
    announced = ("/dns4/node.example.org/tcp/4001",)
    async with open_net(identity("us"), listen=["/ip4/0.0.0.0/tcp/0"], announce=announced) as net:
        assert net.addresses == announced
    async with open_net(identity("us")) as net:
        assert net.addresses == ()
