"""One link of a client that pays by vouchers: what arrives, what is computed, what is answered.

No task of trio's and no write per task of the client's. What is to be said is collected and
becomes messages when the link has written what it was given, so that writes grow with load; while
more is being computed they are `GAP` apart. Work is handed to a worker as far as credit and
deposit cover it, in batches, and the next batch starts where the last one's answer arrives.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final

import structlog
import trio

from deai.channels import ChannelState
from deai.errors import DeaiError, LimitExceeded, NodeFault, PeerUnreachable, ProtocolError
from deai.lane.messages import (
    MAX_TASKS,
    Agreed,
    Ask,
    Credit,
    Faults,
    Halt,
    LaneMessage,
    LookAgain,
    Pay,
    Receipts,
    Refused,
    Work,
)
from deai.lane.receipts import sign_window
from deai.net import Link
from deai.ports import Batch, BatchExecutor, Failure
from node.lane.account import Account, Agreement
from node.lane.columns import Parcel, as_messages
from node.lane.deaths import is_deadly
from node.lane.house import House
from node.lane.queue import Queue

logger = structlog.get_logger(__name__)

MAX_AGREEMENTS: Final = 256
MAX_UNDURABLE: Final = 256
"""Vouchers that the disk does not have yet; nothing more is read until it has."""
DISK_TIME: Final = 30.0
"""Seconds for the disk to take some of them."""
GAP: Final = 0.001
"""Seconds between two writes of a steady stream."""
SLICE: Final = 0.5
"""Seconds for which a worker is kept while others wait for one."""
IDLE: Final = 0.05
"""Seconds after which a worker with nothing to do is given back to others who wait."""
IDLE_ALONE: Final = 2.0
"""The same while nobody waits."""
UNPAID_AFTER: Final = 2.0
"""Seconds for which a full credit line may stay unpaid."""
TICK: Final = 0.25
MIN_TIMEOUT: Final = 30.0
UNIT_SECONDS: Final = 0.2
"""Allowed per cost unit, of which one is some 10 ms of a core."""
MAX_TIMEOUT: Final = 600.0
_MAX_SIGNATURES: Final = 1024
_TOLD_SHARE: Final = 8
"""Credit is told again when it has changed by this part of itself."""


class Session:
    """The life of one link; `run` is all of it."""

    def __init__(
        self, house: House, account: Account, link: Link[LaneMessage], client: str
    ) -> None:
        """`client` names whose worker it is; the greeting has been answered."""
        self._house = house
        self._account = account
        self._link = link
        self._client = client
        self._queue = Queue()
        self._agreed: set[int] = set()
        self._executor: BatchExecutor | None = None
        self._answered_at = 0.0
        self._to_work = trio.Event()
        self._to_write = trio.Event()
        self._durable = trio.Event()
        self._at_rest = trio.Event()
        self._replies: list[LaneMessage] = []
        self._acknowledged: list[bytes] = []
        self._number = 0
        self._parcels: list[Parcel] = []
        self._faults: list[tuple[int, int, str]] = []
        self._told = (int(account.payee.credit), int(account.payee.deposit))
        self._tell_credit = False
        """However little it has changed."""
        self._halted = ""
        self._starved_since: float | None = None
        self._is_over = False
        self._error: DeaiError | None = None
        self._reading = trio.CancelScope()
        self._waiting_for_worker = trio.CancelScope()
        self._is_waiting = False
        self.ended = trio.Event()

    @property
    def queued(self) -> int:
        """Tasks that wait to be computed."""
        return self._queue.tasks

    def resend(self, parcels: Sequence[Parcel]) -> None:
        """Before `run`: results that the client has not seen."""
        self._parcels += parcels
        self._to_write.set()

    def recall(self, number: int, signatures: list[bytes]) -> None:
        """Before `run`: receipts up to `number` that the client has not seen."""
        self._number, self._acknowledged = number, signatures
        self._to_write.set()

    def end(self, halt: Halt | None = None) -> None:
        """Read no more; what is being computed is still finished."""
        if halt is not None:
            self._say(halt)
        self._is_over = True
        self._reading.cancel()
        self._wake_worker()
        if self._is_waiting:
            self._waiting_for_worker.cancel()

    async def run(self) -> None:
        """Until the link or the channel ends; raises `PeerUnreachable` or `ProtocolError`."""
        account = self._account
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._work)
                async with trio.open_nursery() as beside:
                    beside.start_soon(self._write)
                    beside.start_soon(self._mind)
                    with self._reading:
                        await self._read()
                    self.end()
                    if not isinstance(self._error, PeerUnreachable):
                        with trio.move_on_after(UNPAID_AFTER), suppress(PeerUnreachable):
                            await self._write_all()
                            await self._link.drained()
                    beside.cancel_scope.cancel()
        finally:
            if account.session is self:
                account.session = None
                account.left_at = trio.current_time()
            self.ended.set()
        if self._error is not None:
            raise self._error

    # --- what arrives -------------------------------------------------------------------------

    async def _read(self) -> None:
        try:
            while not self._is_over:
                self._take(await self._link.receive())
                await self._room_for_vouchers()
        except ProtocolError as error:
            code = error.reason_code
            self._say(Halt(code, str(error)[:512]))
            self._house.said_no(f"lane_{code}"[:48], str(error), "a client broke the protocol")
            self._error = error
        except PeerUnreachable as error:
            self._error = error

    async def _room_for_vouchers(self) -> None:
        """Take no more of them than the disk has room for; raise `ProtocolError` in the end."""
        try:
            with trio.fail_after(DISK_TIME):
                while self._account.undurable > MAX_UNDURABLE:
                    self._durable = trio.Event()
                    await self._durable.wait()
        except trio.TooSlowError:
            raise ProtocolError("the node's disk takes nothing", code="store_full") from None

    def _take(self, message: LaneMessage) -> None:
        match message:
            case Work():
                self._asked_for(message)
            case Pay():
                self._paid(message)
            case Ask():
                self._asked_whether(message)
            case LookAgain():
                self._house.look_again(self._account)
            case _:
                raise ProtocolError(f"a client does not say {type(message).__name__}")

    def _asked_whether(self, ask: Ask) -> None:
        if len(self._agreed) >= MAX_AGREEMENTS or ask.number in self._agreed:
            raise ProtocolError("too many agreements, or two of one number", code="bad_terms")
        self._agreed.add(ask.number)
        refusal = self._house.judge(ask.terms, self._account)
        if refusal is None:
            self._account.agreements[ask.number] = Agreement.of(ask.number, ask.terms)
            self._say(Agreed(ask.number))
            return
        self._account.agreements.pop(ask.number, None)
        self._house.said_no(refusal.code, refusal.reason, refusal.hint)
        self._say(Refused(ask.number, refusal.code, refusal.reason))

    def _asked_for(self, work: Work) -> None:
        agreement = self._account.agreements.get(work.terms)
        if agreement is None or work.terms not in self._agreed:
            raise ProtocolError(f"nothing was agreed as {work.terms}", code="bad_terms")
        self._queue.add(agreement, work)
        # Not at once: whatever else has arrived goes into the same batch.
        self._wake_worker()

    def _paid(self, pay: Pay) -> None:
        account, house = self._account, self._house
        if account.record.state is ChannelState.CLOSED:
            raise ProtocolError("the channel is closed", code="closed")
        before = int(account.payee.standing.cumulative)
        taken = account.take(pay)
        signature = b""
        if taken.window is not None:
            signature = sign_window(account.payee.domain, house.signer, taken.window)
        account.undurable += 1
        house.counted("lane.vouchers")
        house.counted("lane.paid", pay.tasks)
        house.counted("lane.promised", int(pay.cumulative_amount) - before)

        def done() -> None:
            account.undurable -= 1
            self._acknowledged.append(signature)
            self._number = pay.number
            self._durable.set()
            self._to_write.set()

        account.paid_at = trio.current_time()
        house.book.voucher(account.entry, pay, taken, signature, house.now(), done)
        self._starved_since = None
        self._wake_worker()

    # --- what is computed ---------------------------------------------------------------------

    def _wake_worker(self) -> None:
        self._to_work.set()

    @property
    def _may_work(self) -> bool:
        """Whether a worker would have something to do."""
        if self._is_over or not self._queue or self._house.closed_because() is not None:
            return False
        return self._account.may_start(self._queue.first) > 0

    async def _work(self) -> None:
        """Take a worker while there is something to do, for a time; again and again."""
        while not self._is_over:
            if not self._may_work:
                self._to_work = trio.Event()
                await self._to_work.wait()
                continue
            try:
                self._is_waiting = True
                with trio.CancelScope() as self._waiting_for_worker:
                    async with self._house.workbench.batches(self._client) as executor:
                        self._is_waiting = False
                        await self._shift(executor)
            except (NodeFault, LimitExceeded) as error:
                self._house.said_no("node_fault", str(error), error.hint or "deai node doctor")
                await trio.sleep(TICK)
            finally:
                self._is_waiting = False

    async def _shift(self, executor: BatchExecutor) -> None:
        began = idle_since = trio.current_time()
        self._executor = executor
        try:
            while not self._is_over:
                self._pump()
                now = trio.current_time()
                if self._account.payee.executing:
                    idle_since = now
                is_wanted = executor.is_wanted
                if is_wanted and now - began >= SLICE:
                    return
                if now - idle_since >= (IDLE if is_wanted else IDLE_ALONE):
                    return
                self._to_work = trio.Event()
                with trio.move_on_after(IDLE):
                    await self._to_work.wait()
        finally:
            self._executor = None

    def _pump(self) -> None:
        """Start what may be started."""
        executor, account = self._executor, self._account
        while self._queue and executor is not None and executor.free > 0 and self._may_work:
            agreement = self._queue.first
            most = min(account.may_start(agreement), agreement.batch)
            self._submit(executor, agreement, *self._queue.take(most))

    def _submit(
        self, executor: BatchExecutor, agreement: Agreement, ids: list[int], inputs: list[bytes]
    ) -> None:
        terms, account = agreement.terms, self._account
        submitted = trio.current_time()
        allowed = MIN_TIMEOUT + UNIT_SECONDS * terms.max_units * len(ids)

        def done(answers: Sequence[bytes | Failure]) -> None:
            now = trio.current_time()
            agreement.took(len(ids), now - max(submitted, self._answered_at))
            self._answered_at = now
            self._computed(agreement, ids, inputs, answers)

        account.started(agreement, len(ids))
        executor.submit(
            Batch(
                workload=terms.workload,
                version=terms.version,
                model=terms.model,
                parameters=terms.parameters,
                seed=agreement.seed,
                max_units=terms.max_units,
                inputs=inputs,
            ),
            done,
            timeout=min(MAX_TIMEOUT, allowed),
        )

    def _computed(
        self,
        agreement: Agreement,
        ids: list[int],
        inputs: list[bytes],
        answers: Sequence[bytes | Failure],
    ) -> None:
        parcel, faults = self._account.finished(agreement, ids, inputs, answers)
        if faults and is_deadly(answers):
            self._house.counted("lane.worker_deaths")
            self._account.deaths.note(trio.current_time())
        self._house.counted("lane.tasks", len(ids) - len(faults))
        if faults:
            self._house.counted("lane.faults", len(faults))
            self._faults += faults
        if parcel is not None:
            self._parcels.append(parcel)
        self._to_write.set()
        self._pump()
        if not self._queue and not self._account.payee.executing:
            self._at_rest.set()

    # --- what is said -------------------------------------------------------------------------

    def _say(self, message: LaneMessage) -> None:
        self._replies.append(message)
        self._to_write.set()

    async def _write(self) -> None:
        written_at = -GAP
        try:
            while True:
                await self._to_write.wait()
                # What else is computed now may share a write; a lone result waits for nothing.
                gap = written_at + GAP - trio.current_time()
                if gap > 0 and (self._queue or self._account.payee.executing):
                    with trio.move_on_after(gap):
                        self._at_rest = trio.Event()
                        await self._at_rest.wait()
                await self._write_all()
                written_at = trio.current_time()
        except PeerUnreachable as error:
            self._error = self._error or error
            self._reading.cancel()

    async def _write_all(self) -> None:
        """Say everything that there is to say, when the link has said what it was given."""
        await self._link.drained()
        self._to_write = trio.Event()
        for message in self._messages():
            await self._link.send(message)

    def _messages(self) -> Iterator[LaneMessage]:
        replies, self._replies = self._replies, []
        signatures, self._acknowledged = self._acknowledged, []
        parcels, self._parcels = self._parcels, []
        faults, self._faults = self._faults, []
        first = self._number - len(signatures)
        for at in range(0, len(signatures), _MAX_SIGNATURES):
            some = signatures[at : at + _MAX_SIGNATURES]
            yield Receipts(first + at + len(some), some)
        if (credit := self._news_of_credit()) is not None:
            yield credit
        for at in range(0, len(faults), MAX_TASKS):
            ids, codes, reasons = zip(*faults[at : at + MAX_TASKS], strict=True)
            yield Faults(list(ids), list(codes), list(reasons))
        yield from as_messages(parcels)
        yield from replies

    def _news_of_credit(self) -> Credit | None:
        payee = self._account.payee
        credit, deposit = int(payee.credit), int(payee.deposit)
        told, told_deposit = self._told
        share = 0 if self._tell_credit else told // _TOLD_SHARE
        self._tell_credit = False
        if deposit == told_deposit and abs(credit - told) <= share:
            return None
        self._told = credit, deposit
        return Credit(payee.credit, payee.deposit)

    # --- why nothing is done ------------------------------------------------------------------

    async def _mind(self) -> None:
        while True:
            await trio.sleep(TICK)
            self.look()

    def look(self) -> None:
        """Whether work waits, and why; what changes without a message is noticed here."""
        payee = self._account.payee
        if (int(payee.credit), int(payee.deposit)) != self._told:
            self._tell_credit = True
            self._to_write.set()
        if self._may_work:
            self._wake_worker()
        halt = self._why_not()
        if halt is None:
            self._halted = ""
            return
        if halt.code != self._halted:
            self._halted = halt.code
            self._house.said_no(f"lane_{halt.code}"[:48], halt.reason)
            self._say(halt)

    def _why_not(self) -> Halt | None:
        """Why waiting work is not started, if there is something to say about it."""
        account = self._account
        if account.record.state is ChannelState.CLOSING:
            return Halt("closing", "the channel is being closed: nothing more is computed for it")
        if not self._queue:
            self._starved_since = None
            return None
        if (closed := self._house.closed_because()) is not None:
            return Halt(*closed)
        if account.is_stale:
            return Halt("chain", "the chain does not answer, so the deposit cannot be checked")
        if (banned := account.deaths.banned_for(trio.current_time())) > 0:
            return Halt(
                "worker_deaths",
                f"too many workers ended over this client's tasks; come again in {banned:.0f} s",
            )
        if account.owes_too_many_faults:
            return Halt("too_many_faults", "more bad tasks than are looked at for nothing")
        price = self._queue.first.price
        if account.may_start(self._queue.first) or account.payee.executing:
            self._starved_since = None
            return None
        if account.lacks_deposit(price):
            return Halt("deposit", "the deposit does not cover another task")
        now = trio.current_time()
        self._starved_since = now if self._starved_since is None else self._starved_since
        if now - self._starved_since < UNPAID_AFTER or self._parcels:
            return None
        if account.payee.due and not account.is_late:
            account.late()
            self._house.book.changed(account.entry)
        return Halt("unpaid", f"{account.payee.owed} base units are owed; pay to go on")
