"""What the ledger in memory stores, and one atomic change of it."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Final, Generic, NoReturn, TypeVar

import msgspec

from deai.chain.ledger import ChainInfo, OrderEarnings, Parameters
from deai.chain.refusals import refusal
from deai.chain.rules import Rules
from deai.chain.tasks_view import TaskView
from deai.channels import ChannelRecord
from deai.claims import RewardsRecord
from deai.errors import BadSignature
from deai.events import LedgerEvent, LedgerRecord, Position, TokensMoved
from deai.ids import AccountId, ChannelId, NodeId
from deai.money import Amount
from deai.orders import OrderBalance
from deai.pools import PoolState
from deai.signing import recover
from deai.standing import Standing

K = TypeVar("K")
V = TypeVar("V")

ZERO_ACCOUNT: Final = AccountId("0x" + "00" * 20)
WEEK_SECONDS: Final = 7 * 24 * 3600


class NodeState(msgspec.Struct, frozen=True, kw_only=True):
    """A node; `epoch` of the last beat, `week` of the last checked seat."""

    operator: AccountId = ZERO_ACCOUNT
    standing: Standing = Standing.NONE
    reputation: int = 0
    epoch: int = 0
    week: int = 0
    checked_tasks: int = 0
    bonded: int = 0
    unbonding: int = 0
    unbond_at: int = 0


class LaneState(msgspec.Struct, frozen=True, kw_only=True):
    """A lane; `view` is its last task, which may have ended."""

    closed: int = 0
    accrued: int = 0
    equivocated: int = 0
    view: TaskView | None = None

    @property
    def is_busy(self) -> bool:
        """Whether `view` has not ended."""
        return self.view is not None and self.view.task.nonce == self.closed + 1


class PoolBook(msgspec.Struct, kw_only=True):
    """A pool as the contract keeps it; changed in a copy only.

    `bonded` and `unbonding` are the node's stake as last seen in the registry and changed since,
    `held` the tokens of its owner's account that were income once, or stake.
    """

    manager: AccountId
    commission: int
    next_commission: int = 0
    next_commission_epoch: int = 0
    state: PoolState
    assets: int
    leaving: int = 0
    shares: int
    leaving_shares: int = 0
    queued: int = 0
    bonded: int
    matures_at: int = 0
    unbonding: int = 0
    held: int = 0
    batch: int


class Lent(msgspec.Struct, frozen=True):
    """What an account has in a pool; `queued` shares wait in `batch`, or left with it."""

    shares: int = 0
    queued: int = 0
    batch: int = 0


class PaidBatch(msgspec.Struct, frozen=True):
    """A batch that was paid, less what was claimed of it."""

    shares: int
    amount: int


NOTHING_LENT: Final = Lent()
NO_NODE: Final = NodeState()
NO_LANE: Final = LaneState()
NO_CHANNEL: Final = ChannelRecord()
NO_REWARDS: Final = RewardsRecord()
NO_ORDERS: Final = OrderBalance()
NO_EARNINGS: Final = OrderEarnings(0, 0)


class State(msgspec.Struct, kw_only=True):
    """All that the contracts store."""

    tokens: dict[AccountId, int] = {}
    vault: dict[AccountId, int] = {}
    gas: dict[AccountId, int] = {}
    """What differs from what everybody begins with; calls cost nothing here."""
    nodes: dict[NodeId, NodeState] = {}
    lanes: dict[tuple[AccountId, int], LaneState] = {}
    channels: dict[ChannelId, ChannelRecord] = {}
    order_balances: dict[AccountId, OrderBalance] = {}
    order_pages: dict[tuple[AccountId, int], int] = {}
    order_earnings: dict[AccountId, OrderEarnings] = {}
    rewards: dict[AccountId, RewardsRecord] = {}
    """By contract: there is one."""
    rewarded: dict[AccountId, int] = {}
    pools: dict[NodeId, PoolBook] = {}
    lent: dict[tuple[NodeId, AccountId], Lent] = {}
    batches: dict[tuple[NodeId, int], PaidBatch] = {}
    ruler: AccountId = ZERO_ACCOUNT
    """Who deployed: proposes and cancels roots of rewards."""
    paused: bool = False

    def copy(self) -> State:
        """A state that later changes of this one do not touch (its values are immutable)."""
        return State(
            tokens=dict(self.tokens),
            vault=dict(self.vault),
            gas=dict(self.gas),
            nodes=dict(self.nodes),
            lanes=dict(self.lanes),
            channels=dict(self.channels),
            order_balances=dict(self.order_balances),
            order_pages=dict(self.order_pages),
            order_earnings=dict(self.order_earnings),
            rewards=dict(self.rewards),
            rewarded=dict(self.rewarded),
            pools=dict(self.pools),
            lent=dict(self.lent),
            batches=dict(self.batches),
            ruler=self.ruler,
            paused=self.paused,
        )


class Overlay(MutableMapping[K, V], Generic[K, V]):
    """Changes to a mapping that take effect with `merge` or not at all."""

    def __init__(self, below: dict[K, V]) -> None:
        self._below = below
        self._changed: dict[K, V] = {}

    def __getitem__(self, key: K) -> V:
        return self._changed[key] if key in self._changed else self._below[key]

    def __setitem__(self, key: K, value: V) -> None:
        self._changed[key] = value

    def __delitem__(self, key: K) -> None:
        raise TypeError("a chain forgets nothing")

    def __iter__(self) -> Iterator[K]:
        return iter({**self._below, **self._changed})

    def __len__(self) -> int:
        return len({**self._below, **self._changed})

    def merge(self) -> None:
        """Let the changes take effect."""
        self._below.update(self._changed)


class Call:
    """One transaction in the making: a sender, a time, changes and events, all or nothing."""

    def __init__(
        self,
        state: State,
        sender: AccountId,
        now: int,
        *,
        block: tuple[int, str],
        transaction: str,
        info: ChainInfo,
        parameters: Parameters,
        rules: Rules,
    ) -> None:
        self.sender = sender
        self.now = now
        self.block, self.block_hash = block
        self.transaction = transaction
        self.info = info
        self.parameters = parameters
        self.rules = rules
        self.paused = state.paused
        self.ruler = state.ruler
        self.tokens: Overlay[AccountId, int] = Overlay(state.tokens)
        self.vault: Overlay[AccountId, int] = Overlay(state.vault)
        self.gas: Overlay[AccountId, int] = Overlay(state.gas)
        self.nodes: Overlay[NodeId, NodeState] = Overlay(state.nodes)
        self.lanes: Overlay[tuple[AccountId, int], LaneState] = Overlay(state.lanes)
        self.channels: Overlay[ChannelId, ChannelRecord] = Overlay(state.channels)
        self.order_balances: Overlay[AccountId, OrderBalance] = Overlay(state.order_balances)
        self.order_pages: Overlay[tuple[AccountId, int], int] = Overlay(state.order_pages)
        self.order_earnings: Overlay[AccountId, OrderEarnings] = Overlay(state.order_earnings)
        self.rewards: Overlay[AccountId, RewardsRecord] = Overlay(state.rewards)
        self.rewarded: Overlay[AccountId, int] = Overlay(state.rewarded)
        self.pools: Overlay[NodeId, PoolBook] = Overlay(state.pools)
        self.lent: Overlay[tuple[NodeId, AccountId], Lent] = Overlay(state.lent)
        self.batches: Overlay[tuple[NodeId, int], PaidBatch] = Overlay(state.batches)
        self.records: list[LedgerRecord] = []

    def emit(self, event: LedgerEvent) -> LedgerRecord:
        """Report an event."""
        at = Position(self.block, len(self.records), self.block_hash, self.now, self.transaction)
        self.records.append(LedgerRecord(at, event))
        return self.records[-1]

    def merge(self) -> None:
        """Let the transaction take effect."""
        for changed in (
            self.tokens, self.vault, self.gas, self.nodes, self.lanes, self.channels,
            self.rewards, self.rewarded, self.order_balances, self.order_pages,
            self.order_earnings, self.pools, self.lent, self.batches,
        ):  # fmt: skip
            changed.merge()

    def node(self, node: NodeId) -> NodeState:
        """A node's record; blank if it never registered."""
        return self.nodes.get(node, NO_NODE)

    def change_node(self, node: NodeId, **fields: object) -> None:
        """Store new values of some fields."""
        self.nodes[node] = msgspec.structs.replace(self.node(node), **fields)

    def lane(self, client: AccountId, number: int) -> LaneState:
        """A lane; blank if never used."""
        return self.lanes.get((client, number), NO_LANE)

    def channel(self, channel: ChannelId) -> ChannelRecord:
        """A channel's record; blank if it was never opened."""
        return self.channels.get(channel, NO_CHANNEL)

    def move_tokens(self, sender: AccountId, receiver: AccountId, amount: int) -> None:
        """Transfer; raises `InsufficientFunds`."""
        held = self.tokens.get(sender, 0)
        if receiver == ZERO_ACCOUNT:
            refuse("ERC20InvalidReceiver", receiver=receiver)
        if held < amount:
            refuse("ERC20InsufficientBalance", sender=sender, balance=held, needed=amount)
        self.tokens[sender] = held - amount
        self.tokens[receiver] = self.tokens.get(receiver, 0) + amount
        self.emit(TokensMoved(sender, receiver, Amount(amount)))

    def burn(self, holder: AccountId, amount: int) -> None:
        """Destroy tokens of a contract."""
        self.tokens[holder] = self.tokens.get(holder, 0) - amount
        self.emit(TokensMoved(holder, ZERO_ACCOUNT, Amount(amount)))

    def credit(self, account: AccountId, amount: int) -> None:
        """Add to a vault account."""
        self.vault[account] = self.vault.get(account, 0) + amount

    def debit(self, account: AccountId, amount: int) -> None:
        """Take from a vault account; raises `InsufficientFunds`."""
        held = self.vault.get(account, 0)
        if held < amount:
            refuse("Insufficient", account=account, available=held, needed=amount)
        self.vault[account] = held - amount


def refuse(name: str, **arguments: object) -> NoReturn:
    """Refuse with the contract's own error."""
    raise refusal(name, arguments)


def signer_of(digest: bytes, signature: bytes) -> AccountId:
    """Who signed; the zero account if nobody can have."""
    try:
        return recover(digest, signature)
    except BadSignature:
        return ZERO_ACCOUNT
