"""A whole watchtower over a chain, a file and, if nodes are to reach it, a net."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from deai.chain.ledger import Ledger
from deai.client.alone import one_error
from deai.client.tower.desk import Desk
from deai.client.tower.intake import Intake
from deai.client.tower.shelf import Shelf
from deai.client.tower.watch import LEAST, PATIENCE, Happening, Watchtower
from deai.ids import NodeId
from deai.money import Amount
from deai.net import Net

MOST_CHANNELS: Final = 10_000
MOST_OF_A_NODE: Final = 1_000
MOST_NODES: Final = 64


@dataclass(frozen=True)
class Limits:
    """How much a tower holds at most."""

    channels: int = MOST_CHANNELS
    of_a_node: int = MOST_OF_A_NODE
    nodes: int = MOST_NODES
    """Of those that nobody named."""


@dataclass(frozen=True)
class Tower:
    """The parts of an open tower."""

    shelf: Shelf
    watch: Watchtower
    intake: Intake


@asynccontextmanager
async def open_tower(
    ledger: Ledger,
    path: Path,
    tell: Callable[[Happening], None],
    *,
    net: Net | None = None,
    nodes: Collection[NodeId] = (),
    limits: Limits | None = None,
    patience: int = PATIENCE,
    least: Amount = LEAST,
    gas_needed: int = 0,
) -> AsyncIterator[Tower]:
    """Watch with the vouchers kept in `path` until the context ends.

    `ledger` pays for the answers. Without a `net`, vouchers come by `Intake.import_vouchers` only.
    Raises `ConfigError` for the file, `NotSetUp` where there are no channels, and `NodeFault`
    when the disk fails.
    """
    limits = limits or Limits()
    shelf = Shelf(path, ledger.info, most=limits.channels, per_node=limits.of_a_node)
    try:
        with one_error():
            async with trio.open_nursery() as nursery:
                await nursery.start(shelf.run)
                watch = Watchtower(
                    ledger, shelf, tell, patience=patience, least=least, gas_needed=gas_needed
                )
                intake = Intake(ledger, shelf, watch)
                await nursery.start(watch.run)
                if net is not None:
                    desk = Desk(ledger, net, shelf, intake, nodes=nodes, most_nodes=limits.nodes)
                    await nursery.start(desk.run)
                yield Tower(shelf, watch, intake)
                nursery.cancel_scope.cancel()
    finally:
        shelf.close()
