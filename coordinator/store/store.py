"""The one writer of the database: chain events, gossip, the feed of live events.

Every method is synchronous and is one transaction; the caller runs them in one thread. What a
method returns was committed.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from sqlalchemy import Engine, delete, func, insert, select, update
from sqlalchemy.engine import Connection

from coordinator.indexer.reducer import apply
from coordinator.indexer.state import NodeState
from coordinator.store import rows, schema
from coordinator.store.engine import open_engine
from coordinator.store.migrate import ensure_current
from coordinator.store.session import Cache, Session
from deai.chain.ledger import Cursor, EventBatch
from deai.chain.tasks_view import TaskView
from deai.errors import ConfigError
from deai.events import LedgerRecord
from deai.ids import AccountId, ChainName, NodeId

logger = logging.getLogger(__name__)

UNDO_BLOCKS: Final = 1024
"""Rewinds of at most this depth touch only what changed; deeper ones replay everything."""
REPLAY_CHUNK: Final = 5_000
FEED_KEPT: Final = 100_000
STATS_KEPT: Final = 900
"""Of the once-a-second `network_stats` events: a quarter of an hour."""


@dataclass(frozen=True)
class Applied:
    """What a batch changed: for the hub and for whoever waits for live events."""

    operators: dict[NodeId, AccountId]
    records: int
    tasks: int
    rewound: bool


class Store:
    """Writes; owns the file's engine."""

    def __init__(self, path: Path) -> None:
        """Open, filling an empty database; raise `ConfigError` for one of another schema."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path: Final = path
        self.engine: Final[Engine] = open_engine(path)
        self._caches: dict[ChainName, Cache] = {}
        ensure_current(self.engine)

    def close(self) -> None:
        self.engine.dispose()

    # --- the chain

    def attach(self, chain: ChainName, identity: str) -> Cursor | None:
        """Say which chain this is and return where its index stands.

        Raises `ConfigError` when the database indexes another network under this name.
        """
        with self.engine.begin() as connection:
            row = _chain(connection, chain)
            if row is None:
                connection.execute(insert(schema.chains), [{"chain": chain, "identity": identity}])
            elif row["identity"] != identity:
                raise ConfigError(
                    f"{self.path} indexes another network under the name {chain}",
                    hint="give this coordinator another database, or move that one away",
                    code="other_network",
                )
        return _cursor(row)

    def set_parameters(self, chain: ChainName, parameters: dict[str, Any]) -> None:
        """Keep what documents show of the contracts' constants."""
        with self.engine.begin() as connection:
            connection.execute(
                update(schema.chains)
                .where(schema.chains.c.chain == chain)
                .values(parameters=json.dumps(parameters))
            )

    def operators(self, chain: ChainName) -> dict[NodeId, AccountId]:
        """Every registered node and the key that speaks for it."""
        with self.engine.begin() as connection:
            found = connection.execute(
                select(schema.nodes.c.node_id, schema.nodes.c.operator).where(
                    schema.nodes.c.chain == chain
                )
            )
            return {NodeId(node): AccountId(operator) for node, operator in found}

    def apply_batch(self, chain: ChainName, batch: EventBatch, now: float) -> Applied:
        """Fold events into the index; cursor, events and rows are one transaction."""
        cache = self._caches.pop(chain, None) or Cache()
        with self.engine.begin() as connection:
            applied = self._apply(connection, chain, cache, batch, now)
        self._caches[chain] = cache  # not if that failed: it may be ahead of what was committed
        return applied

    def _apply(
        self, connection: Connection, chain: ChainName, cache: Cache, batch: EventBatch, now: float
    ) -> Applied:
        touched: set[NodeId] = set()
        if batch.rewind_to is not None:
            touched |= self._rewind(connection, chain, cache, batch.rewind_to, now)
        row = _chain(connection, chain)
        if row is None:
            raise AssertionError("a chain is attached before its events are applied")
        known = row["cursor_number"] if row["cursor_number"] is not None else -1
        if batch.rewind_to is not None:
            known = min(known, batch.rewind_to)
        fresh = [record for record in batch.records if record.position.block > known]
        floor = max(row["undo_floor"], batch.head.number - UNDO_BLOCKS)
        session = Session(connection, chain, cache)
        changed = _fold(session, fresh, floor, touched)
        if fresh:
            stored = [rows.record_row(chain, record) for record in fresh]
            connection.execute(insert(schema.records), stored)
        session.flush()
        _feed(connection, [("task_update", update) for update in changed.updates], now)
        connection.execute(
            update(schema.chains)
            .where(schema.chains.c.chain == chain)
            .values(
                cursor_number=batch.cursor.number,
                cursor_hash=batch.cursor.hash,
                head_number=batch.head.number,
                head_time=batch.head.time,
                seen_at=now,
                undo_floor=floor,
            )
        )
        operators = {}
        for node in touched:
            state = session.node(node)
            if state is not None:
                operators[node] = state.operator
        return Applied(operators, len(fresh), len(changed.tasks), batch.rewind_to is not None)

    def _rewind(
        self, connection: Connection, chain: ChainName, cache: Cache, above: int, now: float
    ) -> set[NodeId]:
        """Make it so that nothing above block `above` ever happened; return touched nodes."""
        kept = schema.records.c
        gone = connection.execute(
            select(kept.task_id, kept.node_id).where(kept.chain == chain, kept.block > above)
        ).all()
        connection.execute(delete(schema.records).where(kept.chain == chain, kept.block > above))
        row = _chain(connection, chain)
        cache.forget()
        if row is not None and above < row["undo_floor"]:
            logger.warning("rewound below the undo log", extra={"above": above})
            _replay(connection, chain)
        else:
            session = Session(connection, chain, cache)
            session.restore(above)
            views = [session.refold(task) for task in sorted({task for task, _ in gone if task})]
            session.flush()
            news = [("task_update", task_update(chain, view)) for view in views if view is not None]
            _feed(connection, news, now)
        logger.warning("rewound", extra={"above": above, "events": len(gone)})
        return {NodeId(node) for _, node in gone if node is not None}

    def rebuild(self, chain: ChainName, on_progress: Callable[[int], None] | None = None) -> int:
        """Drop what is derived from a chain's events and derive it again; return their number.

        One transaction: killed in the middle, the old rows stay.
        """
        self._caches.pop(chain, None)
        with self.engine.begin() as connection:
            return _replay(connection, chain, on_progress)

    # --- gossip and live events

    def save_gossip(
        self,
        beats: Sequence[rows.Row],
        offers: Sequence[rows.Row],
        bindings: Sequence[rows.Row] = (),
    ) -> None:
        """Keep the newest heartbeat, offer and binding of each node.

        A rebuild leaves them alone: they do not follow from the chain's events.
        """
        gossip = ((schema.beats, beats), (schema.offers, offers), (schema.bindings, bindings))
        if not any(new for _, new in gossip):
            return
        with self.engine.begin() as connection:
            for table, new in gossip:
                if new:
                    connection.execute(insert(table).prefix_with("OR REPLACE"), new)

    def publish(self, events: Iterable[tuple[str, dict[str, Any]]], now: float) -> None:
        """Append to the feed of live events, in one transaction."""
        with self.engine.begin() as connection:
            _feed(connection, list(events), now)

    def prune(self, now: float) -> None:
        """Drop what is past its use: old live events, undo, expired offers."""
        with self.engine.begin() as connection:
            seq = schema.feed.c.seq
            newest = connection.execute(select(func.max(seq))).scalar() or 0
            connection.execute(delete(schema.feed).where(seq <= newest - FEED_KEPT))
            stats = (
                select(seq)
                .where(schema.feed.c.event == "network_stats")
                .order_by(seq.desc())
                .limit(1)
                .offset(STATS_KEPT)
            )
            last = connection.execute(stats).scalar()
            if last is not None:
                connection.execute(
                    delete(schema.feed).where(seq <= last, schema.feed.c.event == "network_stats")
                )
            for chain, floor in connection.execute(
                select(schema.chains.c.chain, schema.chains.c.undo_floor)
            ).all():
                connection.execute(
                    delete(schema.undo).where(
                        schema.undo.c.chain == chain, schema.undo.c.block < floor
                    )
                )
            connection.execute(delete(schema.offers).where(schema.offers.c.expires_at < now))


@dataclass
class _Changed:
    tasks: set[str]
    updates: list[dict[str, Any]]


def _fold(
    session: Session,
    records: Sequence[LedgerRecord],
    floor: int,
    nodes: set[NodeId],
    *,
    is_news: bool = True,
) -> _Changed:
    """Apply records in order; blocks from `floor` on can be undone and are news."""
    changed = _Changed(set(), [])
    for record in records:
        block = record.position.block
        recent = block >= floor
        for entity in apply(session, record):
            session.put(entity, block, undoable=recent)
            if isinstance(entity, NodeState):
                nodes.add(entity.node)
            elif isinstance(entity, TaskView):
                changed.tasks.add(entity.task_id)
                if recent and is_news:
                    changed.updates.append(task_update(session.chain, entity))
    return changed


def task_update(chain: ChainName, view: TaskView) -> dict[str, Any]:
    """The live event about a task; `estimated_completion` is what the chain's leases say."""
    expected = rows.expected_at(view)
    return {
        "task_id": view.task_id,
        "chain": chain,
        "status": view.state.value,
        "progress": rows.progress(view),
        "estimated_completion": None if expected is None else rows.rfc3339(expected),
    }


def _replay(
    connection: Connection, chain: ChainName, on_progress: Callable[[int], None] | None = None
) -> int:
    for table in (*schema.DERIVED, schema.undo):
        connection.execute(delete(table).where(table.c.chain == chain))
    row = _chain(connection, chain)
    if row is None:
        return 0
    cache = Cache()
    cache.is_complete = True
    kept = schema.records.c
    newest = connection.execute(select(func.max(kept.block)).where(kept.chain == chain)).scalar()
    floor = max(0, (newest or 0) - UNDO_BLOCKS)
    connection.execute(
        update(schema.chains).where(schema.chains.c.chain == chain).values(undo_floor=floor)
    )
    done, block, index = 0, -1, -1
    while True:
        found = connection.execute(
            select(kept.body)
            .where(kept.chain == chain)
            .where((kept.block > block) | ((kept.block == block) & (kept.idx > index)))
            .order_by(kept.block, kept.idx)
            .limit(REPLAY_CHUNK)
        )
        records = rows.decode_records(body for (body,) in found)
        if not records:
            return done
        session = Session(connection, chain, cache, upto=(block, index))
        _fold(session, records, floor, set(), is_news=False)
        session.flush()
        done += len(records)
        block, index = records[-1].position.block, records[-1].position.index
        if on_progress is not None:
            on_progress(done)


def refill(connection: Connection) -> None:
    """Derive everything again: the schema has changed what follows from the stored events."""
    for chain in connection.execute(select(schema.chains.c.chain)).scalars().all():
        _replay(connection, ChainName(chain))


def digest(connection: Connection, chain: ChainName) -> tuple[str, int]:
    """Hash over every row derived from a chain's events, and how many events there are."""
    hasher = hashlib.sha256()
    encoder = msgspec.msgpack.Encoder()
    for table in schema.DERIVED:
        hasher.update(table.name.encode())
        query = select(table).where(table.c.chain == chain).order_by(*table.primary_key.columns)
        for row in connection.execute(query).yield_per(1000):
            hasher.update(encoder.encode(list(row)))
    kept = schema.records.c
    events = connection.execute(
        select(func.count()).select_from(schema.records).where(kept.chain == chain)
    ).scalar()
    return "0x" + hasher.hexdigest(), events or 0


def _feed(connection: Connection, events: Sequence[tuple[str, dict[str, Any]]], now: float) -> None:
    if events:
        connection.execute(
            insert(schema.feed),
            [
                {"at": now, "event": event, "data": json.dumps(data), "chain": data.get("chain")}
                for event, data in events
            ],
        )


def _chain(connection: Connection, chain: ChainName) -> rows.Row | None:
    found = connection.execute(select(schema.chains).where(schema.chains.c.chain == chain))
    row = found.mappings().first()
    return None if row is None else dict(row)


def _cursor(row: rows.Row | None) -> Cursor | None:
    if row is None or row["cursor_number"] is None:
        return None
    return Cursor(row["cursor_number"], row["cursor_hash"])
