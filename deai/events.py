"""What chains report: typed events in chain order, the only input of the index.

Longer than other modules because every event is here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

import msgspec

from deai.channels import Channel
from deai.claims import Reason, Share
from deai.ids import AccountId, ChannelId, NodeId, OrderId, TaskId
from deai.money import Amount, Count
from deai.orders import Order
from deai.standing import Standing
from deai.tasks import Seat, Task


class Position(msgspec.Struct, frozen=True, array_like=True, order=True):
    """Where an event stands: block, index in the block, block hash and time, transaction."""

    block: int
    index: int
    block_hash: str
    time: int
    transaction: str


class _Event(msgspec.Struct, frozen=True, array_like=True, tag=True, forbid_unknown_fields=True):
    """Base: tagged by its class name."""


class TokensMoved(_Event, frozen=True):
    """Transfer of the token; mint and burn have the zero address on one side."""

    sender: AccountId
    receiver: AccountId
    amount: Amount


class NodeRegistered(_Event, frozen=True):
    """An owner staked and registered a node."""

    node: NodeId
    operator: AccountId
    stake: Amount
    peer_id: str
    addresses: tuple[str, ...]


class NodeAnnounced(_Event, frozen=True):
    """A node's operator published where it listens."""

    node: NodeId
    peer_id: str
    addresses: tuple[str, ...]


class OperatorRotated(_Event, frozen=True):
    """A node has a new hot key."""

    node: NodeId
    operator: AccountId


class StakeAdded(_Event, frozen=True):
    """`bonded` is the stake after adding."""

    node: NodeId
    added: Amount
    bonded: Amount


class UnbondingStarted(_Event, frozen=True):
    """`amount` is still slashable until withdrawn, from `unbond_at` on."""

    node: NodeId
    amount: Amount
    unbond_at: int


class StakeWithdrawn(_Event, frozen=True):
    """Unbonded stake left the registry."""

    node: NodeId
    to: AccountId
    amount: Amount


class NodeBeat(_Event, frozen=True):
    """The on-chain heartbeat of an epoch."""

    node: NodeId
    epoch: int


class NodeSlashed(_Event, frozen=True):
    """`amount` left the stake; `bounty` of it went to `submitter`, `burned` is the rest."""

    node: NodeId
    submitter: AccountId
    amount: Amount
    bounty: Amount
    burned: Amount


class StandingChanged(_Event, frozen=True):
    """Released from jail, or any other change that no other event tells."""

    node: NodeId
    standing: Standing


class Deposited(_Event, frozen=True):
    """Tokens entered a vault account."""

    account: AccountId
    payer: AccountId
    amount: Amount


class VaultWithdrawn(_Event, frozen=True):
    """Tokens left a vault account."""

    account: AccountId
    to: AccountId
    amount: Amount


class TaskPosted(_Event, frozen=True):
    """Fees and tip moved into escrow."""

    task_id: TaskId
    task: Task


class TaskAssigned(_Event, frozen=True):
    """The committee was named; leases run."""

    task_id: TaskId
    committee: tuple[Seat, ...]


class SeatReassigned(_Event, frozen=True):
    """Another node holds the seat; `committee` is the new list, former members behind it."""

    task_id: TaskId
    seat: int
    previous: NodeId
    released: bool
    committee: tuple[Seat, ...]


class SeatReleased(_Event, frozen=True):
    """A provider gave its seat back."""

    task_id: TaskId
    seat: int


class ResultCommitted(_Event, frozen=True):
    """A seat committed to a result."""

    task_id: TaskId
    seat: int
    attempt: int
    value: bytes


class ResultDelivered(_Event, frozen=True):
    """`none/1`: the signed result itself."""

    task_id: TaskId
    node: NodeId
    output_digest: bytes
    evidence_digest: bytes


class ResultRevealed(_Event, frozen=True):
    """A seat's commitment was opened on chain."""

    task_id: TaskId
    seat: int
    digest: bytes
    salt: bytes


class OutputsApproved(_Event, frozen=True):
    """A member's approval was recorded on chain."""

    task_id: TaskId
    seat: int
    mask: int
    signature: bytes


class SeatSettlement(msgspec.Struct, frozen=True, array_like=True):
    """One seat's outcome: what its owner got, reputation in thousandths before and after.

    `verdict` is the contract's: 0 never committed, 1 paid unchecked (`none/1`), 2 paid, 3 lost
    vote (forfeited), 4 silent (committed, never revealed; refunded), 5 forfeited without a lost
    vote, 6 paid a tenth for a bad task. Reputations are 0 for verdicts 0, 5 and 6.
    """

    payment: Amount
    before: int
    after: int
    verdict: int


class TaskFinalised(_Event, frozen=True):
    """`result` is the winning digest, None when nobody won; `fault`: all agree it is bad.

    escrowed = sum of payments + refunded + protocol_fee + tip, where `tip` is what somebody
    other than the client got for finalising (the client's own tip is part of `refunded`).
    """

    task_id: TaskId
    result: bytes | None
    fault: bool
    refunded: Amount
    protocol_fee: Amount
    finaliser: AccountId
    tip: Amount
    seats: tuple[SeatSettlement, ...]


class TaskExpired(_Event, frozen=True):
    """Nobody committed in time; everything went back to the client."""

    task_id: TaskId
    refunded: Amount


class TaskCancelled(_Event, frozen=True):
    """The client took the task back before it was assigned."""

    task_id: TaskId
    refunded: Amount


class TaskObjected(_Event, frozen=True):
    """The client refused an unchecked result."""

    task_id: TaskId
    protocol_fee: Amount
    refunded: Amount


class EquivocationProven(_Event, frozen=True):
    """Two results of one seat and attempt were shown."""

    task_id: TaskId
    seat: int
    node: NodeId
    submitter: AccountId


class FeesSwept(_Event, frozen=True):
    """Accrued fees of a lane went to the treasury."""

    client: AccountId
    lane: int
    amount: Amount


class ChannelOpened(_Event, frozen=True):
    """A client locked a deposit; `epoch` counts the openings."""

    channel_id: ChannelId
    channel: Channel
    epoch: int
    deposit: Amount


class ChannelToppedUp(_Event, frozen=True):
    """`deposit` is what the epoch has after adding."""

    channel_id: ChannelId
    amount: Amount
    deposit: Amount


class VoucherRedeemed(_Event, frozen=True):
    """`paid` went to the node's owner; `claimed` by all vouchers of this epoch."""

    channel_id: ChannelId
    paid: Amount
    claimed: Amount
    receipts_root: bytes


class VoucherSkipped(_Event, frozen=True):
    """One of many that could not be redeemed; `reason` is the error it would have met alone."""

    channel_id: ChannelId
    reason: str


class ChannelClosing(_Event, frozen=True):
    """The client asked for the rest; vouchers pay until `closes_at`, that second included."""

    channel_id: ChannelId
    closes_at: int


class ChannelClosed(_Event, frozen=True):
    """It holds nothing any more: deposit = claimed + refunded, since it was opened."""

    channel_id: ChannelId
    epoch: int
    claimed: Amount
    refunded: Amount


class RewardsFunded(_Event, frozen=True):
    """Tokens came for rewards: `shares` are owed to accounts, the rest of `amount` to nobody.

    A plain transfer to the contract comes without this event.
    """

    payer: AccountId
    reason: Reason
    amount: Amount
    shares: tuple[Share, ...]


class RewardsProposed(_Event, frozen=True):
    """A root that accounts may claim under from `active_at` on, unless it is cancelled."""

    epoch: int
    root: bytes
    total: Amount
    statement: bytes
    active_at: int


class RewardsCancelled(_Event, frozen=True):
    """The guardian took a proposed root back."""

    epoch: int
    root: bytes


class RewardsClaimed(_Event, frozen=True):
    """An account was paid `amount`, and `cumulative` since ever."""

    account: AccountId
    amount: Amount
    cumulative: Amount


class OrdersFunded(_Event, frozen=True):
    """A client set tokens aside for signed orders; `balance` is what it has there now."""

    client: AccountId
    amount: Amount
    balance: Amount


class PageOpened(_Event, frozen=True):
    """A client bought a page: 255 nonces."""

    client: AccountId
    page: int


class OrderSettled(_Event, frozen=True):
    """The client paid the fee of every seat: `payments` by seat, the rest to the protocol.

    A payment of 0: the seat signed nothing, or another digest.
    """

    order_id: OrderId
    order: Order
    output_digest: bytes
    payments: tuple[Amount, ...]

    @property
    def protocol_fee(self) -> int:
        """What was not paid to seats, in base units."""
        return self.order.cost - sum(self.payments)


class OrderSkipped(_Event, frozen=True):
    """One of many that could not be settled; the id is zero for the reason `BadOrder`."""

    order_id: OrderId
    reason: str


class ThawRequested(_Event, frozen=True):
    """The client asked for `amount` in all; it may leave after `thaws_at` (0: taken back)."""

    client: AccountId
    amount: Amount
    thaws_at: int


class ThawWithdrawn(_Event, frozen=True):
    """Money left a balance for orders."""

    client: AccountId
    to: AccountId
    amount: Amount


class EarningsCollected(_Event, frozen=True):
    """What an owner earned with orders went to it."""

    owner: AccountId
    amount: Amount


class OrderFeesSwept(_Event, frozen=True):
    """The protocol's part beside an owner's earnings went to the treasury."""

    owner: AccountId
    amount: Amount


class PoolOpened(_Event, frozen=True):
    """A node that takes delegations: `stake` is the manager's own, `index` one of its numbers."""

    node: NodeId
    manager: AccountId
    index: Count
    commission: int
    stake: Amount


class Delegated(_Event, frozen=True):
    """`amount` was added to the node's stake, for `shares`."""

    node: NodeId
    account: AccountId
    amount: Amount
    shares: Count


class UndelegationRequested(_Event, frozen=True):
    """`shares` wait for batch `batch`, which may begin at once."""

    node: NodeId
    account: AccountId
    shares: Count
    batch: int


class BatchStarted(_Event, frozen=True):
    """A batch unbonds: `amount` is the most it is paid, once `matures_at` has passed.

    Its shares have left the pool's. Batch 0 is the whole pool, for good.
    """

    node: NodeId
    batch: int
    shares: Count
    amount: Amount
    matures_at: int


class BatchMatured(_Event, frozen=True):
    """A batch left the stake: `amount` waits for its accounts (batch 0: for all others)."""

    node: NodeId
    batch: int
    amount: Amount


class UndelegationPaid(_Event, frozen=True):
    """An account was sent its part of a batch."""

    node: NodeId
    account: AccountId
    batch: int
    amount: Amount


class IncomeShared(_Event, frozen=True):
    """`income` joined the assets; `commission` of it as `commission_shares` of the manager.

    When nobody has shares any more, `commission` is all of it, and the manager was sent it.
    """

    node: NodeId
    income: Amount
    commission: Amount
    commission_shares: Count


class PoolSlashed(_Event, frozen=True):
    """A slash was recognised: the registry took `amount`.

    The manager bore `bounty` of it alone, with `bounty_shares`.
    """

    node: NodeId
    amount: Amount
    bounty: Amount
    bounty_shares: Count


class CommissionAnnounced(_Event, frozen=True):
    """A commission of `bps` from the beginning of epoch `epoch` on."""

    node: NodeId
    bps: int
    epoch: int


class PoolClosed(_Event, frozen=True):
    """Nobody can delegate any more; everything unbonds."""

    node: NodeId


LedgerEvent: TypeAlias = (
    TokensMoved
    | NodeRegistered
    | NodeAnnounced
    | OperatorRotated
    | StakeAdded
    | UnbondingStarted
    | StakeWithdrawn
    | NodeBeat
    | NodeSlashed
    | StandingChanged
    | Deposited
    | VaultWithdrawn
    | TaskPosted
    | TaskAssigned
    | SeatReassigned
    | SeatReleased
    | ResultCommitted
    | ResultDelivered
    | ResultRevealed
    | OutputsApproved
    | TaskFinalised
    | TaskExpired
    | TaskCancelled
    | TaskObjected
    | EquivocationProven
    | FeesSwept
    | ChannelOpened
    | ChannelToppedUp
    | VoucherRedeemed
    | VoucherSkipped
    | ChannelClosing
    | ChannelClosed
    | RewardsFunded
    | RewardsProposed
    | RewardsCancelled
    | RewardsClaimed
    | OrdersFunded
    | PageOpened
    | OrderSettled
    | OrderSkipped
    | ThawRequested
    | ThawWithdrawn
    | EarningsCollected
    | OrderFeesSwept
    | PoolOpened
    | Delegated
    | UndelegationRequested
    | BatchStarted
    | BatchMatured
    | UndelegationPaid
    | IncomeShared
    | PoolSlashed
    | CommissionAnnounced
    | PoolClosed
)


TASK_VERBS: Final[Mapping[type, str]] = {
    TaskPosted: "post",
    TaskAssigned: "assign",
    SeatReassigned: "reassign",
    SeatReleased: "release",
    ResultCommitted: "commit",
    ResultDelivered: "deliver",
    ResultRevealed: "reveal",
    OutputsApproved: "approve",
    TaskFinalised: "finalise",
    TaskExpired: "expire",
    TaskCancelled: "cancel",
    TaskObjected: "object",
    EquivocationProven: "prove_equivocation",
}
"""What a transaction did, by the events it left."""


class LedgerRecord(msgspec.Struct, frozen=True, array_like=True):
    """One event and where it stands."""

    position: Position
    event: LedgerEvent
