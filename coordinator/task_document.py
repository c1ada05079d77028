"""One task as far as the chain knows it: attempts, money, transactions, timeline.

What only client and nodes know (the workload, the size of the result, the receipt) is null.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from coordinator.indexer.reducer import REPUTED
from coordinator.store.rows import expected_at, progress, rfc3339
from coordinator.store.session import fold_applied
from deai.chain.tasks_view import AttemptView, TaskView
from deai.events import (
    TASK_VERBS,
    EquivocationProven,
    LedgerEvent,
    LedgerRecord,
    OutputsApproved,
    ResultCommitted,
    ResultDelivered,
    ResultRevealed,
    SeatReassigned,
    SeatReleased,
    TaskAssigned,
    TaskCancelled,
    TaskExpired,
    TaskFinalised,
    TaskObjected,
    TaskPosted,
)
from deai.ids import ChainName, hexed
from deai.lifecycle import SeatState, TaskState
from deai.money import format_tokens

Document = dict[str, Any]

_DETAILS: Final = {
    TaskState.PENDING: "posted, no committee yet",
    TaskState.ASSIGNED: "computing, nobody has committed yet",
    TaskState.IN_PROGRESS: "at least one seat has committed",
    TaskState.CANCELLED: "taken back by the client before anybody was assigned",
}


def task_document(chain: ChainName, records: Sequence[LedgerRecord]) -> Document | None:
    """`GET /api/v1/tasks/{id}` from the task's events; None if they make no task."""
    view = fold_applied(records)
    if view is None:
        return None
    task, money = view.task, view.money
    expected = expected_at(view)
    return {
        "task_id": view.task_id,
        "workload": None,
        "chain": chain,
        "lane": "escrow",
        "policy": task.policy.label,
        "client": task.client,
        "spec_hash": hexed(task.spec_hash),
        "state": view.state.value,
        "detail": _detail(view),
        "progress": progress(view),
        "estimated_completion": None if expected is None else rfc3339(expected),
        "fee": str(int(task.fee)),
        "tip": str(int(task.tip)),
        "seats": task.seats,
        "quorum": task.quorum,
        "lease_s": task.lease,
        "window_s": task.window,
        "deadline": rfc3339(task.commit_deadline),
        "attempts": [_attempt(view, attempt) for attempt in view.attempts],
        "result": _result(view),
        "escrowed": str(money.escrowed),
        "held": str(money.held),
        "paid": str(money.paid),
        "refunded": str(money.refunded),
        "protocol_fee": str(money.protocol_fee),
        "payments": [
            {
                "provider": attempt.seat.owner,
                "node_id": attempt.seat.node,
                "seat": attempt.index,
                "amount": str(int(attempt.settlement.payment)),
            }
            for attempt in view.attempts
            if attempt.settlement is not None and attempt.settlement.payment
        ],
        "equivocations": [
            {"seat": one.seat, "node_id": one.node, "submitter": one.submitter}
            for one in view.equivocations
        ],
        "transactions": transactions(records),
        "timeline": timeline(records),
        "receipt": None,
        "timings": _timings(view),
    }


def transactions(records: Iterable[LedgerRecord]) -> list[Document]:
    """Every transaction that touched the task, in order; the gas is not in the events."""
    found: dict[str, Document] = {}
    for record in records:
        at, verb = record.position, TASK_VERBS.get(type(record.event), "other")
        known = found.setdefault(
            at.transaction,
            {
                "kind": verb,
                "hash": at.transaction,
                "block": at.block,
                "at": rfc3339(at.time),
                "gas_used": None,
                "events": 0,
            },
        )
        known["events"] += 1
        if known["kind"] == "post" and verb == "assign":
            known["kind"] = "post_and_assign"
        elif verb == "finalise":
            known["kind"] = verb  # what it revealed or approved on the way is part of it
    return list(found.values())


def timeline(records: Iterable[LedgerRecord]) -> list[Document]:
    """What happened, event by event."""
    return [
        {
            "at": rfc3339(record.position.time),
            "block": record.position.block,
            "what": TASK_VERBS.get(type(record.event), "other"),
            "seat": getattr(record.event, "seat", None),
            "note": _note(record.event),
            "transaction": record.position.transaction,
        }
        for record in records
    ]


def _note(event: LedgerEvent) -> str:
    match event:
        case TaskPosted():
            return f"{format_tokens(event.task.escrowed)} into escrow"
        case TaskAssigned():
            return f"{len(event.committee)} signed accepts"
        case SeatReassigned():
            why = "it was given back" if event.released else "its lease ended"
            return f"given to another node: {why}"
        case SeatReleased():
            return "given back by the node before it committed"
        case ResultCommitted():
            return f"attempt {event.attempt + 1} committed to a result"
        case ResultDelivered():
            return "the signed result itself"
        case ResultRevealed():
            return f"opened: {hexed(event.digest)[:10]}…"
        case OutputsApproved():
            return f"found {event.mask.bit_count()} outputs within tolerance"
        case TaskFinalised():
            paid = sum(1 for seat in event.seats if seat.payment)
            if event.fault:
                return "all agree that the task itself is bad"
            return f"{paid} seats paid" if event.result is not None else "nobody won"
        case TaskExpired() | TaskCancelled():
            return f"{format_tokens(event.refunded)} back to the client"
        case TaskObjected():
            return "the client refused the unchecked result"
        case EquivocationProven():
            return "two signed results of one attempt differ: slashed"
        case _:
            return ""


def _attempt(view: TaskView, attempt: AttemptView) -> Document:
    outcome = attempt.settlement
    digest = attempt.opening.digest if attempt.opening is not None else None
    if digest is None and attempt.state is SeatState.PAID and not view.task.policy.is_tolerance:
        digest = view.result
    committed = attempt.committed_at
    moved = outcome is not None and outcome.verdict in REPUTED
    return {
        "attempt": attempt.seat.attempt,
        "seat": attempt.index,
        "node_id": attempt.seat.node,
        "provider": attempt.seat.owner,
        "fee": str(int(view.task.fee)),
        "state": attempt.state.value,
        "output_digest": None if digest is None else hexed(digest),
        "reason": _reason(view, attempt),
        "started_at": rfc3339(attempt.since.time),
        "lease_end": rfc3339(attempt.seat.lease_end),
        "committed_at": None if committed is None else rfc3339(committed.time),
        "ended_at": None if attempt.ended_at is None else rfc3339(attempt.ended_at.time),
        "payment": None if outcome is None else str(int(outcome.payment)),
        "reputation_before": outcome.before / 1000 if outcome is not None and moved else None,
        "reputation_after": outcome.after / 1000 if outcome is not None and moved else None,
    }


def _reason(view: TaskView, attempt: AttemptView) -> str | None:
    match attempt.state:
        case SeatState.RELEASED:
            return "the node gave the seat back"
        case SeatState.REPLACED:
            return "no commitment when the lease ended, or given back: another node took over"
        case SeatState.FORFEITED if view.state is TaskState.COMPLETED:
            if view.task.policy.is_tolerance:
                return "its output was not approved by enough seats"
            return "its result is not the one that won"
        case SeatState.FORFEITED:
            return "no result won"
        case SeatState.SILENT:
            return "committed and never revealed"
        case SeatState.LAPSED:
            return "never committed"
        case _:
            return None


def _detail(view: TaskView) -> str:
    match view.state:
        case TaskState.COMPLETED:
            paid = sum(1 for attempt in view.attempts if attempt.state is SeatState.PAID)
            return f"{paid} of {view.task.seats} seats agreed and were paid"
        case TaskState.FAILED if view.settlement is not None and view.settlement.fault:
            return "all agree that the task itself is bad"
        case TaskState.FAILED if view.settlement is not None:
            return "no result won"
        case TaskState.FAILED if view.delivered is not None:
            return "the client refused the unchecked result"
        case TaskState.FAILED:
            return "nobody committed before the deadline"
        case _:
            return _DETAILS[view.state]


def _result(view: TaskView) -> Document | None:
    if view.state is not TaskState.COMPLETED or view.result is None:
        return None
    agreed = sum(1 for attempt in view.attempts if attempt.state is SeatState.PAID)
    return {
        "digest": hexed(view.result),
        "bytes": None,
        "path": None,
        "agreed": agreed,
        "seats": view.task.seats,
    }


def _timings(view: TaskView) -> Document:
    """Milliseconds by the chain's clock, whose seconds are whole; null where it cannot know."""
    assigned = view.attempts[0].since.time if view.attempts else None
    commits = [one.committed_at.time for one in view.attempts if one.committed_at is not None]
    ended = next(
        (one.ended_at.time for one in reversed(view.attempts) if one.ended_at is not None), None
    )

    def between(start: int | None, end: int | None) -> int | None:
        return None if start is None or end is None else (end - start) * 1000

    last = max(commits, default=None)
    over = ended if view.is_over else None
    return {
        "match_ms": None,
        "assign_ms": between(view.posted.time, assigned),
        "input_ms": None,
        "execute_ms": between(assigned, last),
        "settle_ms": between(last, over),
        "total_ms": between(view.posted.time, over),
    }
