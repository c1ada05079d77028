"""What the index knows, as immutable records: the reducer's state, one per table.

Only facts of the chain are here; heartbeats and offers are gossip and live elsewhere. Sums of
money are whole base units; a running total may exceed what an `Amount` holds, so it is an int.
"""

from __future__ import annotations

from typing import Protocol, TypeAlias

import msgspec

from deai.chain.tasks_view import TaskView
from deai.ids import AccountId, NodeId, TaskId
from deai.standing import Standing
from rewards.reputation import START


class NodeState(msgspec.Struct, frozen=True, kw_only=True):
    """One registered node: the registry's record and what its seats came to."""

    node: NodeId
    owner: AccountId
    operator: AccountId
    peer_id: str
    addresses: tuple[str, ...]
    registered_at: int
    """Chain seconds."""
    standing: Standing = Standing.PROBATION
    bonded: int
    unbonding: int = 0
    unbond_at: int = 0
    reputation: int = START
    """Thousandths of a point, as last reported by the chain."""
    checked_tasks: int = 0
    last_epoch: int = 0
    """Of the newest on-chain heartbeat; 0 before the first."""
    earned: int = 0
    """Sum of its paid seats: the one figure that API, pages and metrics show."""
    completed: int = 0
    """Attempts that were paid."""
    failed: int = 0
    """Attempts that ended unpaid and had not been given back."""
    released: int = 0
    """Attempts that the node gave back."""
    slashed: int = 0

    @property
    def stake(self) -> int:
        """Everything at risk: bonded and unbonding."""
        return self.bonded + self.unbonding


class DayEarned(msgspec.Struct, frozen=True, kw_only=True):
    """What one node was paid on one day (UTC, chain time)."""

    node: NodeId
    day: str
    """`2026-11-21`."""
    earned: int = 0
    completed: int = 0


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Running sums over one chain."""

    paid: int = 0
    """To owners of nodes for seats."""
    refunded: int = 0
    protocol_fees: int = 0
    escrowed: int = 0
    """Ever posted: paid + refunded + protocol_fees + what open tasks hold."""
    slashed: int = 0
    minted: int = 0
    burned: int = 0
    pending: int = 0
    assigned: int = 0
    in_progress: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    seats_paid: int = 0
    reassigned: int = 0
    anomalies: int = 0
    """Events that no row of the life cycle allows: they change nothing else."""


Entity: TypeAlias = NodeState | TaskView | DayEarned | Totals


class Rows(Protocol):
    """What the reducer may look up: the state before the event."""

    def node(self, node: NodeId) -> NodeState | None: ...

    def task(self, task: TaskId) -> TaskView | None: ...

    def day(self, node: NodeId, day: str) -> DayEarned | None: ...

    def totals(self) -> Totals: ...
