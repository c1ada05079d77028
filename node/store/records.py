"""What the journal keeps, as the rest of the node sees it."""

from __future__ import annotations

from typing import Final

import msgspec

from deai.ids import PeerId, TaskId
from deai.messages import ApprovedOutputs, Member, Opened
from deai.tasks import Task, TaskSpec

SMALL_BYTES: Final = 16 * 1024
"""Largest input or output that is kept in the journal: a few of its pages."""


class SeatKey(msgspec.Struct, frozen=True, array_like=True):
    """One attempt at one seat of one task: what a node engages for."""

    task_id: TaskId
    seat: int
    attempt: int

    def blob(self, kind: str, seat: int | None = None) -> str:
        """The name of a blob: the input, or the output of `seat` (default: our own)."""
        of = self.seat if seat is None else seat
        return f"{self.task_id[2:]}-{self.seat}-{self.attempt}-{kind}-{of}"


class OwnResult(msgspec.Struct, frozen=True, kw_only=True):
    """What this node signed about a task; never changed, only sent again."""

    digest: bytes
    evidence: bytes
    salt: bytes
    value: bytes
    commit_signature: bytes
    result_signature: bytes
    fault: int
    """Code of `FaultCode` if the task itself is bad, else 0: then the output is a blob."""


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """An engagement as the journal knows it."""

    key: SeatKey
    task: Task
    spec: TaskSpec
    valid_until: int
    signature: bytes
    since: int
    """Newest block when the seat was accepted: every event of the task came later."""
    accepted_at: int
    client_peer: PeerId
    members: tuple[Member, ...] = ()
    has_input: bool = False
    input: bytes | None = None
    """A small input; a larger one is a blob."""
    result: OwnResult | None = None
    output: bytes | None = None
    """Our own output if it is small; a larger one is a blob."""
    openings: dict[int, Opened] = {}
    lies: dict[int, Opened] = {}
    """By seat: a result that its key signed and that is not the one on chain."""
    approvals: dict[int, ApprovedOutputs] = {}
    ended_at: int | None = None
    outcome: str = ""
    payment: int = 0
    reason: str = ""


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """Settled seats of one day (UTC) and workload; sums in base units."""

    day: str
    workload: str
    paid: int
    forfeited: int
    tasks: int
    unpaid: int
