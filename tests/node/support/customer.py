"""The real client over the node tests' world."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from deai.client.client import Client
from deai.client.directory import PeerList
from deai.client.journal import Journal
from deai.client.opening import open_client
from deai.client.tools import no_crash
from deai.hashing import keccak
from deai.money import UNIT
from tests.client.support.world import inline
from tests.node.support.bench import SmallBench
from tests.node.support.names import key, peer
from tests.node.support.world import Provider, World


@asynccontextmanager
async def customer(
    world: World,
    home: Path,
    *,
    crash: Callable[[str], None] = no_crash,
    name: str = "customer",
    nodes: Sequence[Provider] | None = None,
) -> AsyncIterator[Client]:
    """The real client, with money of its own and chance that is the same in every run.

    It knows the world's providers, or `nodes`.
    """
    payer = key("payer")
    if not (await world.chain.ledger().balances(payer.account)).tokens:
        await world.fund(payer.account, 1000 * UNIT)
    opened, drawn = trio.current_time(), 0

    def random(count: int) -> bytes:
        nonlocal drawn
        drawn += 1
        return (keccak(f"customer {opened} {drawn}".encode()) * (count // 32 + 1))[:count]

    journal = Journal(home / "client.db", inline)
    try:
        async with (
            world.network.open_net(peer(name)) as net,
            open_client(
                ledger=world.chain.ledger(payer),
                net=net,
                catalogue=SmallBench(),
                home=home,
                sources=(PeerList(one.address for one in nodes or world.providers),),
                journal=journal,
                signer=payer,
                offload=inline,
                random=random,
                crash=crash,
            ) as client,
        ):
            yield client
    finally:
        journal.close()
