"""The life of escrowed tasks, as the escrow contract decides it.

Each verb checks what the contract checks, in its order, and then reports an event. What a task
is afterwards is what `tasks_view.apply` makes of that event, so that this ledger *is* the
lifecycle tables. Longer than other modules because the verbs share their checks.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from deai.actions import (
    ApproveOutputs,
    AssignTask,
    CancelTask,
    CommitResults,
    Committee,
    DeliverResult,
    ExpireTask,
    FinaliseTask,
    ObjectToResult,
    PostAndAssign,
    PostTask,
    ProveEquivocation,
    ReassignSeat,
    ReleaseSeat,
    RevealResults,
    SweepFees,
)
from deai.chain.memory_registry import assignable, equivocated
from deai.chain.memory_settle import judge, pay
from deai.chain.memory_state import Call, LaneState, refuse, signer_of
from deai.chain.tasks_view import TaskView, apply
from deai.events import (
    EquivocationProven,
    FeesSwept,
    LedgerEvent,
    OutputsApproved,
    ResultCommitted,
    ResultDelivered,
    ResultRevealed,
    SeatReassigned,
    SeatReleased,
    TaskAssigned,
    TaskCancelled,
    TaskExpired,
    TaskObjected,
    TaskPosted,
)
from deai.hashing import ZERO
from deai.ids import TaskId, owner_of
from deai.money import Amount
from deai.signing import SIGNATURE_BYTES, word
from deai.tasks import (
    MAX_REASSIGNMENTS,
    MAX_SEATS,
    Accept,
    Approval,
    Opening,
    Policy,
    Result,
    Seat,
    Task,
    accept_digest,
    approval_digest,
    commit_digest,
    commitment_value,
    result_digest,
    task_id,
)

UNSIGNED = bytes(SIGNATURE_BYTES)
"""A commitment without a signature: its seat's key sends the transaction itself."""
_FULL_MASK = (1 << MAX_SEATS) - 1


def post(call: Call, action: PostTask | PostAndAssign) -> None:
    """Move fees and tip into escrow."""
    task, now = action.task, call.now
    if call.paused:
        refuse("IsPaused")
    if call.sender != task.client:
        refuse("Forbidden", caller=call.sender)
    lane = call.lane(task.client, task.lane)
    if lane.is_busy:
        refuse("LaneBusy")
    if task.nonce != lane.closed + 1:
        refuse("BadNonce", expected=lane.closed + 1)
    limits = call.parameters
    odd = task.seats == 1 if task.policy is Policy.NONE else _is_odd_committee(task.seats)
    if (
        not odd
        or task.fee < limits.min_fee
        or task.lease < limits.min_lease
        or not limits.min_window <= task.window <= limits.max_span
        or not now + task.lease <= task.commit_deadline <= now + limits.max_span
    ):
        refuse("BadTask")
    call.debit(task.client, task.escrowed)
    lane = msgspec.structs.replace(lane, view=None, equivocated=0)
    _tell(call, task, lane, TaskPosted(task_id(task, call.info.escrow), task))


def assign(call: Call, action: AssignTask | PostAndAssign) -> None:
    """Name the committee of a posted task."""
    if call.paused:
        refuse("IsPaused")
    task = action.task
    lane, view = _pending(call, task)
    if len(action.accepts) != task.seats:
        refuse("BadSeat", seat=len(action.accepts))
    lease_end = _lease_from(call, task)
    owners = [owner_of(accept.node) for accept in action.accepts]
    for index, owner in enumerate(owners):
        if owner in owners[:index]:
            refuse("OwnerTwice", owner=owner)
    operators = assignable(call, [accept.node for accept in action.accepts])
    seats = []
    for index, (accept, operator) in enumerate(zip(action.accepts, operators, strict=True)):
        seats.append(Seat(accept.node, operator, lease_end, 0))
        _check_accept(call, view.task_id, index, seats[-1], accept)
    _tell(call, task, lane, TaskAssigned(view.task_id, tuple(seats)))


def post_and_assign(call: Call, action: PostAndAssign) -> None:
    """Both in one transaction."""
    post(call, action)
    assign(call, action)


def cancel(call: Call, action: CancelTask) -> None:
    """Take a task back before its first assignment."""
    lane, view = _pending(call, action.task)
    refunded = action.task.escrowed
    call.credit(action.task.client, refunded)
    _end(call, action.task, lane, TaskCancelled(view.task_id, Amount(refunded)))


def reassign(call: Call, action: ReassignSeat) -> None:
    """Give a released or lapsed seat to another node."""
    task, seat = action.task, action.seat
    lane, view = _open(call, task, action.committee)
    if call.sender != task.client:
        refuse("Forbidden", caller=call.sender)
    if seat >= len(view.committee):
        refuse("BadSeat", seat=seat)
    if view.committed >> seat & 1:
        refuse("SeatTaken", seat=seat)
    held = view.committee[seat]
    released = bool(view.released >> seat & 1)
    if not released and call.now <= held.lease_end:
        refuse("TooEarly", time=held.lease_end)
    accept = action.accept
    if held.attempt >= MAX_REASSIGNMENTS or accept.node == held.node:
        refuse("BadSeat", seat=seat)
    for index, other in enumerate(view.committee):
        if index != seat and other.owner == owner_of(accept.node):
            refuse("OwnerTwice", owner=other.owner)
    (operator,) = assignable(call, [accept.node])
    new = Seat(accept.node, operator, _lease_from(call, task), held.attempt + 1)
    _check_accept(call, view.task_id, seat, new, accept)
    committee = (*view.committee[:seat], new, *view.committee[seat + 1 :])
    # Whether the seat equivocated is kept for its present holder only.
    lane = msgspec.structs.replace(lane, equivocated=lane.equivocated & ~(1 << seat))
    event = SeatReassigned(view.task_id, seat, held.node, released, committee)
    _tell(call, task, lane, event)


def object_to_result(call: Call, action: ObjectToResult) -> None:
    """Refuse an unchecked result."""
    task = action.task
    lane, view = _open(call, task, action.committee)
    if call.sender != task.client:
        refuse("Forbidden", caller=call.sender)
    if task.policy is not Policy.NONE or not view.commitments:
        refuse("BadTask")
    if call.now > view.window_until:
        refuse("TooLate", deadline=view.window_until)
    call.credit(task.client, int(task.tip))
    lane = msgspec.structs.replace(lane, accrued=lane.accrued + task.fee)
    _end(call, task, lane, TaskObjected(view.task_id, task.fee, task.tip))


def commit(call: Call, action: CommitResults) -> None:
    """Put commitments of seats on chain; those that have one already are passed over."""
    task = action.task
    if task.policy is Policy.NONE:
        refuse("BadTask")
    lane, view = _committing(call, task, action.committee)
    events = []
    taken = view.committed
    for new in action.commitments:
        if new.seat >= len(view.committee):
            refuse("BadSeat", seat=new.seat)
        if taken >> new.seat & 1:
            continue
        seat = view.committee[new.seat]
        digest = commit_digest(call.info.escrow, view.task_id, new.seat, seat.attempt, new.value)
        by = call.sender if new.signature == UNSIGNED else signer_of(digest, new.signature)
        if by != seat.operator:
            refuse("BadSignature", seat=new.seat)
        taken |= 1 << new.seat
        events.append(ResultCommitted(view.task_id, new.seat, seat.attempt, new.value))
    if not events:
        refuse("SeatTaken", seat=action.commitments[0].seat if action.commitments else 0)
    for event in events:
        lane = _tell(call, task, lane, event)


def deliver(call: Call, action: DeliverResult) -> None:
    """`none/1`: commit and reveal at once."""
    task, result = action.task, action.result
    if task.policy is not Policy.NONE or result.output_digest == ZERO:
        refuse("BadTask")
    lane, view = _committing(call, task, action.committee)
    if view.commitments:
        refuse("SeatTaken", seat=0)
    if not view.committee:
        refuse("Panic", code=0x32)
    _check_result(call, view, 0, result)
    node = view.committee[0].node
    event = ResultDelivered(view.task_id, node, result.output_digest, result.evidence_digest)
    _tell(call, task, lane, event)


def release(call: Call, action: ReleaseSeat) -> None:
    """Give a seat back before committing."""
    task, seat = action.task, action.seat
    lane, view = _open(call, task, action.committee)
    if seat >= len(view.committee):
        refuse("BadSeat", seat=seat)
    if call.sender != view.committee[seat].operator:
        refuse("Forbidden", caller=call.sender)
    if call.now > task.commit_deadline:
        refuse("TooLate", deadline=task.commit_deadline)
    if (view.committed | view.released) >> seat & 1:
        refuse("SeatTaken", seat=seat)
    _tell(call, task, lane, SeatReleased(view.task_id, seat))


def reveal(call: Call, action: RevealResults) -> None:
    """Record openings on chain."""
    task = action.task
    lane, view = _open(call, task, action.committee)
    if task.policy is Policy.NONE:
        refuse("BadTask")
    start = _window_start(call, view)
    end = start + (task.window // 2 if task.policy.is_tolerance else task.window)
    if call.now > end:
        refuse("TooLate", deadline=end)
    _opened(view, action.openings)
    known = view.revealed
    new = [one for one in action.openings if one.digest != ZERO and not known >> one.seat & 1]
    if not new:
        refuse("BadOpening")
    for one in new:
        lane = _tell(call, task, lane, ResultRevealed(view.task_id, one.seat, one.digest, one.salt))


def approve(call: Call, action: ApproveOutputs) -> None:
    """Record a member's approval on chain."""
    task, approval = action.task, action.approval
    lane, view = _open(call, task, action.committee)
    if not task.policy.is_tolerance:
        refuse("BadTask")
    end = _window_start(call, view) + task.window
    if call.now > end:
        refuse("TooLate", deadline=end)
    if not view.committed >> approval.seat & 1:
        refuse("BadSeat", seat=approval.seat)
    if not approval.mask & _FULL_MASK or approval.seat in view.approvals:
        refuse("BadApproval")
    _check_approval(call, view, approval)
    event = OutputsApproved(view.task_id, approval.seat, approval.mask, approval.signature)
    _tell(call, task, lane, event)


def finalise(call: Call, action: FinaliseTask) -> None:
    """Settle."""
    task = action.task
    lane, view = _open(call, task, action.committee)
    end = _window_start(call, view) + task.window
    over = call.now > end
    digests = _opened(view, action.openings)
    opened = sum(1 << seat for seat, digest in enumerate(digests) if digest is not None)
    if task.policy is Policy.NONE:
        if not opened:
            refuse("BadOpening")
        if not over and call.sender != task.client:
            refuse("TooEarly", time=end)
    elif over:
        if opened != view.revealed:
            refuse("BadOpening")
    elif opened != view.committed:
        refuse("TooEarly", time=end)
    outcome = judge(view, digests, None)
    if task.policy.is_tolerance:
        if not outcome.fault:
            outcome = judge(view, digests, _masks(call, view, action.approvals, over=over))
    elif action.approvals:
        refuse("BadApproval")
    event = pay(call, view, view.committed, outcome)
    lane = msgspec.structs.replace(lane, accrued=lane.accrued + event.protocol_fee)
    _end(call, task, lane, event)


def expire(call: Call, action: ExpireTask) -> None:
    """End a task to which nobody committed in time."""
    task = action.task
    lane, view = _open(call, task, action.committee)
    if call.now <= task.commit_deadline:
        refuse("TooEarly", time=task.commit_deadline)
    if view.commitments:
        refuse("SeatTaken", seat=0)
    call.credit(task.client, task.escrowed)
    _end(call, task, lane, TaskExpired(view.task_id, Amount(task.escrowed)))


def prove_equivocation(call: Call, action: ProveEquivocation) -> None:
    """Slash a node that signed two outputs; also after the end, until the lane is used again."""
    task, seat = action.task, action.seat
    lane, view = _matching(call, task, action.committee)
    if seat >= len(view.committee):
        refuse("BadSeat", seat=seat)
    if action.first.output_digest == action.second.output_digest:
        refuse("BadEvidence")
    _check_result(call, view, seat, action.first)
    _check_result(call, view, seat, action.second)
    if lane.equivocated >> seat & 1:
        refuse("BadEvidence")
    lane = msgspec.structs.replace(lane, equivocated=lane.equivocated | 1 << seat)
    node = view.committee[seat].node
    _tell(call, task, lane, EquivocationProven(view.task_id, seat, node, call.sender))
    equivocated(call, node)


def sweep(call: Call, action: SweepFees) -> None:
    """Send what accrued in lanes to the treasury."""
    total = 0
    for number in action.lanes:
        lane = call.lane(action.client, number)
        if lane.accrued:
            total += lane.accrued
            call.lanes[action.client, number] = msgspec.structs.replace(lane, accrued=0)
            call.emit(FeesSwept(action.client, number, Amount(lane.accrued)))
    if total:
        call.move_tokens(call.info.contracts["TaskEscrow"], call.parameters.treasury, total)


def _is_odd_committee(seats: int) -> bool:
    return 3 <= seats <= MAX_SEATS and seats % 2 == 1


def _tell(call: Call, task: Task, lane: LaneState, event: LedgerEvent) -> LaneState:
    lane = msgspec.structs.replace(lane, view=apply(lane.view, call.emit(event)))
    call.lanes[task.client, task.lane] = lane
    return lane


def _end(call: Call, task: Task, lane: LaneState, event: LedgerEvent) -> None:
    _tell(call, task, msgspec.structs.replace(lane, closed=task.nonce), event)


def _matching(call: Call, task: Task, committee: Committee) -> tuple[LaneState, TaskView]:
    lane = call.lane(task.client, task.lane)
    view = lane.view
    if view is None or view.task != task or view.committee != tuple(committee):
        refuse("NotOpen")
    return lane, view


def _open(call: Call, task: Task, committee: Committee) -> tuple[LaneState, TaskView]:
    lane, view = _matching(call, task, committee)
    if not lane.is_busy:
        refuse("NotOpen")
    return lane, view


def _pending(call: Call, task: Task) -> tuple[LaneState, TaskView]:
    if call.sender != task.client:
        refuse("Forbidden", caller=call.sender)
    return _open(call, task, ())


def _committing(call: Call, task: Task, committee: Committee) -> tuple[LaneState, TaskView]:
    lane, view = _matching(call, task, committee)
    if call.now > task.commit_deadline:
        refuse("TooLate", deadline=task.commit_deadline)
    return lane, view


def _lease_from(call: Call, task: Task) -> int:
    end = call.now + task.lease
    if end > task.commit_deadline:
        refuse("TooLate", deadline=task.commit_deadline)
    return end


def _window_start(call: Call, view: TaskView) -> int:
    start = view.window_from
    if len(view.commitments) != view.task.seats and call.now <= start:
        refuse("TooEarly", time=start)
    return start


def _opened(view: TaskView, openings: Sequence[Opening]) -> list[bytes | None]:
    """The opened digests by seat; refuses unless the openings are all of the commitments."""
    digests: list[bytes | None] = [None] * view.task.seats
    values = []
    for one in openings:
        value = one.salt
        if one.digest != ZERO:
            if one.seat >= len(view.committee):
                refuse("Panic", code=0x32)
            seat = view.committee[one.seat]
            value = one.digest
            if view.task.policy is not Policy.NONE:
                value = commitment_value(
                    view.task_id, one.seat, seat.attempt, seat.node, one.digest, one.salt
                )
            digests[one.seat] = one.digest
        values.append((one.seat, value))
    if not values or tuple(values) != view.commitments:
        refuse("BadOpening")
    return digests


def _masks(call: Call, view: TaskView, given: Sequence[Approval], *, over: bool) -> list[int]:
    if over and given:
        refuse("BadApproval")
    masks = [0] * view.task.seats
    for seat, approval in view.approvals.items():
        masks[seat] = approval.mask & _FULL_MASK
    seen = sum(1 << seat for seat, mask in enumerate(masks) if mask)
    for approval in given:
        if seen >> approval.seat & 1:
            continue
        _check_approval(call, view, approval)
        masks[approval.seat] = approval.mask
        seen |= 1 << approval.seat
    if not over and view.committed & ~seen:
        refuse("BadApproval")
    return masks


def _check_accept(call: Call, task: TaskId, index: int, seat: Seat, accept: Accept) -> None:
    if call.now > accept.valid_until:
        refuse("AcceptExpired", validUntil=accept.valid_until)
    digest = accept_digest(
        call.info.escrow, task, index, seat.attempt, accept.node, accept.valid_until
    )
    if signer_of(digest, accept.signature) != seat.operator:
        refuse("BadSignature", seat=index)


def _check_result(call: Call, view: TaskView, index: int, result: Result) -> None:
    seat = view.committee[index]
    digest = result_digest(
        call.info.escrow, view.task_id, index, seat.attempt,
        result.output_digest, result.evidence_digest,
    )  # fmt: skip
    if signer_of(digest, result.signature) != seat.operator:
        refuse("BadSignature", seat=index)


def _check_approval(call: Call, view: TaskView, approval: Approval) -> None:
    if approval.seat >= len(view.committee):
        refuse("BadSeat", seat=approval.seat)
    acc = word(view.acc)
    digest = approval_digest(call.info.escrow, view.task_id, approval.seat, acc, approval.mask)
    if signer_of(digest, approval.signature) != view.committee[approval.seat].operator:
        refuse("BadSignature", seat=approval.seat)
