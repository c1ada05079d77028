"""What a pool's node earned and nobody has shared out yet."""

from __future__ import annotations

from typing import Final

from deai.chain.ledger import ORDERS_CONTRACT, Ledger
from deai.ids import AccountId

KEPT: Final = 1
"""Base units that always stay in the account that owns the node: to empty it would cost gas."""


async def waiting_income(ledger: Ledger, owner: AccountId) -> int:
    """Base units that the next transaction about the pool of `owner` shares out.

    They lie in its vault, in its wallet, and where signed orders are settled.
    """
    has = await ledger.balances(owner)
    income = has.vault + max(0, has.tokens - KEPT)
    if ORDERS_CONTRACT in ledger.info.contracts:
        income += (await ledger.order_earnings(owner)).earned
    return income
