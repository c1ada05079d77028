"""Turns the planner's verbs into transactions about one task."""

from __future__ import annotations

from typing import assert_never

from deai.actions import (
    Action,
    ApproveOutputs,
    CommitResults,
    DeliverResult,
    ExpireTask,
    FinaliseTask,
    ProveEquivocation,
    ReleaseSeat,
    RevealResults,
    intent_key,
)
from deai.chain.tasks_view import TaskView
from deai.errors import LedgerRejected, NodeFault
from deai.hashing import ZERO
from deai.tasks import Approval, Commitment, Opening, Policy, Result
from node.engagement import Engagement
from node.planner import Verb
from node.state import Node
from node.store.records import OwnResult


class Settlement:
    """Carries out `Submit`."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def submit(self, engagement: Engagement, verb: Verb) -> None:
        """Send it and wait until it is final; raise as `Ledger.submit` does."""
        node = self._node
        action = build(engagement, verb, now=node.chain_time)
        # A transaction that the chain refused may be right later: another intent.
        key = f"{intent_key(action)}#{engagement.refused[verb]}"
        if verb == "commit":
            node.ports.crash("commit.submitting")
        try:
            await node.ports.ledger.submit(action, key=key)
        except LedgerRejected:
            engagement.refused[verb] += 1
            raise
        node.counters[f"submitted.{verb}"] += 1
        points = {
            "commit": "commit.submitted",
            "reveal": "reveal.submitted",
            "approve": "approve.submitted",
            "finalise": "finalise.submitted",
        }
        if verb in points:
            node.ports.crash(points[verb])


def build(engagement: Engagement, verb: Verb, *, now: int) -> Action:
    """The transaction behind a verb; raise `NodeFault` if something for it is missing."""
    chain, task, key, own = (
        engagement.chain,
        engagement.task,
        engagement.key,
        engagement.result,
    )
    if chain is None:
        raise NodeFault("the task is not on chain")
    committee = chain.committee
    match verb:
        case "expire":
            return ExpireTask(task, committee)
        case "release":
            return ReleaseSeat(task, committee, key.seat)
        case "commit":
            own = _present(own)
            commitment = Commitment(key.seat, own.value, own.commit_signature)
            return CommitResults(task, committee, (commitment,))
        case "deliver":
            own = _present(own)
            result = Result(own.digest, own.evidence, own.result_signature)
            return DeliverResult(task, committee, result)
        case "reveal":
            return RevealResults(task, committee, _openings(chain, _known(engagement)))
        case "approve":
            mine = engagement.approvals[key.seat]
            return ApproveOutputs(task, committee, Approval(mine.seat, mine.mask, mine.signature))
        case "prove":
            return _prove(engagement, chain)
        case "finalise":
            return _finalise(engagement, chain, is_late=now > chain.window_until)
        case _:
            assert_never(verb)


def _prove(engagement: Engagement, chain: TaskView) -> ProveEquivocation:
    evidence = engagement.evidence()
    if evidence is None:
        raise NodeFault("nothing to prove")
    seat, *held = evidence
    first, second = (Result(one.digest, one.evidence, one.signature) for one in held)
    return ProveEquivocation(engagement.task, chain.committee, seat, first, second)


def _finalise(engagement: Engagement, chain: TaskView, *, is_late: bool) -> FinaliseTask:
    task = engagement.task
    if task.policy is Policy.NONE:
        assert chain.delivered is not None
        opening = Opening(0, chain.delivered.output_digest, ZERO)
        return FinaliseTask(task, chain.committee, (opening,), ())
    if is_late:
        return FinaliseTask(task, chain.committee, _openings(chain, chain.openings), ())
    approvals: tuple[Approval, ...] = ()
    own = _present(engagement.result)
    if task.policy.is_tolerance and not own.fault:
        given = {**{s: Approval(s, a.mask, a.signature) for s, a in engagement.approvals.items()}}
        given |= chain.approvals
        approvals = tuple(given[seat] for seat, _ in chain.commitments)
    return FinaliseTask(task, chain.committee, _openings(chain, _known(engagement)), approvals)


def _known(engagement: Engagement) -> dict[int, Opening]:
    """Every opening we have: our own, those sent to us, those on chain."""
    own = _present(engagement.result)
    seat = engagement.key.seat
    known = {s: Opening(s, one.digest, one.salt) for s, one in engagement.openings.items()}
    known[seat] = Opening(seat, own.digest, own.salt)
    if engagement.chain is not None:
        known |= engagement.chain.openings
    return known


def _openings(chain: TaskView, known: dict[int, Opening]) -> tuple[Opening, ...]:
    """One entry per commitment in the order of the chain; the commitment stands in for a gap."""
    return tuple(known.get(seat) or Opening(seat, ZERO, value) for seat, value in chain.commitments)


def _present(own: OwnResult | None) -> OwnResult:
    if own is None:
        raise NodeFault("there is no result of ours")
    return own
