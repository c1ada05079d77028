"""The coordinator: followers, hub and writer on trio, HTTP and WebSocket in a thread.

What crosses between the two is the database, one wake-up per commit, and the order to stop.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import trio
from prometheus_client import start_http_server

from coordinator.api.app import Web
from coordinator.api.server import HttpThread, bind
from coordinator.config import CoordinatorConfig, Endpoint, allowed_hosts, endpoint
from coordinator.hub import Hub
from coordinator.metrics import Metrics
from coordinator.services import FollowedChain, Writer, follow, tick
from coordinator.store.engine import writer_lock
from coordinator.store.reader import Reader
from coordinator.store.store import Store
from deai.errors import ConfigError
from deai.files import replace_file
from deai.ids import AccountId, ChainName
from deai.messages import BEAT_DIALECT, BeatMessage
from deai.net import Link, Net

logger = logging.getLogger(__name__)

WATCH_SECONDS = 1.0


@dataclass(frozen=True)
class Ports:
    """The world: chains to follow, the peers' net, the clock (Unix seconds)."""

    chains: Mapping[ChainName, FollowedChain]
    net: Net
    clock: Callable[[], float] = time.time

    async def speaks_for(self, chain: ChainName, account: AccountId, key: AccountId) -> bool:
        """Ask one of the chains whether a key speaks for an account."""
        return await self.chains[chain].speaks_for(account, key)


async def run(
    config: CoordinatorConfig,
    database: Path,
    ports: Ports,
    *,
    ready_file: Path | None = None,
    task_status: trio.TaskStatus[dict[str, Any]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; reports its ready document when everything listens.

    Raises `ConfigError` for a database or an address that cannot be used.
    """
    metrics = Metrics()
    with ExitStack() as stack:
        stack.enter_context(writer_lock(database))
        store = await trio.to_thread.run_sync(Store, database)
        stack.callback(store.close)
        reader = Reader(database)
        stack.callback(reader.close)
        where = endpoint(config.listen, "listen")
        listener = bind(where.host, where.port)
        stack.callback(listener.close)
        web = Web(reader, metrics, ports.clock, allowed_hosts(config))
        http = HttpThread(web, listener)
        metrics_at = _serve_metrics(metrics, endpoint(config.metrics, "metrics"), stack)
        hub = Hub(
            {name: chain.info.registry for name, chain in ports.chains.items()},
            ports.speaks_for,
            clock=ports.clock,
            metrics=metrics,
        )
        hub.restore(reader.offer_sequences(), reader.bindings())
        writer = Writer(store, http.wake)
        async with _serving(http), trio.open_nursery() as nursery:
            for chain in ports.chains.values():
                await nursery.start(follow, chain, writer, hub, metrics, ports.clock)
            nursery.start_soon(tick, writer, reader, hub, ports.clock)
            await nursery.start(_serve_hub, ports.net, hub, metrics)
            nursery.start_soon(_watch, http)
            document = {
                "url": Endpoint(where.host, listener.getsockname()[1]).url,
                "metrics_url": f"{metrics_at.url}/metrics",
                "peer_id": ports.net.peer_id,
                "addresses": list(ports.net.addresses),
                "pid": os.getpid(),
            }
            if ready_file is not None:
                _announce(ready_file, document)
                stack.callback(ready_file.unlink, missing_ok=True)
            logger.info("ready", extra={"action": "ready", **document})
            task_status.started(document)


async def _serve_hub(
    net: Net, hub: Hub, metrics: Metrics, *, task_status: trio.TaskStatus[None]
) -> None:
    async def handle(link: Link[BeatMessage]) -> None:
        with metrics.links.track_inprogress():
            await hub.serve(link)

    await net.serve(BEAT_DIALECT, handle, task_status=task_status)


@asynccontextmanager
async def _serving(http: HttpThread) -> AsyncIterator[None]:
    try:
        await trio.to_thread.run_sync(http.start)
        yield
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(http.stop)


async def _watch(http: HttpThread) -> NoReturn:
    """End the program when its other half has ended: a service manager starts it again."""
    while http.is_well:
        await trio.sleep(WATCH_SECONDS)
    raise RuntimeError("HTTP and live events are no longer served; the log says why")


def _serve_metrics(metrics: Metrics, where: Endpoint, stack: ExitStack) -> Endpoint:
    try:
        server, thread = start_http_server(where.port, addr=where.host, registry=metrics.registry)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {where.host}:{where.port} for metrics: {error.strerror}",
            hint="set coordinator.metrics to an address that is free",
            code="port_taken",
        ) from error
    stack.callback(thread.join, 2.0)
    stack.callback(server.server_close)
    stack.callback(server.shutdown)
    return Endpoint(where.host, server.server_port)


def _announce(path: Path, document: Mapping[str, Any]) -> None:
    """Write the ready file in one step."""
    replace_file(path, json.dumps(document, indent=2).encode() + b"\n", flush=False)
