"""Money for several tasks at once: what is in the vault, and what is already meant for a task."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from deai.actions import Deposit
from deai.chain.ledger import Ledger
from deai.errors import InsufficientFunds
from deai.ids import AccountId
from deai.money import Amount, format_tokens

FRESH: Final = 2.0
"""Seconds for which what was seen in the vault is believed without looking again."""


class Purse:
    """The paying account. Two tasks of one client never count on the same coin."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._meant = 0
        self._vault = 0
        """What was in the vault when it was looked at, less what was spent since."""
        self._looked_at = float("-inf")
        self._lock = trio.Lock()

    async def check(self, account: AccountId, needed: int) -> int:
        """Base units to deposit so that the vault holds `needed` beside what is meant for others.

        Raises `InsufficientFunds` naming what is missing when vault and wallet do not reach.
        """
        balances = await self._ledger.balances(account)
        self._vault, self._looked_at = balances.vault, trio.current_time()
        free = max(0, balances.vault - self._meant)
        short = max(0, needed - free)
        if balances.tokens < short:
            missing = short - balances.tokens
            raise InsufficientFunds(
                "Insufficient",
                {
                    "account": account,
                    "needed": format_tokens(needed),
                    "has": format_tokens(free + balances.tokens),
                },
                hint=f"send {missing} base units ({format_tokens(missing)}) or more to {account}, "
                "or lower --max-fee",
            )
        return short

    @asynccontextmanager
    async def hold(self, account: AccountId, needed: int, name: str) -> AsyncIterator[None]:
        """While inside, `needed` is in the vault and meant for nobody else.

        What is short is deposited first, once per `name`, however often that is repeated.
        Raises `InsufficientFunds`.
        """
        async with self._lock:
            is_fresh = trio.current_time() - self._looked_at < FRESH
            # Whoever spent it meanwhile: then the contract refuses the task, and is asked again.
            if not is_fresh or self._vault - self._meant < needed:
                short = await self.check(account, needed)
                if short:
                    await self._ledger.submit(Deposit(Amount(short)), key=f"deposit:{name}:{short}")
            self._meant += needed
        try:
            yield
        finally:
            self._meant -= needed
            self._vault -= needed
