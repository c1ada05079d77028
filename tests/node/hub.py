"""A hub for tests: takes beats by the real codec and counts instances as a coordinator does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from deai.ids import NodeId
from deai.messages import BEAT_DIALECT, BeatMessage, BeatSeen, PublishBeat, PublishOffer
from deai.net import Link, PeerAddress
from deai.offers import Beat, Offer, open_beat, open_offer
from tests.node.support.names import peer
from tests.node.support.world import World

ALIVE = 3.0
"""Seconds after its last beat for which an instance counts."""


class Hub:
    """Remembers beats and offers."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.beats: list[Beat] = []
        self.offers: list[Offer] = []
        self.seen: dict[tuple[NodeId, bytes], float] = {}
        self.first: dict[tuple[NodeId, bytes], float] = {}

    @property
    def address(self) -> PeerAddress:
        return PeerAddress(peer(self.name), (f"/memory/{peer(self.name)}",))

    async def listen(self, link: Link[BeatMessage]) -> None:
        registry = self.world.chain.info.registry
        while True:
            message = await link.receive()
            if isinstance(message, PublishOffer):
                self.offers.append(open_offer(message.offer, registry))
            elif isinstance(message, PublishBeat):
                beat = open_beat(message.beat, registry)
                self.beats.append(beat)
                now = trio.current_time()
                me = (beat.node, beat.instance)
                self.seen[me] = now
                first = self.first.setdefault(me, now)
                others = sum(
                    one != me and one[0] == beat.node and at > first and now - at <= ALIVE
                    for one, at in self.seen.items()
                )
                await link.send(BeatSeen(beat.sequence, 1 + others))


@asynccontextmanager
async def open_hub(world: World, name: str = "hub") -> AsyncIterator[Hub]:
    hub = Hub(world, name)
    async with world.network.open_net(peer(name)) as net, trio.open_nursery() as nursery:
        await nursery.start(net.serve, BEAT_DIALECT, hub.listen)
        yield hub
        nursery.cancel_scope.cancel()
