"""The client's orders: submitting, looking, and the money set aside for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deai.client.handle import TaskHandle, TaskOutcome
from deai.client.journal import Offload, in_a_thread
from deai.client.kept import read_outcome
from deai.client.orders import looking, money
from deai.client.orders.book import FILE, OrderBook, OrderEntry
from deai.client.orders.submission import OrderSubmission, check_request
from deai.client.requests import Prepared
from deai.client.updates import Feed
from deai.errors import Declined

if TYPE_CHECKING:
    from deai.client.tools import Tools


class OrderDesk:
    """Opens the book when it is first needed: most clients sign no orders."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._book: OrderBook | None = None

    @property
    def book(self) -> OrderBook:
        """The client's file of orders; raises `ConfigError`."""
        if self._book is None:
            self._book = OrderBook(self._tools.home / FILE, self._tools.offload)
        return self._book

    def close(self) -> None:
        """Close the file, if it was opened."""
        if self._book is not None:
            self._book.close()
            self._book = None

    def check(self, prepared: Prepared) -> None:
        """Raise `UsageError` for what cannot be paid by an order, `NotSetUp` without a contract."""
        check_request(prepared)
        _ = self._tools.ledger.info.orders

    async def check_key(self, prepared: Prepared) -> None:
        """For tasks of the escrow: raise `UsageError` if an order has the request's key."""
        key, tools = prepared.request.idempotency_key, self._tools
        if key and (self._book is not None or (tools.home / FILE).exists()):
            await self.book.find(tools.ledger.info.name, tools.account, prepared.digest, key)

    async def carry(self, prepared: Prepared, handle: TaskHandle, feed: Feed) -> TaskOutcome:
        """Submit a request, or go on with it; raises as `OrderSubmission.run`."""
        return await OrderSubmission(self._tools, self.book, prepared, handle, feed).run()

    async def find(self, task: str) -> OrderEntry | None:
        """An order of this home, by id or unique prefix."""
        if self._book is None and not (self._tools.home / FILE).exists():
            return None
        return await self.book.by_id(task)

    async def result(self, entry: OrderEntry) -> TaskOutcome:
        """The outcome of an order that has ended; raises `Declined` for one that goes on."""
        return await outcome_of(entry, self._tools.offload)

    async def show(self, entry: OrderEntry) -> dict[str, Any]:
        """The document of an order as it stands now."""
        return await looking.show(self.book, self._tools.ledger, entry)

    async def purse(self) -> money.Purse:
        """What is set aside, and what of it is spoken for."""
        return await money.look(self._tools.ledger, self.book, self._tools.account)


async def outcome_of(entry: OrderEntry, offload: Offload = in_a_thread) -> TaskOutcome:
    """The outcome of an order as this machine kept it; raises `Declined` for one that goes on."""
    if entry.document is None:
        raise Declined(
            f"order {entry.placed.order_id} goes on",
            hint="the same `deai task submit` command takes it to its end",
            code="order_open",
        )
    return await read_outcome(entry.document, entry.output, offload)
