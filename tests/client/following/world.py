"""A chain on trio's clock, and programs that propose and check the roots of its epochs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec
import trio

from deai import actions as act
from deai.chain.ledger import Cursor, EventBatch, Head, Transaction
from deai.chain.memory import MemoryChain, MemoryLedger
from deai.claims import Reason, RewardsRecord, Share, Statement
from deai.client.rewards import Bookkeeper, read_history
from deai.client.rewards_following import Checker, Notice, Proposer, follow_book
from deai.errors import LedgerRejected
from deai.hashing import ZERO
from deai.ids import AccountId
from deai.money import Amount
from rewards.rules import RULES
from tests.client.support.world import PARAMETERS, signer

ONE, TWO = (AccountId(f"0x{n:040x}") for n in (1, 2))
HOLDER, OTHER = signer("holder").account, signer("other").account
SECONDS, DELAY = PARAMETERS.epoch_seconds, PARAMETERS.reward_delay
LIE = b"\x13" * 32


class Watched(MemoryLedger):
    """A ledger that counts what is read and sent, and may be out of reach."""

    followed: list[Cursor | None]
    sent: list[act.Action]
    trouble: Exception | None = None
    """What asking about rewards, and sending, meets with."""
    is_silent = False
    is_behind = False
    """Whether the chain has always one block more than was read."""

    def __init__(self, chain: MemoryChain, account: AccountId | None) -> None:
        super().__init__(chain, account)
        self.followed, self.sent = [], []

    @asynccontextmanager
    async def follow(self, cursor: Cursor | None) -> AsyncIterator[AsyncIterator[EventBatch]]:
        self.followed.append(cursor)
        async with super().follow(cursor) as batches:
            quiet = self._quiet(batches)
            try:
                yield quiet
            finally:
                await quiet.aclose()

    async def _quiet(self, batches: AsyncIterator[EventBatch]) -> AsyncGenerator[EventBatch, None]:
        async for batch in batches:
            if self.is_silent:
                await trio.sleep_forever()
            head = batch.head
            if self.is_behind:
                head = Head(head.number + 1, "", head.time)
            yield msgspec.structs.replace(batch, head=head)

    async def rewards(self) -> RewardsRecord:
        if self.trouble is not None:
            raise self.trouble
        return await super().rewards()

    async def submit(self, action: act.Action, *, key: str = "") -> Transaction:
        self.sent.append(action)
        return await super().submit(action, key=key)


@dataclass
class Here:
    """A chain on trio's clock, and programs that follow it."""

    chain: MemoryChain
    nursery: trio.Nursery
    told: list[Notice] = field(default_factory=list)
    ended: list[object] = field(default_factory=list)
    _keys: int = 0

    @property
    def epoch(self) -> int:
        """The present one."""
        return self.chain.now // SECONDS

    def events(self) -> list[str]:
        return [one.event for one in self.told]

    async def until(self, met: Callable[[], object], seconds: float = 300.0) -> None:
        with trio.fail_after(seconds):
            while not met():
                await trio.sleep(0.25)

    async def hear(self, event: str, times: int = 1) -> Notice:
        """The `times`-th notice of that kind."""
        await self.until(lambda: self.events().count(event) >= times)
        return [one for one in self.told if one.event == event][times - 1]

    async def send(self, action: act.Action) -> Transaction:
        self._keys += 1
        return await self.chain.ledger(HOLDER).submit(action, key=f"{self._keys}")

    async def fund(self, amount: int, to: AccountId = ONE) -> None:
        shares = (Share(to, Amount(amount)),)
        await self.send(act.FundRewards(Amount(amount), Reason.AUDIT, shares))

    async def lie(self, epoch: int) -> None:
        """A root that nobody's events give, proposed with the proposer's key."""
        await self.send(act.ProposeRewards(epoch, LIE, Amount(10), ZERO))

    def pass_(self, seconds: int) -> None:
        self.chain.advance(seconds)

    def over(self) -> int:
        """Let the present epoch end."""
        epoch = self.epoch
        self.chain.advance((epoch + 1) * SECONDS - self.chain.now)
        return epoch

    async def record(self) -> RewardsRecord:
        return await self.chain.ledger().rewards()

    async def computed(self, epoch: int) -> Statement:
        history = await read_history(self.chain.ledger(), RULES, {epoch})
        return history.statements[epoch]

    def ledger(self, account: AccountId | None = HOLDER) -> Watched:
        return Watched(self.chain, account)

    def propose(self, ledger: Watched | None = None) -> tuple[Watched, trio.CancelScope]:
        """Start a proposer; its ledger, and what ends it."""
        ledger = ledger or self.ledger()
        proposer = Proposer(ledger, self.told.append)
        return ledger, self._start(ledger, proposer.visit)

    def check(self, *, cancels: bool, ledger: Watched | None = None) -> tuple[Watched, Checker]:
        ledger = ledger or self.ledger(HOLDER if cancels else None)
        checker = Checker(ledger, RULES, self.told.append, cancels=cancels)
        self._start(ledger, checker.visit)
        return ledger, checker

    def _start(
        self, ledger: Watched, visit: Callable[[Bookkeeper, Head], object]
    ) -> trio.CancelScope:
        scope = trio.CancelScope()

        async def run() -> None:
            with scope:
                try:
                    await follow_book(ledger, RULES, self.told.append, visit)  # type: ignore[arg-type]
                    self.ended.append(None)
                except LedgerRejected as error:
                    self.ended.append(error)

        self.nursery.start_soon(run)
        return scope
