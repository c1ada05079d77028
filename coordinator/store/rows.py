"""Between the index's records and rows: one mapping per table, both ways where it is needed."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

from coordinator.indexer.reducer import REPUTED
from coordinator.indexer.state import (
    ChannelEntry,
    DayEarned,
    NodeChannels,
    NodeState,
    PoolEntry,
    Totals,
)
from coordinator.store import schema
from deai.chain.tasks_view import TaskView, task_of
from deai.channels import Channel, ChannelState
from deai.codec import Codec
from deai.events import LedgerRecord
from deai.ids import AccountId, ChainName, ChannelId, NodeId, hexed, raw
from deai.lifecycle import TaskState
from deai.pools import PoolState
from deai.standing import Standing

Row: TypeAlias = dict[str, Any]

RECORDS: Final = Codec[LedgerRecord](LedgerRecord, 1 << 20)
_NODE_SUMS: Final = ("bonded", "unbonding", "earned", "slashed")
_TOTAL_SUMS: Final = (
    "paid",
    "refunded",
    "protocol_fees",
    "escrowed",
    "slashed",
    "minted",
    "burned",
    "deposited",
    "redeemed",
    "returned",
    "rewarded",
)
_CHANNEL_SUMS: Final = ("deposit", "claimed", "refunded", "redeemed")
_CHANNEL_PLACE: Final = ("epoch", "closes_at", "opened_block", "opened_idx", "opened_at",
                         "updated_at")  # fmt: skip
_NODE_CHANNEL_SUMS: Final = ("deposited", "redeemed", "returned")
_NODE_CHANNEL_COUNTS: Final = ("open", "closing", "closed")
_POOL_SUMS: Final = (
    "assets",
    "leaving",
    "shares",
    "manager_shares",
    "queued",
    "queued_by_manager",
    "leaving_shares",
    "income",
    "paid_out",
)
_POOL_PLAIN: Final = ("commission", "next_commission", "next_commission_epoch", "batch",
                      "matures_at", "opened_at")  # fmt: skip


def record_row(chain: ChainName, record: LedgerRecord) -> Row:
    """A record as the spine keeps it."""
    at, event = record.position, record.event
    return {
        "chain": chain,
        "block": at.block,
        "idx": at.index,
        "time": at.time,
        "kind": type(event).__name__,
        "task_id": task_of(event),
        "node_id": getattr(event, "node", None),
        "tx": at.transaction,
        "body": RECORDS.encode(record),
    }


def node_row(chain: ChainName, node: NodeState) -> Row:
    """A registered node as a row."""
    return {
        "chain": chain,
        "node_id": node.node,
        "owner": node.owner,
        "operator": node.operator,
        "peer_id": node.peer_id,
        "addresses": json.dumps(node.addresses),
        "registered_at": node.registered_at,
        "standing": node.standing.label,
        "bonded": str(node.bonded),
        "unbonding": str(node.unbonding),
        "unbond_at": node.unbond_at,
        "reputation": node.reputation,
        "checked_tasks": node.checked_tasks,
        "last_epoch": node.last_epoch,
        "earned": str(node.earned),
        "completed": node.completed,
        "failed": node.failed,
        "released": node.released,
        "slashed": str(node.slashed),
    }


def node_of(row: Mapping[str, Any]) -> NodeState:
    """The reducer's record of a node from its row."""
    fields = {name: row[name] for name in NodeState.__struct_fields__ if name in row}
    fields |= {name: int(row[name]) for name in _NODE_SUMS}
    fields |= {
        "node": NodeId(row["node_id"]),
        "operator": AccountId(row["operator"]),
        "addresses": tuple(json.loads(row["addresses"])),
        "standing": Standing[row["standing"].upper()],
    }
    return NodeState(**fields)


def day_row(chain: ChainName, day: DayEarned) -> Row:
    """A day's earnings as a row."""
    return {
        "chain": chain,
        "node_id": day.node,
        "day": day.day,
        "earned": str(day.earned),
        "completed": day.completed,
    }


def day_of(row: Mapping[str, Any]) -> DayEarned:
    """A day's earnings from their row."""
    return DayEarned(
        node=NodeId(row["node_id"]),
        day=row["day"],
        earned=int(row["earned"]),
        completed=row["completed"],
    )


def channel_row(chain: ChainName, entry: ChannelEntry) -> Row:
    """A payment channel as a row."""
    of = entry.channel
    return {
        "chain": chain,
        "channel_id": entry.id,
        "client": of.client,
        "node_id": of.node,
        "owner": of.owner,
        "session_key": of.session_key,
        "state": entry.state.label,
        "receipts_root": hexed(entry.receipts_root),
        **{name: getattr(entry, name) for name in _CHANNEL_PLACE},
        **{name: str(getattr(entry, name)) for name in _CHANNEL_SUMS},
    }


def channel_of(row: Mapping[str, Any]) -> ChannelEntry:
    """A payment channel from its row."""
    return ChannelEntry(
        id=ChannelId(row["channel_id"]),
        channel=Channel(
            AccountId(row["client"]), NodeId(row["node_id"]), AccountId(row["session_key"])
        ),
        state=ChannelState[row["state"].upper()],
        receipts_root=raw(row["receipts_root"]),
        **{name: row[name] for name in _CHANNEL_PLACE},
        **{name: int(row[name]) for name in _CHANNEL_SUMS},
    )


def node_channels_row(chain: ChainName, sums: NodeChannels) -> Row:
    """A node's sums over its channels as a row."""
    return {
        "chain": chain,
        "node_id": sums.node,
        **{name: str(getattr(sums, name)) for name in _NODE_CHANNEL_SUMS},
        **{name: getattr(sums, name) for name in _NODE_CHANNEL_COUNTS},
    }


def node_channels_of(row: Mapping[str, Any]) -> NodeChannels:
    """A node's sums over its channels from their row."""
    names = (*_NODE_CHANNEL_SUMS, *_NODE_CHANNEL_COUNTS)
    return NodeChannels(node=NodeId(row["node_id"]), **{name: int(row[name]) for name in names})


def pool_row(chain: ChainName, pool: PoolEntry) -> Row:
    """A pool as a row."""
    return {
        "chain": chain,
        "node_id": pool.node,
        "manager": pool.manager,
        "number": str(pool.index),
        "state": pool.state.label,
        **{name: getattr(pool, name) for name in _POOL_PLAIN},
        **{name: str(getattr(pool, name)) for name in _POOL_SUMS},
    }


def pool_of(row: Mapping[str, Any]) -> PoolEntry:
    """A pool from its row."""
    return PoolEntry(
        node=NodeId(row["node_id"]),
        manager=AccountId(row["manager"]),
        index=int(row["number"]),
        state=PoolState[row["state"].upper()],
        **{name: row[name] for name in _POOL_PLAIN},
        **{name: int(row[name]) for name in _POOL_SUMS},
    )


def totals_row(chain: ChainName, totals: Totals) -> Row:
    """A chain's sums as a row."""
    row: Row = {"chain": chain}
    for name in Totals.__struct_fields__:
        value = getattr(totals, name)
        row[name] = str(value) if name in _TOTAL_SUMS else value
    return row


def totals_of(row: Mapping[str, Any]) -> Totals:
    """A chain's sums from their row."""
    return Totals(**{name: int(row[name]) for name in Totals.__struct_fields__})


Plain: TypeAlias = NodeState | DayEarned | ChannelEntry | NodeChannels | PoolEntry | Totals
"""Entities that are one row each: what an undo log can put back."""


def place_of(entity: Plain) -> tuple[str, ...]:
    """Where an entity is kept: its table, and its key there behind the chain's name."""
    match entity:
        case NodeState():
            return "nodes", entity.node
        case DayEarned():
            return "node_days", entity.node, entity.day
        case ChannelEntry():
            return "channels", entity.id
        case NodeChannels():
            return "node_channels", entity.node
        case PoolEntry():
            return "pools", entity.node
        case Totals():
            return ("totals",)


def row_of(chain: ChainName, entity: Plain) -> Row:
    """An entity as its row."""
    match entity:
        case NodeState():
            return node_row(chain, entity)
        case DayEarned():
            return day_row(chain, entity)
        case ChannelEntry():
            return channel_row(chain, entity)
        case NodeChannels():
            return node_channels_row(chain, entity)
        case PoolEntry():
            return pool_row(chain, entity)
        case Totals():
            return totals_row(chain, entity)


def task_row(chain: ChainName, view: TaskView) -> Row:
    """A task as the lists show it."""
    task, money = view.task, view.money
    return {
        "chain": chain,
        "task_id": view.task_id,
        "client": task.client,
        "state": view.state.value,
        "policy": task.policy.label,
        "seats": task.seats,
        "committed": len(view.commitments),
        "attempts": len(view.attempts),
        "fee": str(int(task.fee)),
        "escrowed": str(money.escrowed),
        "held": str(money.held),
        "paid": str(money.paid),
        "refunded": str(money.refunded),
        "protocol_fee": str(money.protocol_fee),
        "posted_block": view.posted.block,
        "posted_idx": view.posted.index,
        "posted_at": view.posted.time,
        "updated_at": view.updated.time,
        "ended_at": ended_at(view),
        "expected_at": expected_at(view),
        "deadline": task.commit_deadline,
        "result": None if view.result is None else hexed(view.result),
        "fault": view.settlement is not None and view.settlement.fault,
        "spec_hash": hexed(task.spec_hash),
    }


def attempt_rows(chain: ChainName, view: TaskView) -> list[Row]:
    """Every holder of every seat of a task."""
    rows = []
    for number, attempt in enumerate(view.attempts):
        outcome = attempt.settlement
        told = outcome if outcome is not None and outcome.verdict in REPUTED else None
        rows.append(
            {
                "chain": chain,
                "task_id": view.task_id,
                "number": number,
                "seat": attempt.index,
                "attempt": attempt.seat.attempt,
                "node_id": attempt.seat.node,
                "state": attempt.state.value,
                "payment": str(int(outcome.payment)) if outcome is not None else "0",
                "verdict": outcome.verdict if outcome is not None else None,
                "reputation_before": told.before if told is not None else None,
                "reputation_after": told.after if told is not None else None,
                "posted_block": view.posted.block,
                "posted_idx": view.posted.index,
                "started_at": attempt.since.time,
                "ended_at": attempt.ended_at.time if attempt.ended_at is not None else None,
            }
        )
    return rows


def ended_at(view: TaskView) -> int | None:
    """When the task ended, by the chain's clock."""
    if not view.is_over:
        return None
    return max(
        (attempt.ended_at.time for attempt in view.attempts if attempt.ended_at is not None),
        default=view.updated.time,
    )


def expected_at(view: TaskView) -> int | None:
    """When it should have ended by what the chain knows; None before anybody works on it.

    While seats compute, the end of the last lease; once all committed, now; else the end of
    the window, after which anybody settles it.
    """
    if view.is_over:
        return ended_at(view)
    if view.state is TaskState.PENDING:
        return None
    if len(view.commitments) == view.task.seats:
        return view.updated.time
    working = [
        view.attempt(seat).seat.lease_end
        for seat in range(len(view.current))
        if not view.committed >> seat & 1
    ]
    return min(max(working, default=view.updated.time), view.task.commit_deadline)


def progress(view: TaskView) -> float:
    """Share of a task's steps done: assigned, one commitment a seat, ended; 0 to 1."""
    if view.is_over:
        return 1.0
    done = (1 if view.attempts else 0) + len(view.commitments)
    return round(done / (view.task.seats + 2), 3)


def decode_records(bodies: Iterable[bytes]) -> list[LedgerRecord]:
    """Stored records as the reducer takes them; raise `MalformedMessage`."""
    return [RECORDS.decode(body) for body in bodies]


COLUMNS: Final = {table.name: table for table in schema.DERIVED}


def rfc3339(time: float) -> str:
    """A Unix time as RFC 3339 in UTC: `2026-11-21T12:40:07Z`, with milliseconds if it has any."""
    moment = dt.datetime.fromtimestamp(time, dt.UTC)
    timespec = "milliseconds" if moment.microsecond else "seconds"
    return moment.isoformat(timespec=timespec).replace("+00:00", "Z")
