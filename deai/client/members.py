"""The nodes of a running task as the client sees them: what each sent, and whether it is right.

Synchronous and without a socket: messages come in, checked facts stay.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from deai.chain.tasks_view import TaskView
from deai.client.blobs import BlobReceiver
from deai.client.sessions import Session
from deai.errors import BadSignature, MalformedMessage
from deai.hashing import digest_of_leaves
from deai.ids import NodeId
from deai.messages import ApprovedOutputs, BlobChunk, BlobHeader, Committed, Opened
from deai.net import PeerAddress
from deai.signing import Domain, verify, word
from deai.tasks import (
    Approval,
    Commitment,
    Opening,
    Policy,
    Result,
    Seat,
    approval_digest,
    commit_digest,
    commitment_value,
    result_digest,
)

Kind = Literal["assigned", "resume", "input", "opening", "output", "ask", "ended"]
Item = tuple[Kind, int]
"""Something that a member shall be sent: a kind, and a seat or a version."""
Wanted = Literal["opening", "output", "approval"]


@dataclass(slots=True)
class Member:
    """The present holder of one seat."""

    index: int
    seat: Seat
    peer: PeerAddress | None
    heard_at: float
    """Local time of its last sign of life."""
    done: float = 0.0
    is_connected: bool = False
    has_input: bool = False
    early: Session | None = None
    """The link on which the input went with the proposal."""
    was_connected: bool = False
    sent: set[Item] = field(default_factory=set)
    asks: list[Wanted] = field(default_factory=list)
    """What it has been or shall be asked for again, in order."""
    asked_at: float = -1e9
    commitment: Commitment | None = None
    commitment_at: float = 0.0
    opened: Opened | None = None
    evidence: tuple[Result, Result] | None = None
    """Two results with different outputs that its key signed for one attempt."""
    approval: ApprovedOutputs | None = None
    receiver: BlobReceiver | None = None
    output: bytes | None = None
    output_digest: bytes = b""
    complaint: str = ""
    """What it did wrong last, for people."""

    @property
    def node(self) -> NodeId:
        """Its node id."""
        return self.seat.node

    def commit(self, domain: Domain, view: TaskView, message: Committed, now: float) -> bool:
        """Keep a commitment that its key signed; False for anything else."""
        if message.attempt != self.seat.attempt:
            return False
        digest = commit_digest(domain, view.task_id, self.index, self.seat.attempt, message.value)
        if not self._signed(digest, message.signature):
            return False
        if self.commitment is None:
            self.commitment_at = now
        self.commitment = Commitment(self.index, message.value, message.signature)
        return True

    def open(self, domain: Domain, view: TaskView, message: Opened) -> bool:
        """Keep an opening whose result its key signed.

        Whether it opens the commitment on chain is checked when that is known.
        """
        if message.attempt != self.seat.attempt:
            return False
        digest = result_digest(
            domain, view.task_id, self.index, self.seat.attempt, message.digest, message.evidence
        )
        if not self._signed(digest, message.signature):
            return False
        known = self.opened
        if known is not None and known.digest != message.digest:
            # Two signed results of one seat and attempt: that costs a stake.
            self.evidence = (_result(known), _result(message))
            if self._opens(view, known):
                return True
        self.opened = message
        return True

    def approve(self, domain: Domain, view: TaskView, message: ApprovedOutputs) -> bool:
        """Keep an approval that its key signed over all commitments on chain."""
        commitments = word(view.acc)
        if message.commitments != commitments:
            return False
        digest = approval_digest(domain, view.task_id, self.index, commitments, message.mask)
        if not self._signed(digest, message.signature):
            return False
        self.approval = message
        return True

    def announce(self, view: TaskView, header: BlobHeader) -> bool:
        """Get ready for the seat's output; False unless it is what the seat committed to."""
        if self.output is not None or self.receiver is not None:
            return True
        named = digest_of_leaves(header.length, header.leaves)
        expected = {self.opened.digest} if self.opened is not None else set()
        if view.result is not None:
            expected.add(view.result)
        if view.delivered is not None:
            expected.add(view.delivered.output_digest)
        if not expected:
            return False  # came before its opening; it is asked for again
        if named not in expected:
            self.complaint = "sent an output that is not the one it committed to"
            return False
        self.receiver = BlobReceiver(header, named)
        self.output_digest = named
        return True

    def take(self, chunk: BlobChunk) -> bool:
        """Add a chunk of the output; True when the output is complete."""
        if self.receiver is None or self.output is not None:
            return False
        try:
            complete = self.receiver.add(chunk)
        except MalformedMessage as error:
            self.complaint = f"its output is damaged: {error}"
            self.receiver = None
            return False
        if complete:
            self.output = self.receiver.blob()
            self.receiver = None
        return complete

    def drop_output(self) -> None:
        """Forget a half-received output: the link it came over is gone."""
        self.receiver = None

    def opening(self, view: TaskView) -> Opening | None:
        """Its opening, if it matches the commitment on chain."""
        on_chain = view.openings.get(self.index)
        if on_chain is not None:
            return on_chain
        if self.opened is None or view.task.policy is Policy.NONE:
            return None
        if not self._opens(view, self.opened):
            return None
        return Opening(self.index, self.opened.digest, self.opened.salt)

    def approval_for(self, view: TaskView) -> Approval | None:
        """Its approval, if it is over the commitments that are on chain."""
        on_chain = view.approvals.get(self.index)
        if on_chain is not None:
            return on_chain
        if self.approval is None or self.approval.commitments != word(view.acc):
            return None
        return Approval(self.index, self.approval.mask, self.approval.signature)

    def result(self) -> Result | None:
        """Its signed result."""
        return _result(self.opened) if self.opened is not None else None

    def _opens(self, view: TaskView, opened: Opened) -> bool:
        """Whether it is the opening of the commitment on chain."""
        value = commitment_value(
            view.task_id, self.index, self.seat.attempt, self.node, opened.digest, opened.salt
        )
        return value == view.attempt(self.index).value

    def _signed(self, digest: bytes, signature: bytes) -> bool:
        try:
            verify(digest, signature, self.seat.operator)
        except BadSignature as error:
            self.complaint = f"sent something that is not signed by its key: {error}"
            return False
        return True


def _result(opened: Opened) -> Result:
    return Result(opened.digest, opened.evidence, opened.signature)
