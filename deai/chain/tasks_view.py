"""What a task is now: a pure fold of its events, used alike by client, node and index.

A view never guesses: it holds what the chain reported, in the order of the chain. Its money
always adds up: escrowed = held + paid + refunded + protocol_fee, in base units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import Final, TypeAlias

import msgspec

from deai.errors import IllegalTransition
from deai.events import (
    EquivocationProven,
    LedgerEvent,
    LedgerRecord,
    OutputsApproved,
    Position,
    ResultCommitted,
    ResultDelivered,
    ResultRevealed,
    SeatReassigned,
    SeatReleased,
    SeatSettlement,
    TaskAssigned,
    TaskCancelled,
    TaskExpired,
    TaskFinalised,
    TaskObjected,
    TaskPosted,
)
from deai.hashing import ZERO
from deai.ids import TaskId
from deai.lifecycle import (
    TERMINAL,
    SeatEvent,
    SeatState,
    TaskEvent,
    TaskState,
    advance,
    advance_seat,
)
from deai.tasks import Approval, Opening, Seat, Task, fold_commitments

TaskRecordEvent: TypeAlias = (
    TaskPosted
    | TaskAssigned
    | SeatReassigned
    | SeatReleased
    | ResultCommitted
    | ResultDelivered
    | ResultRevealed
    | OutputsApproved
    | TaskFinalised
    | TaskExpired
    | TaskCancelled
    | TaskObjected
    | EquivocationProven
)
TASK_EVENTS: Final = TaskRecordEvent.__args__


class Verdict(IntEnum):
    """What a seat did, as `SeatSettlement.verdict` numbers it; the numbers are the contract's."""

    NONE = 0  # never committed: refunded
    UNCHECKED = 1  # paid, but nobody checked (`none/1`)
    PAID = 2
    LOST = 3  # another digest than the winner: forfeited
    SILENT = 4  # committed and never revealed: refunded
    FORFEITED = 5  # revealed and unpaid without a lost vote
    FAULT = 6  # a tenth of the fee: all agree that the task itself is bad


_PAID_VERDICTS: Final = (Verdict.UNCHECKED, Verdict.PAID, Verdict.FAULT)


class Money(msgspec.Struct, frozen=True, kw_only=True):
    """Where a task's escrow is; `protocol_fee` includes forfeits and a stranger's `tip`."""

    escrowed: int
    held: int
    paid: int = 0
    refunded: int = 0
    protocol_fee: int = 0
    tip: int = 0
    """What somebody other than the client got for finalising; part of `protocol_fee`."""


class AttemptView(msgspec.Struct, frozen=True, kw_only=True):
    """One holder of one seat, and what became of it."""

    index: int
    """Which seat."""
    seat: Seat
    state: SeatState
    since: Position
    committed_at: Position | None = None
    value: bytes | None = None
    """The commitment, or under `none/1` the delivered output digest."""
    opening: Opening | None = None
    """Only if it was opened on chain before the end."""
    approval: Approval | None = None
    settlement: SeatSettlement | None = None
    ended_at: Position | None = None


class TaskView(msgspec.Struct, frozen=True, kw_only=True):
    """One task as its events tell it."""

    task_id: TaskId
    task: Task
    state: TaskState
    posted: Position
    updated: Position
    money: Money
    committee: tuple[Seat, ...] = ()
    attempts: tuple[AttemptView, ...] = ()
    """Every holder of every seat, in the order in which they got it."""
    current: tuple[int, ...] = ()
    """By seat: the index in `attempts` of its present holder."""
    commitments: tuple[tuple[int, bytes], ...] = ()
    """(seat, value) in the order of the chain."""
    delivered: ResultDelivered | None = None
    settlement: TaskFinalised | None = None
    equivocations: tuple[EquivocationProven, ...] = ()
    transactions: tuple[str, ...] = ()
    """Hashes of the transactions that touched it, in order, each once."""

    @property
    def is_over(self) -> bool:
        """Whether its money is no longer held."""
        return self.state in TERMINAL

    @property
    def result(self) -> bytes | None:
        """The winning output digest."""
        return self.settlement.result if self.settlement is not None else None

    @property
    def acc(self) -> int:
        """The lane's word of commitments; 0 before the first."""
        if not self.commitments:
            return 0
        return fold_commitments(self.task.nonce, self.commitments)

    @property
    def committed(self) -> int:
        """Mask of the seats that committed."""
        return sum(1 << seat for seat, _ in self.commitments)

    @property
    def revealed(self) -> int:
        """Mask of the seats opened on chain."""
        return sum(1 << seat for seat in self.openings)

    @property
    def released(self) -> int:
        """Mask of the seats whose present holder gave it back."""
        return sum(
            1 << seat
            for seat in range(len(self.current))
            if self.attempt(seat).state is SeatState.RELEASED
        )

    @property
    def openings(self) -> dict[int, Opening]:
        """By seat: what was opened on chain."""
        found = (self.attempts[at].opening for at in self.current)
        return {opening.seat: opening for opening in found if opening is not None}

    @property
    def approvals(self) -> dict[int, Approval]:
        """By seat: the approvals recorded on chain."""
        found = (self.attempts[at].approval for at in self.current)
        return {approval.seat: approval for approval in found if approval is not None}

    @property
    def window_from(self) -> int:
        """Chain time from which the window runs; openings are accepted on chain from then."""
        if len(self.commitments) == self.task.seats:
            last = self.attempt(self.commitments[-1][0]).committed_at
            if last is not None:
                return last.time
        return self.task.commit_deadline

    @property
    def window_until(self) -> int:
        """The last second of the window; later anybody settles from what is on chain."""
        return self.window_from + self.task.window

    def attempt(self, seat: int) -> AttemptView:
        """The present holder of `seat` and what it did."""
        return self.attempts[self.current[seat]]


def task_of(event: LedgerEvent) -> TaskId | None:
    """The task that an event belongs to."""
    return event.task_id if isinstance(event, TASK_EVENTS) else None


def fold(records: Iterable[LedgerRecord]) -> TaskView | None:
    """The view after `records` of one task, in chain order; None before it was posted."""
    view: TaskView | None = None
    for record in records:
        view = apply(view, record)
    return view


def apply(view: TaskView | None, record: LedgerRecord) -> TaskView:
    """The view after one more event of the same task.

    Raises `IllegalTransition` for an event of another task or one that cannot follow.
    """
    event, at = record.event, record.position
    if isinstance(event, TaskPosted):
        if view is not None:
            raise IllegalTransition(f"task {event.task_id} was posted before")
        sum_ = event.task.escrowed
        return TaskView(
            task_id=event.task_id,
            task=event.task,
            state=TaskState.PENDING,
            posted=at,
            updated=at,
            money=Money(escrowed=sum_, held=sum_),
            transactions=(at.transaction,),
        )
    if view is None or task_of(event) != view.task_id:
        raise IllegalTransition(f"a {type(event).__name__} belongs to another task")
    seen = view.transactions[-1:] == (at.transaction,)
    view = msgspec.structs.replace(
        view,
        updated=at,
        transactions=view.transactions if seen else (*view.transactions, at.transaction),
    )
    return _follow(view, event, at)


def _follow(view: TaskView, event: LedgerEvent, at: Position) -> TaskView:
    change = msgspec.structs.replace
    match event:
        case TaskAssigned():
            view = _moved(view, TaskEvent.ASSIGNED)
            for index, seat in enumerate(event.committee):
                view = _seated(view, index, seat, at)
            return change(view, committee=event.committee)
        case SeatReleased():
            view = _moved(view, TaskEvent.RELEASED)
            return _seat(view, event.seat, SeatEvent.RELEASED)
        case SeatReassigned():
            view = _moved(view, TaskEvent.REASSIGNED)
            _same_count(view, len(event.committee))
            view = _seat(view, event.seat, SeatEvent.REASSIGNED, ended_at=at)
            view = _seated(view, event.seat, event.committee[event.seat], at)
            return change(view, committee=event.committee)
        case ResultCommitted():
            return _committed(view, event.seat, event.value, at)
        case ResultDelivered():
            view = change(_committed(view, 0, event.output_digest, at), delivered=event)
            opening = Opening(0, event.output_digest, ZERO)
            return _seat(view, 0, SeatEvent.REVEALED, opening=opening)
        case ResultRevealed():
            view = _moved(view, TaskEvent.REVEALED)
            opening = Opening(event.seat, event.digest, event.salt)
            return _seat(view, event.seat, SeatEvent.REVEALED, opening=opening)
        case OutputsApproved():
            view = _moved(view, TaskEvent.APPROVED)
            approval = Approval(event.seat, event.mask, event.signature)
            return _attempt(view, event.seat, lambda now: change(now, approval=approval))
        case TaskFinalised():
            return _finalised(view, event, at)
        case TaskExpired():
            return _ended(_moved(view, TaskEvent.EXPIRED), at, refunded=event.refunded)
        case TaskCancelled():
            return _ended(_moved(view, TaskEvent.CANCELLED), at, refunded=event.refunded)
        case TaskObjected():
            view = _ended(
                _moved(view, TaskEvent.OBJECTED),
                at,
                refunded=event.refunded,
                protocol_fee=event.protocol_fee,
            )
            return _seat(view, 0, SeatEvent.FORFEITED, ended_at=at)
        case EquivocationProven():
            return change(view, equivocations=(*view.equivocations, event))
        case _:
            raise IllegalTransition(f"a {type(event).__name__} is no event of a task")


def _finalised(view: TaskView, event: TaskFinalised, at: Position) -> TaskView:
    _same_count(view, len(event.seats))
    won = event.result is not None and not event.fault
    view = _moved(view, TaskEvent.SETTLED if won else TaskEvent.UNDECIDED)
    for index, outcome in enumerate(event.seats):
        now = view.attempt(index).state
        if outcome.verdict in _PAID_VERDICTS:
            seat_event = SeatEvent.PAID
        elif outcome.verdict == Verdict.SILENT:
            seat_event = SeatEvent.SILENT
        elif now in (SeatState.COMMITTED, SeatState.REVEALED):
            seat_event = SeatEvent.FORFEITED
        else:
            seat_event = SeatEvent.LAPSED
        view = _seat(view, index, seat_event, ended_at=at, settlement=outcome)
    return _ended(
        msgspec.structs.replace(view, settlement=event),
        at,
        paid=sum(outcome.payment for outcome in event.seats),
        refunded=event.refunded,
        protocol_fee=event.protocol_fee + event.tip,
        tip=event.tip,
    )


def _same_count(view: TaskView, named: int) -> None:
    if named != len(view.current):
        raise IllegalTransition(f"{named} seats are named of a task that has {len(view.current)}")


def _ended(
    view: TaskView,
    at: Position,
    *,
    refunded: int,
    paid: int = 0,
    protocol_fee: int = 0,
    tip: int = 0,
) -> TaskView:
    total = view.money.escrowed
    if paid + refunded + protocol_fee != total:
        raise IllegalTransition(
            f"{paid} paid, {refunded} refunded and {protocol_fee} kept are not {total}"
        )
    for index in range(len(view.current)):
        if view.attempt(index).state in (SeatState.HELD, SeatState.RELEASED):
            view = _seat(view, index, SeatEvent.LAPSED, ended_at=at)
    money = Money(
        escrowed=total, held=0, paid=paid, refunded=refunded, protocol_fee=protocol_fee, tip=tip
    )
    return msgspec.structs.replace(view, money=money)


def _moved(view: TaskView, event: TaskEvent) -> TaskView:
    return msgspec.structs.replace(view, state=advance(view.state, event))


def _committed(view: TaskView, seat: int, value: bytes, at: Position) -> TaskView:
    view = _moved(view, TaskEvent.COMMITTED)
    view = msgspec.structs.replace(view, commitments=(*view.commitments, (seat, value)))
    return _seat(view, seat, SeatEvent.COMMITTED, value=value, committed_at=at)


def _seated(view: TaskView, index: int, seat: Seat, at: Position) -> TaskView:
    new = AttemptView(index=index, seat=seat, state=SeatState.HELD, since=at)
    current = list(view.current)
    current[index : index + 1] = [len(view.attempts)]
    return msgspec.structs.replace(view, attempts=(*view.attempts, new), current=tuple(current))


def _seat(view: TaskView, index: int, event: SeatEvent, **fields: object) -> TaskView:
    def step(now: AttemptView) -> AttemptView:
        return msgspec.structs.replace(now, state=advance_seat(now.state, event), **fields)

    return _attempt(view, index, step)


def _attempt(view: TaskView, index: int, step: Callable[[AttemptView], AttemptView]) -> TaskView:
    if not 0 <= index < len(view.current):
        raise IllegalTransition(f"the task has no seat {index}")
    at = view.current[index]
    attempts = (*view.attempts[:at], step(view.attempts[at]), *view.attempts[at + 1 :])
    return msgspec.structs.replace(view, attempts=attempts)
