"""Opens the real ports below a home: what a machine has once, and each chain's ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

from deai.chain import opening
from deai.chain.ledger import Ledger
from deai.errors import ConfigError
from deai.ids import AccountId, ChainName
from deai.keys import load_signer
from deai.net import Net, PeerAddress
from deai.network import Network
from deai.ports import Workbench
from deai.signing import Signer
from node.config import NodeConfig
from node.home import Home, Registration
from node.lane.book import LaneBook
from node.main import Entrance
from node.orders.book import OrderBook
from node.ports import Ports, load_behaviour
from node.store.blobs import BlobStore
from node.store.journal import Journal


@asynccontextmanager
async def open_ledger(
    network: Network,
    chain: ChainName,
    signer: Signer | None,
    outbox: Path | None,
    account: AccountId | None = None,
) -> AsyncIterator[Ledger]:
    """The ledger of one of the network's chains; raise `ConfigError` for one it has not.

    `account` is the NEAR account for which the key signs, or whose keys a reader asks about;
    on Sei a key has one account, and it says nothing.
    """
    entry = network.chains.get(chain)
    if entry is None:
        raise ConfigError(
            f"the network has no chain {chain!r}", hint=", ".join(network.chains) or "none"
        )
    async with opening.open_ledger(chain, entry, signer, outbox, account=account) as ledger:
        yield ledger


@asynccontextmanager
async def open_workbench(home: Home, config: NodeConfig) -> AsyncIterator[Workbench]:
    """The pool of locked workers."""
    from workloads.pool import PoolConfig, open_worker_pool

    pool_config = PoolConfig(
        models=home.models,
        workers=config.capacity,
        memory_bytes=config.max_memory_mib << 20,
        max_input_bytes=config.max_input_mib << 20,
        queue=config.capacity + config.queue,
        workloads=config.workloads,
        lane_workers=config.lane.workers,
    )
    async with open_worker_pool(pool_config) as pool:
        yield pool


def models_here(home: Home) -> dict[str, str]:
    """Name → digest of every whole model in the home."""
    from workloads.models import installed

    return {manifest.name: digest for digest, manifest in installed(home.models).items()}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What all chains share, open."""

    home: Home
    config: NodeConfig
    network: Network
    journal: Journal
    blobs: BlobStore
    book: LaneBook
    orders: OrderBook
    net: Net
    workbench: Workbench
    models: dict[str, str]

    def entrance(self, known: Registration) -> Entrance:
        """The way to one chain; raise `ConfigError` or `NotSetUp` for its key."""
        home = self.home.on(known.chain)
        signer = load_signer(home.operator_key, home.passphrase, chain=known.chain)
        if signer.account != known.operator:
            raise ConfigError(
                f"{home.operator_key} is not the key that this node was set up with",
                hint="deai stake rotate registers it, then run deai node init again",
            )
        return Entrance(
            chain=known.chain,
            node_id=known.node_id,
            operator=known.operator,
            journal=self.journal.on(known.chain),
            open=lambda: self._open(known, signer),
        )

    @asynccontextmanager
    async def _open(self, known: Registration, signer: Signer) -> AsyncIterator[Ports]:
        outbox = self.home.outbox(known.chain, known.operator)
        async with open_ledger(self.network, known.chain, signer, outbox, known.owner) as ledger:
            ports = Ports(
                node=known.node_id,
                journal=self.journal.on(known.chain),
                blobs=self.blobs,
                book=self.book,
                orders=self.orders,
                ledger=ledger,
                net=self.net,
                workbench=self.workbench,
                signer=signer,
                models=self.models,
                hubs=tuple(PeerAddress(hub.peer_id, hub.addresses) for hub in self.network.hubs),
            )
            behaviour = self.config.behaviour
            yield load_behaviour(behaviour)(ports) if behaviour else ports


@asynccontextmanager
async def open_machine(
    home: Home, config: NodeConfig, network: Network, first: ChainName
) -> AsyncIterator[Machine]:
    """What the chains of one home share, until the context ends.

    What a journal of one chain only holds is of `first`. Entering raises `AlreadyRunning`,
    `ConfigError`, `StoreFull` or `NodeFault`.
    """
    from p2p.net import open_net

    journal = Journal(home.journal, first)
    with (
        closing(journal),
        closing(LaneBook(home.lane)) as book,
        closing(OrderBook(home.orders)) as orders,
    ):
        blobs = BlobStore(home.blobs, max_bytes=config.max_store_mib << 20)
        async with (
            open_net(home.peer_key, listen=config.listen, announce=config.announce) as net,
            open_workbench(home, config) as workbench,
        ):
            yield Machine(
                home=home,
                config=config,
                network=network,
                journal=journal,
                blobs=blobs,
                book=book,
                orders=orders,
                net=net,
                workbench=workbench,
                models=models_here(home),
            )
