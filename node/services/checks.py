"""Whether what others send about a task is true, judged by the chain alone."""

from __future__ import annotations

from deai.errors import BadSignature
from deai.ids import AccountId
from deai.messages import ApprovedOutputs, Opened
from deai.signing import Domain, verify, word
from deai.tasks import approval_digest, commitment_value, result_digest
from node.engagement import Engagement


def is_committee_final(engagement: Engagement, now: int) -> bool:
    """Whether no further commitment can come: only now do openings and approvals mean anything."""
    chain, task = engagement.chain, engagement.task
    if chain is None or not chain.commitments:
        return False
    return len(chain.commitments) == task.seats or now > task.commit_deadline


def is_signed_opening(engagement: Engagement, domain: Domain, message: Opened) -> bool:
    """Whether the key of the seat's present holder signed this result, whatever it committed to.

    Two such results with different digests are evidence of equivocation.
    """
    seat = engagement.seat_of(message.seat)
    if seat is None or seat.attempt != message.attempt:
        return False
    signed = result_digest(
        domain,
        engagement.task_id,
        message.seat,
        message.attempt,
        message.digest,
        message.evidence,
    )
    return _is_signed(signed, message.signature, seat.operator)


def is_committed_opening(engagement: Engagement, message: Opened) -> bool:
    """Whether it opens the seat's commitment on chain."""
    chain, seat = engagement.chain, engagement.seat_of(message.seat)
    if chain is None or seat is None:
        return False
    value = commitment_value(
        engagement.task_id, message.seat, message.attempt, seat.node, message.digest, message.salt
    )
    return dict(chain.commitments).get(message.seat) == value


def is_true_approval(engagement: Engagement, domain: Domain, message: ApprovedOutputs) -> bool:
    """Whether it names the commitments on chain and is signed by the seat's key."""
    chain, seat = engagement.chain, engagement.seat_of(message.seat)
    if chain is None or seat is None or not chain.committed >> message.seat & 1:
        return False
    if message.commitments != word(chain.acc):
        return False
    signed = approval_digest(
        domain, engagement.task_id, message.seat, message.commitments, message.mask
    )
    return _is_signed(signed, message.signature, seat.operator)


def _is_signed(digest: bytes, signature: bytes, account: AccountId) -> bool:
    try:
        verify(digest, signature, account)
    except BadSignature:
        return False
    return True
