"""Payment channels: one row each, sums by node and by chain.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

from typing import Final

from alembic import op

revision = "0003"
down_revision = "0002"

_STATEMENTS: Final = (
    """
    CREATE TABLE channels (
        chain TEXT NOT NULL,
        channel_id TEXT NOT NULL,
        client TEXT NOT NULL,
        node_id TEXT NOT NULL,
        owner TEXT NOT NULL,
        session_key TEXT NOT NULL,
        state TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        deposit TEXT DEFAULT '0' NOT NULL,
        claimed TEXT DEFAULT '0' NOT NULL,
        refunded TEXT DEFAULT '0' NOT NULL,
        redeemed TEXT DEFAULT '0' NOT NULL,
        closes_at INTEGER NOT NULL,
        receipts_root TEXT NOT NULL,
        opened_at INTEGER NOT NULL,
        opened_block INTEGER NOT NULL,
        opened_idx INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        PRIMARY KEY (chain, channel_id)
    )
    """,
    "CREATE INDEX channels_opened ON channels (opened_at, chain, opened_block, opened_idx)",
    "CREATE INDEX channels_chain ON channels (chain, opened_at, opened_block, opened_idx)",
    "CREATE INDEX channels_state ON channels (state, opened_at, chain, opened_block, opened_idx)",
    "CREATE INDEX channels_node ON channels (node_id, opened_at, chain, opened_block, opened_idx)",
    "CREATE INDEX channels_client ON channels (client, opened_at, chain, opened_block, opened_idx)",
    """
    CREATE TABLE node_channels (
        chain TEXT NOT NULL,
        node_id TEXT NOT NULL,
        deposited TEXT DEFAULT '0' NOT NULL,
        redeemed TEXT DEFAULT '0' NOT NULL,
        returned TEXT DEFAULT '0' NOT NULL,
        open INTEGER DEFAULT '0' NOT NULL,
        closing INTEGER DEFAULT '0' NOT NULL,
        closed INTEGER DEFAULT '0' NOT NULL,
        PRIMARY KEY (chain, node_id)
    )
    """,
    "ALTER TABLE totals ADD COLUMN deposited TEXT DEFAULT '0' NOT NULL",
    "ALTER TABLE totals ADD COLUMN redeemed TEXT DEFAULT '0' NOT NULL",
    "ALTER TABLE totals ADD COLUMN returned TEXT DEFAULT '0' NOT NULL",
    "ALTER TABLE totals ADD COLUMN rewarded TEXT DEFAULT '0' NOT NULL",
    "ALTER TABLE totals ADD COLUMN channels_open INTEGER DEFAULT '0' NOT NULL",
    "ALTER TABLE totals ADD COLUMN channels_closing INTEGER DEFAULT '0' NOT NULL",
    "ALTER TABLE totals ADD COLUMN channels_closed INTEGER DEFAULT '0' NOT NULL",
)


def upgrade() -> None:
    """Everything that was stored stays; what follows from the events is derived again."""
    for statement in _STATEMENTS:
        op.execute(statement)
