"""Rewards as anybody computes them: epochs' statements from the chain's own events.

The arithmetic is that of the library `rewards`, which is handed in. Everything since deployment is
read, because amounts are cumulative; who follows the chain goes on with the book that he kept.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Final, Protocol

import trio

from deai.chain.ledger import EventBatch, Head, Ledger
from deai.claims import Claim, ClaimTree, Statement, ended_before, epoch_of
from deai.errors import LedgerUnreachable, ProtocolError, UsageError
from deai.events import LedgerEvent, LedgerRecord, RewardsCancelled, RewardsProposed
from deai.ids import AccountId
from deai.signing import Domain

SILENCE_S: Final = 60.0
KEPT_EPOCHS: Final = 2
"""The last so many that are over are kept as statements, beside those that were asked for."""


class Book(Protocol):
    """The accounts of a contract, epoch after epoch."""

    def apply(self, record: LedgerRecord, /) -> bool:
        """Write down one record; False for one after the epoch's end."""
        ...

    def statement(self) -> Statement:
        """The epoch at its end."""
        ...

    def go_on(self, epoch: int, /) -> None:
        """Until the end of a later epoch."""
        ...


class Accounting(Protocol):
    """Opens books."""

    def book(self, domain: Domain, seconds: int, epoch: int, /) -> Book:
        """Of a contract, until the end of an epoch of so many seconds."""
        ...


@dataclass(frozen=True)
class Told:
    """What was proposed for an epoch last, in which transaction, and whether it was taken back."""

    proposal: RewardsProposed
    transaction: str
    is_cancelled: bool = False

    def agrees(self, found: Statement) -> bool:
        """Whether it is what a statement says, to the bit."""
        said = self.proposal
        return (said.root, said.total, said.statement) == (found.root, found.total, found.digest)


@dataclass(frozen=True)
class History:
    """Statements of the epochs asked for, and what was proposed, by epoch."""

    statements: dict[int, Statement]
    told: dict[int, Told]


class Bookkeeper:
    """A book that is kept batch by batch, from deployment on.

    `statements` has the epochs of `wanted` and the last ones that are over, unless much is still
    to be read; `told` what was proposed for each epoch last. Batches that replace blocks are the
    caller's to refuse.
    """

    def __init__(
        self, accounting: Accounting, domain: Domain, seconds: int, wanted: Iterable[int] = ()
    ) -> None:
        self.seconds: Final = seconds
        self.statements: Final[dict[int, Statement]] = {}
        self.told: Final[dict[int, Told]] = {}
        self.noted = 0
        """How often a root was proposed or taken back."""
        self._wanted = frozenset(wanted)
        self.is_current = False
        """Whether everything was read that there was when the reading began."""
        self._book = accounting.book(domain, seconds, 0)
        self._now = 0
        self._mark: Head | None = None
        """The end of the chain at an earlier batch."""

    @property
    def last(self) -> int:
        """The last epoch that is over and read to its end; -1 before there is one."""
        return self._now - 1

    def take(self, batch: EventBatch) -> None:
        """Write down a batch; raises `MalformedMessage` for events that are no chain's."""
        last = ended_before(batch.head.time, self.seconds)
        for record in batch.records:
            self._begin(epoch_of(record.position.time, self.seconds), last)
            self._book.apply(record)
            self._note(record.event, record.position.transaction)
        # What is read is not the chain's end for long, or ever: a transaction that still runs holds
        # up the blocks behind it. So it is compared with where the end was when it was looked at.
        for head in (self._mark or batch.head, batch.head):
            if batch.cursor.number >= head.number:
                self.is_current = True
                self.close(ended_before(head.time, self.seconds))
                self._mark = None
        self._mark = self._mark or batch.head

    def close(self, last: int) -> None:
        """No record of `last` or an epoch before it is still to come."""
        self._begin(last + 1, last)

    def _begin(self, epoch: int, last: int) -> None:
        """Epochs before this one are complete; `last` is the last that is over by now."""
        if epoch <= self._now:
            return
        last = max(last, epoch - 1)
        recent = range(last + 1 - KEPT_EPOCHS, last + 1)
        for one in [one for one in self.statements if one not in {*self._wanted, *recent}]:
            del self.statements[one]
        for one in sorted({*self._wanted, *recent}):
            if self._now <= one < epoch:
                self._book.go_on(one)
                self.statements[one] = self._book.statement()
        self._book.go_on(epoch)
        self._now = epoch

    def _note(self, event: LedgerEvent, transaction: str) -> None:
        if isinstance(event, RewardsProposed):
            self.told[event.epoch] = Told(event, transaction)
        elif isinstance(event, RewardsCancelled) and event.epoch in self.told:
            self.told[event.epoch] = replace(self.told[event.epoch], is_cancelled=True)
        else:
            return
        self.noted += 1


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
    keeper = Bookkeeper(accounting, domain, seconds, epochs)
    async with ledger.follow(None) as batches:
        while True:
            batch = await _next(batches)
            keeper.take(batch)
            if batch.cursor.number >= head.number:
                break
    keeper.close(last)
    return History({epoch: keeper.statements[epoch] for epoch in epochs}, keeper.told)


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
            hint="nothing can be claimed under it until a right root of as large a total follows",
            code="root_differs",
        )
    return ClaimTree(statement.domain, statement.leaves).claim(account)
