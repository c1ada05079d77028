"""Looks at the channels of which a tower holds vouchers, and redeems before a stale close ends.

The node itself has the first quarter of the challenge period, or `patience`, to answer: then the
tower spends no gas. Every channel is read when the tower starts, when the chain tells something
about it, after a rewind, and now and then for good measure; what is decided is decided on the
record read last, by the chain's clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Literal

import msgspec
import trio

from deai.actions import RedeemVoucher
from deai.chain.ledger import Cursor, EventBatch, Ledger
from deai.channels import ChannelState
from deai.client.alone import one_error
from deai.client.tower.shelf import Held, Shelf
from deai.errors import DeaiError, InsufficientFunds, LedgerRejected, LedgerUnreachable
from deai.events import (
    ChannelClosed,
    ChannelClosing,
    ChannelOpened,
    ChannelToppedUp,
    VoucherRedeemed,
)
from deai.ids import ChannelId
from deai.money import Amount

PATIENCE: Final = 60
"""Chain seconds after a client asked to close in which the node may answer by itself."""
LEAST: Final = Amount(10**16)
"""Base units below which no voucher is worth a transaction: 0.01 CT."""
READERS: Final = 8
SENDERS: Final = 4
SWEEP: Final = 600.0
"""Seconds between two looks at everything held, whatever the chain tells."""
FORGET: Final = 3600.0
"""Seconds for which a closed channel is kept: its close may be taken back by a rewind."""
RETRY: Final = 2.0
AGAIN: Final = 30.0
"""Seconds between two answers for one channel."""
LAST_MINUTE: Final = 60
"""Chain seconds before the end of a period in which a better voucher waits for nothing."""
TICK: Final = 1.0
GAS_EVERY: Final = 60.0

_Changed = ChannelOpened | ChannelToppedUp | VoucherRedeemed | ChannelClosing | ChannelClosed


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a tower tells; `amount` is in base units."""

    event: Literal["closing", "answered", "not_needed", "missed", "forgotten", "problem", "solved"]
    channel_id: ChannelId | None = None
    code: str = ""
    detail: str = ""
    amount: Amount | None = None
    transaction: str | None = None


class Watchtower:
    """Watches over a shelf. What it tells goes to `tell`, which must not block."""

    def __init__(
        self,
        ledger: Ledger,
        shelf: Shelf,
        tell: Callable[[Happening], None],
        *,
        patience: int = PATIENCE,
        least: Amount = LEAST,
        gas_needed: int = 0,
    ) -> None:
        """`ledger` sends from the account that pays the gas, `gas_needed` for one answer."""
        self._ledger = ledger
        self._shelf = shelf
        self._tell = tell
        self._patience, self._least, self._gas_needed = patience, least, gas_needed
        self._period = 0
        self._wanted: set[ChannelId] = set()
        self._wake = trio.Event()
        self._readers = trio.CapacityLimiter(READERS)
        self._senders = trio.CapacityLimiter(SENDERS)
        self._answering: set[ChannelId] = set()
        self.time = 0
        """Of the newest block seen, in chain seconds."""
        self.answered = 0
        self.missed = 0
        self.problems: dict[str, str] = {}
        """What keeps the tower from its work now: code and reason."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch until cancelled; started once every voucher on the shelf was looked at.

        A chain that does not answer is asked again for ever.
        """
        head = await self._patiently()
        self.look(self._shelf.held)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow, head)
            nursery.start_soon(self._sweep)
            if self._gas_needed:
                nursery.start_soon(self._mind_gas)
            await nursery.start(self._work)
            task_status.started()

    def look(self, channels: Iterable[ChannelId]) -> None:
        """Read these channels soon."""
        self._wanted |= set(channels)
        self._wake.set()

    # --- learning -----------------------------------------------------------------------------

    async def _patiently(self) -> Cursor:
        """Where the chain stands now: what happens later is followed, the rest is looked up."""
        while True:
            try:
                head = await self._ledger.head()
                self._period = (await self._ledger.parameters()).close_period
            except LedgerUnreachable as error:
                self._problem("chain", str(error))
                await trio.sleep(RETRY)
            else:
                self._solved("chain")
                self.time = head.time
                return Cursor(head.number, head.hash)

    async def _follow(self, cursor: Cursor) -> None:
        while True:
            try:
                with one_error():
                    async with self._ledger.follow(cursor) as batches:
                        async for batch in batches:
                            self._notice(batch)
                            cursor = batch.cursor
            except LedgerUnreachable as error:
                self._problem("chain", str(error))
            await trio.sleep(RETRY)

    def _notice(self, batch: EventBatch) -> None:
        self._solved("chain")
        self.time = batch.head.time
        if batch.rewind_to is not None:
            self.look(self._shelf.held)
        for record in batch.records:
            event = record.event
            if isinstance(event, _Changed) and event.channel_id in self._shelf.held:
                self.look((event.channel_id,))
        self._wake.set()

    async def _sweep(self) -> None:
        while True:
            await trio.sleep(SWEEP)
            now = trio.current_time()
            for held in list(self._shelf.held.values()):
                if held.is_gone and held.gone_at is not None and now - held.gone_at >= FORGET:
                    self._shelf.forget(held)
                    self._tell(Happening(event="forgotten", channel_id=held.id))
            self.look(self._shelf.held)

    async def _read(self, held: Held) -> None:
        try:
            async with self._readers:
                record = await self._ledger.channel(held.id)
        except LedgerUnreachable as error:
            self._problem("chain", str(error))
            self._wanted.add(held.id)  # and the next tick tries again
            return
        was = held.record
        held.record = record
        if not held.is_gone:
            held.gone_at = None
        elif held.gone_at is None:
            held.gone_at = trio.current_time()
        is_closing = record.state is ChannelState.CLOSING
        if is_closing and (was is None or was.closes_at != record.closes_at):
            self._tell(Happening(event="closing", channel_id=held.id, amount=held.worth))

    # --- answering ----------------------------------------------------------------------------

    async def _work(self, *, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as answers:
            await self._read_all()
            task_status.started()
            while True:
                for held in list(self._shelf.held.values()):
                    if held.id in self._answering or held.id in self._wanted:
                        continue  # what is known of it is about to change
                    if self._is_due(held):
                        self._answering.add(held.id)
                        answers.start_soon(self._answer, held)
                with trio.move_on_after(TICK):
                    await self._wake.wait()
                if self._wanted:
                    await trio.sleep(TICK / 10)  # what comes together is read together
                await self._read_all()

    async def _read_all(self) -> None:
        self._wake = trio.Event()
        wanted, self._wanted = self._wanted, set()
        async with trio.open_nursery() as nursery:
            for id_ in wanted:
                if (held := self._shelf.held.get(id_)) is not None:
                    nursery.start_soon(self._read, held)

    def _is_due(self, held: Held) -> bool:
        record = held.record
        if record is None or record.state is not ChannelState.CLOSING:
            return False
        if held.worth < max(1, self._least):
            return False
        if self.time > record.closes_at:
            if not held.is_missed:
                held.is_missed, self.missed = True, self.missed + 1
                self._tell(Happening(event="missed", channel_id=held.id, amount=held.worth))
            return False
        asked_at = record.closes_at - self._period
        if self.time < asked_at + min(self._patience, self._period // 4):
            return False
        is_urgent = self.time >= record.closes_at - LAST_MINUTE and not held.refusals
        return is_urgent or trio.current_time() >= held.not_before

    async def _answer(self, held: Held) -> None:
        """Redeem; whatever comes of it, the channel is read before the next answer."""
        try:
            pause = await self._redeem(held)
            held.not_before = trio.current_time() + pause
            await self._read(held)
        finally:
            self._answering.discard(held.id)

    async def _redeem(self, held: Held) -> float:
        """Try it; the seconds after which it may be tried again."""
        voucher, worth = held.voucher, held.worth
        claimed = held.record.claimed if held.record else 0
        key = (
            f"RedeemVoucher:{held.id}:{voucher.epoch}:{int(voucher.cumulative_amount)}"
            f":{int(claimed)}:{held.refusals}"
        )
        try:
            async with self._senders:
                done = await self._ledger.submit(RedeemVoucher(held.channel, voucher), key=key)
        except InsufficientFunds as error:
            held.refusals += 1
            self._problem("gas", str(error))
        except LedgerRejected as error:
            # Usually somebody else was faster: the node, or another tower.
            held.refusals += 1
            self._tell(
                Happening(
                    event="not_needed", channel_id=held.id, code=error.name, detail=str(error)
                )
            )
        except DeaiError as error:
            self._problem(error.reason_code, str(error))
            return RETRY
        else:
            self.answered += 1
            self._solved("gas")
            self._tell(
                Happening(event="answered", channel_id=held.id, amount=worth, transaction=done.hash)
            )
        return AGAIN

    # --- what is wrong ------------------------------------------------------------------------

    async def _mind_gas(self) -> None:
        """Tell before it matters that the account cannot pay for an answer."""
        account = self._ledger.account
        while account is not None:
            try:
                has = (await self._ledger.balances(account)).gas
            except LedgerUnreachable as error:
                self._problem("chain", str(error))
            else:
                if has < self._gas_needed:
                    self._problem("gas", f"{account} cannot pay for a transaction")
                else:
                    self._solved("gas")
            await trio.sleep(GAS_EVERY)

    def _problem(self, code: str, detail: str) -> None:
        if code not in self.problems:
            self._tell(Happening(event="problem", code=code, detail=detail))
        self.problems[code] = detail

    def _solved(self, code: str) -> None:
        if self.problems.pop(code, None) is not None:
            self._tell(Happening(event="solved", code=code))
