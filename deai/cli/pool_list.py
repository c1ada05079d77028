"""Which nodes take delegations, read from the chain's events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import trio

from deai.cli.base import Settings
from deai.cli.pool_look import document, look
from deai.errors import LedgerUnreachable

if TYPE_CHECKING:
    from deai.chain.ledger import Ledger
    from deai.ids import AccountId, NodeId

SILENCE: Final = 60.0
"""Seconds without a word of the chain after which it is given up."""


async def list_pools(
    settings: Settings, account: AccountId | None, mine: bool
) -> list[dict[str, Any]]:
    """Every pool, the oldest first, or those in which an account has something."""
    from deai.client import access

    items = []
    async with access.open_reader(settings.network, settings.chain) as ledger:
        for node in await _opened(ledger):
            lent = await look(settings, ledger, node, account)
            if not mine or lent.mine.shares or lent.mine.queued or lent.mine.claimable:
                items.append(document(lent))
    return items


async def _opened(ledger: Ledger) -> list[NodeId]:
    """Nodes in the order in which they began to take delegations; raises `LedgerUnreachable`."""
    from deai.events import PoolOpened

    _ = ledger.info.delegations  # says so where there are none
    found, head = dict[int, list[Any]](), await ledger.head()
    async with ledger.follow(None) as batches:
        while True:
            with trio.move_on_after(SILENCE) as scope:
                batch = await anext(batches)
            if scope.cancelled_caught:
                raise LedgerUnreachable("the chain's events stopped coming")
            if batch.rewind_to is not None:
                found = {block: kept for block, kept in found.items() if block <= batch.rewind_to}
            for record in batch.records:
                if isinstance(record.event, PoolOpened):
                    found.setdefault(record.position.block, []).append(record.event.node)
            if batch.cursor.number >= head.number:
                return [node for nodes in found.values() for node in nodes]
