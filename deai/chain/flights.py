"""Intents between their first bytes and their outcome, and the callers who wait for it.

What a sender of any chain has to remember beside its outbox. How bytes are numbered, sent and
found again is the chain's own, and stays with its sender.
"""

from __future__ import annotations

import msgspec
import trio

from deai.chain.ledger import Transaction
from deai.chain.outbox import FLYING, REVERTED, Attempt, Intent, Outbox
from deai.chain.refusals import refusal
from deai.errors import LedgerRejected, LedgerUnreachable


class Flights:
    """Of one sender. `patience` is how many seconds a caller waits for the end of a flight."""

    def __init__(self, outbox: Outbox, patience: float) -> None:
        self.flying: dict[str, Intent] = {}
        """By key: what was sent, or is about to be, and is not final."""
        self._outbox = outbox
        self._patience = patience
        self._landed: dict[str, trio.Event] = {}
        self._troubles: dict[str, LedgerRejected] = {}
        self._changed = trio.Event()

    def take_off(self, intent: Intent) -> None:
        """From now on it is looked after; the outbox has it already."""
        self.flying[intent.key] = intent
        self._landed.setdefault(intent.key, trio.Event())
        self._wake()

    async def room(self, most: int) -> None:
        """Wait until fewer than `most` fly; raise `LedgerUnreachable` when patience ends."""
        with trio.move_on_after(self._patience):
            while len(self.flying) >= most:
                await self._changed.wait()
            return
        raise LedgerUnreachable(
            f"{most} earlier transactions of this account are not final yet",
            hint="nothing was sent; the same command tries again",
        )

    async def departure(self) -> None:
        """Wait until something flies."""
        while not self.flying:
            await self._changed.wait()

    async def replace(self, intent: Intent, attempt: Attempt) -> None:
        """New bytes for an intent, with another fee or nonce: on disk, then in the table."""
        with trio.CancelScope(shield=True):
            await self._outbox.run(self._outbox.add_attempt, intent.key, attempt)
            self.flying[intent.key] = msgspec.structs.replace(
                intent, nonce=attempt.nonce, attempts=(*intent.attempts, attempt)
            )

    def trouble(self, key: str, error: LedgerRejected) -> None:
        """Let the caller hear of it; the intent stays in flight and goes out when it may."""
        self._troubles[key] = error
        if (landed := self._landed.get(key)) is not None:
            landed.set()

    def solved(self, key: str) -> None:
        """A trouble is over, or shall be tried again: callers wait anew."""
        if self._troubles.pop(key, None) is not None:
            self._landed[key] = trio.Event()

    def arrived(self, key: str) -> None:
        """Its outcome is on disk."""
        self.flying.pop(key, None)
        self._troubles.pop(key, None)
        if (landed := self._landed.pop(key, None)) is not None:
            landed.set()
        self._wake()

    async def land(self, key: str) -> Transaction:
        """Wait for the end of a flight.

        Raises `LedgerRejected` for a trouble or the contract's refusal, `LedgerUnreachable` when
        patience ends.
        """
        if (landed := self._landed.get(key)) is not None:
            with trio.move_on_after(self._patience):
                await landed.wait()
        if (trouble := self._troubles.get(key)) is not None:
            raise trouble
        intent = await self._outbox.run(self._outbox.find, key)
        if intent is None or intent.state == FLYING:
            raise LedgerUnreachable(
                "the transaction was sent, and is not final yet",
                hint="the same command continues where this one stopped waiting",
            )
        if intent.state == REVERTED:
            name, arguments = intent.refusal or ("Reverted", {})
            raise refusal(name, arguments)
        return intent.transaction

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
