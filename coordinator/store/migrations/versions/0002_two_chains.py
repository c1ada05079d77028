"""Two chains: bindings, lists of tasks by time, live events with their chain.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

from typing import Final

from alembic import op

revision = "0002"
down_revision = "0001"

_STATEMENTS: Final = (
    """
    CREATE TABLE bindings (
        node_id TEXT NOT NULL,
        chain TEXT NOT NULL,
        twin_id TEXT NOT NULL,
        twin_chain TEXT NOT NULL,
        nonce INTEGER NOT NULL,
        received_at FLOAT NOT NULL,
        document TEXT NOT NULL,
        PRIMARY KEY (node_id)
    )
    """,
    "DROP INDEX tasks_posted",
    "DROP INDEX tasks_state",
    "DROP INDEX tasks_client",
    "CREATE INDEX tasks_posted ON tasks (posted_at, chain, posted_block, posted_idx)",
    "CREATE INDEX tasks_chain ON tasks (chain, posted_at, posted_block, posted_idx)",
    "CREATE INDEX tasks_state ON tasks (state, posted_at, chain, posted_block, posted_idx)",
    "CREATE INDEX tasks_client ON tasks (client, posted_at, chain, posted_block, posted_idx)",
    "ALTER TABLE feed ADD COLUMN chain TEXT",
)


def upgrade() -> None:
    """Everything that was stored stays."""
    for statement in _STATEMENTS:
        op.execute(statement)
