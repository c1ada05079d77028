"""Looking at an order without taking part in it: no key, no peers."""

from __future__ import annotations

from typing import Any, Final

import trio

from deai.chain.ledger import Cursor, Ledger
from deai.client.documents import rfc3339
from deai.client.orders.book import OrderBook, OrderEntry
from deai.client.orders.documents import (
    OPEN,
    expired_document,
    order_document,
    settled_document,
)
from deai.events import LedgerRecord, OrderSettled

SEARCH: Final = 20.0
"""Seconds for which the chain's events are searched for a settlement."""


async def show(book: OrderBook, ledger: Ledger, entry: OrderEntry) -> dict[str, Any]:
    """An order's document as book and chain tell it now; what the chain said is kept."""
    document = entry.document
    if document is None:
        doing = {"placed": "pending", "taken": "assigned", "agreed": "in_progress"}
        said = {"placed": "signed, not every seat took it yet", "taken": "its seats work on it"}
        return order_document(
            entry,
            state=doing.get(entry.phase, "cancelled"),
            detail=said.get(entry.phase, "a quorum signed; the same command fetches the output"),
        )
    if document["order"]["settlement"] != OPEN:
        return document
    found = await _settlement(ledger, entry)
    order = entry.placed.order
    if found is not None:
        event = found.event
        assert isinstance(event, OrderSettled)
        document = settled_document(document, event)
        at = found.position
        document["transactions"] = [
            {
                "kind": "settle",
                "hash": at.transaction,
                "block": at.block,
                "at": rfc3339(at.time),
                "gas_used": None,
            }
        ]
    elif (await ledger.head()).time > order.valid_until:
        document = expired_document(document)
    else:
        return document
    await book.end(entry, document, entry.output)
    return document


async def _settlement(ledger: Ledger, entry: OrderEntry) -> LedgerRecord | None:
    """The event of its settlement, searched for only where the chain's word says there is one."""
    placed = entry.placed
    order = placed.order
    if not await ledger.order_page(order.client, order.page) & order.bit:
        return None
    with trio.move_on_after(SEARCH):
        async with ledger.follow(Cursor(placed.since, "")) as batches:
            async for batch in batches:
                for record in batch.records:
                    event = record.event
                    if isinstance(event, OrderSettled) and event.order_id == placed.order_id:
                        return record
                if batch.cursor.number >= batch.head.number:
                    return None
    return None
