"""Nodes that take orders, and a client that has money set aside for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio

from deai.actions import FundOrders
from deai.client.client import Client
from deai.client.handle import TaskHandle
from deai.events import OrderSettled
from deai.ids import OrderId
from deai.money import UNIT, Amount
from node.config import NodeConfig, OrderTerms
from node.orders.records import Held
from tests.node.support.customer import customer
from tests.node.support.names import key
from tests.node.support.world import CONFIG, Provider, World

PAYER = key("payer")
TERMS = OrderTerms(settle_minutes=2.0, exposure="0.1CT", collect_amount="0.01CT")


def config(**terms: Any) -> NodeConfig:
    return msgspec.structs.replace(CONFIG, orders=msgspec.structs.replace(TERMS, **terms))


async def nodes(world: World, count: int = 3, **settings: Any) -> list[Provider]:
    """Providers `node-0`, `node-1`, … that take orders."""
    settings.setdefault("config", config())
    return [await world.provider(f"node-{i}", orders=True, **settings) for i in range(count)]


async def fund(world: World, tokens: float = 100, *, page: int = 0) -> None:
    """The payer sets money aside."""
    if not (await world.chain.ledger().balances(PAYER.account)).tokens:
        await world.fund(PAYER.account, 1000 * UNIT)
    action = FundOrders(Amount(int(tokens * UNIT)), page)
    await world.chain.ledger(PAYER).submit(action, key=f"fund {len(world.chain.records)}")


@asynccontextmanager
async def payer(world: World, home: Path, **options: Any) -> AsyncIterator[Client]:
    async with customer(world, home, **options) as client:
        yield client


async def submit(client: Client, data: bytes = b"hello", **options: Any) -> TaskHandle:
    options.setdefault("max_fee", UNIT)
    return await client.submit("shout", data, lane="order", **options)


def settlements(world: World) -> list[OrderSettled]:
    return [one.event for one in world.chain.records if isinstance(one.event, OrderSettled)]


async def held(provider: Provider, order: str) -> Held:
    """What a node's book keeps of an order."""
    found = await provider.live.orders.book.find(  # type: ignore[union-attr] # it takes them
        provider.live.info.name, OrderId(order)
    )
    assert found is not None
    return found


async def seconds(count: float) -> None:
    await trio.sleep(count)
