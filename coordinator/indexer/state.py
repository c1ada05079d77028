"""What the index knows, as immutable records: the reducer's state, one per table.

Only facts of the chain are here; heartbeats and offers are gossip and live elsewhere. Sums of
money are whole base units; a running total may exceed what an `Amount` holds, so it is an int.
"""

from __future__ import annotations

from typing import Protocol, TypeAlias

import msgspec

from deai.chain.tasks_view import TaskView
from deai.channels import NO_RECEIPTS, Channel, ChannelState
from deai.ids import AccountId, ChannelId, NodeId, TaskId
from deai.pools import PoolState
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
    """What its owner was paid for it since it registered, by seats and by vouchers.

    The one figure that API, pages and metrics show.
    """
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
    """By seats and by vouchers."""
    completed: int = 0
    """Seats."""


class ChannelEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One payment channel; `deposit`, `claimed` and `refunded` are of its newest epoch.

    deposit = claimed + refunded once it is closed. `claimed` may include what the token refused
    to take to the owner, on NEAR, until it is sent again.
    """

    id: ChannelId
    channel: Channel
    state: ChannelState
    epoch: int
    deposit: int
    claimed: int = 0
    refunded: int = 0
    redeemed: int = 0
    """What vouchers paid in all epochs."""
    closes_at: int = 0
    """Chain seconds: the last in which a voucher pays; 0 while nobody asked for the rest."""
    receipts_root: bytes = NO_RECEIPTS
    """Of the newest voucher redeemed in this epoch: it stands for every window paid so far."""
    opened_block: int
    opened_idx: int
    opened_at: int
    """Where and when it was opened for the first time."""
    updated_at: int

    @property
    def held(self) -> int:
        """What it holds now."""
        return self.deposit - self.claimed - self.refunded


class NodeChannels(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over every channel for one node id, which need not be registered.

    deposited = redeemed + returned + what its channels hold now.
    """

    node: NodeId
    deposited: int = 0
    redeemed: int = 0
    returned: int = 0
    open: int = 0
    closing: int = 0
    closed: int = 0


class PoolEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One node's stake as a pool that others lend to: what the contract's events come to.

    Fields and units are those of `deai.pools.PoolRecord`, except that an announced commission
    stays apart, and that what nobody has shared out or recognised yet is unknown here. The shares
    of a closed pool are told to the unit of money that they are worth.
    """

    node: NodeId
    manager: AccountId
    index: int
    """Which of the manager's pools."""
    commission: int
    next_commission: int = 0
    next_commission_epoch: int = 0
    """From the beginning of this epoch on; 0 while nothing was ever announced."""
    state: PoolState = PoolState.OPEN
    batch: int = 1
    matures_at: int = 0
    assets: int
    leaving: int = 0
    shares: int
    manager_shares: int
    queued: int = 0
    queued_by_manager: int = 0
    leaving_shares: int = 0
    income: int = 0
    """Ever shared out, the commission included."""
    paid_out: int = 0
    """Ever left the pool for those who wanted out."""
    opened_at: int
    """Chain seconds."""

    def commission_at(self, epoch: int) -> int:
        """The commission in force in an epoch, as far as it is announced."""
        announced = self.next_commission_epoch and epoch >= self.next_commission_epoch
        return self.next_commission if announced else self.commission


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
    deposited: int = 0
    """Ever locked in channels: redeemed + returned + what channels hold."""
    redeemed: int = 0
    """By vouchers, to owners of nodes."""
    returned: int = 0
    """From closed channels to their clients."""
    rewarded: int = 0
    """What registered nodes earned: `paid`, and of `redeemed` what was for one of them."""
    channels_open: int = 0
    channels_closing: int = 0
    channels_closed: int = 0
    seats_paid: int = 0
    reassigned: int = 0
    anomalies: int = 0
    """Events that no row of the life cycle allows: they change nothing else."""


Entity: TypeAlias = (
    NodeState | TaskView | DayEarned | ChannelEntry | NodeChannels | PoolEntry | Totals
)


class Rows(Protocol):
    """What the reducer may look up: the state before the event."""

    def node(self, node: NodeId) -> NodeState | None: ...

    def task(self, task: TaskId) -> TaskView | None: ...

    def day(self, node: NodeId, day: str) -> DayEarned | None: ...

    def channel(self, channel: ChannelId) -> ChannelEntry | None: ...

    def node_channels(self, node: NodeId) -> NodeChannels | None: ...

    def pool(self, node: NodeId) -> PoolEntry | None: ...

    def totals(self) -> Totals: ...
