"""Pools: one row for each node that takes delegations.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

from typing import Final

from alembic import op

revision = "0004"
down_revision = "0003"

_POOLS: Final = """
    CREATE TABLE pools (
        chain TEXT NOT NULL,
        node_id TEXT NOT NULL,
        manager TEXT NOT NULL,
        number TEXT NOT NULL,
        commission INTEGER NOT NULL,
        next_commission INTEGER NOT NULL,
        next_commission_epoch INTEGER NOT NULL,
        state TEXT NOT NULL,
        batch INTEGER NOT NULL,
        matures_at INTEGER NOT NULL,
        assets TEXT DEFAULT '0' NOT NULL,
        leaving TEXT DEFAULT '0' NOT NULL,
        shares TEXT DEFAULT '0' NOT NULL,
        manager_shares TEXT DEFAULT '0' NOT NULL,
        queued TEXT DEFAULT '0' NOT NULL,
        queued_by_manager TEXT DEFAULT '0' NOT NULL,
        leaving_shares TEXT DEFAULT '0' NOT NULL,
        income TEXT DEFAULT '0' NOT NULL,
        paid_out TEXT DEFAULT '0' NOT NULL,
        opened_at INTEGER NOT NULL,
        PRIMARY KEY (chain, node_id)
    )
"""


def upgrade() -> None:
    """Everything that was stored stays; what follows from the events is derived again."""
    op.execute(_POOLS)
