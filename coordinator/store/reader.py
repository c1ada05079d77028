"""Questions to the database: read-only connections, any thread, bounded answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

from sqlalchemy import ColumnClause, Integer, Select, Text, func, literal_column, select, tuple_
from sqlalchemy.engine import Connection

from coordinator.store import rows, schema
from coordinator.store.engine import open_engine
from coordinator.store.rows import Row
from deai.events import LedgerRecord
from deai.ids import ChainName, ChannelId, NodeId, TaskId

MAX_TASK_RECORDS: Final = 1_000
THROUGHPUT_SECONDS: Final = 60
DAYS_SHOWN: Final = 30


_CHAIN: Final[ColumnClause[str]] = literal_column("+tasks.chain", Text)
_STATE: Final[ColumnClause[str]] = literal_column("+tasks.state", Text)
_CHANNEL_CHAIN: Final[ColumnClause[str]] = literal_column("+channels.chain", Text)
_CHANNEL_STATE: Final[ColumnClause[str]] = literal_column("+channels.state", Text)
"""Where another index serves better: the sign keeps SQLite from the one of this column."""
Place: TypeAlias = tuple[int, str, int, int]
"""Of a task in lists: posted when, on which chain, in which block, at which index.

Of a channel: the same of its first opening.
"""


class Reader:
    """Reads what the writer committed; one short transaction per question."""

    def __init__(self, path: Path) -> None:
        self._engine = open_engine(path, readonly=True)

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """One consistent state for several questions."""
        with self._engine.begin() as connection:
            yield connection

    def chains(self) -> list[Row]:
        """Every chain followed, and how far."""
        return self._all(select(schema.chains).order_by(schema.chains.c.chain))

    def totals(self) -> list[Row]:
        """Running sums by chain."""
        return self._all(select(schema.totals).order_by(schema.totals.c.chain))

    def nodes(
        self,
        *,
        after: tuple[str, str] | None = None,
        chain: str = "",
        ids: Sequence[NodeId] = (),
        limit: int | None = None,
    ) -> list[Row]:
        """Nodes with newest heartbeat, offer, pool, binding and twin, by chain and id."""
        query = _nodes().order_by(schema.nodes.c.chain, schema.nodes.c.node_id)
        if chain:
            query = query.where(schema.nodes.c.chain == chain)
        if ids:
            query = query.where(schema.nodes.c.node_id.in_(ids))
        if after is not None:
            query = query.where(tuple_(schema.nodes.c.chain, schema.nodes.c.node_id) > after)
        return self._all(query if limit is None else query.limit(limit))

    def node(self, node: NodeId) -> Row | None:
        """One node."""
        found = self.nodes(ids=(node,), limit=1)
        return found[0] if found else None

    def node_days(self, node: NodeId) -> list[Row]:
        """What a node earned by day, newest first."""
        days = schema.node_days
        return self._all(
            select(days.c.day, days.c.earned, days.c.completed)
            .where(days.c.node_id == node)
            .order_by(days.c.day.desc())
            .limit(DAYS_SHOWN)
        )

    def node_attempts(self, node: NodeId, limit: int) -> list[Row]:
        """The newest seats a node held."""
        attempts = schema.attempts
        return self._all(
            select(attempts)
            .where(attempts.c.node_id == node)
            .order_by(attempts.c.posted_block.desc(), attempts.c.posted_idx.desc())
            .limit(limit)
        )

    def tasks(
        self,
        *,
        before: Place | None = None,
        chain: str = "",
        state: str = "",
        client: str = "",
        node: str = "",
        ids: Sequence[TaskId] = (),
        limit: int,
    ) -> list[Row]:
        """Tasks, newest first."""
        tasks = schema.tasks.c
        query = select(schema.tasks).order_by(*(column.desc() for column in schema.NEWEST))
        if before is not None:
            query = query.where(tuple_(*schema.NEWEST) < before)
        if chain:
            narrow = state or client or ids or node
            query = query.where((_CHAIN if narrow else tasks.chain) == chain)
        if state:
            query = query.where(tasks.state == state)
        if client:
            query = query.where(tasks.client == client)
        if ids:
            query = query.where(tasks.task_id.in_(ids))
        if node:
            held = select(schema.attempts.c.task_id).where(schema.attempts.c.node_id == node)
            query = query.where(tasks.task_id.in_(held))
        return self._all(query.limit(limit))

    def channels(
        self,
        *,
        before: Place | None = None,
        chain: str = "",
        state: str = "",
        client: str = "",
        node: str = "",
        ids: Sequence[ChannelId] = (),
        limit: int,
    ) -> list[Row]:
        """Payment channels, the newest first opening first."""
        channels = schema.channels.c
        query = select(schema.channels).order_by(
            *(column.desc() for column in schema.CHANNELS_NEWEST)
        )
        if before is not None:
            query = query.where(tuple_(*schema.CHANNELS_NEWEST) < before)
        if chain:
            narrow = state or client or node or ids
            query = query.where((_CHANNEL_CHAIN if narrow else channels.chain) == chain)
        if state:
            query = query.where((_CHANNEL_STATE if client or node else channels.state) == state)
        if client:
            query = query.where(channels.client == client)
        if node:
            query = query.where(channels.node_id == node)
        if ids:
            query = query.where(channels.channel_id.in_(ids))
        return self._all(query.limit(limit))

    def task(self, task: TaskId) -> tuple[ChainName, list[LedgerRecord]] | None:
        """A task's chain and its events, in chain order."""
        kept = schema.records.c
        found = self._all(
            select(kept.chain, kept.body)
            .where(kept.task_id == task)
            .order_by(kept.block, kept.idx)
            .limit(MAX_TASK_RECORDS)
        )
        if not found:
            return None
        return found[0]["chain"], rows.decode_records(row["body"] for row in found)

    def task_of_transaction(self, transaction: str) -> str | None:
        """Which task a transaction belongs to."""
        kept = schema.records.c
        found = self._all(
            select(kept.task_id).where(kept.tx == transaction, kept.task_id.is_not(None)).limit(1)
        )
        return found[0]["task_id"] if found else None

    def client_exists(self, account: str) -> bool:
        """Whether an account ever posted a task."""
        tasks = schema.tasks.c
        return bool(self._all(select(tasks.task_id).where(tasks.client == account).limit(1)))

    def completed_since(self, chain: str, time: int) -> int:
        """Tasks that ended completed after a time of their chain."""
        tasks = schema.tasks.c
        query = select(func.count()).where(
            tasks.ended_at > time, _STATE == "completed", _CHAIN.is_(chain)
        )
        with self.snapshot() as connection:
            return connection.execute(query).scalar() or 0

    def completed_by_minute(self, since: int) -> list[tuple[int, int]]:
        """(minute since 1970, tasks completed in it) from a chain time on."""
        tasks = schema.tasks.c
        minute = (tasks.ended_at // 60).cast(Integer)
        query = (
            select(minute, func.count())
            .where(tasks.ended_at >= since, _STATE == "completed")
            .group_by(minute)
        )
        with self.snapshot() as connection:
            return [(row[0], row[1]) for row in connection.execute(query)]

    def durations(self, limit: int) -> list[int]:
        """Chain seconds from posted to completed of the newest completed tasks, sorted."""
        tasks = schema.tasks.c
        found = self._all(
            select(tasks.posted_at, tasks.ended_at)
            .where(tasks.state == "completed")
            .order_by(*(column.desc() for column in schema.NEWEST))
            .limit(limit)
        )
        return sorted(row["ended_at"] - row["posted_at"] for row in found)

    def offer_sequences(self) -> list[tuple[NodeId, int]]:
        """The newest offer known of each node."""
        found = self._all(select(schema.offers.c.node_id, schema.offers.c.sequence))
        return [(NodeId(row["node_id"]), row["sequence"]) for row in found]

    def bindings(self) -> list[tuple[NodeId, NodeId, int]]:
        """Each bound node, its twin, and the nonce of their binding."""
        kept = schema.bindings.c
        found = self._all(select(kept.node_id, kept.twin_id, kept.nonce))
        return [(NodeId(row["node_id"]), NodeId(row["twin_id"]), row["nonce"]) for row in found]

    def feed(self, after: int, limit: int) -> list[Row]:
        """Live events after a sequence number, in order."""
        seq = schema.feed.c.seq
        return self._all(select(schema.feed).where(seq > after).order_by(seq).limit(limit))

    def feed_range(self) -> tuple[int, int]:
        """Oldest and newest sequence number kept; (0, 0) when there is none."""
        seq = schema.feed.c.seq
        with self.snapshot() as connection:
            lowest, highest = connection.execute(select(func.min(seq), func.max(seq))).one()
        return lowest or 0, highest or 0

    def _all(self, query: Select[Any]) -> list[Row]:
        with self._engine.begin() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]


def _nodes() -> Select[Any]:
    nodes, beats, offers = schema.nodes, schema.beats, schema.offers
    joined = nodes.outerjoin(beats, beats.c.node_id == nodes.c.node_id).outerjoin(
        offers,
        # A rotated key takes its offers with it.
        (offers.c.node_id == nodes.c.node_id) & (offers.c.operator == nodes.c.operator),
    )
    sums = schema.node_channels
    joined = joined.outerjoin(
        sums, (sums.c.chain == nodes.c.chain) & (sums.c.node_id == nodes.c.node_id)
    )
    lent, chains = schema.pools, schema.chains
    joined = joined.outerjoin(
        lent, (lent.c.chain == nodes.c.chain) & (lent.c.node_id == nodes.c.node_id)
    ).outerjoin(chains, chains.c.chain == nodes.c.chain)
    bound, twin, twin_beats = schema.bindings, nodes.alias("twin"), beats.alias("twin_beats")
    joined = (
        joined.outerjoin(bound, bound.c.node_id == nodes.c.node_id)
        .outerjoin(twin, (twin.c.chain == bound.c.twin_chain) & (twin.c.node_id == bound.c.twin_id))
        .outerjoin(twin_beats, twin_beats.c.node_id == twin.c.node_id)
    )
    heard = ("received_at", "sent_at", "mode", "running", "queued", "head", "instances")
    offered = ("body", "signature", "expires_at")
    return select(
        nodes,
        *(beats.c[name] for name in heard),
        beats.c.sequence.label("beat_sequence"),
        beats.c.completed.label("beat_completed"),
        beats.c.failed.label("beat_failed"),
        *(offers.c[name] for name in offered),
        offers.c.sequence.label("offer_sequence"),
        *(column.label(f"channels_{column.name}") for column in sums.c if not column.primary_key),
        *(column.label(f"pool_{column.name}") for column in lent.c if not column.primary_key),
        chains.c.parameters.label("chain_parameters"),
        chains.c.head_time.label("chain_time"),
        bound.c.document.label("binding"),
        twin.c.chain.label("twin_chain"),
        twin.c.node_id.label("twin_id"),
        twin.c.standing.label("twin_standing"),
        twin.c.slashed.label("twin_slashed"),
        twin_beats.c.mode.label("twin_mode"),
        twin_beats.c.received_at.label("twin_received_at"),
    ).select_from(joined)
