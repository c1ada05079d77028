"""One real node and one real client: real journals, locked workers, a ledger in memory.

What a task costs beyond its computation shows here without the waiting for blocks. Node and
client share a process and its event loop, so that the figures are never kinder than with two.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from deai.actions import Deposit, OpenChannel, RegisterNode, TransferTokens
from deai.chain.memory import MemoryChain
from deai.client.client import Client
from deai.client.directory import PeerList
from deai.client.lane.places import session_key_file
from deai.client.opening import open_client
from deai.hashing import keccak
from deai.ids import NodeId, PeerId, node_id
from deai.keys import create_key
from deai.money import UNIT, Amount
from deai.net import Net, PeerAddress
from deai.ports import Workbench
from deai.signing import LocalSigner
from deai.tasks import operate_digest
from node import logs
from node.config import NodeConfig
from node.lane.book import LaneBook
from node.main import run
from node.ports import Ports
from node.store.blobs import BlobStore
from node.store.journal import Journal
from p2p.identity import Identity
from p2p.memory import MemoryNetwork
from p2p.net import open_net
from rewards.rules import RULES
from workloads.inputs import InstalledWorkloads
from workloads.models import installed

STAKE: Final = Amount(500 * UNIT)
FUNDS: Final = Amount(1_000_000 * UNIT)
STORE_BYTES: Final = 4 << 30
OPERATE_SECONDS: Final = 3600


def signer(name: str) -> LocalSigner:
    """A key that follows from a name; worth nothing anywhere."""
    return LocalSigner(keccak(b"benchmark", name.encode()))


@asynccontextmanager
async def libp2p() -> AsyncIterator[tuple[Net, Net]]:
    """The nets of a node and of a client, over loopback."""
    async with (
        open_net(Identity.generate(), listen=["/ip4/127.0.0.1/tcp/0"]) as node,
        open_net(Identity.generate()) as client,
    ):
        yield node, client


@asynccontextmanager
async def in_memory() -> AsyncIterator[tuple[Net, Net]]:
    """The same without sockets, noise and muxer."""
    wire = MemoryNetwork()
    async with (
        wire.open_net(Identity.generate().peer_id) as node,
        wire.open_net(Identity.generate().peer_id) as client,
    ):
        yield node, client


@asynccontextmanager
async def open_one_node(
    home: Path,
    models: Path,
    workbench: Workbench,
    nets: AbstractAsyncContextManager[tuple[Net, Net]],
) -> AsyncIterator[Client]:
    """A funded client with an open channel; its only node offers what `workbench` computes."""
    logs.set_up("warning")  # stdout belongs to the report
    chain = MemoryChain(RULES, holder=signer("bank").account, clock=time.time)
    async with AsyncExitStack() as stack:
        net, own = await stack.enter_async_context(nets)
        journal = Journal(home / "node.db")
        stack.callback(journal.close)
        book = LaneBook(home / "lane.db")
        stack.callback(book.close)
        node = await _registered(chain, net.peer_id)
        ports = Ports(
            node=node,
            journal=journal,
            blobs=BlobStore(home / "blobs", max_bytes=STORE_BYTES),
            ledger=chain.ledger(signer("operator")),
            net=net,
            workbench=workbench,
            signer=signer("operator"),
            book=book,
            models={one.name: digest for digest, one in installed(models).items()},
        )
        nursery = await stack.enter_async_context(trio.open_nursery())

        async def daemon(*, task_status: trio.TaskStatus[object]) -> None:
            await run(NodeConfig(queue=8), ports, task_status=task_status)

        await nursery.start(daemon)
        payer = chain.ledger(signer("client"))
        bank = chain.ledger(signer("bank"))
        await bank.submit(TransferTokens(signer("client").account, FUNDS), key="client")
        await payer.submit(Deposit(Amount(FUNDS // 2)))
        keys = session_key_file(home / "client", node)
        session = create_key(keys, home / "client" / "keys" / "passphrase", chain=chain.info.name)
        await payer.submit(OpenChannel(node, session, 1, Amount(FUNDS // 4)))
        yield await stack.enter_async_context(
            open_client(
                ledger=payer,
                net=own,
                catalogue=InstalledWorkloads.load(),
                home=home / "client",
                sources=(PeerList([PeerAddress(net.peer_id, net.addresses)]),),
            )
        )
        nursery.cancel_scope.cancel()


async def _registered(chain: MemoryChain, peer_id: PeerId) -> NodeId:
    owner, operator = signer("owner"), signer("operator")
    node = node_id(owner.account, 0)
    bank = chain.ledger(signer("bank"))
    await bank.submit(TransferTokens(owner.account, FUNDS), key="owner")
    until = chain.now + OPERATE_SECONDS
    proof = operator.sign(operate_digest(chain.info.registry, node, operator.account, until))
    await chain.ledger(owner).submit(
        RegisterNode(0, operator.account, until, proof, STAKE, peer_id, ())
    )
    return node
