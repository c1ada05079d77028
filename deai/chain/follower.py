"""Events in chain order from a cursor on: polling is the truth.

What every chain has in common; a `Source` reads ranges of blocks of one chain. Recent block hashes
are kept; when the chain's answer differs from them the follower goes back to the newest block that
both know.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import Final, Protocol

import trio

from deai.chain.ledger import Cursor, EventBatch, Head
from deai.chain.pool import EndpointsDisagree
from deai.errors import LedgerUnreachable, MalformedMessage
from deai.events import LedgerRecord

logger = logging.getLogger(__name__)

KEPT_HASHES: Final = 256
KEPT_IN_RANGE: Final = 64
CALM_RANGES: Final = 16
"""Ranges without a refusal before a larger one is tried."""
IDLE_BATCH_S: Final = 1.0
RETRY_S: Final = 1.0
BEHIND_S: Final = 30.0
"""So long may the chain's head be below our cursor before we believe it starts anew."""


class RangeTooLarge(LedgerUnreachable):
    """The chain tells about fewer blocks at a time."""


class Source(Protocol):
    """One chain's blocks. All methods raise `LedgerUnreachable` and `MalformedMessage`."""

    @property
    def most_blocks(self) -> int:
        """The largest range to ask for."""
        ...

    async def look(self, number: int) -> tuple[Head, str | None]:
        """The head, and the hash of a block; None if it is not there (yet)."""
        ...

    async def standing(self, cursors: Sequence[Cursor]) -> list[bool]:
        """Which of these blocks the chain still has, as several endpoints tell."""
        ...

    async def read(self, low: int, high: int) -> tuple[Cursor, tuple[LedgerRecord, ...]] | None:
        """Events of the blocks from `low` on, and the last block that they are complete for.

        None while nothing can be told; raises `RangeTooLarge`.
        """
        ...


class Follower:
    """Reads ranges; one per stream of batches."""

    def __init__(self, source: Source, deployed_at: int, *, poll_s: float = 0.2) -> None:
        self._source = source
        self._start = deployed_at - 1
        self._poll_s = poll_s
        self._span = source.most_blocks
        self._calm = 0
        self._recent: deque[Cursor] = deque(maxlen=KEPT_HASHES)
        self._behind_since: float | None = None
        self._told_at = float("-inf")
        self._trouble = ""

    async def batches(self, cursor: Cursor | None) -> AsyncGenerator[EventBatch, None]:
        """Batches for ever; an unreachable or contradictory chain yields nothing meanwhile.

        Why is logged, once for each reason in a row.
        """
        if cursor is not None:
            self._recent.append(cursor)
        rewind_to: int | None = None
        while True:
            try:
                head, back = await self._locate()
                if back is not None:
                    rewind_to = back if rewind_to is None else min(back, rewind_to)
                batch = await self._step(head, rewind_to)
            except (LedgerUnreachable, MalformedMessage) as error:
                is_passing = isinstance(error, EndpointsDisagree)
                if not is_passing:
                    self._note(str(error))
                await trio.sleep(self._poll_s if is_passing else RETRY_S)
                continue
            if batch is not None:
                self._trouble = ""
                rewind_to = None
                self._told_at = trio.current_time()
                yield batch
            if batch is None or self._at >= head.number:
                await trio.sleep(self._poll_s)

    def _note(self, trouble: str) -> None:
        if trouble != self._trouble:
            logger.info("cannot read the chain", extra={"action": "follow", "cause": trouble})
        self._trouble = trouble

    @property
    def _at(self) -> int:
        return self._recent[-1].number if self._recent else self._start

    async def _locate(self) -> tuple[Head, int | None]:
        """The head, and where to go back to if our newest block was replaced."""
        head, ours = await self._source.look(max(self._at, 0))
        if not self._recent:
            return head, None
        if not self._recent[-1].hash and ours is not None:
            self._recent[-1] = Cursor(self._at, ours)
        if ours == self._recent[-1].hash:
            self._behind_since = None
            return head, None
        if ours is None and not self._is_too_long_behind():
            return head, None  # that endpoint, or the chain, has yet to come so far
        self._behind_since = None
        return head, await self._go_back()

    def _is_too_long_behind(self) -> bool:
        now = trio.current_time()
        if self._behind_since is None:
            self._behind_since = now
        return now - self._behind_since > BEHIND_S

    async def _go_back(self) -> int | None:
        """Forget blocks that the chain does not have; the number of the newest that it has."""
        stand = await self._source.standing(self._recent)
        if stand[-1]:
            return None
        while self._recent and not stand.pop():
            self._recent.pop()
        return self._at

    async def _step(self, head: Head, rewind_to: int | None) -> EventBatch | None:
        """The next range; None if there is nothing to tell yet."""
        low, high = self._at + 1, min(head.number, self._at + self._span)
        if low > high:
            if not self._recent or head.number < self._at:
                return None
            if rewind_to is None and not self._is_idle:
                return None
            return EventBatch(records=(), cursor=self._recent[-1], head=head, rewind_to=rewind_to)
        found = await self._range(low, high)
        if found is None:
            return None
        end, records = found
        # Blocks with events too: going back to the newest of them loses nothing.
        for at in (record.position for record in records[-KEPT_IN_RANGE:]):
            if at.block > self._at and at.block < end.number:
                self._recent.append(Cursor(at.block, at.block_hash))
        self._recent.append(end)
        self._grow()
        if not records and not self._is_idle and rewind_to is None and high == head.number:
            return None  # the head was told within the second
        return EventBatch(records=records, cursor=end, head=head, rewind_to=rewind_to)

    @property
    def _is_idle(self) -> bool:
        return trio.current_time() - self._told_at >= IDLE_BATCH_S

    async def _range(self, low: int, high: int) -> tuple[Cursor, tuple[LedgerRecord, ...]] | None:
        try:
            return await self._source.read(low, high)
        except RangeTooLarge:
            if high == low:
                raise
            self._span, self._calm = max(1, (high - low + 1) // 2), 0
            return None

    def _grow(self) -> None:
        """Larger ranges again, though not at once: a limit that was met is still there."""
        self._calm += 1
        if self._calm >= CALM_RANGES:
            self._span, self._calm = min(self._source.most_blocks, 2 * self._span), 0
