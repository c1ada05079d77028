"""First schema.

The statements are frozen here: a later change of `coordinator.store.schema` is a migration of
its own and does not reach back.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

from typing import Final

from alembic import op

revision = "0001"
down_revision = None

_STATEMENTS: Final = (
    """
    CREATE TABLE attempts (
        chain TEXT NOT NULL,
        task_id TEXT NOT NULL,
        number INTEGER NOT NULL,
        seat INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        node_id TEXT NOT NULL,
        state TEXT NOT NULL,
        payment TEXT DEFAULT '0' NOT NULL,
        verdict INTEGER,
        reputation_before INTEGER,
        reputation_after INTEGER,
        posted_block INTEGER NOT NULL,
        posted_idx INTEGER NOT NULL,
        started_at INTEGER NOT NULL,
        ended_at INTEGER,
        PRIMARY KEY (chain, task_id, number)
    )
    """,
    """
    CREATE INDEX attempts_node ON attempts (node_id, posted_block, posted_idx)
    """,
    """
    CREATE TABLE beats (
        node_id TEXT NOT NULL,
        chain TEXT NOT NULL,
        peer_id TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        received_at FLOAT NOT NULL,
        sent_at INTEGER NOT NULL,
        mode TEXT NOT NULL,
        running INTEGER NOT NULL,
        queued INTEGER NOT NULL,
        completed INTEGER NOT NULL,
        failed INTEGER NOT NULL,
        head INTEGER NOT NULL,
        instances INTEGER NOT NULL,
        PRIMARY KEY (node_id)
    )
    """,
    """
    CREATE TABLE chains (
        chain TEXT NOT NULL,
        identity TEXT NOT NULL,
        parameters TEXT DEFAULT '{}' NOT NULL,
        cursor_number INTEGER,
        cursor_hash TEXT,
        head_number INTEGER,
        head_time INTEGER,
        seen_at FLOAT,
        undo_floor INTEGER DEFAULT '0' NOT NULL,
        PRIMARY KEY (chain)
    )
    """,
    """
    CREATE TABLE feed (
        seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        at FLOAT NOT NULL,
        event TEXT NOT NULL,
        data TEXT NOT NULL
    )
    """,
    """
    CREATE INDEX feed_stats ON feed (seq) WHERE event = 'network_stats'
    """,
    """
    CREATE TABLE node_days (
        chain TEXT NOT NULL,
        node_id TEXT NOT NULL,
        day TEXT NOT NULL,
        earned TEXT DEFAULT '0' NOT NULL,
        completed INTEGER DEFAULT '0' NOT NULL,
        PRIMARY KEY (chain, node_id, day)
    )
    """,
    """
    CREATE TABLE nodes (
        chain TEXT NOT NULL,
        node_id TEXT NOT NULL,
        owner TEXT NOT NULL,
        operator TEXT NOT NULL,
        peer_id TEXT NOT NULL,
        addresses TEXT NOT NULL,
        registered_at INTEGER NOT NULL,
        standing TEXT NOT NULL,
        bonded TEXT DEFAULT '0' NOT NULL,
        unbonding TEXT DEFAULT '0' NOT NULL,
        unbond_at INTEGER NOT NULL,
        reputation INTEGER NOT NULL,
        checked_tasks INTEGER NOT NULL,
        last_epoch INTEGER NOT NULL,
        earned TEXT DEFAULT '0' NOT NULL,
        completed INTEGER DEFAULT '0' NOT NULL,
        failed INTEGER DEFAULT '0' NOT NULL,
        released INTEGER DEFAULT '0' NOT NULL,
        slashed TEXT DEFAULT '0' NOT NULL,
        PRIMARY KEY (chain, node_id)
    )
    """,
    """
    CREATE TABLE offers (
        node_id TEXT NOT NULL,
        chain TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        received_at FLOAT NOT NULL,
        operator TEXT NOT NULL,
        body BLOB NOT NULL,
        signature BLOB NOT NULL,
        PRIMARY KEY (node_id)
    )
    """,
    """
    CREATE TABLE records (
        chain TEXT NOT NULL,
        block INTEGER NOT NULL,
        idx INTEGER NOT NULL,
        time INTEGER NOT NULL,
        kind TEXT NOT NULL,
        task_id TEXT,
        node_id TEXT,
        tx TEXT NOT NULL,
        body BLOB NOT NULL,
        PRIMARY KEY (chain, block, idx)
    )
     WITHOUT ROWID
    """,
    """
    CREATE INDEX records_node ON records (node_id) WHERE node_id IS NOT NULL
    """,
    """
    CREATE INDEX records_task ON records (task_id) WHERE task_id IS NOT NULL
    """,
    """
    CREATE INDEX records_tx ON records (tx)
    """,
    """
    CREATE TABLE tasks (
        chain TEXT NOT NULL,
        task_id TEXT NOT NULL,
        client TEXT NOT NULL,
        state TEXT NOT NULL,
        policy TEXT NOT NULL,
        seats INTEGER NOT NULL,
        committed INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        fee TEXT DEFAULT '0' NOT NULL,
        escrowed TEXT DEFAULT '0' NOT NULL,
        held TEXT DEFAULT '0' NOT NULL,
        paid TEXT DEFAULT '0' NOT NULL,
        refunded TEXT DEFAULT '0' NOT NULL,
        protocol_fee TEXT DEFAULT '0' NOT NULL,
        posted_block INTEGER NOT NULL,
        posted_idx INTEGER NOT NULL,
        posted_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        ended_at INTEGER,
        expected_at INTEGER,
        deadline INTEGER NOT NULL,
        result TEXT,
        fault BOOLEAN NOT NULL,
        spec_hash TEXT NOT NULL,
        PRIMARY KEY (chain, task_id)
    )
    """,
    """
    CREATE INDEX tasks_client ON tasks (client, posted_block, posted_idx)
    """,
    """
    CREATE INDEX tasks_ended ON tasks (ended_at) WHERE ended_at IS NOT NULL
    """,
    """
    CREATE INDEX tasks_posted ON tasks (posted_block, posted_idx)
    """,
    """
    CREATE INDEX tasks_state ON tasks (state, posted_block, posted_idx)
    """,
    """
    CREATE TABLE totals (
        chain TEXT NOT NULL,
        paid TEXT DEFAULT '0' NOT NULL,
        refunded TEXT DEFAULT '0' NOT NULL,
        protocol_fees TEXT DEFAULT '0' NOT NULL,
        escrowed TEXT DEFAULT '0' NOT NULL,
        slashed TEXT DEFAULT '0' NOT NULL,
        minted TEXT DEFAULT '0' NOT NULL,
        burned TEXT DEFAULT '0' NOT NULL,
        pending INTEGER DEFAULT '0' NOT NULL,
        assigned INTEGER DEFAULT '0' NOT NULL,
        in_progress INTEGER DEFAULT '0' NOT NULL,
        completed INTEGER DEFAULT '0' NOT NULL,
        failed INTEGER DEFAULT '0' NOT NULL,
        cancelled INTEGER DEFAULT '0' NOT NULL,
        seats_paid INTEGER DEFAULT '0' NOT NULL,
        reassigned INTEGER DEFAULT '0' NOT NULL,
        anomalies INTEGER DEFAULT '0' NOT NULL,
        PRIMARY KEY (chain)
    )
    """,
    """
    CREATE TABLE undo (
        id INTEGER NOT NULL,
        chain TEXT NOT NULL,
        block INTEGER NOT NULL,
        name TEXT NOT NULL,
        row_key TEXT NOT NULL,
        "before" TEXT,
        PRIMARY KEY (id)
    )
    """,
    """
    CREATE INDEX undo_block ON undo (chain, block)
    """,
)
_TABLES: Final = (
    "attempts",
    "beats",
    "chains",
    "feed",
    "node_days",
    "nodes",
    "offers",
    "records",
    "tasks",
    "totals",
    "undo",
)


def upgrade() -> None:
    """Create every table."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop every table; the chain has everything to fill them again."""
    for table in _TABLES:
        op.drop_table(table)
