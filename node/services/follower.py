"""Follows the chain: the time, the events of our tasks, and the node's own record."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

import structlog
import trio

from deai.chain.ledger import Cursor, EventBatch
from deai.chain.tasks_view import task_of
from deai.errors import IllegalTransition, LedgerUnreachable, LimitExceeded, NodeFault
from deai.events import (
    LedgerRecord,
    NodeBeat,
    NodeRegistered,
    NodeSlashed,
    OperatorRotated,
    StakeAdded,
    StandingChanged,
    TaskFinalised,
    TaskPosted,
    UnbondingStarted,
)
from deai.ids import TaskId
from node.engagement import Engagement
from node.state import Node

logger = structlog.get_logger(__name__)

RETRY: Final = 1.0
SILENT_AFTER: Final = 15.0
"""Local seconds without a new block after which no new work is taken."""
SEARCH_BLOCKS: Final = 2000
_OWN: Final = (
    NodeRegistered,
    NodeBeat,
    NodeSlashed,
    OperatorRotated,
    StakeAdded,
    StandingChanged,
    UnbondingStarted,
)


class Follower:
    """Feeds engagements with their events, from the block in which this process started."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._cursor: Cursor | None = None

    async def run(self) -> None:
        """Follow until cancelled, from where `begin` looked."""
        while True:
            try:
                await self._follow()
            except LedgerUnreachable as error:
                self._node.problem(
                    "chain_unreachable", str(error), "the node goes on when an endpoint answers"
                )
                await trio.sleep(RETRY)

    async def begin(self) -> None:
        """Learn head, record and where open tasks stand; raise `LedgerUnreachable`."""
        node = self._node
        head = await node.ports.ledger.head()
        node.head, node.head_at = head, trio.current_time()
        node.record = await node.ports.ledger.node(node.ports.node)
        for engagement in list(node.engagements.values()):
            await self._read_again(engagement)
        node.chain_time = head.time
        self._cursor = Cursor(head.number, head.hash)

    async def _follow(self) -> None:
        async with self._node.ports.ledger.follow(self._cursor) as batches:
            async for batch in batches:
                await self._apply(batch)

    async def _apply(self, batch: EventBatch) -> None:
        node = self._node
        by_task: dict[TaskId, list[LedgerRecord]] = defaultdict(list)
        stale = batch.rewind_to is not None
        if node.lanes is not None:
            node.lanes.noticed(batch.records)
        if node.orders is not None:
            node.orders.noticed(batch.records)
        for record in batch.records:
            task = task_of(record.event)
            if task is not None and task in node.engagements:
                by_task[task].append(record)
                stale |= isinstance(record.event, TaskFinalised)
            elif isinstance(record.event, _OWN) and record.event.node == node.ports.node:
                stale = True
                if isinstance(record.event, NodeSlashed):
                    await self._slashed(int(record.event.amount))
        for engagement in list(node.engagements.values()):
            records = tuple(by_task.get(engagement.task_id, ()))
            if records or batch.rewind_to is not None:
                try:
                    engagement.apply(records, rewind_to=batch.rewind_to)
                except IllegalTransition:
                    await self._read_again(engagement)
        self._cursor = batch.cursor
        if node.head is None or batch.head.number != node.head.number:
            node.head_at = trio.current_time()
        node.head = batch.head
        if batch.cursor.number >= batch.head.number and batch.head.time != node.chain_time:
            node.chain_time = batch.head.time
            node.wake_all()
        node.solved("chain_unreachable")
        if stale:
            node.record = await node.ports.ledger.node(node.ports.node)

    async def _slashed(self, amount: int) -> None:
        node = self._node
        logger.error("stake was slashed", action="slashed", amount=str(amount))
        try:
            await node.ports.journal.add_slashed(amount)
        except (LimitExceeded, NodeFault) as error:
            node.daemon.disk_failed(error)

    async def _read_again(self, engagement: Engagement) -> None:
        """Read a whole task from the chain: we came late to it, or its events did not fit.

        A task may have been posted before we were asked (a substitute always is), by at most
        the longest time a task may wait; the search goes back in growing steps.
        """
        node, step = self._node, SEARCH_BLOCKS
        since = engagement.since
        while True:
            records = await node.ports.ledger.task_events(engagement.task_id, since=since)
            if not records or isinstance(records[0].event, TaskPosted):
                break
            if since <= node.info.deployed_at:
                logger.warning("task without beginning", action="refetch", task=engagement.task_id)
                return
            since = max(node.info.deployed_at, engagement.since - step)
            step *= 4
        engagement.records = ()
        engagement.apply(records)
