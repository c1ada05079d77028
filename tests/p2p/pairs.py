"""Two nets that talk, and what runs at the end that serves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from deai.net import Dialect, Link, Net, PeerAddress
from p2p.limits import NetLimits
from tests.p2p.worlds import QUICK, TALK, Said, World

CHUNK = 64 * 1024

Handler = Callable[[Link[Said]], Awaitable[None]]


async def echo(link: Link[Said]) -> None:
    while True:
        await link.send(await link.receive())


def to(net: Net) -> PeerAddress:
    return PeerAddress(net.peer_id, net.addresses)


@asynccontextmanager
async def pair(
    world: World,
    handler: Handler = echo,
    dialect: Dialect[Said] = TALK,
    limits: NetLimits = QUICK,
) -> AsyncIterator[tuple[Net, Net]]:
    """A client's net and a server's, which runs `handler`."""
    async with (
        world.open("client", limits) as client,
        world.open("server", limits) as server,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(server.serve, dialect, handler)
        yield client, server
        nursery.cancel_scope.cancel()


@dataclass
class Reluctant:
    """A handler that only receives what it is allowed to, and notes it."""

    allowed: trio.Semaphore = field(default_factory=lambda: trio.Semaphore(0))
    heard: list[Said] = field(default_factory=list)
    link: Link[Said] | None = None

    async def __call__(self, link: Link[Said]) -> None:
        self.link = link
        while True:
            await self.allowed.acquire()
            self.heard.append(await link.receive())

    def allow(self, count: int) -> None:
        for _ in range(count):
            self.allowed.release()
