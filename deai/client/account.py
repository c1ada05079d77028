"""One account used by several commands at once: each takes the outbox only while it sends.

An outbox belongs to one process at a time, because two that hand out nonces of one account get
in each other's way. Reading needs no outbox, and a task sends a handful of transactions in its
life; so reads go to a ledger without a key, and the signing one is opened for a transaction and
closed a moment after the last.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

import trio

from deai.actions import Action
from deai.chain.ledger import (
    MAX_CHANNEL_PAGE,
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
from deai.channels import ChannelRecord
from deai.claims import RewardsRecord
from deai.errors import ConfigError, DeaiError, LedgerUnreachable
from deai.events import LedgerRecord
from deai.ids import AccountId, ChannelId, NodeId, TaskId
from deai.money import Amount
from deai.orders import OrderBalance
from deai.pools import DelegationRecord, PoolRecord

LINGER: Final = 0.3
"""Seconds the outbox stays open after the last transaction, for the next one."""
PATIENCE: Final = 60.0
"""Seconds to wait for another process that is sending."""
RETRY: Final = 0.1

Opener = Callable[[], AbstractAsyncContextManager[Ledger]]


class TurnTaking:
    """A `Ledger`: reads through `reader`, sends through what `open_signing` opens."""

    def __init__(
        self, reader: Ledger, account: AccountId, open_signing: Opener, nursery: trio.Nursery
    ) -> None:
        self._reader = reader
        self._account = account
        self._open_signing = open_signing
        self._nursery = nursery
        self._turn: _Turn | None = None

    @property
    def info(self) -> ChainInfo:
        return self._reader.info

    @property
    def account(self) -> AccountId | None:
        return self._account

    async def parameters(self) -> Parameters:
        return await self._reader.parameters()

    async def head(self) -> Head:
        return await self._reader.head()

    async def balances(self, account: AccountId) -> Balances:
        return await self._reader.balances(account)

    async def node(self, node: NodeId) -> NodeRecord | None:
        return await self._reader.node(node)

    async def speaks_for(self, account: AccountId, key: AccountId) -> bool:
        return await self._reader.speaks_for(account, key)

    async def lane(self, client: AccountId, lane: int) -> LaneRecord:
        return await self._reader.lane(client, lane)

    async def task_events(self, task: TaskId, *, since: int) -> tuple[LedgerRecord, ...]:
        return await self._reader.task_events(task, since=since)

    async def channel(self, channel: ChannelId) -> ChannelRecord:
        return await self._reader.channel(channel)

    async def channels(
        self,
        *,
        client: AccountId | None = None,
        node: NodeId | None = None,
        after: ChannelMark | None = None,
        limit: int = MAX_CHANNEL_PAGE,
    ) -> ChannelPage:
        return await self._reader.channels(client=client, node=node, after=after, limit=limit)

    async def rewards(self) -> RewardsRecord:
        return await self._reader.rewards()

    async def rewards_paid(self, account: AccountId) -> Amount:
        return await self._reader.rewards_paid(account)

    async def order_balance(self, client: AccountId) -> OrderBalance:
        return await self._reader.order_balance(client)

    async def order_page(self, client: AccountId, page: int) -> int:
        return await self._reader.order_page(client, page)

    async def order_earnings(self, owner: AccountId) -> OrderEarnings:
        return await self._reader.order_earnings(owner)

    async def pool(self, node: NodeId) -> PoolRecord | None:
        return await self._reader.pool(node)

    async def delegation(self, node: NodeId, account: AccountId) -> DelegationRecord:
        return await self._reader.delegation(node, account)

    def follow(
        self, cursor: Cursor | None
    ) -> AbstractAsyncContextManager[AsyncIterator[EventBatch]]:
        return self._reader.follow(cursor)

    async def simulate(self, action: Action) -> int:
        turn = self._take_turn()
        try:
            return await (await turn.ledger()).simulate(action)
        finally:
            turn.users -= 1

    async def submit(self, action: Action, *, key: str = "") -> Transaction:
        turn = self._take_turn()
        try:
            return await (await turn.ledger()).submit(action, key=key)
        finally:
            turn.users -= 1

    def _take_turn(self) -> _Turn:
        if self._turn is None or self._turn.is_closing:
            self._turn = _Turn()
            self._nursery.start_soon(self._turn.keep, self._open_signing)
        self._turn.users += 1
        return self._turn


class _Turn:
    """The signing ledger while somebody needs it."""

    def __init__(self) -> None:
        self.users = 0
        self.is_closing = False
        self._ready = trio.Event()
        self._ledger: Ledger | None = None
        self._error: DeaiError | None = None

    async def ledger(self) -> Ledger:
        await self._ready.wait()
        if self._ledger is None:
            raise self._error or LedgerUnreachable("the account was closed")
        return self._ledger

    async def keep(self, open_signing: Opener) -> None:
        deadline = trio.current_time() + PATIENCE
        try:
            while not self.is_closing:
                try:
                    async with open_signing() as self._ledger:
                        self._ready.set()
                        await self._until_unused()
                except ConfigError as error:
                    # Another command is sending just now.
                    is_taken = error.reason_code == "outbox_in_use"
                    if not is_taken or trio.current_time() > deadline:
                        raise
                    self._error = error
                    await trio.sleep(RETRY)
        except DeaiError as error:
            self._error = error
        finally:
            self.is_closing = True
            self._ledger = None if self._error is not None else self._ledger
            self._ready.set()

    async def _until_unused(self) -> None:
        while True:
            await trio.sleep(LINGER)
            if not self.users:
                # No wait from here to the end of the turn's use: nobody can slip in.
                self.is_closing = True
                return
