"""Is the index what the chain says? Build it again beside the running one and compare."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import trio
from sqlalchemy import select

from coordinator.services import identity_of
from coordinator.store import schema
from coordinator.store.reader import Reader
from coordinator.store.rows import rfc3339
from coordinator.store.store import Store, digest
from deai.chain.ledger import Cursor, Ledger
from deai.errors import ConfigError, LedgerUnreachable, NotSetUp
from deai.ids import ChainName

PATIENCE: Final = 60.0
"""Seconds without a batch before the audit gives up."""


class Index(msgspec.Struct, frozen=True):
    """A database at one moment."""

    identity: str
    cursor: Cursor
    digest: str
    events: int


def examine(path: Path, chain: ChainName) -> Index:
    """Read what a database holds of a chain; a coordinator may be writing to it meanwhile.

    Raises `NotSetUp` when nothing was indexed yet.
    """
    if not path.exists():
        raise NotSetUp(f"no database at {path}", hint="start `deai coordinator run` first")
    reader = Reader(path)
    try:
        with reader.snapshot() as connection:
            found = connection.execute(
                select(schema.chains).where(schema.chains.c.chain == chain)
            ).mappings()
            row = found.first()
            if row is None or row["cursor_number"] is None:
                raise NotSetUp(f"nothing of {chain} is indexed in {path} yet")
            value, events = digest(connection, chain)
    finally:
        reader.close()
    return Index(row["identity"], Cursor(row["cursor_number"], row["cursor_hash"]), value, events)


async def audit(
    path: Path, chain: ChainName, ledger: Ledger, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Follow the chain from its deployment to where the index stands and compare digests.

    Raises `LedgerUnreachable` when the chain does not answer, `ConfigError` when the database
    indexes another network.
    """
    index = await trio.to_thread.run_sync(examine, path, chain)
    if index.identity != identity_of(ledger.info):
        raise ConfigError(f"{path} indexes another network", code="other_network")
    with tempfile.TemporaryDirectory(prefix="deai-audit-") as folder:
        rebuilt = await _rebuild(Path(folder) / "audit.db", chain, ledger, index.cursor, tell)
    same = rebuilt.digest == index.digest and rebuilt.events == index.events
    return {
        "ok": same,
        "digest": index.digest,
        "rebuilt_digest": rebuilt.digest,
        "events": index.events,
        "rebuilt_events": rebuilt.events,
        "block": index.cursor.number,
        "as_of": rfc3339(round(time.time(), 3)),
    }


async def _rebuild(
    path: Path,
    chain: ChainName,
    ledger: Ledger,
    until: Cursor,
    tell: Callable[[str], None],
) -> Index:
    store = Store(path)
    try:
        store.attach(chain, identity_of(ledger.info))
        async with ledger.follow(None) as batches:
            while True:
                batch = None
                with trio.move_on_after(PATIENCE):
                    batch = await anext(batches)
                if batch is None:
                    raise LedgerUnreachable(f"{chain} sent nothing for {PATIENCE:.0f} s")
                at_end = batch.cursor.number >= until.number
                if at_end:
                    kept = tuple(
                        record for record in batch.records if record.position.block <= until.number
                    )
                    batch = msgspec.structs.replace(batch, records=kept, cursor=until)
                await trio.to_thread.run_sync(store.apply_batch, chain, batch, time.time())
                tell(f"block {batch.cursor.number} of {until.number}")
                if at_end:
                    break
        return await trio.to_thread.run_sync(examine, path, chain)
    finally:
        store.close()
