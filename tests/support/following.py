"""Following a ledger from a cursor to a block."""

from __future__ import annotations

import trio

from deai.chain.ledger import Cursor, Ledger
from deai.events import LedgerRecord


async def follow_until(
    ledger: Ledger, cursor: Cursor | None, block: int
) -> tuple[list[LedgerRecord], Cursor]:
    """The records up to a block, rewinds carried out, and where the follower then stands."""
    found: list[LedgerRecord] = []
    with trio.fail_after(120):
        async with ledger.follow(cursor) as batches:
            async for batch in batches:
                if batch.rewind_to is not None:
                    found = [r for r in found if r.position.block <= batch.rewind_to]
                found += batch.records
                if batch.cursor.number >= block:
                    return found, batch.cursor
    raise AssertionError
