"""What the client does on chain next: a pure function of what it knows.

`plan` decides, the run of a task carries it out and looks again. Nothing is remembered between
calls, so a client that was killed goes on exactly where the chain and the nodes say it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

import msgspec

from deai.actions import (
    ApproveOutputs,
    AssignTask,
    CommitResults,
    DeliverResult,
    ExpireTask,
    FinaliseTask,
    ObjectToResult,
    ProveEquivocation,
    ReassignSeat,
    RevealResults,
)
from deai.chain.tasks_view import TaskView
from deai.hashing import ZERO
from deai.lifecycle import SeatState, TaskState
from deai.tasks import (
    MAX_REASSIGNMENTS,
    Accept,
    Approval,
    Commitment,
    FaultCode,
    Opening,
    Policy,
    Result,
    approved,
    fault_digests,
    winner,
)

BATCH_WAIT: Final = 0.6
"""Seconds the first commitment waits for the others, so that one transaction carries them all.
Below the second after which a node sends its own."""
OUTPUT_GRACE: Final = 0.25
"""Part of the window for which the client holds `finalise` back while no output has come."""

Step: TypeAlias = (
    AssignTask
    | CommitResults
    | DeliverResult
    | ReassignSeat
    | RevealResults
    | ApproveOutputs
    | FinaliseTask
    | ObjectToResult
    | ExpireTask
    | ProveEquivocation
)


class ClientView(msgspec.Struct, frozen=True, kw_only=True):
    """All that a decision depends on. `now` is chain time in whole seconds."""

    chain: TaskView
    now: int
    commitments: Mapping[int, Commitment] = {}
    """By seat: what the present holder sent, checked."""
    waited: float = 0.0
    """Seconds since the first commitment came that is not on chain."""
    openings: Mapping[int, Opening] = {}
    """By seat: openings that match the commitments on chain, received or read there."""
    approvals: Mapping[int, Approval] = {}
    """By seat: checked approvals, received or read on chain."""
    linked: frozenset[int] = frozenset()
    """Seats to whose nodes there is a link."""
    result: Result | None = None
    """`none/1`: the provider's signed result."""
    outputs: frozenset[int] = frozenset()
    """Seats whose whole output is here and has its digest."""
    accepts: Mapping[int, Accept] = {}
    """By seat: a substitute's accept."""
    evidence: Mapping[int, tuple[Result, Result]] = {}
    """By seat: two different results that its present holder signed."""
    committee: tuple[Accept, ...] = ()
    """Accepts of the first committee, for a task that was posted and not assigned."""


def plan(view: ClientView) -> Step | None:
    """The next transaction, or None while there is nothing for the client to send."""
    return _settle(view) or _prove(view)


def _prove(view: ClientView) -> ProveEquivocation | None:
    """Evidence counts also after the end, until the lane is used again; the task goes first."""
    chain = view.chain
    proven = {one.seat for one in chain.equivocations}
    for seat, (first, second) in sorted(view.evidence.items()):
        if seat not in proven:
            return ProveEquivocation(chain.task, chain.committee, seat, first, second)
    return None


def _settle(view: ClientView) -> Step | None:
    chain = view.chain
    if chain.is_over:
        return None
    if chain.state is TaskState.PENDING:
        if view.now > chain.task.commit_deadline:
            return ExpireTask(chain.task, ())
        return AssignTask(chain.task, view.committee) if view.committee else None
    if chain.task.policy is Policy.NONE and chain.delivered is not None:
        return _unchecked(view)
    if _is_window(view):
        return _window(view)
    if view.now > chain.task.commit_deadline:
        return ExpireTask(chain.task, chain.committee)
    return _collect(view)


def agreed_fault(view: ClientView) -> FaultCode | None:
    """The code, if every opened seat says it and they are enough to settle the task."""
    digests = {opening.digest for opening in view.openings.values()}
    if len(digests) != 1 or len(view.openings) < view.chain.task.quorum:
        return None
    return fault_digests(view.chain.task_id).get(next(iter(digests)))


def result_seats(view: ClientView) -> frozenset[int]:
    """Seats any of whose outputs is the result, as far as openings and approvals tell."""
    chain = view.chain
    seats = chain.task.seats
    if agreed_fault(view) is not None:
        return frozenset()
    if chain.task.policy is Policy.NONE:
        return frozenset({0}) if chain.delivered is not None else frozenset()
    if chain.task.policy.is_tolerance:
        masks = [view.approvals[s].mask if s in view.approvals else None for s in range(seats)]
        revealed = sum(1 << seat for seat in view.openings)
        best, _paid = approved(chain.task, masks, revealed)
        return frozenset() if best is None else frozenset({best})
    digests = [view.openings[s].digest if s in view.openings else None for s in range(seats)]
    _digest, mask = winner(chain.task, digests)
    return frozenset(seat for seat in range(seats) if mask >> seat & 1)


def verified_seat(view: ClientView) -> int | None:
    """A seat whose output is here and cannot lose any more, whoever opens or approves later."""
    if view.chain.task.policy.is_tolerance and any(
        seat not in view.approvals for seat, _ in view.chain.commitments
    ):
        return None
    # A quorum is more than half of the seats, so that there is no second one.
    return min(result_seats(view) & view.outputs, default=None)


def _is_window(view: ClientView) -> bool:
    chain = view.chain
    if not chain.commitments or chain.task.policy is Policy.NONE:
        return False
    return len(chain.commitments) == chain.task.seats or view.now > chain.task.commit_deadline


def _collect(view: ClientView) -> Step | None:
    chain, task = view.chain, view.chain.task
    if task.policy is Policy.NONE:
        if view.result is not None:
            return DeliverResult(task, chain.committee, view.result)
        return _reassign(view)
    on_chain = {seat for seat, _ in chain.commitments}
    fresh = {seat: one for seat, one in view.commitments.items() if seat not in on_chain}
    missing = set(range(task.seats)) - on_chain
    if fresh and (set(fresh) == missing or view.waited >= BATCH_WAIT):
        ordered = tuple(fresh[seat] for seat in sorted(fresh))
        return CommitResults(task, chain.committee, ordered)
    return _reassign(view)


def free_seats(chain: TaskView, now: int) -> tuple[int, ...]:
    """Seats that the client may give to somebody else now."""
    task = chain.task
    if now + task.lease > task.commit_deadline:
        return ()
    found = []
    for seat in range(len(chain.current)):
        held = chain.attempt(seat)
        lapsed = held.state is SeatState.HELD and now > held.seat.lease_end
        released = held.state is SeatState.RELEASED
        if (lapsed or released) and held.seat.attempt < MAX_REASSIGNMENTS:
            found.append(seat)
    return tuple(found)


def _reassign(view: ClientView) -> Step | None:
    for seat in free_seats(view.chain, view.now):
        accept = view.accepts.get(seat)
        if accept is not None and seat not in view.commitments and accept.valid_until > view.now:
            return ReassignSeat(view.chain.task, view.chain.committee, seat, accept)
    return None


def _unchecked(view: ClientView) -> Step | None:
    chain = view.chain
    assert chain.delivered is not None
    opening = Opening(0, chain.delivered.output_digest, ZERO)
    bad = chain.delivered.output_digest in fault_digests(chain.task_id)
    # The client may waive the rest of the window as soon as it has what it pays for.
    if view.outputs or bad or view.now > chain.window_until:
        return FinaliseTask(chain.task, chain.committee, (opening,), ())
    if view.now > chain.window_from + chain.task.window * 3 // 4:
        return ObjectToResult(chain.task, chain.committee)
    return None


def _window(view: ClientView) -> Step | None:
    chain, task = view.chain, view.chain.task
    if view.now > chain.window_until:
        return _settle_from_chain(view)
    committed = [seat for seat, _ in chain.commitments]
    if all(seat in view.openings for seat in committed) and _may_finalise(view, committed):
        needs_approvals = task.policy.is_tolerance and agreed_fault(view) is None
        approvals = tuple(view.approvals[seat] for seat in committed) if needs_approvals else ()
        openings = tuple(view.openings[seat] for seat in committed)
        return FinaliseTask(task, chain.committee, openings, approvals)
    elapsed = view.now - chain.window_from
    unopened = [s for s in committed if s in view.openings and s not in chain.openings]
    reveal_until = task.window // 2 if task.policy.is_tolerance else task.window
    if unopened and task.window <= 4 * elapsed and elapsed <= reveal_until:
        # Only what is on chain counts after the window, and somebody is holding back.
        return RevealResults(task, chain.committee, _openings(view, set(unopened)))
    if task.policy.is_tolerance and 2 * elapsed > task.window:
        # A member that can be heard brings its own to the chain.
        spared = view.linked if 4 * elapsed <= 3 * task.window else frozenset()
        for seat, approval in sorted(view.approvals.items()):
            if seat not in chain.approvals and seat not in spared:
                return ApproveOutputs(task, chain.committee, approval)
    return None


def _may_finalise(view: ClientView, committed: list[int]) -> bool:
    task = view.chain.task
    if agreed_fault(view) is not None:
        return True
    if task.policy.is_tolerance and not all(seat in view.approvals for seat in committed):
        return False
    wanted = result_seats(view)
    if not wanted or wanted & view.outputs:
        return True
    return view.now > view.chain.window_from + task.window * OUTPUT_GRACE


def _openings(view: ClientView, opened: set[int]) -> tuple[Opening, ...]:
    """One entry per commitment in the order of the chain; the commitment stands in for a gap."""
    return tuple(
        view.openings[seat] if seat in opened else Opening(seat, ZERO, value)
        for seat, value in view.chain.commitments
    )


def _settle_from_chain(view: ClientView) -> FinaliseTask:
    chain = view.chain
    return FinaliseTask(chain.task, chain.committee, _openings(view, set(chain.openings)), ())
