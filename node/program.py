"""The daemon as a process: opens a home, runs its node, minds signals."""

from __future__ import annotations

import os
import resource
import signal
import socket
from collections.abc import AsyncIterator
from typing import Final

import structlog
import trio

from deai import __version__
from deai.errors import ConfigError
from deai.net import Net, PeerAddress
from deai.network import Network
from node.admin.server import bind, ensure_token, serve_admin, url_of
from node.config import NodeConfig
from node.daemon import Daemon
from node.home import Home, Registration
from node.main import run_chains
from node.opening import open_machine

logger = structlog.get_logger(__name__)

OPEN_FILES: Final = 8192
"""Descriptors wanted: as many peers as may connect, and the node's own."""


async def serve(home: Home, config: NodeConfig, network: Network) -> None:
    """Run the node of this home, on every chain it is set up on, until it is told to leave.

    Raises `NotSetUp`, `ConfigError` (a port is taken, a key unreadable) or `AlreadyRunning`.
    """
    registrations = home.registrations()
    allow_open_files()
    with home.lock():
        home.ready.unlink(missing_ok=True)
        bound = bind(config.admin)
        try:
            await _serve(home, config, network, registrations, bound)
        finally:
            bound.close()
            home.ready.unlink(missing_ok=True)


def allow_open_files() -> None:
    """Raise this process's own limit as far as it may: 1024 is usual, and peers could fill that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


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
            async with open_machine(home, config, network, registrations[0].chain) as machine:
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
                            book=machine.book,
                            orders=machine.orders,
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
