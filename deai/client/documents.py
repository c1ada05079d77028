"""The task document that commands print, and the receipt: from the chain's view and the journal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from deai.chain.ledger import ChainInfo, Transaction
from deai.chain.tasks_view import AttemptView, TaskView, fold
from deai.client.members import Member
from deai.events import (
    TASK_VERBS,
    LedgerRecord,
    SeatSettlement,
)
from deai.hashing import ZERO
from deai.ids import hexed
from deai.lifecycle import SeatState, TaskState
from deai.money import Amount
from deai.receipts import Receipt, ReceiptTransaction, SeatProof
from deai.tasks import Accept, Policy, TaskSpec, fault_digests

REASONS: Mapping[SeatState, str] = {
    SeatState.RELEASED: "the node gave its seat back",
    SeatState.REPLACED: "replaced: no commitment when the lease ended, or given back",
    SeatState.SILENT: "committed and never revealed",
    SeatState.LAPSED: "never committed",
}


def task_document(
    records: Sequence[LedgerRecord],
    info: ChainInfo,
    *,
    workload: str,
    sent: Iterable[Transaction] = (),
    digests: Mapping[int, bytes] | None = None,
    path: str = "",
    size: int | None = None,
    receipt: str = "",
    timings: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """What `task submit` and `task show` print. Sums are decimal strings in base units.

    `records` are the task's own, from its posting on; `sent` are transactions whose gas is
    known here; `digests` what seats opened beside the chain; `path` and
    `size` where the output lies and how long it is.
    """
    view = fold(records)
    assert view is not None
    return {
        "task_id": view.task_id,
        "workload": workload,
        "chain": str(info.name),
        "lane": "escrow",
        "policy": view.task.policy.label,
        "state": str(view.state),
        "detail": detail(view),
        "attempts": [_attempt(view, one, digests or {}) for one in view.attempts],
        "result": _result(view, path, size),
        "escrowed": str(view.money.escrowed),
        "held": str(view.money.held),
        "paid": str(view.money.paid),
        "refunded": str(view.money.refunded),
        "protocol_fee": str(view.money.protocol_fee),
        "payments": [
            {"provider": one.seat.owner, "amount": str(int(one.settlement.payment))}
            for one in view.attempts
            if one.settlement is not None and one.settlement.payment
        ],
        "transactions": transactions(records, sent),
        "receipt": receipt or None,
        "timings": dict(timings or {}),
    }


def detail(view: TaskView) -> str:
    """One sentence about where the task is."""
    seats = view.task.seats
    settled = view.settlement
    match view.state:
        case TaskState.PENDING:
            return "posted, nobody assigned yet"
        case TaskState.ASSIGNED:
            return f"0 of {seats} seats committed"
        case TaskState.IN_PROGRESS:
            return f"{len(view.commitments)} of {seats} seats committed"
        case TaskState.CANCELLED:
            return "cancelled by the client before anybody was assigned"
        case TaskState.COMPLETED:
            return f"{_agreed(view)} of {seats} seats agreed"
        case TaskState.FAILED if settled is None and view.delivered is not None:
            return "the client objected to the result"
        case TaskState.FAILED if settled is None:
            return "expired: nobody committed to a result in time"
        case TaskState.FAILED if settled is not None and settled.fault:
            return f"the task itself is bad: {_fault(view)}"
        case _:
            return "no result won: fewer than 60 % of the seats agreed"


def transactions(
    records: Iterable[LedgerRecord], sent: Iterable[Transaction] = ()
) -> list[dict[str, Any]]:
    """Every transaction that touched the task; gas only of those that were sent from here."""
    gas = {one.hash: one.gas_used for one in sent}
    found: dict[str, dict[str, Any]] = {}
    for record in records:
        at, verb = record.position, TASK_VERBS.get(type(record.event), "other")
        known = found.setdefault(
            at.transaction,
            {
                "kind": verb,
                "hash": at.transaction,
                "block": at.block,
                "at": rfc3339(at.time),
                "gas_used": gas.get(at.transaction),
            },
        )
        if (known["kind"], verb) == ("post", "assign"):
            known["kind"] = "post_and_assign"
        elif verb == "finalise":
            known["kind"] = verb
    return list(found.values())


def make_receipt(
    records: Sequence[LedgerRecord],
    info: ChainInfo,
    spec: TaskSpec,
    members: Sequence[Member],
    accepts: Mapping[int, Accept],
) -> Receipt | None:
    """The receipt of a settled task; None for one that ended without a settlement."""
    view = fold(records)
    if view is None or (settled := view.settlement) is None:
        return None
    seats = tuple(_proof(view, member, accepts.get(member.index)) for member in members)
    return Receipt(
        chain=str(info.name),
        escrow=info.escrow,
        task_id=view.task_id,
        task=view.task,
        spec=spec,
        commit_order=tuple(seat for seat, _ in view.commitments),
        seats=seats,
        result=hexed(settled.result) if settled.result is not None else "",
        fault=settled.fault,
        settlements=settled.seats,
        refunded=Amount(settled.refunded),
        protocol_fee=Amount(settled.protocol_fee),
        tip=Amount(settled.tip),
        transactions=tuple(
            ReceiptTransaction(kind=one["kind"], hash=one["hash"], block=one["block"])
            for one in transactions(records)
        ),
    )


def seconds_to_ms(start: float | None, end: float | None) -> int:
    """Whole milliseconds between two local times, 0 where one is unknown."""
    return max(0, round((end - start) * 1000)) if start is not None and end is not None else 0


def _proof(view: TaskView, member: Member, accept: Accept | None) -> SeatProof:
    held = view.attempt(member.index)
    opening = member.opening(view)
    opened = member.opened
    approval = member.approval_for(view)
    is_unchecked = view.task.policy is Policy.NONE
    digest = opening.digest if opening is not None else None
    if digest is None and is_unchecked and opened is not None:
        digest = opened.digest
    has_result = opened is not None and opened.digest == digest
    return SeatProof(
        seat=member.index,
        holder=member.seat,
        accept_valid_until=accept.valid_until if accept is not None else 0,
        accept_signature=hexed(accept.signature) if accept is not None else "",
        commitment=hexed(held.value) if held.value is not None else "",
        output_digest=hexed(digest) if digest is not None else "",
        salt=hexed(opening.salt) if opening is not None and opening.salt != ZERO else "",
        evidence_digest=hexed(opened.evidence) if opened is not None and has_result else "",
        result_signature=hexed(opened.signature) if opened is not None and has_result else "",
        approval_mask=approval.mask if approval is not None else 0,
        approval_signature=hexed(approval.signature) if approval is not None else "",
    )


def _attempt(view: TaskView, one: AttemptView, digests: Mapping[int, bytes]) -> dict[str, Any]:
    digest = one.opening.digest if one.opening is not None else None
    if digest is None and one is view.attempt(one.index):
        digest = digests.get(one.index)
    return {
        "attempt": one.seat.attempt,
        "seat": one.index,
        "node_id": one.seat.node,
        "provider": one.seat.owner,
        "fee": str(int(view.task.fee)),
        "state": str(one.state),
        "output_digest": hexed(digest) if digest is not None else None,
        "reason": _reason(view, one),
        "started_at": rfc3339(one.since.time),
        "ended_at": rfc3339(one.ended_at.time) if one.ended_at is not None else None,
    }


def _reason(view: TaskView, one: AttemptView) -> str:
    is_caught = any(
        proof.seat == one.index and proof.node == one.seat.node for proof in view.equivocations
    )
    caught = "signed two different results" if is_caught else ""
    if one.state is SeatState.FORFEITED:
        return caught or _forfeit(view, one.settlement)
    return caught or REASONS.get(one.state, "")


def _forfeit(view: TaskView, settlement: SeatSettlement | None) -> str:
    if settlement is None:
        return "the client objected"
    if settlement.verdict == 3:
        return "opened another digest than the winning one"
    if view.result is None:
        return "no result won"
    if view.task.policy.is_tolerance:
        return "not within tolerance of 60 % of the seats"
    return "not paid"


def _result(view: TaskView, path: str, size: int | None) -> dict[str, Any] | None:
    settled = view.settlement
    if settled is None or settled.result is None or settled.fault:
        return None
    return {
        "digest": hexed(settled.result),
        "bytes": size,
        "path": path or None,
        "agreed": _agreed(view),
        "seats": view.task.seats,
    }


def _agreed(view: TaskView) -> int:
    return sum(1 for one in view.attempts if one.state is SeatState.PAID)


def _fault(view: TaskView) -> str:
    assert view.settlement is not None
    code = fault_digests(view.task_id).get(view.settlement.result or b"")
    return code.name.lower() if code is not None else "all nodes agree"


def rfc3339(seconds: int) -> str:
    """Chain time as text."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
