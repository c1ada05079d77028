"""A net of ours under attack, and the stock libp2p hosts that attack it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE, Transport as Noise
from libp2p.stream_muxer.yamux.yamux import (
    PROTOCOL_ID as YAMUX,
    Yamux,
)
from libp2p.utils import encode_delim
from multiaddr import Multiaddr

from deai.net import Link, Net
from p2p.limits import NetLimits
from p2p.net import LibP2PNet, open_net
from tests.p2p.pairs import echo, to
from tests.p2p.worlds import AT_EASE, TALK, Said, Text, identity

LIMITS = NetLimits(
    max_pending_per_ip=8,
    handshake_timeout=10.0,
    idle_timeout=30.0,
    ping_interval=1.0,
    ping_timeout=30.0,
)
ANYTHING: tuple[type[BaseException], ...] = (
    BaseLibp2pError,
    OSError,
    ValueError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)
HELLO = encode_delim(b"/multistream/1.0.0")


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
    with trio.fail_after(AT_EASE):
        await link.send(Text(1, b"honest"))
        assert await link.receive() == Text(1, b"honest")


async def assert_serves_a_newcomer(net: Net, name: str) -> None:
    async with (
        open_net(identity(name)) as newcomer,
        newcomer.dial(to(net), TALK, timeout=AT_EASE) as link,
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
        async with honest.dial(to(net), TALK, timeout=AT_EASE) as link:
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
        with trio.fail_after(AT_EASE):
            await host.connect(info_from_p2p_addr(target.full_address))
        yield host, host.get_network().get_connections(target.peer_id)[0].muxed_conn
