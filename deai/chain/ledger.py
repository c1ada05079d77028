"""The port to a chain: read state, carry out actions once, follow events from a cursor.

Adapters: `sei` (EVM), `memory` (the verified fake). One conformance suite runs on all. All
methods are trio coroutines with timeouts of their own; they raise `LedgerUnreachable` when no
endpoint answers and `LedgerRejected` (or `InsufficientFunds`) with the contract's own error.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol, runtime_checkable

import msgspec

from deai.actions import Action
from deai.chain.refusals import no_channels, no_orders, no_pools, no_rewards
from deai.channels import CHANNELS_NAME, Channel, ChannelRecord
from deai.claims import REWARDS_NAME, RewardsRecord
from deai.events import LedgerRecord
from deai.ids import AccountId, ChainName, ChannelId, NodeId, TaskId
from deai.money import Amount
from deai.orders import ORDERS_NAME, OrderBalance
from deai.pools import POOLS_NAME, DelegationRecord, PoolRecord
from deai.signing import Domain
from deai.standing import Standing
from deai.tasks import MAX_COMMIT_SPAN

CHANNELS_CONTRACT: Final = "PaymentChannels"
REWARDS_CONTRACT: Final = "RewardDistributor"
ORDERS_CONTRACT: Final = "OrderSettlement"
POOLS_CONTRACT: Final = "Delegations"
OPTIONAL_CONTRACTS: Final = (CHANNELS_CONTRACT, REWARDS_CONTRACT, ORDERS_CONTRACT, POOLS_CONTRACT)
"""What a deployment may lack."""
MAX_CHANNEL_PAGE: Final = 100


class ChainInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Which chain and which contracts; what signatures are bound to."""

    name: ChainName
    kind: str
    chain_id: int | str
    contracts: dict[str, AccountId]
    registry: Domain
    escrow: Domain
    deployed_at: int

    @property
    def channels(self) -> Domain:
        """What channels and vouchers are bound to; raises `NotSetUp` where there are none."""
        if CHANNELS_CONTRACT not in self.contracts:
            raise no_channels()
        return Domain(CHANNELS_NAME, self.chain_id, self.contracts[CHANNELS_CONTRACT])

    @property
    def rewards(self) -> Domain:
        """What claims are bound to; raises `NotSetUp` where there are no rewards."""
        if REWARDS_CONTRACT not in self.contracts:
            raise no_rewards()
        return Domain(REWARDS_NAME, self.chain_id, self.contracts[REWARDS_CONTRACT])

    @property
    def orders(self) -> Domain:
        """What orders and their results are bound to; raises `NotSetUp` where there are none."""
        if ORDERS_CONTRACT not in self.contracts:
            raise no_orders()
        return Domain(ORDERS_NAME, self.chain_id, self.contracts[ORDERS_CONTRACT])

    @property
    def delegations(self) -> Domain:
        """What names the owners of pools; raises `NotSetUp` where no node takes delegations."""
        if POOLS_CONTRACT not in self.contracts:
            raise no_pools()
        return Domain(POOLS_NAME, self.chain_id, self.contracts[POOLS_CONTRACT])


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """Constructor constants of the contracts; sums in base units, times in seconds."""

    min_stake: Amount
    min_fee: Amount
    min_lease: int
    min_window: int
    epoch_seconds: int
    unbonding_seconds: int
    weight_fee: Amount
    """w0: the protocol fee of a seat at which reputation moves fully."""
    bounty: Amount
    treasury: AccountId
    max_span: int = MAX_COMMIT_SPAN
    """The longest time from post to commit deadline, and the longest window."""
    close_period: int = 0
    """The challenge period of a client's close; 0 where there are no channels."""
    reward_delay: int = 0
    """How long a root waits before accounts may claim under it; 0 where there are no rewards."""
    thaw_period: int = 0
    """From asking for money set aside for orders to taking it; 0 where there are no orders."""
    min_delegation: Amount = Amount(0)
    """The least that may be delegated at once; 0 where no node takes delegations."""


class Head(msgspec.Struct, frozen=True):
    """The newest block: number, hash, chain time in seconds."""

    number: int
    hash: str
    time: int


class Cursor(msgspec.Struct, frozen=True):
    """The block up to which events have been applied: number *and* hash.

    An empty hash: from behind that number on, whichever block it is.
    """

    number: int
    hash: str


class Balances(msgspec.Struct, frozen=True):
    """Of one account: money for gas (wei), tokens, free balance in the vault."""

    gas: int
    tokens: int
    vault: int


class NodeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A registered node as the contract stores it; reputation in thousandths."""

    node: NodeId
    operator: AccountId
    standing: Standing
    stake: int
    unbonding: int
    unbond_at: int
    reputation: int
    checked_tasks: int
    last_epoch: int


class LaneRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A client's lane as the contract stores it.

    `closed` is the nonce of the last task that ended; the lane is free when `nonce == closed`.
    `acc` is the raw word of commitments of task `nonce` (see `tasks.fold_commitments`), 0
    before the first commit. Masks are by seat.
    """

    nonce: int
    closed: int
    committed: int
    revealed: int
    released: int
    acc: int
    accrued: int

    @property
    def is_busy(self) -> bool:
        """Whether a posted task has not ended yet."""
        return self.nonce != self.closed


class ChannelMark(msgspec.Struct, frozen=True, order=True):
    """A place in the list of channels: behind this event of this block."""

    block: int
    index: int


class OpenedChannel(msgspec.Struct, frozen=True):
    """A channel that was opened at least once, and its record now."""

    id: ChannelId
    channel: Channel
    record: ChannelRecord


class ChannelPage(msgspec.Struct, frozen=True):
    """Some channels, the oldest first; `next` is None when the list ends with them.

    A page may be short, or empty, and not be the last one.
    """

    items: tuple[OpenedChannel, ...]
    next: ChannelMark | None


class Transaction(msgspec.Struct, frozen=True, kw_only=True):
    """A final transaction: what it did, where it stands, what it cost."""

    kind: str
    hash: str
    block: int
    time: int
    gas_used: int
    gas_price: int = 0


class OrderEarnings(msgspec.Struct, frozen=True):
    """Of one owner: what it earned with orders and not collected, and the fees accrued beside."""

    earned: int
    fees: int


class EventBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Events of consecutive whole blocks.

    `rewind_to` is set when blocks were replaced: drop everything above that block number
    before applying `records`. `cursor` is stored in the same transaction as the rows.
    """

    records: tuple[LedgerRecord, ...]
    cursor: Cursor
    head: Head
    rewind_to: int | None = None


@runtime_checkable
class PricesGas(Protocol):
    """A ledger that knows what gas costs now; where it does not, the last transaction tells."""

    async def gas_price(self) -> int:
        """Of one unit of gas, in the chain's smallest unit; raises `LedgerUnreachable`."""
        ...


class Ledger(Protocol):
    """A chain, seen by one account."""

    @property
    def info(self) -> ChainInfo:
        """Which chain this is."""
        ...

    @property
    def account(self) -> AccountId | None:
        """Whose transactions `submit` sends; None for a reader."""
        ...

    async def parameters(self) -> Parameters:
        """The contracts' constants (read once, then cached)."""
        ...

    async def head(self) -> Head:
        """The newest block."""
        ...

    async def balances(self, account: AccountId) -> Balances:
        """What an account has."""
        ...

    async def node(self, node: NodeId) -> NodeRecord | None:
        """A node's record, None if it never registered."""
        ...

    async def speaks_for(self, account: AccountId, key: AccountId) -> bool:
        """Whether `key` may sign anything for `account` now.

        On Sei its own address may, on NEAR a full-access key (`ed25519:…`) that it holds.
        """
        ...

    async def lane(self, client: AccountId, lane: int) -> LaneRecord:
        """A lane's record; all zero if never used."""
        ...

    async def task_events(self, task: TaskId, *, since: int) -> tuple[LedgerRecord, ...]:
        """Every event of one task from block `since` on, in chain order."""
        ...

    async def channel(self, channel: ChannelId) -> ChannelRecord:
        """A channel's record; all zero if it was never opened.

        Raises `NotSetUp` where there are no channels; so do `channels` and the actions.
        """
        ...

    async def channels(
        self,
        *,
        client: AccountId | None = None,
        node: NodeId | None = None,
        after: ChannelMark | None = None,
        limit: int = MAX_CHANNEL_PAGE,
    ) -> ChannelPage:
        """Channels of a client, for a node, or both, in the order of their first opening.

        At most `limit` of them, which is 1 to `MAX_CHANNEL_PAGE`; `after` is the `next` of the
        page before. One call reads a bounded part of the chain. Raises `LimitExceeded`.
        """
        ...

    async def rewards(self) -> RewardsRecord:
        """The root under which accounts claim now, and the one that waits.

        Raises `NotSetUp` where there are no rewards; so do `rewards_paid` and the actions.
        """
        ...

    async def rewards_paid(self, account: AccountId) -> Amount:
        """What an account was paid since ever."""
        ...

    async def order_balance(self, client: AccountId) -> OrderBalance:
        """What a client set aside for signed orders; all zero if it never did.

        Raises `NotSetUp` where there are no orders; so do the next two and the actions.
        """
        ...

    async def order_page(self, client: AccountId, page: int) -> int:
        """A word of a client: bit 0 once it is bought, bit i once nonce `page << 8 | i` settled."""
        ...

    async def order_earnings(self, owner: AccountId) -> OrderEarnings:
        """What waits for an owner of nodes, and beside it for the treasury."""
        ...

    async def pool(self, node: NodeId) -> PoolRecord | None:
        """The pool that a node's stake is, None if the node takes no delegations.

        Raises `NotSetUp` where none does; so do `delegation` and the actions.
        """
        ...

    async def delegation(self, node: NodeId, account: AccountId) -> DelegationRecord:
        """What an account has in a node's pool; all zero if it has nothing."""
        ...

    async def simulate(self, action: Action) -> int:
        """Try an action on the newest state without sending; return its gas.

        Raises what sending it would raise.
        """
        ...

    async def submit(self, action: Action, *, key: str = "") -> Transaction:
        """Carry an action out once and wait until it is final.

        `key` is the intent (default `actions.intent_key`): submitting it again, also after a
        crash and from another process life, returns the same transaction. Cancelling the wait
        does not take the transaction back.
        """
        ...

    def follow(
        self, cursor: Cursor | None
    ) -> AbstractAsyncContextManager[AsyncIterator[EventBatch]]:
        """Events from a cursor on (None: from deployment), then live, until closed.

        Yields also empty batches (at most one a second when idle) so that the head is known.
        """
        ...
