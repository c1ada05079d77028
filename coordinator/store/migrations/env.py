"""Alembic's entry: runs on the connection that `coordinator.store.migrate` hands over."""

from __future__ import annotations

from alembic import context

from coordinator.store.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
