"""`deai coordinator`: run it, move its database to a new schema, rebuild it, audit it."""

from __future__ import annotations

import signal
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import trio
from rich.console import Console

from coordinator.config import CoordinatorConfig, load
from deai.cli.base import ExitWith, Settings, emit, group, run_trio
from deai.errors import ConfigError
from deai.ids import ChainName


@group("coordinator")
def coordinator() -> None:
    """Run the indexer, API and pages.

    A coordinator holds no funds and decides nothing: it reads the chain, hears heartbeats, and
    shows both. Any number of them may run; tasks work without one.

    \b
    Example:
      deai coordinator run --config network/coordinator/config.toml
    """  # noqa: D301 - click wants a real backspace


@coordinator.command("run")
def run_command(settings: Settings) -> None:
    """Follow the chains and serve until told to stop.

    Writes HOME/coordinator.json (url, metrics_url, peer_id, addresses, pid) when it is ready.

    \b
    Example:
      deai coordinator run --home ~/.deai
    """  # noqa: D301 - click wants a real backspace
    from coordinator import logs

    config = load(settings.config)
    logs.configure(config.log_level)
    run_trio(_serve, settings, config)


@coordinator.command("migrate")
def migrate_command(settings: Settings) -> None:
    """Bring the database to this version's schema; the data stays.

    \b
    Example:
      deai coordinator migrate --home ~/.deai
    """  # noqa: D301 - click wants a real backspace
    from coordinator.store.engine import open_engine, writer_lock
    from coordinator.store.migrate import migrate
    from coordinator.store.store import refill

    path = _database(settings)
    with writer_lock(path):
        engine = open_engine(path)
        try:
            before, after = migrate(engine, refill)
        finally:
            engine.dispose()
    document = {"database": str(path), "before": before, "after": after}
    emit(settings, document, lambda out: out.print(f"{path}: schema {before} → {after}"))


@coordinator.command("rebuild")
def rebuild_command(settings: Settings) -> None:
    """Drop what is derived from stored events, derive it again, and compare digests.

    \b
    Example:
      deai coordinator rebuild --json
    """  # noqa: D301 - click wants a real backspace
    from coordinator.audit import examine
    from coordinator.store.engine import writer_lock
    from coordinator.store.store import Store

    path, chain = _database(settings), _chain(settings)
    with writer_lock(path):
        before = examine(path, chain)
        store = Store(path)
        started = time.perf_counter()
        try:
            events = store.rebuild(chain, lambda done: settings.err.print(f"{done:,} events"))
        finally:
            store.close()
        seconds = time.perf_counter() - started
        after = examine(path, chain)
    document = {
        "ok": before.digest == after.digest,
        "digest": before.digest,
        "rebuilt_digest": after.digest,
        "events": events,
        "seconds": round(seconds, 3),
    }
    _conclude(settings, document)


@coordinator.command("audit")
def audit_command(settings: Settings) -> None:
    """Build the index again from the chain, beside the running one, and compare digests.

    \b
    Example:
      deai coordinator audit --json
    """  # noqa: D301 - click wants a real backspace
    _conclude(settings, run_trio(_audit, settings))


def _conclude(settings: Settings, document: dict[str, Any]) -> None:
    def render(out: Console) -> None:
        out.print(f"digest          {document['digest']}")
        out.print(f"rebuilt digest  {document['rebuilt_digest']}")
        words = "the same" if document["ok"] else "NOT the same: this index cannot be trusted"
        out.print(f"{document['events']:,} events: {words}")

    emit(settings, document, render)
    if not document["ok"]:
        raise ExitWith(1)


async def _audit(settings: Settings) -> dict[str, Any]:
    from coordinator.audit import audit
    from deai.client.access import open_reader

    chain = _chain(settings)
    async with open_reader(settings.network, chain) as ledger:
        return await audit(
            _database(settings), chain, ledger, lambda text: settings.err.print(text)
        )


def _chain(settings: Settings) -> ChainName:
    """Whose index is meant: of the chain that was named, or of the network's only one."""
    chains = settings.network.chains
    if settings.only_chain is None and len(chains) == 1:
        return next(iter(chains))
    return ChainName(settings.chain)


async def _serve(settings: Settings, config: CoordinatorConfig) -> None:
    from coordinator.main import Ports, run
    from coordinator.services import FollowedChain
    from deai.chain.opening import info_of, open_ledger
    from p2p.net import open_net

    ready = settings.home / "coordinator.json"
    settings.home.mkdir(parents=True, exist_ok=True)
    ready.unlink(missing_ok=True)
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        nursery.start_soon(_until_told, nursery.cancel_scope)
        chains = {
            name: FollowedChain(info_of(name, entry), partial(open_ledger, name, entry))
            for name, entry in settings.network.chains.items()
        }
        net = await stack.enter_async_context(
            open_net(_identity(settings, config), listen=config.p2p, announce=config.announce)
        )
        await run(config, _database(settings), Ports(chains, net), ready_file=ready)


async def _until_told(scope: trio.CancelScope) -> None:
    """Stop at SIGTERM or Ctrl-C; later ones change nothing, the drain is short."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            break
    scope.cancel()


def _identity(settings: Settings, config: CoordinatorConfig) -> Path:
    from deai.keys import create_peer_key

    path = settings.path(config.peer_key, "keys/peer.key")
    if not path.exists():
        if config.peer_key:
            raise ConfigError(f"coordinator.peer_key: there is no file {path}")
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        create_peer_key(path)
    return path


def _database(settings: Settings) -> Path:
    return settings.path(load(settings.config).database, "coordinator.db")
