"""Signed orders among the tasks: what `deai task` shows of them, and their receipts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deai.cli.base import Settings, run_trio

if TYPE_CHECKING:
    from pathlib import Path

    from deai.client import TaskOutcome
    from deai.client.orders.book import OrderBook, OrderEntry

_STATES = {"placed": "pending", "taken": "assigned", "agreed": "in_progress"}


def _path(settings: Settings) -> Path | None:
    from deai.client.orders.book import FILE

    path = settings.home / FILE
    return path if path.exists() else None


def found(settings: Settings, text: str) -> bool:
    """Whether an id, or the beginning of one, is that of an order of this home."""
    return run_trio(_entry, settings, text) is not None


def show(settings: Settings, text: str) -> dict[str, Any]:
    """The document of an order as it stands now; only for one that is `found`."""
    return run_trio(_show, settings, text)


def has_no(settings: Settings, text: str, what: str) -> None:
    """Raise `UsageError` where a command about escrowed tasks is given an order."""
    from deai.errors import UsageError

    if found(settings, text):
        raise UsageError(
            f"an order has no {what}: it leaves one event on chain, and nothing calls it off",
            hint=f"deai task show {text}",
            code="is_an_order",
        )


def result(settings: Settings, text: str) -> TaskOutcome:
    """The outcome of an order that has ended; raises `Declined` for one that goes on."""
    return run_trio(_result, settings, text)


async def recent(settings: Settings, limit: int) -> list[tuple[float, dict[str, Any]]]:
    """The newest orders as `task list` shows them, each with when it was signed."""
    from deai.client.documents import rfc3339
    from deai.client.orders.book import OrderBook

    path = _path(settings)
    if path is None:
        return []
    book = OrderBook(path)
    try:
        entries = await book.recent(limit)
    finally:
        book.close()
    return [
        (
            entry.created,
            {
                "task_id": entry.placed.order_id,
                "workload": entry.placed.spec.workload,
                "policy": entry.placed.order.policy.label,
                "chain": entry.chain,
                "state": entry.document["state"] if entry.document else _STATES[entry.phase],
                "submitted_at": rfc3339(int(entry.created)),
                "receipt": entry.document["receipt"] if entry.document else None,
            },
        )
        for entry in entries
    ]


def verified(content: bytes, given: bytes | None, output: bytes | None) -> dict[str, Any]:
    """The document of `verify-receipt` for a receipt of an order; raises `MalformedMessage`."""
    from deai.order_receipts import read_order_receipt, verify_order_receipt

    receipt = read_order_receipt(content)
    report = verify_order_receipt(receipt, given, output)
    return {
        "ok": report.ok,
        "task_id": receipt.order_id,
        "result": receipt.output_digest,
        "checks": [{"name": one.name, "ok": one.ok, "detail": one.detail} for one in report.checks],
        "transactions": [],
        "note": "That these operators may sign for their nodes, and whether the order was settled, "
        "is for the chain to say; everything else was checked here.",
    }


async def _entry(settings: Settings, text: str) -> OrderEntry | None:
    from deai.client.orders.book import OrderBook

    path = _path(settings)
    if path is None:
        return None
    book = OrderBook(path)
    try:
        return await book.by_id(text)
    finally:
        book.close()


async def _found(book: OrderBook, settings: Settings, text: str) -> OrderEntry:
    from deai.errors import UsageError

    entry = await book.by_id(text)
    assert entry is not None  # asked before
    if settings.only_chain not in (None, entry.chain):
        raise UsageError(
            f"--chain: order {entry.placed.order_id} is on {entry.chain}",
            hint="leave --chain away",
            code="other_chain",
        )
    return entry


async def _show(settings: Settings, text: str) -> dict[str, Any]:
    from deai.client.access import open_reader
    from deai.client.orders import looking
    from deai.client.orders.book import FILE, OrderBook

    book = OrderBook(settings.home / FILE)
    try:
        entry = await _found(book, settings, text)
        there = settings.on(entry.chain)
        async with open_reader(there.network, there.chain) as ledger:
            return await looking.show(book, ledger, entry)
    finally:
        book.close()


async def _result(settings: Settings, text: str) -> TaskOutcome:
    from deai.client.orders.book import FILE, OrderBook
    from deai.client.orders.desk import outcome_of

    book = OrderBook(settings.home / FILE)
    try:
        return await outcome_of(await _found(book, settings, text))
    finally:
        book.close()
