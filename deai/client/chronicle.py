"""What the chain reported about one task, read again only where that may have changed."""

from __future__ import annotations

from typing import Final

import trio

from deai.chain.ledger import Head, Ledger
from deai.events import LedgerRecord
from deai.ids import TaskId

WINDOW: Final = 256
"""Newest blocks that are read at every look: an endpoint may be behind, a chain may replace its
last blocks, and NEAR tells late what a receipt did. The index keeps as many hashes."""
PAUSE: Final = 60.0
"""Seconds without a look after which everything is read again: whatever may have happened."""


class Chronicle:
    """The events of one task, in the order of the chain."""

    def __init__(self, ledger: Ledger, task: TaskId, since: int) -> None:
        """`since`: a block before which there is nothing."""
        self._ledger = ledger
        self._task = task
        self._since = since
        self._seen = since
        """The head at the last look: up to there nothing is missing, but for the window."""
        self._read_at = float("-inf")
        self.records: tuple[LedgerRecord, ...] = ()

    async def read(self, head: Head) -> tuple[LedgerRecord, ...]:
        """All events up to `head`, the newest block; raises `LedgerUnreachable`."""
        low = self._low(head)
        fresh = await self._ledger.task_events(self._task, since=low)
        again = [one for one in self.records if one.position.block >= low]
        if low > self._since and again and again[0] not in fresh:
            # Blocks were replaced, and how far back is not known.
            low, fresh = self._since, await self._ledger.task_events(self._task, since=self._since)
        kept = tuple(one for one in self.records if one.position.block < low)
        self.records = (*kept, *fresh)
        self._seen, self._read_at = head.number, trio.current_time()
        return self.records

    def _low(self, head: Head) -> int:
        low = self._seen - WINDOW
        is_late = trio.current_time() - self._read_at > PAUSE
        if is_late or head.number < low:  # a chain that starts anew
            return self._since
        return max(self._since, low)
