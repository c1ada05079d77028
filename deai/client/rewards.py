"""Rewards as anybody computes them: epochs' statements from the chain's own events.

The arithmetic is that of the library `rewards`, which is handed in. Everything since deployment is
read, because amounts are cumulative; who follows the chain anyhow keeps a `Book` of his own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from deai.chain.ledger import EventBatch, Ledger
from deai.claims import Claim, ClaimTree, Statement, ended_before
from deai.errors import LedgerUnreachable, ProtocolError, UsageError
from deai.events import LedgerRecord, RewardsCancelled, RewardsProposed
from deai.ids import AccountId
from deai.signing import Domain

SILENCE_S: Final = 60.0


class Book(Protocol):
    """One epoch in the making."""

    def apply(self, record: LedgerRecord, /) -> bool:
        """Write down one record; False for one after the epoch's end."""
        ...

    def statement(self) -> Statement:
        """The epoch at its end."""
        ...


class Accounting(Protocol):
    """Opens books."""

    def book(self, domain: Domain, seconds: int, epoch: int, /) -> Book:
        """Of a contract, until the end of an epoch of so many seconds."""
        ...


@dataclass(frozen=True)
class Told:
    """What was proposed for an epoch last, and whether that was taken back."""

    proposal: RewardsProposed
    is_cancelled: bool = False


@dataclass(frozen=True)
class History:
    """Statements of the epochs asked for, and what was proposed, by epoch."""

    statements: dict[int, Statement]
    told: dict[int, Told]


async def read_history(ledger: Ledger, accounting: Accounting, epochs: Collection[int]) -> History:
    """Compute some epochs; raise `UsageError` for one that is not over.

    Raises `MalformedMessage` where the events cannot be a chain's, `NotSetUp` where there are no
    rewards, `LedgerUnreachable`.
    """
    domain, head = ledger.info.rewards, await ledger.head()
    seconds = (await ledger.parameters()).epoch_seconds
    last = ended_before(head.time, seconds)
    for epoch in epochs:
        if not 0 <= epoch <= last:
            raise UsageError(
                f"epoch {epoch} is not over: the last that is was {last}",
                hint=f"an epoch is {seconds} seconds of the chain's time",
                code="epoch_not_over",
            )
    books = {epoch: accounting.book(domain, seconds, epoch) for epoch in epochs}
    told: dict[int, Told] = {}
    async with ledger.follow(None) as batches:
        while True:
            batch = await _next(batches)
            for record in batch.records:
                event = record.event
                if isinstance(event, RewardsProposed):
                    told[event.epoch] = Told(event)
                elif isinstance(event, RewardsCancelled) and event.epoch in told:
                    told[event.epoch] = Told(told[event.epoch].proposal, is_cancelled=True)
                for book in books.values():
                    book.apply(record)
            if batch.cursor.number >= head.number:
                break
    return History({epoch: book.statement() for epoch, book in books.items()}, told)


async def _next(batches: AsyncIterator[EventBatch]) -> EventBatch:
    with trio.move_on_after(SILENCE_S):
        batch = await anext(batches)
        if batch.rewind_to is not None:
            raise LedgerUnreachable("the chain replaced blocks meanwhile: run it again")
        return batch
    raise LedgerUnreachable("the chain's events stopped coming")


def claim_under(statement: Statement, root: bytes, account: AccountId) -> Claim | None:
    """An account's claim under the root in force, None if it was never owed anything.

    Raises `ProtocolError` where that root is not what the chain's events say: nobody but who made
    it up can show what its leaves are.
    """
    if statement.root != root:
        raise ProtocolError(
            f"the root in force for epoch {statement.epoch} is not what the chain's events say",
            hint="nothing can be claimed under it; the next root mends that",
            code="root_differs",
        )
    return ClaimTree(statement.domain, statement.leaves).claim(account)
