"""Sei's blocks and logs for a follower.

A range of blocks is read with one request that names its last block before and after the logs, so
that it cannot mix two histories. With two or more endpoints every range is believed only when two
of them tell the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from deai.chain.follower import RangeTooLarge
from deai.chain.ledger import Cursor, Head
from deai.chain.pool import Pool, Request
from deai.chain.sei.logs import Decoder, RawLog, read_log
from deai.chain.sei.quantities import quantity
from deai.chain.sei.rpc import RpcError
from deai.errors import LedgerUnreachable, MalformedMessage
from deai.events import LedgerRecord, Position

MOST_BLOCKS: Final = 2_000
_LOG_FACTS: Final = ("address", "topics", "data", "blockHash", "logIndex", "transactionHash")
_TOO_MUCH: Final = ("range", "too many", "limit", "more than", "response size", "exceed")


class LogSource:
    """Ranges of one deployment's logs."""

    most_blocks: Final = MOST_BLOCKS

    def __init__(self, pool: Pool, decoder: Decoder) -> None:
        self._pool = pool
        self._decoder = decoder

    async def look(self, number: int) -> tuple[Head, str | None]:
        """The head, and the hash of a block; None if it is not there (yet)."""
        requests: list[Request] = [("eth_getBlockByNumber", ["latest", False]), _block(number)]
        latest, ours = await self._pool.batch(requests)
        return read_head(latest), None if ours is None else read_head(ours).hash

    async def standing(self, cursors: Sequence[Cursor]) -> list[bool]:
        """Which of these blocks the chain still has, as several endpoints tell."""
        blocks = await self._pool.agreed([_block(one.number) for one in cursors], _facts)
        return [
            isinstance(block, dict) and read_head(block).hash == one.hash
            for one, block in zip(cursors, blocks, strict=True)
        ]

    async def read(self, low: int, high: int) -> tuple[Cursor, tuple[LedgerRecord, ...]] | None:
        """Events of the blocks `low` to `high`; None while `high` is not there."""
        query = {
            "address": self._decoder.addresses,
            "topics": [self._decoder.topics()],
            "fromBlock": hex(low),
            "toBlock": hex(high),
        }
        end = _block(high)
        before, logs, after = await self._pool.agreed([end, ("eth_getLogs", [query]), end], _facts)
        if isinstance(logs, RpcError):
            if any(word in logs.message.lower() for word in _TOO_MUCH):
                raise RangeTooLarge(f"the chain tells about fewer blocks: {logs.message[:200]}")
            raise LedgerUnreachable(f"the chain's logs cannot be read: {logs.message[:200]}")
        if before is None or after is None:
            return None  # not there yet
        first, last = read_head(before), read_head(after)
        if first != last:
            return None  # replaced while we read
        records = await read_records(self._pool, self._decoder, logs, low, high)
        return Cursor(last.number, last.hash), records


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
