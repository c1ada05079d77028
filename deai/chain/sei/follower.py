"""Events in chain order from a cursor on: polling is the truth.

A range of blocks is read with one request that names its last block before and after the logs,
so that it cannot mix two histories. Recent block hashes are kept; when the chain's answer
differs from them the follower goes back to the newest block that both know. With two or more
endpoints every range is believed only when two of them tell the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final

import trio

from deai.chain.ledger import Cursor, EventBatch, Head
from deai.chain.sei.logs import Decoder, RawLog, quantity, read_log
from deai.chain.sei.pool import EndpointsDisagree, Pool
from deai.chain.sei.rpc import Request, RpcError
from deai.errors import LedgerUnreachable, MalformedMessage
from deai.events import LedgerRecord, Position

MOST_BLOCKS: Final = 2_000
KEPT_HASHES: Final = 256
KEPT_IN_RANGE: Final = 64
CALM_RANGES: Final = 16
"""Ranges without a refusal before a larger one is tried."""
IDLE_BATCH_S: Final = 1.0
RETRY_S: Final = 1.0
BEHIND_S: Final = 30.0
"""So long may the chain's head be below our cursor before we believe it starts anew."""
_LOG_FACTS: Final = ("address", "topics", "data", "blockHash", "logIndex", "transactionHash")
_TOO_MUCH: Final = ("range", "too many", "limit", "more than", "response size", "exceed")


class Follower:
    """Reads ranges; one per stream of batches."""

    def __init__(
        self, pool: Pool, decoder: Decoder, deployed_at: int, *, poll_s: float = 0.2
    ) -> None:
        self._pool = pool
        self._decoder = decoder
        self._start = deployed_at - 1
        self._poll_s = poll_s
        self._span = MOST_BLOCKS
        self._calm = 0
        self._recent: deque[Cursor] = deque(maxlen=KEPT_HASHES)
        self._behind_since: float | None = None
        self._told_at = float("-inf")

    async def batches(self, cursor: Cursor | None) -> AsyncGenerator[EventBatch, None]:
        """Batches for ever; an unreachable or contradictory chain yields nothing meanwhile."""
        if cursor is not None:
            self._recent.append(cursor)
        rewind_to: int | None = None
        while True:
            try:
                head, back = await self._locate()
                if back is not None:
                    rewind_to = back if rewind_to is None else min(back, rewind_to)
                batch = await self._step(head, rewind_to)
            except EndpointsDisagree:
                await trio.sleep(self._poll_s)
                continue
            except (LedgerUnreachable, MalformedMessage):
                await trio.sleep(RETRY_S)
                continue
            if batch is not None:
                rewind_to = None
                self._told_at = trio.current_time()
                yield batch
            if batch is None or self._at >= head.number:
                await trio.sleep(self._poll_s)

    @property
    def _at(self) -> int:
        return self._recent[-1].number if self._recent else self._start

    async def _locate(self) -> tuple[Head, int | None]:
        """The head, and where to go back to if our newest block was replaced."""
        requests: list[Request] = [
            ("eth_getBlockByNumber", ["latest", False]),
            _block(max(self._at, 0)),
        ]
        latest, ours = await self._pool.batch(requests)
        head = read_head(latest)
        if not self._recent:
            return head, None
        if ours is not None and read_head(ours).hash == self._recent[-1].hash:
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
        blocks = await self._pool.agreed([_block(one.number) for one in self._recent], _facts)
        stand = [
            isinstance(block, dict) and read_head(block).hash == one.hash
            for one, block in zip(self._recent, blocks, strict=True)
        ]
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
        self._recent.append(Cursor(end.number, end.hash))
        self._grow()
        if not records and not self._is_idle and rewind_to is None and high == head.number:
            return None  # the head was told within the second
        return EventBatch(records=records, cursor=self._recent[-1], head=head, rewind_to=rewind_to)

    @property
    def _is_idle(self) -> bool:
        return trio.current_time() - self._told_at >= IDLE_BATCH_S

    def _grow(self) -> None:
        """Larger ranges again, though not at once: a limit that was met is still there."""
        self._calm += 1
        if self._calm >= CALM_RANGES:
            self._span, self._calm = min(MOST_BLOCKS, 2 * self._span), 0

    async def _range(self, low: int, high: int) -> tuple[Head, tuple[LedgerRecord, ...]] | None:
        query = {
            "address": self._decoder.addresses,
            "topics": [self._decoder.topics()],
            "fromBlock": hex(low),
            "toBlock": hex(high),
        }
        end = _block(high)
        before, logs, after = await self._pool.agreed([end, ("eth_getLogs", [query]), end], _facts)
        if isinstance(logs, RpcError):
            if high > low and any(word in logs.message.lower() for word in _TOO_MUCH):
                self._span, self._calm = max(1, (high - low + 1) // 2), 0
                return None
            raise LedgerUnreachable(f"the chain's logs cannot be read: {logs.message[:200]}")
        if before is None or after is None:
            return None  # not there yet
        first, last = read_head(before), read_head(after)
        if first != last:
            return None  # replaced while we read
        return last, await read_records(self._pool, self._decoder, logs, low, high)


def _block(number: int) -> Request:
    return "eth_getBlockByNumber", [hex(number), False]


def _facts(answers: list[Any]) -> object:
    """What two nodes must tell alike about blocks and logs, whatever else they add."""
    return [_fact(answer) for answer in answers]


def _fact(answer: object) -> object:
    if isinstance(answer, dict):
        return answer.get("hash"), answer.get("timestamp")
    if isinstance(answer, list):
        return [[log.get(name) for name in _LOG_FACTS] for log in answer if isinstance(log, dict)]
    return answer.message if isinstance(answer, RpcError) else answer


def read_head(block: object) -> Head:
    """A block's number, hash and time; raises `MalformedMessage`."""
    if not isinstance(block, dict) or not isinstance(block.get("hash"), str):
        raise MalformedMessage("not a block")
    return Head(
        quantity(block.get("number")), block["hash"].lower(), quantity(block.get("timestamp"))
    )


async def read_records(
    pool: Pool, decoder: Decoder, logs: object, low: int, high: int
) -> tuple[LedgerRecord, ...]:
    """Logs of the blocks `low` to `high` as records in chain order.

    Raises `MalformedMessage` for logs outside the range, of other contracts or of blocks that
    the chain does not have.
    """
    if not isinstance(logs, list):
        raise MalformedMessage("logs are a list")
    raws = [read_log(log) for log in logs if not (isinstance(log, dict) and log.get("removed"))]
    for raw in raws:
        if not low <= raw.block <= high or raw.contract not in decoder.addresses:
            raise MalformedMessage("logs that were not asked for")
    times = await _block_times(pool, raws)
    records = []
    for raw in sorted(raws, key=lambda one: (one.block, one.index)):
        event = decoder.decode(raw)
        if event is None:
            continue
        at = Position(raw.block, raw.index, raw.block_hash, times[raw.block], raw.transaction)
        records.append(LedgerRecord(at, event))
    return tuple(records)


async def _block_times(pool: Pool, raws: Sequence[RawLog]) -> dict[int, int]:
    hashes = {raw.block: raw.block_hash for raw in raws}
    if not hashes:
        return {}
    blocks = await pool.batch([_block(number) for number in sorted(hashes)])
    heads = [read_head(block) for block in blocks]
    if any(hashes.get(head.number) != head.hash for head in heads):
        raise MalformedMessage("logs of a block that was replaced")
    return {head.number: head.time for head in heads}
