"""Who wins a task, who is paid what, and what remains: as the escrow contract decides it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from deai.chain.memory_registry import settle
from deai.chain.memory_state import Call
from deai.chain.tasks_view import TaskView, Verdict
from deai.events import SeatSettlement, TaskFinalised
from deai.ids import TaskId, owner_of
from deai.money import Amount
from deai.tasks import Policy, Task, approved, fault_digests, winner


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The judgement of a task; masks are by seat."""

    opened: int
    paid: int = 0
    result: bytes | None = None
    fault: bool = False


def judge(view: TaskView, digests: Sequence[bytes | None], masks: Sequence[int] | None) -> Outcome:
    """Decide from the opened digests by seat and, under tolerance policies, the approvals.

    `masks` is by seat, 0 where no approval was given; None while they have not been looked at,
    which a fault does not need.
    """
    task = view.task
    opened = sum(1 << seat for seat, digest in enumerate(digests) if digest is not None)
    result, paid = winner(task, digests)
    if result is not None and is_fault(view.task_id, result):
        if paid == opened:
            return Outcome(opened=opened, paid=paid, result=result, fault=True)
        result, paid = None, 0
    if task.policy.is_tolerance:
        if masks is None:
            return Outcome(opened=opened)
        result, paid = _approved(view.task_id, task, digests, masks)
    return Outcome(opened=opened, paid=paid, result=result)


def is_fault(task: TaskId, digest: bytes) -> bool:
    """Whether a digest says that the task itself is bad."""
    return digest in fault_digests(task)


def pay(call: Call, view: TaskView, committed: int, outcome: Outcome) -> TaskFinalised:
    """Move reputation and money; the event that tells it."""
    task, seats = view.task, []
    refunded = protocol_fee = 0
    for seat, holder in enumerate(view.committee):
        verdict = _verdict(task.policy, committed, outcome, 1 << seat)
        before = after = 0
        if not outcome.fault:  # a fault moves no reputation, not even that of a silent seat
            before, after = settle(call, holder.node, verdict, int(task.fee))
        payment = _payment(call, task, verdict, before)
        if payment:
            call.credit(owner_of(holder.node), payment)
        if verdict in (Verdict.NONE, Verdict.SILENT, Verdict.FAULT):
            refunded += task.fee - payment
        else:
            protocol_fee += task.fee - payment  # forfeited: lying never turns into a refund
        seats.append(SeatSettlement(Amount(payment), before, after, int(verdict)))
    tip = 0 if call.sender == task.client else int(task.tip)
    refunded += task.tip - tip
    call.credit(call.sender, tip)
    call.credit(task.client, refunded)
    return TaskFinalised(
        view.task_id,
        outcome.result,
        outcome.fault,
        Amount(refunded),
        Amount(protocol_fee),
        call.sender,
        Amount(tip),
        tuple(seats),
    )


def _approved(
    task_id: TaskId, task: Task, digests: Sequence[bytes | None], masks: Sequence[int]
) -> tuple[bytes | None, int]:
    """What the approvals of opened seats decide; a fault wins by all or not at all."""
    opened = faults = 0
    for seat, digest in enumerate(digests):
        if digest is not None:
            opened |= 1 << seat
            faults |= is_fault(task_id, digest) << seat
    best, paid = approved(task, [mask & ~faults for mask in masks], opened)
    return (None, 0) if best is None else (digests[best], paid)


def _verdict(policy: Policy, committed: int, outcome: Outcome, bit: int) -> Verdict:
    if not committed & bit:
        return Verdict.NONE
    if not outcome.opened & bit:
        return Verdict.SILENT
    if not outcome.paid & bit:
        lost = not policy.is_tolerance and outcome.paid
        return Verdict.LOST if lost else Verdict.FORFEITED
    if outcome.fault:
        return Verdict.FAULT
    return Verdict.UNCHECKED if policy is Policy.NONE else Verdict.PAID


def _payment(call: Call, task: Task, verdict: Verdict, reputation: int) -> int:
    match verdict:
        case Verdict.PAID | Verdict.UNCHECKED:
            return call.rules.paid_amount(int(task.fee), reputation)
        case Verdict.FAULT:
            return call.rules.fault_amount(int(task.fee))
        case _:
            return 0
