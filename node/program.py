"""The daemon as a process: opens the real ports below a home, runs the node, minds signals."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
import trio

from deai import __version__
from deai.chain import opening
from deai.chain.ledger import Ledger
from deai.errors import ConfigError
from deai.ids import AccountId, ChainName
from deai.keys import load_signer
from deai.net import Net, PeerAddress
from deai.network import Network
from deai.ports import Workbench
from deai.signing import Signer
from node.admin.server import bind, ensure_token, serve_admin, url_of
from node.config import NodeConfig
from node.daemon import Daemon
from node.home import Home, Registration
from node.main import Entrance, run_chains
from node.ports import Ports, load_behaviour
from node.store.blobs import BlobStore
from node.store.journal import Journal

logger = structlog.get_logger(__name__)


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
    )
    async with open_worker_pool(pool_config) as pool:
        yield pool


def models_here(home: Home) -> dict[str, str]:
    """Name → digest of every whole model in the home."""
    from workloads.models import installed

    return {manifest.name: digest for digest, manifest in installed(home.models).items()}


async def serve(home: Home, config: NodeConfig, network: Network) -> None:
    """Run the node of this home, on every chain it is set up on, until it is told to leave.

    Raises `NotSetUp`, `ConfigError` (a port is taken, a key unreadable) or `AlreadyRunning`.
    """
    registrations = home.registrations()
    with home.lock():
        home.ready.unlink(missing_ok=True)
        bound = bind(config.admin)
        try:
            await _serve(home, config, network, registrations, bound)
        finally:
            bound.close()
            home.ready.unlink(missing_ok=True)


async def _serve(
    home: Home,
    config: NodeConfig,
    network: Network,
    registrations: tuple[Registration, ...],
    bound: socket.socket,
) -> None:
    token = ensure_token(home.admin_token)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as minding:
            control = _Control(minding.cancel_scope)
            minding.start_soon(control.listen, signals)
            async with AsyncExitStack() as stack:
                machine = await _open_machine(stack, home, config, network, registrations[0].chain)
                entrances = [machine.entrance(one) for one in registrations]
                if config.behaviour:
                    logger.warning("this node misbehaves on purpose", action="behaviour")
                ready = _ready(home, registrations, machine.net, url_of(bound))
                async with trio.open_nursery() as nursery:
                    if config.mdns:
                        nursery.start_soon(_announce_here, machine.net, config, network.name)

                    async def daemon(
                        *, task_status: trio.TaskStatus[Daemon] = trio.TASK_STATUS_IGNORED
                    ) -> None:
                        await run_chains(
                            config,
                            entrances,
                            speeds=home.load_speeds(),
                            binding=home.binding,
                            task_status=task_status,
                        )
                        nursery.cancel_scope.cancel()

                    control.daemon = await nursery.start(daemon)
                    await nursery.start(serve_admin, control.daemon, bound, token)
                    home.save(home.ready, ready)
            minding.cancel_scope.cancel()


class _Control:
    """First signal: drain. Second: leave now. Before the node runs: leave at once."""

    def __init__(self, scope: trio.CancelScope) -> None:
        self._scope = scope
        self.daemon: Daemon | None = None

    async def listen(self, signals: AsyncIterator[int]) -> None:
        """Until cancelled."""
        async for _signal in signals:
            if self.daemon is None:
                self._scope.cancel()
            elif not self.daemon.stop.is_set():
                self.daemon.stop.set()
            elif not self.daemon.stop_now.is_set():
                self.daemon.stop_now.set()
            else:
                self._scope.cancel()


@dataclass(frozen=True, kw_only=True)
class _Machine:
    """What all chains share, open."""

    home: Home
    config: NodeConfig
    network: Network
    journal: Journal
    blobs: BlobStore
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
                hint="deai node init again, or rotate the operator with `deai stake`",
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
                ledger=ledger,
                net=self.net,
                workbench=self.workbench,
                signer=signer,
                models=self.models,
                hubs=tuple(PeerAddress(hub.peer_id, hub.addresses) for hub in self.network.hubs),
            )
            behaviour = self.config.behaviour
            yield load_behaviour(behaviour)(ports) if behaviour else ports


async def _open_machine(
    stack: AsyncExitStack,
    home: Home,
    config: NodeConfig,
    network: Network,
    first: ChainName,
) -> _Machine:
    from p2p.net import open_net

    journal = Journal(home.journal, first)
    stack.callback(journal.close)
    blobs = BlobStore(home.blobs, max_bytes=config.max_store_mib << 20)
    net = await stack.enter_async_context(
        open_net(home.peer_key, listen=config.listen, announce=config.announce)
    )
    workbench = await stack.enter_async_context(open_workbench(home, config))
    return _Machine(
        home=home,
        config=config,
        network=network,
        journal=journal,
        blobs=blobs,
        net=net,
        workbench=workbench,
        models=models_here(home),
    )


async def _announce_here(net: Net, config: NodeConfig, network: str) -> None:
    """Be found on the local network until cancelled; where that cannot be done, say so once."""
    from p2p.mdns import announce_mdns, spread

    addresses = net.addresses if config.announce else spread(net.addresses, config.listen)
    try:
        async with announce_mdns(PeerAddress(net.peer_id, addresses), network):
            logger.info("announced on the local network", action="mdns", addresses=list(addresses))
            await trio.sleep_forever()
    except ConfigError as error:
        logger.warning("not announced on the local network", action="mdns", reason=str(error))


def _ready(
    home: Home, registrations: tuple[Registration, ...], net: Net, admin_url: str
) -> dict[str, object]:
    first = registrations[0]
    return {
        "node_id": first.node_id,
        "owner": first.owner,
        "operator": first.operator,
        "nodes": {one.chain: one.node_id for one in registrations},
        "peer_id": net.peer_id,
        "addresses": list(net.addresses),
        "admin_url": admin_url,
        "admin_token_file": str(home.admin_token.absolute()),
        "pid": os.getpid(),
        "version": __version__,
    }
