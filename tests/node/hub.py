"""A hub for tests: takes beats by the real codec and counts instances as a coordinator does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import trio

from deai.binding import Binding, check
from deai.errors import BadSignature
from deai.ids import ChainName, NodeId
from deai.messages import (
    BEAT_DIALECT,
    BeatMessage,
    BeatSeen,
    BindingSeen,
    PublishBeat,
    PublishBinding,
    PublishOffer,
    Refused,
    TwinHeard,
)
from deai.net import Link, PeerAddress
from deai.offers import Beat, Offer, Signed, open_beat, open_offer
from deai.signing import Domain
from tests.node.support.names import peer
from tests.node.support.world import World

T = TypeVar("T")

ALIVE = 3.0
"""Seconds after its last beat for which an instance counts."""


class Hub:
    """Remembers beats and offers."""

    def __init__(self, worlds: tuple[World, ...], name: str) -> None:
        self.worlds = worlds
        self.name = name
        self.beats: list[Beat] = []
        self.offers: list[Offer] = []
        self.bindings: list[Binding] = []
        self.told: list[str] = []
        """Kinds of messages in the order in which they came."""
        self.refuses = ""
        """Why no binding is taken."""
        self.heard: set[tuple[str, ChainName]] = set()
        self.seen: dict[tuple[NodeId, bytes], float] = {}
        self.first: dict[tuple[NodeId, bytes], float] = {}
        self.signed: dict[tuple[NodeId, bytes], Signed] = {}
        self.claims = 0
        """Instances that it makes up."""
        self.shows: Signed | None = None
        """The beat that it shows for them."""

    def _open(self, signed: Signed, opener: Callable[[Signed, Domain], T]) -> T:
        """By the chain whose domain was signed, as a coordinator tells them apart."""
        for world in self.worlds[:-1]:
            with suppress(BadSignature):
                return self._noted(opener(signed, world.chain.info.registry), world)
        return self._noted(opener(signed, self.worlds[-1].chain.info.registry), self.worlds[-1])

    def _noted(self, opened: T, world: World) -> T:
        self.heard.add((type(opened).__name__, world.chain.info.name))
        return opened

    @property
    def address(self) -> PeerAddress:
        return PeerAddress(peer(self.name), (f"/memory/{peer(self.name)}",))

    async def listen(self, link: Link[BeatMessage]) -> None:
        while True:
            message = await link.receive()
            self.told.append(type(message).__name__)
            if isinstance(message, PublishBinding):
                if self.refuses:
                    await link.send(Refused(None, "busy", self.refuses))
                else:
                    self.bindings.append(check(message.signed))
                    await link.send(BindingSeen(message.signed.binding.nonce))
            elif isinstance(message, PublishOffer):
                self.offers.append(self._open(message.offer, open_offer))
            elif isinstance(message, PublishBeat):
                beat = self._open(message.beat, open_beat)
                self.beats.append(beat)
                now = trio.current_time()
                me = (beat.node, beat.instance)
                self.seen[me] = now
                self.signed[me] = message.beat
                first = self.first.setdefault(me, now)
                others = [
                    self.signed[one]
                    for one, at in self.seen.items()
                    if one != me and one[0] == beat.node and at > first and now - at <= ALIVE
                ]
                shown = others[-1] if others else self.shows
                if shown is not None:
                    await link.send(TwinHeard(shown))
                await link.send(BeatSeen(beat.sequence, 1 + len(others) + self.claims))


@asynccontextmanager
async def open_hub(*worlds: World, name: str = "hub") -> AsyncIterator[Hub]:
    hub = Hub(worlds, name)
    async with worlds[0].network.open_net(peer(name)) as net, trio.open_nursery() as nursery:
        await nursery.start(net.serve, BEAT_DIALECT, hub.listen)
        yield hub
        nursery.cancel_scope.cancel()
