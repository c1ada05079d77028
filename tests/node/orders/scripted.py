"""A client of orders that says exactly what a test wants it to say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
import trio

from deai.actions import FundOrders
from deai.codec import encode_value
from deai.hashing import blob_digest, chunks, leaf
from deai.ids import OrderId, TaskId
from deai.messages import BlobChunk, BlobHeader
from deai.money import UNIT, Amount
from deai.net import Link, Net
from deai.order_messages import (
    Fetch,
    OrderMessage,
    Place,
    Secured,
    ShowQuorum,
    SignedResult,
    Taken,
    Turned,
    order_dialect,
)
from deai.orders import Order, order_id, sign_order
from deai.signing import LocalSigner
from deai.tasks import Policy, TaskSpec, spec_hash
from tests.node.support.names import key, peer
from tests.node.support.world import Provider, World

T = TypeVar("T", bound=OrderMessage)
FEE = Amount(UNIT // 50)


@dataclass(eq=False)
class Buyer:
    """An account that signs orders."""

    world: World
    net: Net
    signer: LocalSigner
    nonces: int = 0
    salts: int = 0

    async def fund(self, tokens: float, page: int = 0) -> None:
        await self.world.fund(self.signer.account, int(tokens * UNIT))
        action = FundOrders(Amount(int(tokens * UNIT)), page)
        ledger = self.world.chain.ledger(self.signer)
        await ledger.submit(action, key=f"fund {len(self.world.chain.records)}")

    def sign(
        self, nodes: Sequence[Provider], data: bytes = b"hello", *, workload: str = "shout",
        **fields: Any,
    ) -> Place:  # fmt: skip
        """An order for these nodes, the next nonce in it; `fields` of it may be others."""
        info = self.world.chain.info
        self.nonces, self.salts = self.nonces + 1, self.salts + 1
        spec = TaskSpec(
            domain=f"{info.chain_id}:{info.orders.contract}",
            workload=workload,
            workload_version=1,
            model="",
            input_digest=blob_digest(data),
            input_bytes=len(data),
            parameters=encode_value({}),
            salt=self.salts.to_bytes(32, "big"),
        )
        order = Order(
            client=self.signer.account,
            fee=FEE,
            policy=Policy.NONE if len(nodes) == 1 else Policy.EXACT,
            valid_until=self.world.chain.now + 3600,
            nonce=self.nonces,
            spec_hash=spec_hash(spec),
            nodes=tuple(one.node_id for one in nodes),
        )
        order = msgspec.structs.replace(order, **fields)
        return Place(order, sign_order(info.orders, self.signer, order), spec)

    @asynccontextmanager
    async def link(self, provider: Provider) -> AsyncIterator[Talk]:
        dialect = order_dialect(self.world.chain.info.name)
        async with self.net.dial(provider.address, dialect, timeout=5) as link:
            yield Talk(self, link)

    async def ask(self, provider: Provider, place: Place) -> str:
        """What the node says to an order: `taken`, or the code of its refusal."""
        async with self.link(provider) as talk:
            return await talk.place(place)

    async def signatures(
        self, nodes: Sequence[Provider], place: Place, data: bytes = b"hello"
    ) -> list[SignedResult]:
        """What every seat signs of it; nobody is shown anything."""
        found: dict[int, SignedResult] = {}

        async def one(seat: int, provider: Provider) -> None:
            async with self.link(provider) as talk:
                found[seat] = await talk.compute(place, data)

        async with trio.open_nursery() as nursery:
            for seat, provider in enumerate(nodes):
                nursery.start_soon(one, seat, provider)
        return [found[seat] for seat in range(len(nodes))]


@dataclass(eq=False)
class Talk:
    """One link to one node."""

    buyer: Buyer
    link: Link[OrderMessage]
    order: OrderId = field(default=OrderId(""))

    async def hear(self, *kinds: type[T]) -> T:
        """The next message of these kinds; `Turned` comes to whoever waits for something else."""
        with trio.fail_after(300):
            while True:
                message = await self.link.receive()
                if isinstance(message, kinds):
                    return message
                assert not isinstance(message, Turned), f"{message.code}: {message.reason}"

    async def place(self, place: Place) -> str:
        self.order = order_id(place.order, self.buyer.world.chain.info.orders)
        await self.link.send(place)
        answer: Taken | Turned = await self.hear(Taken, Turned)
        return answer.code if isinstance(answer, Turned) else "taken"

    async def send_input(self, data: bytes) -> None:
        task = TaskId(self.order)
        parts = chunks(data)
        leaves = tuple(leaf(part) for part in parts)
        await self.link.send(BlobHeader(task, "input", 0, len(data), leaves))
        for index, part in enumerate(parts):
            await self.link.send(BlobChunk(task, "input", 0, index, part))

    async def compute(self, place: Place, data: bytes = b"hello") -> SignedResult:
        assert await self.place(place) == "taken"
        await self.send_input(data)
        return await self.hear(SignedResult)

    async def show(self, digest: bytes, results: Sequence[bytes | None]) -> str:
        """What it says to these signatures: `secured`, or a code."""
        await self.link.send(ShowQuorum(self.order, digest, tuple(results)))
        answer: Secured | Turned = await self.hear(Secured, Turned)
        return answer.code if isinstance(answer, Turned) else "secured"

    async def fetch(self) -> bytes | str:
        """The output, which is small here, or why it is not given."""
        await self.link.send(Fetch(self.order))
        answer: BlobChunk | Turned = await self.hear(BlobChunk, Turned)
        return answer.code if isinstance(answer, Turned) else answer.data


@asynccontextmanager
async def buyer(world: World, name: str = "buyer") -> AsyncIterator[Buyer]:
    async with world.network.open_net(peer(name)) as net:
        yield Buyer(world, net, key(name))
