"""A client's channel as this process knows it, whether the client is linked or not.

No I/O: the session of a link calls it with what arrives, what was computed and what was paid.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import trio

from deai.channels import ChannelRecord, ChannelState
from deai.lane.messages import Hello, Pay
from deai.lane.payee import Payee, Taken
from deai.lane.receipts import MAX_TASK_BYTES, Terms, lane_seed, task_leaves, terms_hash
from deai.ports import Failure
from node.lane.columns import Parcel, Shelf
from node.lane.deaths import Deaths
from node.lane.tables import Entry

if TYPE_CHECKING:
    from node.lane.session import Session

FREE_FAULTS: Final = 64
FAULT_PERCENT: Final = 5
MAX_SHELF_BYTES: Final = 8 << 20
"""Of unpaid outputs kept for one channel; more than a window of the largest."""
BATCH_SECONDS: Final = 0.05
"""A batch should not take longer, so that others get their turn and results come steadily."""
MAX_BATCH: Final = 512
MAX_BATCH_BYTES: Final = 512 * 1024
_SMOOTHING: Final = 0.3


@dataclass(eq=False, slots=True)
class Agreement:
    """Terms that were agreed, and what the tasks under them have shown."""

    number: int
    terms: Terms
    hash: bytes
    seed: bytes
    price: int
    seconds: float = BATCH_SECONDS / 16
    """One task, smoothed; a first guess makes the first batches small."""

    @classmethod
    def of(cls, number: int, terms: Terms) -> Agreement:
        """What is the same for all tasks, computed once."""
        digest = terms_hash(terms)
        return cls(number, terms, digest, lane_seed(digest), int(terms.price))

    @property
    def batch(self) -> int:
        """How many tasks are handed over together at most."""
        return max(1, min(MAX_BATCH, int(BATCH_SECONDS / max(self.seconds, 1e-6))))

    def took(self, tasks: int, seconds: float) -> None:
        """So long lasted a batch."""
        self.seconds += (seconds / tasks - self.seconds) * _SMOOTHING


@dataclass(slots=True)
class _Run:
    """Results of one workload that follow each other and are not paid."""

    workload: str
    price: int
    tasks: int


@dataclass(eq=False, kw_only=True)
class Account:
    """One epoch of one channel: its book, its unpaid results, and its link if there is one."""

    payee: Payee
    entry: Entry
    record: ChannelRecord
    read_at: float
    """Local time at which the record was read."""
    agreements: dict[int, Agreement] = field(default_factory=dict)
    shelf: Shelf = field(default_factory=Shelf)
    session: Session | None = None
    left_at: float = 0.0
    """Local time at which the last link was lost."""
    paid_at: float = field(default_factory=trio.current_time)
    """Local time of its last voucher, or of its coming."""
    deaths: Deaths = field(default_factory=Deaths)
    """Of workers, over tasks of its client."""
    delivered: int = 0
    faulty: int = 0
    undurable: int = 0
    """Vouchers taken that the disk does not have yet."""
    is_late: bool = False
    """It let its credit run out, and has not paid since."""
    is_stale: bool = False
    """The chain was not asked about it for too long."""
    idle: trio.Event = field(default_factory=trio.Event)
    """Nothing is executing."""
    _runs: deque[_Run] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.idle.set()

    @property
    def owes_too_many_faults(self) -> bool:
        """Whether more of its tasks were bad than anybody computes for nothing."""
        return self.faulty > FREE_FAULTS + self.delivered * FAULT_PERCENT // 100

    def may_start(self, agreement: Agreement) -> int:
        """How many tasks credit, windows, deposit and memory cover now."""
        if self.record.state is not ChannelState.OPEN or self.owes_too_many_faults:
            return 0
        if self.deaths.banned_for(trio.current_time()):
            return 0
        if self.is_stale or self.shelf.bytes > MAX_SHELF_BYTES:
            return 0
        return self.payee.may_start(agreement.price)

    def lacks_deposit(self, price: int) -> bool:
        """Whether no credit could help: the deposit is spent."""
        payee = self.payee
        left = int(payee.deposit) - int(payee.standing.cumulative)
        return left - payee.owed < price

    def started(self, agreement: Agreement, tasks: int) -> None:
        """So many tasks were handed to a worker."""
        self.payee.started(tasks, agreement.price)
        if self.idle.is_set():
            self.idle = trio.Event()

    def finished(
        self,
        agreement: Agreement,
        ids: list[int],
        inputs: list[bytes],
        answers: Sequence[bytes | Failure],
    ) -> tuple[Parcel | None, list[tuple[int, int, str]]]:
        """What a worker has made of them: results, and (id, fault, reason) of the others."""
        faults: list[tuple[int, int, str]] = []
        if not all(type(one) is bytes and len(one) <= MAX_TASK_BYTES for one in answers):
            ids, inputs, answers, faults = self._sorted_out(agreement, ids, inputs, answers)
        parcel = None
        if ids:
            outputs: list[bytes] = list(answers)  # type: ignore[arg-type] # sorted out above
            payee = self.payee
            first = payee.next_index
            payee.delivered(task_leaves(agreement.hash, first, inputs, outputs), agreement.price)
            parcel = Parcel(agreement.number, first, ids, outputs)
            self.shelf.add(parcel)
            self.delivered += len(ids)
            self._ran(agreement, len(ids))
        if not self.payee.executing:
            self.idle.set()
        return parcel, faults

    def _sorted_out(
        self,
        agreement: Agreement,
        ids: list[int],
        inputs: list[bytes],
        answers: Sequence[bytes | Failure],
    ) -> tuple[list[int], list[bytes], list[bytes], list[tuple[int, int, str]]]:
        good: tuple[list[int], list[bytes], list[bytes]] = ([], [], [])
        faults: list[tuple[int, int, str]] = []
        for id_, given, answer in zip(ids, inputs, answers, strict=True):
            if isinstance(answer, Failure):
                self.faulty += answer.fault > 0
                faults.append((id_, answer.fault, answer.reason[:512]))
            elif len(answer) > MAX_TASK_BYTES:
                faults.append((id_, 0, f"an output of {len(answer)} bytes is too large here"))
            else:
                for column, value in zip(good, (id_, given, answer), strict=True):
                    column.append(value)  # type: ignore[attr-defined] # three columns, three types
        self.payee.gave_up(len(faults), agreement.price)
        return *good, faults

    def _ran(self, agreement: Agreement, tasks: int) -> None:
        last = self._runs[-1] if self._runs else None
        if last and (last.workload, last.price) == (agreement.terms.workload, agreement.price):
            last.tasks += tasks
        else:
            self._runs.append(_Run(agreement.terms.workload, agreement.price, tasks))

    def take(self, pay: Pay) -> Taken:
        """Count the next voucher; raises as `Payee.take`."""
        taken = self.payee.take(pay)
        self.is_late = False
        self.shelf.drop_before(int(taken.standing.paid))
        left, work = pay.tasks, self.entry.work
        while left and self._runs:
            run = self._runs[0]
            tasks = min(left, run.tasks)
            work[run.workload] = work.get(run.workload, 0) + tasks * run.price
            run.tasks, left = run.tasks - tasks, left - tasks
            if not run.tasks:
                self._runs.popleft()
        return taken

    def resume(self, hello: Hello) -> int:
        """The client is here again; from which index results are to be sent. See `Payee`.

        Raises `MalformedMessage`.
        """
        before = self.payee.standing
        is_same_life = hello.life == self.payee.life
        first = self.payee.resume(hello)
        if not is_same_life:
            self.shelf.drop_from(self.payee.next_index)
            self._written_off()
        self.agreements.clear()  # agreed anew on every link
        if self.payee.standing != before:
            self.entry.standing = self.payee.standing
        return first

    def _written_off(self) -> None:
        """Forget the workloads of results that are not due any more."""
        surplus = sum(run.tasks for run in self._runs) - len(self.payee.due)
        while surplus > 0 and self._runs:
            run = self._runs[-1]
            tasks = min(surplus, run.tasks)
            run.tasks, surplus = run.tasks - tasks, surplus - tasks
            if not run.tasks:
                self._runs.pop()

    def write_off(self) -> None:
        """It is forgotten here, and what it owes with it."""
        self.payee.write_off(len(self.payee.due))
        self.entry.standing = self.payee.standing

    def late(self) -> None:
        """It let its credit run out: trust begins anew."""
        self.payee.late()
        self.entry.standing = self.payee.standing
        self.is_late = True

    def see(self, record: ChannelRecord, at: float) -> bool:
        """What the chain says now; whether it is still this epoch and holds something."""
        self.record, self.read_at, self.is_stale = record, at, False
        same = record.epoch == self.payee.epoch and bool(record.deposit)
        if same:
            self.payee.deposit = record.deposit
        return same
