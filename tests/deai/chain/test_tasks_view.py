"""Folding a task's events into its view."""

from __future__ import annotations

import msgspec
import pytest

from deai.chain.tasks_view import TaskView, apply, fold, task_of
from deai.errors import IllegalTransition
from deai.events import (
    FeesSwept,
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
from deai.ids import AccountId, NodeId, TaskId, node_id
from deai.lifecycle import SeatState, TaskState
from deai.money import Amount
from deai.tasks import Policy, Seat, Task, fold_commitments

CLIENT = AccountId("0x" + "c1" * 20)
ID = TaskId("0x" + "77" * 32)
FEE = Amount(1_000)


def nodes(count: int) -> list[NodeId]:
    return [node_id(AccountId(f"0x{i:040x}"), 0) for i in range(1, count + 1)]


def seats(count: int) -> tuple[Seat, ...]:
    return tuple(Seat(n, AccountId("0x" + "0b" * 20), 100, 0) for n in nodes(count))


def task(count: int = 3, policy: Policy = Policy.EXACT) -> Task:
    return Task(
        CLIENT, 0, 1, FEE, Amount(7), count, policy, 60, 1_000, 600, bytes(32)
    )  # fmt: skip


def records(*events: LedgerEvent) -> list[LedgerRecord]:
    return [
        LedgerRecord(Position(i, 0, f"0x{i:064x}", 10 * i, f"0xt{i}"), event)
        for i, event in enumerate(events, 1)
    ]


def settled(*payments: tuple[int, int], **fields: object) -> TaskFinalised:
    total = task(len(payments)).escrowed
    paid = sum(payment for payment, _ in payments)
    event = TaskFinalised(
        ID, b"r" * 32, False, Amount(7), Amount(total - paid - 7), CLIENT, Amount(0),
        tuple(SeatSettlement(Amount(p), 100_000, 100_000, v) for p, v in payments),
    )  # fmt: skip
    return msgspec.structs.replace(event, **fields)


def view_of(*events: LedgerEvent) -> TaskView:
    view: TaskView | None = None
    for record in records(*events):
        view = apply(view, record)
        money = view.money
        assert money.escrowed == money.held + money.paid + money.refunded + money.protocol_fee
    assert view is not None
    assert fold(records(*events)) == view
    return view


def commit(seat: int, attempt: int = 0) -> ResultCommitted:
    return ResultCommitted(ID, seat, attempt, bytes([seat + 1]) * 32)


def test_a_posted_task_holds_all_of_its_escrow() -> None:
    view = view_of(TaskPosted(ID, task()))
    assert view.state is TaskState.PENDING
    assert view.money.held == 3_007
    assert not view.is_over


def test_commitments_are_kept_in_the_order_of_the_chain_and_give_the_lanes_word() -> None:
    events: list[LedgerEvent] = [
        TaskPosted(ID, task()),
        TaskAssigned(ID, seats(3)),
        commit(2),
        commit(0),
        commit(1),
    ]
    view = view_of(*events)
    assert [seat for seat, _ in view.commitments] == [2, 0, 1]
    assert view.acc == fold_commitments(1, view.commitments)
    assert view.committed == 0b111
    assert view.window_from == 50, "from the block in which the last seat committed"
    assert view_of(*events[:-1]).window_from == 1_000, "else from the commit deadline"


def test_settling_pays_forfeits_and_marks_the_silent() -> None:
    view = view_of(
        TaskPosted(ID, task()), TaskAssigned(ID, seats(3)), commit(0), commit(1), commit(2),
        ResultRevealed(ID, 0, b"r" * 32, b"s" * 32), ResultRevealed(ID, 1, b"x" * 32, b"s" * 32),
        settled((860, 2), (0, 3), (0, 4), tip=Amount(7), refunded=Amount(1_000),
                protocol_fee=Amount(1_140)),
    )  # fmt: skip
    assert view.state is TaskState.COMPLETED
    assert view.result == b"r" * 32
    assert [view.attempt(i).state for i in range(3)] == [
        SeatState.PAID, SeatState.FORFEITED, SeatState.SILENT,
    ]  # fmt: skip
    assert view.money.protocol_fee == 1_147, "a tip to a stranger is part of what was kept"
    assert view.money.held == 0


def test_nobody_winning_fails_the_task_and_forfeits_the_revealed_seats() -> None:
    view = view_of(
        TaskPosted(ID, task()), TaskAssigned(ID, seats(3)), commit(0), commit(1),
        settled((0, 0), (0, 0), (0, 0), result=None, refunded=Amount(1_007),
                protocol_fee=Amount(2_000)),
    )  # fmt: skip
    assert view.state is TaskState.FAILED
    assert view.result is None
    assert [view.attempt(i).state for i in range(3)] == [
        SeatState.FORFEITED, SeatState.FORFEITED, SeatState.LAPSED,
    ]  # fmt: skip


def test_a_fault_ends_failed_although_its_seats_are_paid() -> None:
    view = view_of(
        TaskPosted(ID, task()), TaskAssigned(ID, seats(3)), commit(0), commit(1), commit(2),
        settled((100, 1), (100, 1), (100, 1), fault=True, refunded=Amount(2_707),
                protocol_fee=Amount(0)),
    )  # fmt: skip
    assert view.state is TaskState.FAILED
    assert view.money.paid == 300


def test_a_seat_is_released_reassigned_and_its_first_holder_stays_in_the_history() -> None:
    old = seats(3)
    new = (old[0], Seat(nodes(4)[3], AccountId("0x" + "0c" * 20), 200, 1), old[2])
    view = view_of(
        TaskPosted(ID, task()), TaskAssigned(ID, old), SeatReleased(ID, 1),
        SeatReassigned(ID, 1, old[1].node, True, new), commit(1, 1),
    )  # fmt: skip
    assert view.committee == new
    assert view.released == 0
    assert [a.state for a in view.attempts if a.index == 1] == [
        SeatState.REPLACED, SeatState.COMMITTED,
    ]  # fmt: skip
    assert view.attempt(1).seat.attempt == 1


def test_an_unchecked_result_is_committed_and_revealed_at_once() -> None:
    delivered = ResultDelivered(ID, nodes(1)[0], b"o" * 32, b"e" * 32)
    start: list[LedgerEvent] = [
        TaskPosted(ID, task(1, Policy.NONE)),
        TaskAssigned(ID, seats(1)),
        delivered,
    ]
    view = view_of(*start)
    assert view.attempt(0).state is SeatState.REVEALED
    assert view.delivered == delivered
    assert view.window_from == 30
    objected = view_of(*start, TaskObjected(ID, Amount(1_000), Amount(7)))
    assert objected.state is TaskState.FAILED
    assert objected.attempt(0).state is SeatState.FORFEITED
    paid = view_of(*start, settled((860, 1)))
    assert paid.state is TaskState.COMPLETED


@pytest.mark.parametrize("assigned", [True, False])
def test_expiry_and_cancellation_give_everything_back(assigned: bool) -> None:
    start: list[LedgerEvent] = [TaskPosted(ID, task())]
    if assigned:
        start.append(TaskAssigned(ID, seats(3)))
    expired = view_of(*start, TaskExpired(ID, Amount(3_007)))
    assert expired.state is TaskState.FAILED
    assert expired.money.refunded == 3_007
    if not assigned:
        cancelled = view_of(*start, TaskCancelled(ID, Amount(3_007)))
        assert cancelled.state is TaskState.CANCELLED


def test_approvals_are_kept_by_seat() -> None:
    view = view_of(
        TaskPosted(ID, task(3, Policy.TOL32)), TaskAssigned(ID, seats(3)), commit(0),
        OutputsApproved(ID, 0, 0b101, b"s" * 64),
    )  # fmt: skip
    assert view.approvals[0].mask == 0b101


def test_sums_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(IllegalTransition, match="are not 3007"):
        view_of(TaskPosted(ID, task()), TaskExpired(ID, Amount(3_000)))


@pytest.mark.parametrize("count", [0, 1, 2, 4, 5])
def test_events_that_name_more_or_fewer_seats_than_there_are_are_refused(count: int) -> None:
    start = (TaskPosted(ID, task()), TaskAssigned(ID, seats(3)))
    ended = settled(*[(0, 0)] * count, result=None, refunded=Amount(3_007), protocol_fee=Amount(0))
    with pytest.raises(IllegalTransition, match=f"{count} seats"):
        view_of(*start, commit(0), ended)
    with pytest.raises(IllegalTransition, match=f"{count} seats"):
        view_of(*start, SeatReassigned(ID, 2, nodes(3)[2], True, seats(count)))


def test_events_of_another_task_or_out_of_order_are_refused() -> None:
    with pytest.raises(IllegalTransition):
        view_of(TaskAssigned(ID, seats(3)))
    with pytest.raises(IllegalTransition):
        view_of(TaskPosted(ID, task()), TaskPosted(ID, task()))
    with pytest.raises(IllegalTransition):
        view_of(TaskPosted(ID, task()), SeatReleased(TaskId("0x" + "78" * 32), 0))
    with pytest.raises(IllegalTransition):
        view_of(TaskPosted(ID, task()), commit(0))
    with pytest.raises(IllegalTransition):
        view_of(TaskPosted(ID, task()), TaskAssigned(ID, seats(3)), SeatReleased(ID, 5))


def test_only_events_of_tasks_name_one() -> None:
    assert task_of(TaskPosted(ID, task())) == ID
    assert task_of(FeesSwept(CLIENT, 0, Amount(1))) is None
