"""The reducer's view of the database while a batch is applied, and how its changes get there.

Rows are loaded when first asked for and written once at the end of the batch, in one
transaction with the events and the cursor. Tasks have no row of their own form: they are folded
again from their events, so a restart and a rewind cannot differ from having followed along.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from sqlalchemy import Table, delete, insert, select, tuple_
from sqlalchemy.engine import Connection

from coordinator.indexer.reducer import UNFIT
from coordinator.indexer.state import (
    ChannelEntry,
    DayEarned,
    Entity,
    NodeChannels,
    NodeState,
    PoolEntry,
    Totals,
)
from coordinator.store import rows, schema
from coordinator.store.rows import Plain
from deai.chain import tasks_view
from deai.chain.tasks_view import TaskView
from deai.events import LedgerRecord
from deai.ids import ChainName, ChannelId, NodeId, TaskId

KEPT_TASKS: Final = 20_000
"""Tasks held in memory between batches; others are folded again when an event comes."""
KEPT_CHANNELS: Final = 20_000
"""Channels, and sums over a node's channels, held in memory between batches."""


class Cache:
    """What stays in memory between batches: all nodes and pools, newest tasks and channels."""

    def __init__(self) -> None:
        self.nodes: dict[NodeId, NodeState] = {}
        self.pools: dict[NodeId, PoolEntry] = {}
        self.tasks: OrderedDict[TaskId, TaskView] = OrderedDict()
        self.channels: OrderedDict[ChannelId, ChannelEntry] = OrderedDict()
        self.node_channels: OrderedDict[NodeId, NodeChannels] = OrderedDict()
        self.totals: Totals | None = None
        """None also when there is no row yet; `has_totals` tells which."""
        self.has_totals = False
        self.is_complete = False
        """Nothing is in the database that is not here: a replay need not look."""

    def trim(self) -> None:
        for kept, most in (
            (self.tasks, KEPT_TASKS),
            (self.channels, KEPT_CHANNELS),
            (self.node_channels, KEPT_CHANNELS),
        ):
            while len(kept) > most:
                kept.popitem(last=False)
                self.is_complete = False

    def forget(self) -> None:
        """The database is about to change under it."""
        for kept in (self.nodes, self.pools, self.tasks, self.channels, self.node_channels):
            kept.clear()
        self.totals, self.has_totals = None, False
        self.is_complete = False


class Session:
    """`Rows` for the reducer over one open transaction of the writer."""

    def __init__(
        self,
        connection: Connection,
        chain: ChainName,
        cache: Cache,
        *,
        upto: tuple[int, int] | None = None,
    ) -> None:
        """`upto`: ignore stored events after this (block, index); a replay is not there yet."""
        self._connection = connection
        self._upto = upto
        self.chain: Final = chain
        self._cache = cache
        self._days: dict[tuple[NodeId, str], DayEarned] = {}
        self._dirty: dict[tuple[str, ...], Plain] = {}
        self._tasks: dict[TaskId, TaskView] = {}
        self._undone: set[tuple[str, ...]] = set()
        self._undo: list[rows.Row] = []
        self._block = -1

    # --- Rows

    def node(self, node: NodeId) -> NodeState | None:
        found = self._cache.nodes.get(node)
        if self._cache.is_complete:
            return found
        if found is None and (row := self._row(schema.nodes, node)) is not None:
            found = self._cache.nodes[node] = rows.node_of(row)
        return found

    def task(self, task: TaskId) -> TaskView | None:
        found = self._cache.tasks.get(task)
        if found is not None:
            self._cache.tasks.move_to_end(task)
            return found
        if self._cache.is_complete or self._row(schema.tasks, task) is None:
            return None
        found = fold_applied(self.task_records(task))
        if found is not None:
            self._cache.tasks[task] = found
        return found

    def day(self, node: NodeId, day: str) -> DayEarned | None:
        key = (node, day)
        if key not in self._days:
            row = self._row(schema.node_days, node, day)
            if row is None:
                return None
            self._days[key] = rows.day_of(row)
        return self._days[key]

    def channel(self, channel: ChannelId) -> ChannelEntry | None:
        kept = self._cache.channels
        if channel in kept:
            kept.move_to_end(channel)
        elif (row := self._unknown(schema.channels, channel)) is not None:
            kept[channel] = rows.channel_of(row)
        return kept.get(channel)

    def node_channels(self, node: NodeId) -> NodeChannels | None:
        kept = self._cache.node_channels
        if node in kept:
            kept.move_to_end(node)
        elif (row := self._unknown(schema.node_channels, node)) is not None:
            kept[node] = rows.node_channels_of(row)
        return kept.get(node)

    def pool(self, node: NodeId) -> PoolEntry | None:
        kept = self._cache.pools
        if node not in kept and (row := self._unknown(schema.pools, node)) is not None:
            kept[node] = rows.pool_of(row)
        return kept.get(node)

    def totals(self) -> Totals:
        return self._stored_totals() or Totals()

    # --- changes

    def put(self, entity: Entity, block: int, *, undoable: bool) -> None:
        """Remember a change; `undoable` also keeps what was there before this block."""
        if block != self._block:
            self._undone.clear()
            self._block = block
        if isinstance(entity, TaskView):
            self._cache.tasks[entity.task_id] = entity
            self._tasks[entity.task_id] = entity
            return
        if undoable:
            self._keep_before(entity, block)
        match entity:
            case NodeState():
                self._cache.nodes[entity.node] = entity
            case DayEarned():
                self._days[entity.node, entity.day] = entity
            case ChannelEntry():
                self._cache.channels[entity.id] = entity
            case NodeChannels():
                self._cache.node_channels[entity.node] = entity
            case PoolEntry():
                self._cache.pools[entity.node] = entity
            case Totals():
                self._cache.totals, self._cache.has_totals = entity, True
        # Rows are made at the end: a node changes many times in a batch.
        self._dirty[rows.place_of(entity)] = entity

    def flush(self) -> None:
        """Write every change; the caller commits."""
        by_table: dict[str, list[rows.Row]] = {}
        for (table, *_), entity in self._dirty.items():
            by_table.setdefault(table, []).append(rows.row_of(self.chain, entity))
        for view in self._tasks.values():
            by_table.setdefault("tasks", []).append(rows.task_row(self.chain, view))
            by_table.setdefault("attempts", []).extend(rows.attempt_rows(self.chain, view))
        for name, changed in by_table.items():
            if changed:
                self.replace(rows.COLUMNS[name], changed)
        if self._undo:
            self._connection.execute(insert(schema.undo), self._undo)
        self._dirty.clear()
        self._tasks.clear()
        self._undo.clear()
        self._undone.clear()
        self._cache.trim()

    def replace(self, table: Table, changed: list[rows.Row]) -> None:
        """Insert rows, over those with the same keys."""
        self._connection.execute(insert(table).prefix_with("OR REPLACE"), changed)

    # --- rewinding

    def restore(self, above: int) -> None:
        """Put all that is one row back to what it was at the end of block `above`."""
        kept = schema.undo.c
        oldest: dict[tuple[str, str], str | None] = {}
        for name, key, before in self._connection.execute(
            select(kept.name, kept.row_key, kept.before)
            .where(kept.chain == self.chain, kept.block > above)
            .order_by(kept.id)
        ):
            oldest.setdefault((name, key), before)
        for (name, key), before in oldest.items():
            table = rows.COLUMNS[name]
            columns = list(table.primary_key.columns)
            self._connection.execute(delete(table).where(tuple_(*columns) == json.loads(key)))
            if before is not None:
                self._connection.execute(insert(table), [json.loads(before)])
        self._connection.execute(
            delete(schema.undo).where(kept.chain == self.chain, kept.block > above)
        )

    def refold(self, task: TaskId) -> TaskView | None:
        """Fold a task again from the events that are left and rewrite its rows."""
        for table in (schema.tasks, schema.attempts):
            self._connection.execute(
                delete(table).where(table.c.chain == self.chain, table.c.task_id == task)
            )
        view = fold_applied(self.task_records(task))
        if view is not None:
            self._tasks[task] = view
        return view

    # --- reading

    def task_records(self, task: TaskId) -> list[LedgerRecord]:
        """Every stored event of a task, in chain order."""
        kept = schema.records.c
        query = select(kept.body).where(kept.task_id == task, kept.chain == self.chain)
        if self._upto is not None:
            query = query.where(tuple_(kept.block, kept.idx) <= self._upto)
        found = self._connection.execute(query.order_by(kept.block, kept.idx))
        return rows.decode_records(body for (body,) in found)

    def _row(self, table: Table, *key: str) -> rows.Row | None:
        wanted = (self.chain, *key)
        condition = [
            column == value for column, value in zip(table.primary_key.columns, wanted, strict=True)
        ]
        found = self._connection.execute(select(table).where(*condition)).mappings().first()
        return None if found is None else dict(found)

    def _unknown(self, table: Table, key: str) -> rows.Row | None:
        return None if self._cache.is_complete else self._row(table, key)

    def _keep_before(self, entity: Plain, block: int) -> None:
        place = rows.place_of(entity)
        if place in self._undone:
            return
        self._undone.add(place)
        old = self._before(entity)
        self._undo.append(
            {
                "chain": self.chain,
                "block": block,
                "name": place[0],
                "row_key": json.dumps((self.chain, *place[1:])),
                "before": None if old is None else json.dumps(rows.row_of(self.chain, old)),
            }
        )

    def _before(self, entity: Plain) -> Plain | None:
        match entity:
            case NodeState():
                return self.node(entity.node)
            case DayEarned():
                return self.day(entity.node, entity.day)
            case ChannelEntry():
                return self.channel(entity.id)
            case NodeChannels():
                return self.node_channels(entity.node)
            case PoolEntry():
                return self.pool(entity.node)
            case Totals():
                return self._stored_totals()

    def _stored_totals(self) -> Totals | None:
        if not self._cache.has_totals:
            row = self._row(schema.totals)
            self._cache.totals = None if row is None else rows.totals_of(row)
            self._cache.has_totals = True
        return self._cache.totals


def fold_applied(records: Iterable[LedgerRecord]) -> TaskView | None:
    """A task as the reducer left it: what it counted as an anomaly is skipped here, too."""
    view: TaskView | None = None
    for record in records:
        try:
            view = tasks_view.apply(view, record)
        except UNFIT:
            continue
    return view
