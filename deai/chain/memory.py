"""A chain in memory: the verified fake. It runs the lifecycle tables and the contracts' rules.

Every transaction is a block of its own. The clock stands still until `advance`, unless another
clock is handed in. The conformance suite holds this ledger and the real ones to one behaviour.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Final, TypeVar

import trio

from deai import actions as act
from deai.chain import (
    memory_orders as orders,
    memory_pools as pools,
    memory_registry as registry,
)
from deai.chain.channel_pages import check_limit, cut, first_openings, page_of
from deai.chain.ledger import (
    CHANNELS_CONTRACT,
    MAX_CHANNEL_PAGE,
    OPTIONAL_CONTRACTS,
    Balances,
    ChainInfo,
    ChannelMark,
    ChannelPage,
    Cursor,
    EventBatch,
    Head,
    LaneRecord,
    NodeRecord,
    OrderEarnings,
    Parameters,
    Transaction,
)
from deai.chain.memory_rewards import record_of
from deai.chain.memory_state import ZERO_ACCOUNT, Call, State
from deai.chain.memory_verbs import FREE_GAS, carry_out
from deai.chain.refusals import no_channels, refusal
from deai.chain.rules import Rules
from deai.chain.tasks_view import task_of
from deai.channels import ChannelRecord
from deai.claims import RewardsRecord, matured
from deai.errors import LedgerUnreachable
from deai.events import LedgerRecord
from deai.hashing import keccak
from deai.ids import AccountId, ChainName, ChannelId, NodeId, TaskId, hexed
from deai.money import UNIT, Amount
from deai.orders import OrderBalance
from deai.pools import DelegationRecord, PoolRecord
from deai.signing import Domain, Signer
from deai.standing import Standing
from deai.tasks import ESCROW_NAME, REGISTRY_NAME

GENESIS_TIME: Final = 1_800_000_000
MEMORY_CHAIN_ID: Final = 713_715
YIELD_EVERY: Final = 16
"""Calls of one ledger after which others get a turn."""
TURNS_FOR_NEWS: Final = 3
"""Turns of the loop that a sender waits for its block."""
IDLE_BATCH_S: Final = 1.0

T = TypeVar("T")

DEFAULT_PARAMETERS: Final = Parameters(
    min_stake=Amount(100 * UNIT),
    min_fee=Amount(1_000),
    min_lease=10,
    min_window=600,
    epoch_seconds=6 * 3600,
    unbonding_seconds=7 * 24 * 3600,
    weight_fee=Amount(UNIT // 100),
    bounty=Amount(UNIT // 10),
    treasury=AccountId("0x" + "7e" * 20),
    close_period=6 * 3600,
    reward_delay=24 * 3600,
    thaw_period=24 * 3600,
    min_delegation=Amount(UNIT),
)


class MemoryChain:
    """The chain itself, shared by its ledgers.

    `clock` gives chain time in seconds; without one, time moves only by `advance`. `supply` is
    minted in the first block to `holder`, who also proposes and cancels rewards. `info` makes it
    sign and name things as another chain.
    """

    def __init__(
        self,
        rules: Rules,
        *,
        holder: AccountId,
        supply: int = 10**9 * UNIT,
        parameters: Parameters = DEFAULT_PARAMETERS,
        clock: Callable[[], float] | None = None,
        info: ChainInfo | None = None,
    ) -> None:
        self.rules: Final = rules
        self.parameters: Final = parameters
        self.info: Final = info if info is not None else _info()
        self.keys: Final[set[tuple[AccountId, AccountId]]] = set()
        """(account, key): keys that speak for an account of another name, as NEAR has them."""
        self._clock = clock if clock is not None else lambda: GENESIS_TIME
        self._offset = 0
        self._state = State(ruler=holder)
        self._blocks: list[Head] = []
        self._records: list[LedgerRecord] = []
        self._done: dict[tuple[AccountId, str], Transaction] = {}
        self._grown = trio.Event()
        self._reachable = True
        self.gas_price = 0
        """What gas costs, for whoever asks before it sends."""
        genesis = self._call(ZERO_ACCOUNT)
        genesis.tokens[ZERO_ACCOUNT] = supply
        genesis.move_tokens(ZERO_ACCOUNT, holder, supply)
        self._seal(genesis)

    @property
    def now(self) -> int:
        """Chain time in seconds."""
        return int(self._clock()) + self._offset

    @property
    def records(self) -> tuple[LedgerRecord, ...]:
        """Everything that ever happened, in chain order."""
        return tuple(self._records)

    def ledger(self, signer: Signer | AccountId | None = None) -> MemoryLedger:
        """The chain seen by one account (None: a reader)."""
        account = signer if signer is None or isinstance(signer, str) else signer.account
        return MemoryLedger(self, account)

    def advance(self, seconds: int) -> None:
        """Let time pass; the next block carries the new time."""
        self._offset += seconds
        self.head()

    def set_reachable(self, reachable: bool) -> None:
        """Let every method raise `LedgerUnreachable`, or work again."""
        self._reachable = reachable
        self._wake()

    def set_paused(self, paused: bool) -> None:
        """Stop deposits and new work, as a guardian would."""
        self._state.paused = paused

    def snapshot(self) -> Callable[[], None]:
        """Remember the chain as it is; the returned function brings it back (a reorganisation)."""
        blocks, records = len(self._blocks), len(self._records)
        state, done = self._state.copy(), dict(self._done)

        def restore() -> None:
            del self._blocks[blocks:], self._records[records:]
            self._state, self._done = state.copy(), dict(done)
            # The replacing block must differ from the one it replaces.
            self._seal(self._call(ZERO_ACCOUNT, salt=f"fork {self._offset} {blocks}"))

        return restore

    def total_tokens(self) -> int:
        """The sum of all token balances, the contracts' included."""
        return sum(self._state.tokens[a] for a in self._state.tokens if a != ZERO_ACCOUNT)

    def holdings(self) -> Mapping[AccountId, int]:
        """Tokens by account, the contracts included."""
        return {a: held for a, held in self._state.tokens.items() if a != ZERO_ACCOUNT}

    def owed(self) -> tuple[int, int]:
        """What the escrow owes (vaults, escrows, accrued fees), what the registry owes (stake)."""
        lanes = self._state.lanes.values()
        held = sum(lane.view.money.held for lane in lanes if lane.view is not None)
        vaults = sum(self._state.vault.values())
        stakes = sum(node.bonded + node.unbonding for node in self._state.nodes.values())
        return vaults + held + sum(lane.accrued for lane in lanes), stakes

    def in_orders(self) -> int:
        """What the contract for orders owes: balances, earnings, accrued fees."""
        balances = sum(record.balance for record in self._state.order_balances.values())
        return balances + sum(due.earned + due.fees for due in self._state.order_earnings.values())

    def in_channels(self) -> int:
        """What the channels' contract owes: deposits that vouchers have not claimed."""
        return sum(record.remaining for record in self._state.channels.values())

    def head(self) -> Head:
        """The newest block; time that passed without a transaction gives an empty one."""
        if not self._blocks or self._blocks[-1].time < self.now:
            self._seal(self._call(ZERO_ACCOUNT))
        return self._blocks[-1]

    def require_reachable(self) -> None:
        """Raise `LedgerUnreachable` while `set_reachable(False)` holds."""
        if not self._reachable:
            raise LedgerUnreachable("the chain in memory was made unreachable")

    @property
    def is_reachable(self) -> bool:
        """Whether ledgers answer."""
        return self._reachable

    @property
    def grown(self) -> trio.Event:
        """Set when a block has followed."""
        return self._grown

    def execute(self, sender: AccountId, action: act.Action, key: str) -> Transaction:
        """Carry an action out in a block of its own; once for each sender and `key`."""
        if (sender, key) in self._done:
            return self._done[sender, key]
        call = self.attempt(sender, action)
        self._seal(call)
        self._done[sender, key] = Transaction(
            kind=type(action).__name__,
            hash=call.transaction,
            block=call.block,
            time=call.now,
            gas_used=0,
        )
        return self._done[sender, key]

    def attempt(self, sender: AccountId, action: act.Action) -> Call:
        """An action's effects, not yet in force; raises `LedgerRejected`."""
        call = self._call(sender, salt=f"{act.intent_key(action)}")
        carry_out(call, action)
        return call

    def read(self) -> Call:
        """The newest state, to look at."""
        self.head()
        return self._call(ZERO_ACCOUNT)

    def block(self, number: int) -> Head | None:
        """A block by number."""
        return self._blocks[number - 1] if 0 < number <= len(self._blocks) else None

    def between(self, above: int, until: int) -> tuple[LedgerRecord, ...]:
        """Records of the blocks `above` < number ≤ `until`."""
        low = bisect_right(self._records, above, key=_block_of)
        return tuple(self._records[low : bisect_right(self._records, until, key=_block_of)])

    def _call(self, sender: AccountId, salt: str = "") -> Call:
        number = len(self._blocks) + 1
        parent = self._blocks[-1].hash if self._blocks else ""
        seed = f"{parent}/{number}/{self.now}/{sender}/{salt}".encode()
        return Call(
            self._state,
            sender,
            max(self.now, self._blocks[-1].time if self._blocks else 0),
            block=(number, hexed(sha256(b"block" + seed).digest())),
            transaction=hexed(sha256(b"transaction" + seed).digest()),
            info=self.info,
            parameters=self.parameters,
            rules=self.rules,
        )

    def _seal(self, call: Call) -> None:
        call.merge()
        self._blocks.append(Head(call.block, call.block_hash, call.now))
        self._records.extend(call.records)
        self._wake()

    def _wake(self) -> None:
        self._grown.set()
        self._grown = trio.Event()


class MemoryLedger:
    """A `Ledger` over a `MemoryChain`."""

    def __init__(self, chain: MemoryChain, account: AccountId | None) -> None:
        self._chain = chain
        self._turns = 0
        self._account = account

    @property
    def info(self) -> ChainInfo:
        return self._chain.info

    @property
    def account(self) -> AccountId | None:
        return self._account

    async def gas_price(self) -> int:
        await self._turn()
        return self._chain.gas_price

    async def parameters(self) -> Parameters:
        await self._turn()
        return self._chain.parameters

    async def head(self) -> Head:
        await self._turn()
        return self._chain.head()

    async def balances(self, account: AccountId) -> Balances:
        await self._turn()
        call = self._chain.read()
        gas = call.gas.get(account, FREE_GAS)
        return Balances(gas, call.tokens.get(account, 0), call.vault.get(account, 0))

    async def node(self, node: NodeId) -> NodeRecord | None:
        await self._turn()
        call = self._chain.read()
        now = call.node(node)
        if now.standing is Standing.NONE:
            return None
        return NodeRecord(
            node=node,
            operator=now.operator,
            standing=now.standing,
            stake=now.bonded,
            unbonding=now.unbonding,
            unbond_at=now.unbond_at,
            reputation=registry.reputation_now(call, now),
            checked_tasks=now.checked_tasks,
            last_epoch=now.epoch,
        )

    async def speaks_for(self, account: AccountId, key: AccountId) -> bool:
        await self._turn()
        return key == account or (account, key) in self._chain.keys

    async def lane(self, client: AccountId, lane: int) -> LaneRecord:
        await self._turn()
        now = self._chain.read().lane(client, lane)
        view, busy = now.view, now.is_busy
        return LaneRecord(
            nonce=now.closed + 1 if busy else now.closed,
            closed=now.closed,
            committed=view.committed if view is not None else 0,
            # A delivery is no reveal: the contract keeps no mask for it.
            revealed=view.revealed if view is not None and busy and not view.delivered else 0,
            released=view.released if view is not None and busy else 0,
            acc=view.acc if view is not None else 0,
            accrued=now.accrued,
        )

    async def task_events(self, task: TaskId, *, since: int) -> tuple[LedgerRecord, ...]:
        await self._turn()
        until = self._chain.head().number
        records = self._chain.between(since - 1, until)
        return tuple(record for record in records if task_of(record.event) == task)

    async def channel(self, channel: ChannelId) -> ChannelRecord:
        await self._turn()
        self._require_channels()
        return self._chain.read().channel(channel)

    async def channels(
        self,
        *,
        client: AccountId | None = None,
        node: NodeId | None = None,
        after: ChannelMark | None = None,
        limit: int = MAX_CHANNEL_PAGE,
    ) -> ChannelPage:
        await self._turn()
        self._require_channels()
        check_limit(limit)
        until = self._chain.head().number
        records = self._chain.between(after.block - 1 if after is not None else 0, until)
        found, next_ = cut(first_openings(records, client, node, after), limit)
        call = self._chain.read()
        return page_of(found, [call.channel(event.channel_id) for _, event in found], next_)

    async def rewards(self) -> RewardsRecord:
        await self._turn()
        call = self._chain.read()
        return matured(record_of(call), call.now)

    async def rewards_paid(self, account: AccountId) -> Amount:
        await self._turn()
        call = self._chain.read()
        record_of(call)
        return Amount(call.rewarded.get(account, 0))

    async def order_balance(self, client: AccountId) -> OrderBalance:
        await self._turn()
        return orders.balance_of(self._chain.read(), client)

    async def order_page(self, client: AccountId, page: int) -> int:
        await self._turn()
        return orders.page_of(self._chain.read(), client, page)

    async def order_earnings(self, owner: AccountId) -> OrderEarnings:
        await self._turn()
        return orders.earnings_of(self._chain.read(), owner)

    async def pool(self, node: NodeId) -> PoolRecord | None:
        await self._turn()
        return pools.pool_of(self._chain.read(), node)

    async def delegation(self, node: NodeId, account: AccountId) -> DelegationRecord:
        await self._turn()
        return pools.delegation_of(self._chain.read(), node, account)

    async def simulate(self, action: act.Action) -> int:
        await self._turn()
        self._chain.attempt(self._sender(), action)
        return 0

    async def submit(self, action: act.Action, *, key: str = "") -> Transaction:
        await self._turn()
        done = self._chain.execute(self._sender(), action, key or act.intent_key(action))
        # As on any chain, a sender hears of its block no earlier than those who follow it: they
        # and whoever they wake take their turns first. It hears of it whatever they do.
        for _ in range(TURNS_FOR_NEWS):
            await trio.lowlevel.cancel_shielded_checkpoint()
        return done

    @asynccontextmanager
    async def follow(self, cursor: Cursor | None) -> AsyncIterator[AsyncIterator[EventBatch]]:
        batches = self._batches(cursor)
        try:
            yield batches
        finally:
            await batches.aclose()

    async def _batches(self, cursor: Cursor | None) -> AsyncGenerator[EventBatch, None]:
        chain = self._chain
        seen: list[Cursor] = [] if cursor is None else [cursor]
        while True:
            grown = chain.grown
            if chain.is_reachable:
                head = chain.head()
                rewind_to = self._rewind(seen)
                at = seen[-1].number if seen else self.info.deployed_at - 1
                records = chain.between(at, head.number)
                seen.append(Cursor(head.number, head.hash))
                del seen[:-256]
                yield EventBatch(records=records, cursor=seen[-1], head=head, rewind_to=rewind_to)
                grown = chain.grown if chain.head().number == head.number else grown
            with trio.move_on_after(IDLE_BATCH_S):
                await grown.wait()

    def _rewind(self, seen: list[Cursor]) -> int | None:
        """Forget cursors of blocks that were replaced; where to, if there were any."""
        replaced = False
        while seen:
            block = self._chain.block(seen[-1].number)
            if block is not None and block.hash == seen[-1].hash:
                break
            seen.pop()
            replaced = True
        if not replaced:
            return None
        return seen[-1].number if seen else self.info.deployed_at - 1

    def _require_channels(self) -> None:
        if CHANNELS_CONTRACT not in self.info.contracts:
            raise no_channels()

    def _sender(self) -> AccountId:
        if self._account is None:
            raise refusal("Forbidden", {"caller": None})
        return self._account

    async def _turn(self) -> None:
        # Nobody is waited for, so that not every call yields; one that polls in a loop still does.
        self._turns += 1
        if self._turns % YIELD_EVERY:
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            await trio.lowlevel.checkpoint()
        self._chain.require_reachable()


def _info() -> ChainInfo:
    contracts = {
        name: AccountId(hexed(keccak(name.encode())[-20:]))
        for name in ("ComputeToken", "NodeRegistry", "TaskEscrow", *OPTIONAL_CONTRACTS)
    }
    return ChainInfo(
        name=ChainName("sei"),
        kind="memory",
        chain_id=MEMORY_CHAIN_ID,
        contracts=contracts,
        registry=Domain(REGISTRY_NAME, MEMORY_CHAIN_ID, contracts["NodeRegistry"]),
        escrow=Domain(ESCROW_NAME, MEMORY_CHAIN_ID, contracts["TaskEscrow"]),
        deployed_at=1,
    )


def _block_of(record: LedgerRecord) -> int:
    return record.position.block
