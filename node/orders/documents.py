"""What orders tell about themselves: sums of a chain, and their part of the earnings.

Amounts are decimal strings in base units. Read from the book, whether a daemon runs or not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from deai.ids import ChainName
from node.orders.book import OrderBook, OrderDay
from node.orders.records import Held, OrderState

Document: TypeAlias = dict[str, Any]
Part: TypeAlias = tuple[Sequence[Held], Sequence[OrderDay]]
"""Of one chain: the orders that are not over, and the sums of those that are."""


async def read(book: OrderBook | None, chain: ChainName) -> Part:
    """What a book holds of a chain; nothing where there is no book. Raises as `OrderBook`."""
    if book is None:
        return (), ()
    return await book.open(chain), await book.days(chain)


async def read_file(path: Path, chains: Sequence[ChainName]) -> dict[ChainName, Part]:
    """The same while no daemon runs; a file that was never written holds nothing."""
    if not path.exists():  # noqa: ASYNC240 - a command's one look
        return dict.fromkeys(chains, ((), ()))
    book = OrderBook(path, read_only=True)
    try:
        return {chain: await read(book, chain) for chain in chains}
    finally:
        book.close()


def sums(part: Part) -> Document:
    """What the orders of one chain come to."""
    open_, days = part
    secured = [one for one in open_ if one.state is OrderState.SECURED]
    return {
        "open": len(open_),
        "secured": len(secured),
        "pending": str(sum(int(one.order.fee) for one in secured)),
        "at_risk": str(sum(int(one.order.fee) for one in open_ if one.is_at_risk)),
        "paid": str(sum(one.paid for one in days)),
        "orders": {
            "paid": sum(one.orders - one.unpaid for one in days),
            "unpaid": sum(one.unpaid for one in days),
        },
    }


def add_earnings(document: Document, parts: Mapping[ChainName, Part]) -> Document:
    """Earnings with what orders brought: settled is paid, secured is pending."""
    each = {chain: sums(part) for chain, part in parts.items()}
    by_day = {one["day"]: int(one["paid"]) for one in document["by_day"]}
    by_workload = {one["workload"]: int(one["paid"]) for one in document["by_workload"]}
    for _, days in parts.values():
        for one in days:
            by_day[one.day] = by_day.get(one.day, 0) + one.paid
            by_workload[one.workload] = by_workload.get(one.workload, 0) + one.paid
    added = {
        **document,
        **_added(document, list(each.values())),
        "by_day": [{"day": day, "paid": str(paid)} for day, paid in sorted(by_day.items())],
        "by_workload": [
            {"workload": name, "paid": str(sum_)} for name, sum_ in by_workload.items()
        ],
        "orders": {
            key: str(sum(int(one[key]) for one in each.values()))
            for key in ("paid", "pending", "at_risk")
        },
    }
    for key in ("paid", "unpaid"):
        added["orders"][f"{key}_orders"] = sum(one["orders"][key] for one in each.values())
    if "by_chain" in document:
        added["by_chain"] = {
            chain: {**part, **_added(part, [each[chain]])}
            for chain, part in document["by_chain"].items()
        }
    return added


def _added(document: Document, parts: list[Document]) -> Document:
    tasks = document["tasks"]
    return {
        "paid": str(int(document["paid"]) + sum(int(one["paid"]) for one in parts)),
        "pending": str(int(document["pending"]) + sum(int(one["pending"]) for one in parts)),
        "tasks": {
            "paid": tasks["paid"] + sum(one["orders"]["paid"] for one in parts),
            "failed": tasks["failed"] + sum(one["orders"]["unpaid"] for one in parts),
        },
    }
