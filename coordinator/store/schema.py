"""Tables. `records` is the spine; what is derived from it can be dropped and rebuilt.

Sums of money are decimal text in base units: SQLite's integers end at 2^63. Times are Unix
seconds, of the chain unless a column says otherwise. Ids have their chain's own form, digests are
`0x` + hex.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)

METADATA: Final = MetaData()


def _money(name: str) -> Column[str]:
    return Column(name, Text, nullable=False, server_default="0")


def _count(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False, server_default="0")


chains: Final = Table(
    "chains",
    METADATA,
    Column("chain", Text, primary_key=True),
    Column("identity", Text, nullable=False),  # chain id and contracts: what the index is of
    Column("parameters", Text, nullable=False, server_default="{}"),
    Column("cursor_number", Integer),
    Column("cursor_hash", Text),
    Column("head_number", Integer),
    Column("head_time", Integer),
    Column("seen_at", Float),  # local clock: when the follower last heard from the chain
    Column("undo_floor", Integer, nullable=False, server_default="0"),  # no rewind below by undo
)

records: Final = Table(
    "records",
    METADATA,
    Column("chain", Text, primary_key=True),
    Column("block", Integer, primary_key=True),
    Column("idx", Integer, primary_key=True),
    Column("time", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("task_id", Text),
    Column("node_id", Text),
    Column("tx", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),  # canonical MessagePack of the LedgerRecord
    sqlite_with_rowid=False,
)
Index("records_task", records.c.task_id, sqlite_where=records.c.task_id.is_not(None))
Index("records_node", records.c.node_id, sqlite_where=records.c.node_id.is_not(None))
Index("records_tx", records.c.tx)

nodes: Final = Table(
    "nodes",
    METADATA,
    Column("chain", Text, primary_key=True),
    Column("node_id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("operator", Text, nullable=False),
    Column("peer_id", Text, nullable=False),
    Column("addresses", Text, nullable=False),  # JSON list
    Column("registered_at", Integer, nullable=False),
    Column("standing", Text, nullable=False),
    _money("bonded"),
    _money("unbonding"),
    Column("unbond_at", Integer, nullable=False),
    Column("reputation", Integer, nullable=False),  # thousandths
    Column("checked_tasks", Integer, nullable=False),
    Column("last_epoch", Integer, nullable=False),
    _money("earned"),
    _count("completed"),
    _count("failed"),
    _count("released"),
    _money("slashed"),
)

node_days: Final = Table(
    "node_days",
    METADATA,
    Column("chain", Text, primary_key=True),
    Column("node_id", Text, primary_key=True),
    Column("day", Text, primary_key=True),
    _money("earned"),
    _count("completed"),
)

totals: Final = Table(
    "totals",
    METADATA,
    Column("chain", Text, primary_key=True),
    _money("paid"),
    _money("refunded"),
    _money("protocol_fees"),
    _money("escrowed"),
    _money("slashed"),
    _money("minted"),
    _money("burned"),
    _count("pending"),
    _count("assigned"),
    _count("in_progress"),
    _count("completed"),
    _count("failed"),
    _count("cancelled"),
    _count("seats_paid"),
    _count("reassigned"),
    _count("anomalies"),
    _money("deposited"),
    _money("redeemed"),
    _money("returned"),
    _money("rewarded"),
    _count("channels_open"),
    _count("channels_closing"),
    _count("channels_closed"),
)

tasks: Final = Table(
    "tasks",
    METADATA,
    Column("chain", Text, primary_key=True),
    Column("task_id", Text, primary_key=True),
    Column("client", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("policy", Text, nullable=False),
    Column("seats", Integer, nullable=False),
    Column("committed", Integer, nullable=False),  # seats that committed
    Column("attempts", Integer, nullable=False),
    _money("fee"),
    _money("escrowed"),
    _money("held"),
    _money("paid"),
    _money("refunded"),
    _money("protocol_fee"),
    Column("posted_block", Integer, nullable=False),
    Column("posted_idx", Integer, nullable=False),
    Column("posted_at", Integer, nullable=False),
    Column("updated_at", Integer, nullable=False),
    Column("ended_at", Integer),
    Column("expected_at", Integer),  # when it should end by what the chain knows
    Column("deadline", Integer, nullable=False),
    Column("result", Text),
    Column("fault", Boolean(create_constraint=False), nullable=False),
    Column("spec_hash", Text, nullable=False),
)
# Blocks of two chains have nothing to do with each other: lists go by time first.
NEWEST: Final = (tasks.c.posted_at, tasks.c.chain, tasks.c.posted_block, tasks.c.posted_idx)
"""The order of lists of tasks, for all chains together or for one of them."""
Index("tasks_posted", *NEWEST)
Index("tasks_chain", tasks.c.chain, tasks.c.posted_at, tasks.c.posted_block, tasks.c.posted_idx)
Index("tasks_state", tasks.c.state, *NEWEST)
Index("tasks_client", tasks.c.client, *NEWEST)
Index("tasks_ended", tasks.c.ended_at, sqlite_where=tasks.c.ended_at.is_not(None))

attempts: Final = Table(
    "attempts",
    METADATA,
    Column("chain", Text, primary_key=True),
    Column("task_id", Text, primary_key=True),
    Column("number", Integer, primary_key=True),  # in the order in which seats were given
    Column("seat", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("node_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    _money("payment"),
    Column("verdict", Integer),
    Column("reputation_before", Integer),
    Column("reputation_after", Integer),
    Column("posted_block", Integer, nullable=False),
    Column("posted_idx", Integer, nullable=False),
    Column("started_at", Integer, nullable=False),
    Column("ended_at", Integer),
)
Index("attempts_node", attempts.c.node_id, attempts.c.posted_block, attempts.c.posted_idx)

channels: Final = Table(
    "channels",
    METADATA,
    Column("chain", Text, primary_key=True),
    Column("channel_id", Text, primary_key=True),
    Column("client", Text, nullable=False),
    Column("node_id", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("session_key", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("epoch", Integer, nullable=False),
    _money("deposit"),  # this and the next two are of the newest epoch
    _money("claimed"),
    _money("refunded"),
    _money("redeemed"),  # in all epochs
    Column("closes_at", Integer, nullable=False),
    Column("receipts_root", Text, nullable=False),
    Column("opened_at", Integer, nullable=False),  # for the first time
    Column("opened_block", Integer, nullable=False),
    Column("opened_idx", Integer, nullable=False),
    Column("updated_at", Integer, nullable=False),
)
CHANNELS_NEWEST: Final = (
    channels.c.opened_at,
    channels.c.chain,
    channels.c.opened_block,
    channels.c.opened_idx,
)
"""The order of lists of channels: that of their first opening."""
Index("channels_opened", *CHANNELS_NEWEST)
Index("channels_chain", channels.c.chain, channels.c.opened_at, *CHANNELS_NEWEST[2:])
Index("channels_state", channels.c.state, *CHANNELS_NEWEST)
Index("channels_node", channels.c.node_id, *CHANNELS_NEWEST)
Index("channels_client", channels.c.client, *CHANNELS_NEWEST)

node_channels: Final = Table(
    "node_channels",
    METADATA,
    Column("chain", Text, primary_key=True),
    Column("node_id", Text, primary_key=True),  # registered or not
    _money("deposited"),
    _money("redeemed"),
    _money("returned"),
    _count("open"),
    _count("closing"),
    _count("closed"),
)

pools: Final = Table(
    "pools",
    METADATA,
    Column("chain", Text, primary_key=True),
    Column("node_id", Text, primary_key=True),
    Column("manager", Text, nullable=False),
    Column("number", Text, nullable=False),  # 96 bits
    Column("commission", Integer, nullable=False),  # hundredths of a percent
    Column("next_commission", Integer, nullable=False),
    Column("next_commission_epoch", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("batch", Integer, nullable=False),
    Column("matures_at", Integer, nullable=False),
    _money("assets"),
    _money("leaving"),
    _money("shares"),  # counts of shares are decimal text, as sums are
    _money("manager_shares"),
    _money("queued"),
    _money("queued_by_manager"),
    _money("leaving_shares"),
    _money("income"),
    _money("paid_out"),
    Column("opened_at", Integer, nullable=False),
)

DERIVED: Final = (nodes, node_days, totals, tasks, attempts, channels, node_channels, pools)
"""Functions of `records` alone: the digest covers them, a rebuild drops and refills them."""

undo: Final = Table(
    "undo",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("chain", Text, nullable=False),
    Column("block", Integer, nullable=False),
    Column("name", Text, nullable=False),  # table
    Column("row_key", Text, nullable=False),  # JSON list: the primary key
    Column("before", Text),  # JSON of the row before this block, NULL if there was none
)
Index("undo_block", undo.c.chain, undo.c.block)

beats: Final = Table(
    "beats",
    METADATA,
    Column("node_id", Text, primary_key=True),
    Column("chain", Text, nullable=False),
    Column("peer_id", Text, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("received_at", Float, nullable=False),  # this coordinator's clock
    Column("sent_at", Integer, nullable=False),  # the node's clock
    Column("mode", Text, nullable=False),
    Column("running", Integer, nullable=False),
    Column("queued", Integer, nullable=False),
    Column("completed", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("head", Integer, nullable=False),
    Column("instances", Integer, nullable=False),
)

offers: Final = Table(
    "offers",
    METADATA,
    Column("node_id", Text, primary_key=True),
    Column("chain", Text, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("expires_at", Integer, nullable=False),
    Column("received_at", Float, nullable=False),
    Column("operator", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
)

bindings: Final = Table(
    "bindings",
    METADATA,
    Column("node_id", Text, primary_key=True),  # a binding is two rows: each node has one twin
    Column("chain", Text, nullable=False),
    Column("twin_id", Text, nullable=False),
    Column("twin_chain", Text, nullable=False),
    Column("nonce", Integer, nullable=False),
    Column("received_at", Float, nullable=False),
    Column("document", Text, nullable=False),  # JSON with both signatures
)

feed: Final = Table(
    "feed",
    METADATA,
    Column("seq", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("event", Text, nullable=False),
    Column("data", Text, nullable=False),  # JSON
    Column("chain", Text),  # NULL: about all of them
    sqlite_autoincrement=True,
)
Index("feed_stats", feed.c.seq, sqlite_where=text("event = 'network_stats'"))
