"""What a client set aside for orders: which nonces it may use, and what is spoken for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from deai.chain.ledger import Ledger
from deai.client.orders.book import OrderBook
from deai.errors import InsufficientFunds
from deai.ids import AccountId
from deai.money import format_tokens, typed_amount
from deai.orders import PAGE_ORDERS, OrderBalance

FEW: Final = 64
"""Nonces left on the newest page at which the next one is bought along."""
MAX_PAGES: Final = 4096
PAGES_USED: Final = 8
"""The newest ones, from which nonces are taken."""
FUND: Final = "deai orders fund"


@dataclass(frozen=True, slots=True)
class Purse:
    """What the chain and the book say of an account's orders."""

    balance: OrderBalance
    pages: dict[int, int]
    """The newest pages that were bought, by number: the chain's words."""
    promised: int
    """What orders may cost that are signed and neither settled nor over; base units."""
    now: int
    block: int

    @property
    def free(self) -> int:
        """What another order may cost."""
        return max(0, self.balance.free - self.promised)

    @property
    def nonces(self) -> int:
        """Nonces of these pages that the chain has not settled."""
        return sum(PAGE_ORDERS + 1 - word.bit_count() for word in self.pages.values())

    @property
    def next_page(self) -> int:
        """Which page to buy with the next deposit: one that is bought already costs nothing."""
        if not self.pages:
            return 0
        newest = max(self.pages)
        return newest if self.nonces >= FEW else newest + 1


async def look(ledger: Ledger, book: OrderBook, account: AccountId) -> Purse:
    """Read it; raises `NotSetUp` where there are no orders, and `LedgerUnreachable`."""
    balance = await ledger.order_balance(account)
    head = await ledger.head()
    page = await book.highest_page(ledger.info.name, account)
    first = max(0, page - 1)
    pages: dict[int, int] = {}
    # One after the other: a home that signed nothing yet does not know how many were bought.
    for number in range(first, first + MAX_PAGES):
        word = await ledger.order_page(account, number)
        if not word & 1:
            break
        pages[number] = word
        pages.pop(number - PAGES_USED, None)
    promised = await book.promised(ledger.info.name, account, pages, head.time)
    return Purse(balance, pages, promised, head.time, head.number)


def check(purse: Purse, cost: int, account: AccountId) -> None:
    """Raise `InsufficientFunds` where less than an order costs is free for it."""
    if purse.free >= cost:
        return
    missing = typed_amount(cost - purse.free)
    raise InsufficientFunds(
        "Insufficient",
        {"account": account, "needed": format_tokens(cost), "has": format_tokens(purse.free)},
        hint=f"{FUND} {missing} sets so much aside for orders, or lower --max-fee; what open "
        "orders may cost and what thaws is not counted",
    )
