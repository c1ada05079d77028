"""A ledger in memory that replays what a real chain did, and must say the same.

It has the same domain, so ids and signatures are the same too. Every action that goes through a
recorded ledger is carried out on the twin at the time of the real block: its events, its refusal
(name and arguments) and afterwards every record it touched must be equal.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import msgspec

from deai import actions as act
from deai.chain.ledger import (
    MAX_CHANNEL_PAGE,
    ORDERS_CONTRACT,
    POOLS_CONTRACT,
    REWARDS_CONTRACT,
    Balances,
    ChainInfo,
    ChannelMark,
    ChannelPage,
    Cursor,
    EventBatch,
    Head,
    LaneRecord,
    Ledger,
    NodeRecord,
    OrderEarnings,
    Parameters,
    Transaction,
)
from deai.chain.memory import MemoryChain
from deai.channels import ChannelRecord
from deai.claims import RewardsRecord
from deai.errors import LedgerRejected
from deai.events import ChannelOpened, LedgerEvent, LedgerRecord, OrderSettled
from deai.ids import AccountId, ChannelId, NodeId, TaskId, owner_of
from deai.money import Amount
from deai.orders import OrderBalance
from deai.pools import DelegationRecord, PoolRecord
from deai.signing import Signer
from rewards.rules import RULES


class Step(msgspec.Struct):
    """One action on the real chain, when it was final or refused."""

    sender: AccountId
    action: act.Action
    time: int
    done: Transaction | None = None
    refusal: LedgerRejected | None = None


class Twin:
    """The chain in memory beside a real one."""

    def __init__(self, info: ChainInfo, parameters: Parameters, holder: Signer) -> None:
        self._time = 0
        self.chain = MemoryChain(
            RULES,
            holder=holder.account,
            parameters=parameters,
            clock=lambda: self._time,
            info=info,
        )
        self.steps: list[Step] = []
        self._told: set[str] = set()

    def recorded(self, ledger: Ledger) -> RecordedLedger:
        """The same ledger, writing down what goes through it."""
        return RecordedLedger(ledger, self)

    async def check(self, real: Ledger, records: list[LedgerRecord]) -> None:
        """Replay what was written down since the last time, and compare everything."""
        happened: dict[str, list[LedgerEvent]] = {}
        for record in records:
            happened.setdefault(record.position.transaction, []).append(record.event)
        steps, self.steps = self.steps, []
        for step in steps:
            self._replay(step, happened)
        head = await real.head()
        self._time = max(self._time, head.time)
        await self._compare_records(real, steps, records)

    def _replay(self, step: Step, happened: dict[str, list[LedgerEvent]]) -> None:
        self._time = max(self._time, step.time)
        if step.done is not None and step.done.hash in self._told:
            return  # the same intent once more
        if step.done is None:
            assert self._is_refused_alike(step), step
            return
        before = len(self.chain.records)
        self.chain.execute(step.sender, step.action, step.done.hash)
        self._told.add(step.done.hash)
        mine = [record.event for record in self.chain.records[before:]]
        assert mine == happened.get(step.done.hash, []), step

    def _is_refused_alike(self, step: Step) -> bool:
        """Whether memory refuses a step as the chain did, at a moment when that was judged.

        A refusal leaves no block: the endpoint tried it at its newest block's time or the next's.
        """
        now = self._time
        for lead in (0, 1, 2, -1, -2):
            restore = self.chain.snapshot()
            self._time = now + lead
            try:
                self.chain.execute(step.sender, step.action, "refused")
                said = None
            except LedgerRejected as error:
                said = _reason(error)
            finally:
                self._time = now
            if said == _reason(step.refusal):
                return True
            restore()
        return False

    async def _compare_records(
        self, real: Ledger, steps: list[Step], records: list[LedgerRecord]
    ) -> None:
        mine = self.chain.ledger()
        accounts = {step.sender for step in steps}
        nodes: set[NodeId] = set()
        lanes: set[tuple[AccountId, int]] = set()
        channels: set[ChannelId] = set()
        for record in records:
            for value in msgspec.structs.astuple(record.event):
                if isinstance(value, str) and len(value) == 42:
                    accounts.add(AccountId(value))
            if (node := getattr(record.event, "node", None)) is not None:
                nodes.add(node)
            if (channel := getattr(record.event, "channel_id", None)) is not None:
                channels.add(channel)
            if isinstance(record.event, OrderSettled):
                accounts |= {owner_of(node) for node in record.event.order.nodes}
            if isinstance(record.event, ChannelOpened):
                nodes.add(record.event.channel.node)
                accounts |= {record.event.channel.owner, record.event.channel.client}
            if (task := getattr(record.event, "task", None)) is not None:
                lanes.add((task.client, task.lane))
        for node in nodes:
            assert await real.node(node) == await mine.node(node)
        if POOLS_CONTRACT in real.info.contracts:
            for node in nodes:
                pool = await mine.pool(node)
                assert await real.pool(node) == pool
                for account in accounts if pool is not None else ():
                    lent = await real.delegation(node, account)
                    assert lent == await mine.delegation(node, account), (node, account)
        for client, lane in lanes:
            assert await real.lane(client, lane) == await mine.lane(client, lane)
        for one in channels:
            assert await real.channel(one) == await mine.channel(one)
        if REWARDS_CONTRACT in real.info.contracts:
            assert await real.rewards() == await mine.rewards()
            for account in accounts:
                assert await real.rewards_paid(account) == await mine.rewards_paid(account)
        if ORDERS_CONTRACT in real.info.contracts:
            for account in accounts:
                assert await real.order_balance(account) == await mine.order_balance(account)
                assert await real.order_earnings(account) == await mine.order_earnings(account)
                assert await real.order_page(account, 0) == await mine.order_page(account, 0)
        for account in accounts:
            theirs, ours = await real.balances(account), await mine.balances(account)
            assert (theirs.vault, theirs.tokens) == (ours.vault, ours.tokens), account


def _reason(refusal: LedgerRejected | None) -> tuple[str, dict[str, object]] | None:
    return None if refusal is None else (refusal.name, refusal.arguments)


class RecordedLedger:
    """A `Ledger` whose submissions are written down."""

    def __init__(self, ledger: Ledger, twin: Twin) -> None:
        self._ledger = ledger
        self._twin = twin

    @property
    def info(self) -> ChainInfo:
        return self._ledger.info

    @property
    def account(self) -> AccountId | None:
        return self._ledger.account

    async def parameters(self) -> Parameters:
        return await self._ledger.parameters()

    async def head(self) -> Head:
        return await self._ledger.head()

    async def balances(self, account: AccountId) -> Balances:
        return await self._ledger.balances(account)

    async def node(self, node: NodeId) -> NodeRecord | None:
        return await self._ledger.node(node)

    async def speaks_for(self, account: AccountId, key: AccountId) -> bool:
        return await self._ledger.speaks_for(account, key)

    async def lane(self, client: AccountId, lane: int) -> LaneRecord:
        return await self._ledger.lane(client, lane)

    async def task_events(self, task: TaskId, *, since: int) -> tuple[LedgerRecord, ...]:
        return await self._ledger.task_events(task, since=since)

    async def channel(self, channel: ChannelId) -> ChannelRecord:
        return await self._ledger.channel(channel)

    async def channels(
        self,
        *,
        client: AccountId | None = None,
        node: NodeId | None = None,
        after: ChannelMark | None = None,
        limit: int = MAX_CHANNEL_PAGE,
    ) -> ChannelPage:
        return await self._ledger.channels(client=client, node=node, after=after, limit=limit)

    async def rewards(self) -> RewardsRecord:
        return await self._ledger.rewards()

    async def rewards_paid(self, account: AccountId) -> Amount:
        return await self._ledger.rewards_paid(account)

    async def order_balance(self, client: AccountId) -> OrderBalance:
        return await self._ledger.order_balance(client)

    async def order_page(self, client: AccountId, page: int) -> int:
        return await self._ledger.order_page(client, page)

    async def order_earnings(self, owner: AccountId) -> OrderEarnings:
        return await self._ledger.order_earnings(owner)

    async def pool(self, node: NodeId) -> PoolRecord | None:
        return await self._ledger.pool(node)

    async def delegation(self, node: NodeId, account: AccountId) -> DelegationRecord:
        return await self._ledger.delegation(node, account)

    async def simulate(self, action: act.Action) -> int:
        return await self._ledger.simulate(action)

    def follow(
        self, cursor: Cursor | None
    ) -> AbstractAsyncContextManager[AsyncIterator[EventBatch]]:
        return self._ledger.follow(cursor)

    async def submit(self, action: act.Action, *, key: str = "") -> Transaction:
        assert self.account is not None
        step = Step(self.account, action, 0)
        try:
            step.done = await self._ledger.submit(action, key=key)
        except LedgerRejected as error:
            step.refusal, step.time = error, (await self._ledger.head()).time
            self._twin.steps.append(step)
            raise
        step.time = step.done.time
        self._twin.steps.append(step)
        return step.done
