"""Roots that are proposed, and proposed roots that are checked, as long as a program runs.

Both follow the chain with one book, so that an epoch costs what happened in it and no more. What a
program did before is on the chain and in its outbox: one intent for each root proposed and for each
proposal taken back, so that nothing is lost or sent twice when it is started again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
import trio

from deai.actions import CancelRewards, ProposeRewards
from deai.chain.ledger import Cursor, EventBatch, Head, Ledger
from deai.claims import NO_ROOT, Proposed, RewardsRecord, Statement
from deai.client.rewards import SILENCE_S, Accounting, Bookkeeper, Told, read_history
from deai.errors import ConfigError, DeaiError, LedgerRejected, LedgerUnreachable, MalformedMessage

RETRY_S: Final = 20.0
"""Between two tries of what the chain refused, or could not be asked."""
TOLD_S: Final = 10.0
"""Between two words about how far the chain is read."""


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """What a follower did or found. Times in seconds of the chain, sums in base units."""

    event: str
    epoch: int | None = None
    root: bytes | None = None
    total: int | None = None
    accounts: int | None = None
    expected: bytes | None = None
    """The root that the chain's events give, where another one stands."""
    active_at: int | None = None
    transaction: str | None = None
    next_at: int | None = None
    """When the present epoch ends."""
    block: int | None = None
    head: int | None = None
    code: str = ""
    detail: str = ""


Tell = Callable[[Notice], None]
Visit = Callable[[Bookkeeper, Head], Awaitable[bool]]
"""Called whenever all blocks are read; True ends the following."""


async def follow_book(ledger: Ledger, accounting: Accounting, tell: Tell, visit: Visit) -> None:
    """Keep a book of a chain and visit it after every batch, until a visit says that it ends.

    A chain that does not answer, and what it refuses, are told and tried again; raises
    `LedgerRejected` (`Forbidden`) where the key may not do this, `NotSetUp` without rewards.
    """
    await _Following(ledger, accounting, tell, visit).run()


class _Following:
    def __init__(self, ledger: Ledger, accounting: Accounting, tell: Tell, visit: Visit) -> None:
        self._ledger = ledger
        self._accounting = accounting
        self._tell = tell
        self._visit = visit
        self._domain = ledger.info.rewards
        self._cursor: Cursor | None = None
        self._is_ready = False
        self._told_at = self._retry_at = float("-inf")
        self._trouble = ""

    async def run(self) -> None:
        seconds = (await self._ledger.parameters()).epoch_seconds
        # Epochs of long ago maybe, and whoever checks them need not read everything once more.
        wanted = [one.epoch for one in _roots(await self._ledger.rewards())]
        while not await self._keep(Bookkeeper(self._accounting, self._domain, seconds, wanted)):
            pass

    async def _keep(self, keeper: Bookkeeper) -> bool:
        """True at the end, False when a book is of another history than the chain's."""
        self._cursor = None
        try:
            while not await self._follow(keeper):
                if self._cursor is None:
                    return False
        except MalformedMessage as error:
            self._note("events", str(error))
            await trio.sleep(RETRY_S)
            return False
        return True

    async def _follow(self, keeper: Bookkeeper) -> bool:
        """Go on with a book; True at the end, False when the chain fell silent.

        Without a cursor then, blocks of the book were replaced.
        """
        async with self._ledger.follow(self._cursor) as batches:
            while True:
                batch: EventBatch | None = None
                with trio.move_on_after(SILENCE_S):
                    batch = await anext(batches)
                if batch is None:
                    self._note("chain", "the chain's events do not come")
                    return False
                if batch.rewind_to is not None:
                    self._cursor = None
                    return False
                keeper.take(batch)
                self._cursor = batch.cursor
                if not keeper.is_current:
                    self._progress(batch)
                elif await self._look(keeper, batch.head):
                    return True

    async def _look(self, keeper: Bookkeeper, head: Head) -> bool:
        if not self._is_ready:
            self._is_ready = True
            end = (keeper.last + 2) * keeper.seconds
            self._tell(Notice(event="ready", epoch=keeper.last, next_at=end))
        if trio.current_time() < self._retry_at:
            return False
        try:
            is_over = await self._visit(keeper, head)
        except DeaiError as error:
            if not _is_passing(error):
                raise
            self._note(_code(error), str(error))
            self._retry_at = trio.current_time() + RETRY_S
            return False
        if self._trouble:
            self._trouble = ""
            self._tell(Notice(event="solved"))
        return is_over

    def _progress(self, batch: EventBatch) -> None:
        if trio.current_time() - self._told_at >= TOLD_S:
            self._told_at = trio.current_time()
            at, head = batch.cursor.number, batch.head.number
            self._tell(Notice(event="reading", block=at, head=head))

    def _note(self, code: str, detail: str) -> None:
        if self._trouble != code:
            self._tell(Notice(event="problem", code=code, detail=detail))
        self._trouble = code


def _is_passing(error: DeaiError) -> bool:
    """Whether the same may be well in a while."""
    if isinstance(error, LedgerRejected):
        return error.name != "Forbidden"
    if isinstance(error, ConfigError):
        return error.reason_code == "outbox_in_use"
    return isinstance(error, LedgerUnreachable | MalformedMessage)


def _code(error: DeaiError) -> str:
    return error.name if isinstance(error, LedgerRejected) else error.reason_code


class Proposer:
    """Puts the root of each epoch on chain once it is over; the newest, where several are.

    What is there already, or says no more than what is in force, is left as it is.
    """

    def __init__(self, ledger: Ledger, tell: Tell) -> None:
        self._ledger = ledger
        self._tell = tell
        self._done = -1
        """The last epoch with which nothing is left to do."""
        self._held_by: tuple[int, int] | None = None
        """Epoch of a root that waits, and until when: only one can."""
        self.proposed = 0

    async def visit(self, keeper: Bookkeeper, head: Head) -> bool:
        """Propose what has to be; see `follow_book` for what is raised."""
        if (epoch := keeper.last) <= self._done or self._is_held(keeper, head):
            return False
        if (found := keeper.statements.get(epoch)) is None:
            return False  # later ones are over by now, and about to be read
        record = await self._ledger.rewards()
        event, waiting = self._before(found, record, keeper.told.get(epoch)), record.waiting
        if event:
            self._say(keeper, event, found, record)
        if waiting is not None and event in ("held", "wrong"):
            self._held_by = waiting.epoch, waiting.active_at
            return False
        if not event:
            await self._propose(keeper, found)
        self._done = epoch
        return False

    def _is_held(self, keeper: Bookkeeper, head: Head) -> bool:
        """Whether the root that waited when the chain was asked waits still."""
        if self._held_by is None:
            return False
        epoch, until = self._held_by
        told = keeper.told.get(epoch)
        if head.time >= until or (told is not None and told.is_cancelled):
            self._held_by = None
        return self._held_by is not None

    @staticmethod
    def _before(found: Statement, record: RewardsRecord, told: Told | None) -> str:
        """Why a statement's root need not or cannot be proposed; empty if it has to be."""
        if found.root == NO_ROOT:
            return "nothing_owed"
        if (there := _root_of(found.epoch, record)) is not None:
            same = (there.root, there.total) == (found.root, found.total)
            return "proposed_before" if same else "wrong"
        if record.waiting is not None:
            return "held"
        if record.epoch > found.epoch:
            return "proposed_before"
        if (record.root, record.total) == (found.root, found.total):
            return "nothing_new"
        if found.total < record.total:
            return "total_falls"  # a wrong root is in force; no smaller total is taken
        taken_back = told is not None and told.is_cancelled and told.agrees(found)
        return "cancelled_before" if taken_back else ""

    async def _propose(self, keeper: Bookkeeper, found: Statement) -> None:
        action = ProposeRewards(found.epoch, found.root, found.total, found.digest)
        # What is refused costs nothing to ask, and money to send.
        await self._ledger.simulate(action)
        key = f"ProposeRewards:{found.epoch}:{found.digest.hex()[:16]}"
        done = await self._ledger.submit(action, key=key)
        record = await self._ledger.rewards()
        if _root_of(found.epoch, record) is None:
            # The intent was carried out in an earlier life of this program, and taken back.
            self._say(keeper, "cancelled_before", found, record)
            return
        self.proposed += 1
        self._say(keeper, "proposed", found, record, done.hash)

    def _say(
        self, keeper: Bookkeeper, event: str, found: Statement, record: RewardsRecord,
        transaction: str | None = None,
    ) -> None:  # fmt: skip
        """Tell about an epoch: what the contract has for it, or else what was computed."""
        there = _root_of(found.epoch, record) or Proposed(found.epoch, found.root, found.total, 0)
        waiting = record.waiting
        self._tell(
            Notice(
                event=event, epoch=found.epoch, root=there.root, total=int(there.total),
                accounts=len(found.leaves), expected=found.root if event == "wrong" else None,
                active_at=None if waiting is None else waiting.active_at,
                transaction=transaction, next_at=(keeper.last + 2) * keeper.seconds,
            )
        )  # fmt: skip


class Checker:
    """Computes again what was proposed; with `cancels`, takes a wrong root back while it waits.

    Without, the first wrong one ends the following.
    """

    def __init__(
        self, ledger: Ledger, accounting: Accounting, tell: Tell, *, cancels: bool
    ) -> None:
        self._ledger = ledger
        self._accounting = accounting
        self._tell = tell
        self._cancels = cancels
        self._noted = -1
        self._right: set[str] = set()
        """Transactions whose proposals were checked and found right, of roots in play."""
        self._wrong: set[str] = set()
        """Others, told already."""
        self.checked = 0
        self.cancelled = 0
        self._standing: set[str] = set()

    @property
    def standing(self) -> int:
        """Wrong roots that could not be taken back, or were not to be."""
        return len(self._standing)

    async def visit(self, keeper: Bookkeeper, _: Head) -> bool:
        """Check what was not; see `follow_book` for what is raised."""
        if keeper.noted == self._noted:
            return False
        noted = keeper.noted
        for one in _roots(await self._ledger.rewards()):
            told = keeper.told.get(one.epoch)
            said = None if told is None else (told.proposal.root, told.proposal.total)
            if told is None or told.is_cancelled or said != (one.root, one.total):
                return False  # the contract was asked of a later block than was read
            if told.transaction in self._right | self._standing:
                continue
            found = keeper.statements.get(one.epoch)
            if found is None:
                history = await read_history(self._ledger, self._accounting, {one.epoch})
                found = history.statements[one.epoch]
            if told.agrees(found):
                self._right.add(told.transaction)
                self.checked += 1
                self._say("right", told, found)
            elif await self._is_the_end(told, found, waits=bool(one.active_at)):
                return True
        self._noted = noted
        return False

    async def _is_the_end(self, told: Told, found: Statement, *, waits: bool) -> bool:
        if told.transaction not in self._wrong:
            self._wrong.add(told.transaction)
            self.checked += 1
            self._say("wrong", told, found)
        if not self._cancels or not waits:
            self._standing.add(told.transaction)
            return not self._cancels
        action = CancelRewards(found.epoch, told.proposal.root)
        done = await self._ledger.submit(action, key=f"CancelRewards:{told.transaction}")
        self.cancelled += 1
        self._say("cancelled", told, found, transaction=done.hash)
        return False

    def _say(
        self, event: str, told: Told, found: Statement, *, transaction: str | None = None
    ) -> None:
        said = told.proposal
        notice = Notice(
            event=event, epoch=found.epoch, root=said.root, total=int(said.total),
            accounts=len(found.leaves), expected=None if event == "right" else found.root,
            active_at=said.active_at, transaction=transaction or told.transaction,
        )  # fmt: skip
        self._tell(notice)


def _roots(record: RewardsRecord) -> list[Proposed]:
    """The root in force, as one that became active at 0, and the one that waits."""
    found = [Proposed(record.epoch, record.root, record.total, 0)] if record.epoch else []
    return found if record.waiting is None else [*found, record.waiting]


def _root_of(epoch: int, record: RewardsRecord) -> Proposed | None:
    return next((one for one in _roots(record) if one.epoch == epoch), None)
