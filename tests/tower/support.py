"""A chain in memory with a registered node, its clients' channels, and towers beside it."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import msgspec
import trio

from deai.chain.ledger import Ledger
from deai.chain.memory import DEFAULT_PARAMETERS, GENESIS_TIME, MemoryChain
from deai.channels import Voucher
from deai.client.tower.opening import Limits, Tower, open_tower
from deai.client.tower.watch import Happening
from deai.errors import InsufficientFunds
from deai.hashing import keccak
from deai.ids import SEI, PeerId
from deai.net import Net, PeerAddress
from deai.signing import LocalSigner, Signer
from node.lane.towers import Towers
from p2p.identity import Identity
from p2p.memory import MemoryNetwork
from rewards.rules import RULES
from tests.support.channel_conformance import Paying, paying
from tests.support.ledger_conformance import Provider, World, provider

PERIOD = 600
PATIENCE = 60
DEPOSIT = 1000
PARAMETERS = msgspec.structs.replace(
    DEFAULT_PARAMETERS, min_lease=5, min_window=20, close_period=PERIOD
)


@dataclass
class Place:
    """A chain on trio's clock, peers in memory, and one provider."""

    folder: Path
    world: World
    chain: MemoryChain
    network: MemoryNetwork
    worker: Provider

    async def channel(self, deposit: int = DEPOSIT) -> Paying:
        """A client's channel for the provider's node."""
        return await paying(self.world, owner=self.worker.owner, deposit=deposit)

    async def owner_has(self) -> int:
        return (await self.world.reader.balances(self.worker.owner.account)).tokens

    async def until(self, met: Callable[[], Any], seconds: float = 60.0) -> None:
        """Wait on the test's clock until something is so."""
        with trio.fail_after(seconds):
            while not met():
                await trio.sleep(0.25)

    async def pass_(self, seconds: int) -> None:
        """Let chain time pass, and the towers see it."""
        self.chain.advance(seconds)
        await trio.sleep(3)

    async def ask(self, of: Paying, epoch: int = 1) -> None:
        """The client asks for the rest, and the node's own time to answer passes."""
        await of.request_close(epoch)
        self.chain.advance(PATIENCE)


@asynccontextmanager
async def open_place(folder: Path) -> AsyncIterator[Place]:
    """Nothing is left running when it closes."""
    numbers, start = itertools.count(1), trio.current_time()

    def signer() -> LocalSigner:
        return LocalSigner(keccak(b"tower", next(numbers).to_bytes(4, "big")))

    holder = signer()
    chain = MemoryChain(
        RULES,
        holder=holder.account,
        parameters=PARAMETERS,
        clock=lambda: GENESIS_TIME + trio.current_time() - start,
    )

    async def opened(who: Signer) -> Ledger:
        return cast("Ledger", chain.ledger(who))

    async def advance(seconds: int) -> None:
        chain.advance(seconds)

    world = World(
        "memory", cast("Ledger", chain.ledger()), holder, opened, advance, signer,
        lambda _owner: signer(),
    )  # fmt: skip
    yield Place(folder, world, chain, MemoryNetwork(), await provider(world))


@dataclass
class Standing:
    """A tower that runs, and what it told."""

    tower: Tower
    address: PeerAddress
    told: list[Happening] = field(default_factory=list)

    def events(self, *, about: Paying | None = None) -> list[str]:
        """What it told in order, without problems and their end."""
        return [
            one.event
            for one in self.told
            if one.event not in ("problem", "solved")
            and (about is None or one.channel_id == about.id)
        ]

    def holds(self, voucher: Voucher) -> bool:
        held = self.tower.shelf.held.get(voucher.channel)
        return held is not None and held.voucher == voucher


@asynccontextmanager
async def standing(
    place: Place,
    name: str = "tower",
    *,
    ledger: Ledger | None = None,
    identity: PeerId | None = None,
    **settings: Any,
) -> AsyncIterator[Standing]:
    """A tower with a file of its own by its name; the same name finds it again."""
    told: list[Happening] = []
    identity = identity or Identity.generate().peer_id
    payer = ledger or cast("Ledger", place.chain.ledger(LocalSigner(keccak(name.encode()))))
    settings = {"patience": PATIENCE, "least": 1, "limits": Limits(), **settings}
    async with (
        place.network.open_net(identity) as net,
        open_tower(payer, place.folder / f"{name}.db", told.append, net=net, **settings) as tower,
    ):
        yield Standing(tower, PeerAddress(net.peer_id, net.addresses), told)


@asynccontextmanager
async def handing_over(place: Place, *towers: Standing) -> AsyncIterator[Towers]:
    """The node's side, until the node goes away."""
    async with (
        place.network.open_net(Identity.generate().peer_id) as own,
        trio.open_nursery() as nursery,
    ):
        made = towers_of(place, own, [one.address for one in towers])
        nursery.start_soon(made.run)
        yield made
        nursery.cancel_scope.cancel()


async def keeps(place: Place, tower: Standing, of: Paying, amount: int) -> None:
    """The tower holds a voucher of this amount, by p2p."""
    async with handing_over(place, tower) as node:
        node.offer(of.channel, of.voucher(amount))
        await place.until(lambda: tower.holds(of.voucher(amount)))


@asynccontextmanager
async def watched(folder: Path, **settings: Any) -> AsyncIterator[tuple[Place, Standing, Paying]]:
    """A tower that holds a voucher of 300 of a channel."""
    async with open_place(folder) as place, standing(place, **settings) as tower:
        paid = await place.channel()
        await keeps(place, tower, paid, 300)
        yield place, tower, paid


def towers_of(place: Place, net: Net, addresses: list[PeerAddress]) -> Towers:
    """The node's side, to be run by the test."""
    return Towers(
        chain=SEI,
        domain=place.world.reader.info.channels,
        node=place.worker.node,
        operator=place.worker.operator,
        net=net,
        towers=addresses,
        entropy=os.urandom,
    )


class Poor:
    """A ledger whose account cannot pay for a transaction until it is given something."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.has_gas = False
        self.tries = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    async def submit(self, action: Any, *, key: str = "") -> Any:
        self.tries += 1
        if not self.has_gas:
            raise InsufficientFunds("GasMoney")
        return await self._ledger.submit(action, key=key)


class Overtaken:
    """A ledger on which somebody else always redeems a moment earlier."""

    def __init__(self, ledger: Ledger, other: Ledger) -> None:
        self._ledger, self._other = ledger, other

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    async def submit(self, action: Any, *, key: str = "") -> Any:
        await self._other.submit(action)
        return await self._ledger.submit(action, key=key)
