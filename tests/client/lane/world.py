"""A network in memory whose nodes serve the lane, and clients that pay them from a home."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deai.actions import OpenChannel, TopUpChannel
from deai.chain.ledger import ChainInfo
from deai.channels import Channel, ChannelRecord, channel_id
from deai.client.client import Client
from deai.client.directory import PeerList
from deai.client.journal import Journal
from deai.client.lane.patience import Patience
from deai.client.lane.places import session_key_file
from deai.client.opening import open_client
from deai.client.tools import no_crash
from deai.ids import ChannelId
from deai.money import UNIT, Amount
from deai.net import PeerAddress
from deai.signing import LocalSigner
from tests.client.lane.catalogue import SHOUT, Shouting
from tests.client.lane.node import Cheat, LaneNode
from tests.client.support.node import Script
from tests.client.support.world import World, inline, open_world, peer_name

PRICE = UNIT // 100
DEPOSIT = 50 * UNIT
QUICK = Patience(
    dial=5, answer=5, give_up=2, silent=4, last=3, first_pause=0.01, longest_pause=0.2, disk=1
)


@dataclass
class LaneWorld:
    """Nodes with a lane each, and homes with a session key for each of them."""

    world: World
    home: Path
    nodes: list[LaneNode] = field(default_factory=list)
    lives: int = 0

    @property
    def info(self) -> ChainInfo:
        return self.world.chain.info

    async def add(self, cheat: Cheat, *, fee: int = PRICE, deposit: int = DEPOSIT) -> LaneNode:
        """Start a node; with a deposit, open a channel with it."""
        base = await self.world.add(Script(workloads=(SHOUT.id,), base_fee=fee))
        node = LaneNode(base, cheat)
        self.nodes.append(node)
        await self.world.nursery.start(node.run)
        if deposit:
            await self.open_channel(node, deposit)
        return node

    def session_key(self, node: LaneNode) -> LocalSigner:
        """Whose signature pays a node."""
        return LocalSigner(self._secret(node))

    def _secret(self, node: LaneNode) -> bytes:
        return hashlib.sha256(b"session " + node.base.node.encode()).digest()

    def channel(self, node: LaneNode) -> tuple[Channel, ChannelId]:
        """The channel with a node."""
        made = Channel(self.world.payer.account, node.base.node, self.session_key(node).account)
        return made, channel_id(made, self.info.channels)

    async def open_channel(self, node: LaneNode, deposit: int, *, epoch: int = 1) -> None:
        """As `deai channel open` does."""
        path = session_key_file(self.home, node.base.node)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._secret(node).hex())
        path.chmod(0o600)
        key = self.session_key(node).account
        action = OpenChannel(node.base.node, key, epoch, Amount(deposit))
        await self.world.chain.ledger(self.world.payer).submit(action)

    async def top_up(self, node: LaneNode, amount: int) -> None:
        """As `deai channel top-up` does."""
        _, id_ = self.channel(node)
        await self.world.chain.ledger(self.world.payer).submit(TopUpChannel(id_, Amount(amount)))

    async def record(self, node: LaneNode) -> ChannelRecord:
        """What the chain has."""
        return await self.world.chain.ledger(self.world.payer).channel(self.channel(node)[1])

    @asynccontextmanager
    async def client(
        self, *, home: Path | None = None, patience: Patience = QUICK,
        crash: Callable[[str], None] = no_crash, **options: Any,
    ) -> AsyncIterator[Client]:  # fmt: skip
        """One life of a client."""
        self.lives += 1
        life, counter = self.lives, 0

        def random(count: int) -> bytes:
            nonlocal counter
            counter += 1
            return hashlib.shake_256(f"{life} {counter}".encode()).digest(count)

        home = home or self.home
        journal = Journal(home / "client.db", inline)
        source = PeerList(
            PeerAddress(one.base.net.peer_id, one.base.net.addresses) for one in self.nodes
        )
        try:
            async with (
                self.world.network.open_net(peer_name(f"client {life}")) as net,
                open_client(
                    ledger=self.world.chain.ledger(self.world.payer),
                    net=net,
                    catalogue=Shouting(),
                    home=home,
                    sources=(source,),
                    journal=journal,
                    offload=inline,
                    random=random,
                    crash=crash,
                    patience=patience,
                    **options,
                ) as client,
            ):
                yield client
        finally:
            journal.close()


@asynccontextmanager
async def lane_world(
    home: Path, *cheats: Cheat, fee: int = PRICE, deposit: int = DEPOSIT
) -> AsyncIterator[LaneWorld]:
    """A network with a node per cheat, each with an open channel."""
    async with open_world() as world:
        made = LaneWorld(world, home)
        for cheat in cheats:
            await made.add(cheat, fee=fee, deposit=deposit)
        yield made
