"""What happened in NEAR's final blocks, as records in chain order.

Public endpoints have no index of logs. What they have is, for each block, its chunks with their
transactions and the receipts that arrive, and for each transaction all receipts that it led to
with their logs and the blocks in which they ran. So this reads every block, looks at every
transaction that was sent to one of our accounts, and at all recent ones of every account on
whose behalf somebody else's contract (a multisig, a DAO) called ours: its receipt shows its signer.

Order within a block is that of the receipts in its chunks; a callback that waited for another
account's answer comes behind them.

Limits, all of them on purpose:

* One request for each block and one for each of its chunks (nine shards, 0.6 s blocks: about 17 a
  second on mainnet); none of it can be asked for by range.
* A transaction whose receipts the endpoints do not list before the last of them has run holds up
  the blocks behind it until then, at most `REACH` blocks; what one does later than that after its
  inclusion is not told (nothing of ours takes more than five; a stranger's promises may).
* Blocks that an endpoint has thrown away cannot be read: an index that starts far back needs
  archival endpoints, and says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
import trio

from deai.chain.ledger import Cursor, Head
from deai.chain.near.logs import Decoder
from deai.chain.near.queries import Outcome, read_as, read_outcomes, tx_status
from deai.chain.near.rpc import FINAL, RpcError
from deai.chain.pool import Pool, Request
from deai.errors import LedgerUnreachable, MalformedMessage
from deai.events import LedgerRecord, Position
from deai.ids import AccountId

REACH: Final = 64
"""Blocks after a transaction's in which what it does is told."""
MOST_BLOCKS: Final = REACH + 16
"""Read at a time: more than the reach, or one transaction without end would hold up all others."""
KEPT_BLOCKS: Final = 20_000
_SYSTEM: Final = "system"
"""Sends refunds."""
_LINES: Final = 1 << 12
"""More than one receipt can log (100 lines of a NEP-297 list, 16 KiB in all)."""
_UNLISTED: Final = 1 << 20
"""Order of a receipt that the chunks of its block do not list: behind those that they do."""
_DONE: Final = frozenset({"EXECUTED", "FINAL"})


class Sent(msgspec.Struct, frozen=True):
    """A transaction as a chunk shows it."""

    hash: str
    signer: AccountId
    receiver: AccountId


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """A final block. `receipts`: the order of ours among the `arrived` ones.

    `sent` is forgotten when nothing of it can concern us any more.
    """

    height: int
    hash: str
    previous: str
    time: int
    sent: tuple[Sent, ...] = ()
    receipts: dict[str, int] = {}
    arrived: int = 0


class _ChunkPlace(msgspec.Struct, frozen=True):
    chunk_hash: str
    height_included: int


class Tracked(msgspec.Struct):
    """A transaction that may concern us, and what is known of it."""

    block: int
    order: int
    signer: AccountId
    outcomes: tuple[Outcome, ...] = ()
    is_told: bool = False
    """Whether endpoints list its receipts; those that have run, while it is not done."""
    is_done: bool = False


class History:
    """A window of consecutive blocks, read once and kept. Made for one deployment."""

    def __init__(self, pool: Pool, decoder: Decoder) -> None:
        self._pool = pool
        self._decoder = decoder
        self._lock = trio.Lock()
        self._blocks: dict[int, Block] = {}
        self._tracked: dict[str, Tracked] = {}
        self._lowest = self._next = 0
        """Heights between which everything was read; equal: nothing."""
        self._stripped = 0

    most_blocks: Final = MOST_BLOCKS

    async def head(self) -> Head:
        """The newest final block."""
        (answer,) = await self._pool.batch([("block", FINAL)])
        return read_head(answer)

    async def look(self, number: int) -> tuple[Head, str | None]:
        """The head, and the hash of a block; None if it is not there (yet)."""
        latest, ours = await self._pool.batch([("block", FINAL), _block(number)])
        return read_head(latest), None if isinstance(ours, RpcError) else read_head(ours).hash

    async def standing(self, cursors: Sequence[Cursor]) -> list[bool]:
        """Which of these blocks the chain still has, as several endpoints tell."""
        answers = await self._pool.agreed([_block(one.number) for one in cursors], _facts)
        found = [
            not isinstance(answer, RpcError) and read_head(answer).hash == one.hash
            for one, answer in zip(cursors, answers, strict=True)
        ]
        if not all(found):
            self._lowest = self._next = 0  # what was read may be of another history
        return found

    async def read(self, low: int, high: int) -> tuple[Cursor, tuple[LedgerRecord, ...]] | None:
        """Events of the blocks from `low` to the last one, up to `high`, that is complete.

        None while there is none. Raises `LedgerUnreachable`, `MalformedMessage`.
        """
        async with self._lock:
            await self._cover(low, high)
            if not any(self._between(low, high)):
                # Heights at which no block was made: on to the next one.
                high = await self._next_block(high)
                await self._cover(low, high)
            untold = [one.block for one in self._tracked.values() if not one.is_told]
            held = min((at for at in untold if at > high - REACH), default=high + 1)
            whole = [block for block in self._between(low, high) if block.height < held]
            if not whole:
                return None
            end = whole[-1]
            return Cursor(end.height, end.hash), tuple(self._records(low, end.height))

    async def known(self, low: int, high: int) -> tuple[LedgerRecord, ...]:
        """Events of the blocks `low` to `high` so far: others may come for the newest of them."""
        found: list[LedgerRecord] = []
        async with self._lock:
            await self._check_last()
            for start in range(low, high + 1, MOST_BLOCKS):
                until = min(high, start + MOST_BLOCKS - 1)
                await self._cover(start, until)
                # At once: of a long time the first blocks are forgotten before the last are read.
                found += self._records(start, until)
        return tuple(found)

    async def _cover(self, low: int, high: int) -> None:
        """Have everything between `low` and `high`, and what reaches into it from before."""
        first = max(0, low - REACH)
        if not self._lowest <= first <= self._next or self._lowest == self._next:
            self._blocks.clear()
            self._tracked.clear()
            self._lowest = self._next = self._stripped = first
        while self._next <= high:
            until = min(high, self._next + MOST_BLOCKS - 1)
            found = await self._extend(self._next, until)
            self._next = until + 1
            if not found and until < high:
                self._next = min(high + 1, await self._next_block(until))
        await self._settle()
        self._forget(low)

    async def _check_last(self) -> None:
        """Drop everything if the chain has another history than what was read."""
        last = next(reversed(self._blocks.values()), None)
        if last is not None and self._lowest != self._next:
            (answer,) = await self._pool.batch([_block(last.height)])
            if isinstance(answer, RpcError) or read_head(answer).hash != last.hash:
                self._lowest = self._next = 0

    async def _next_block(self, after: int) -> int:
        """The height of the first block above `after`; there is one.

        Looks further and further ahead for any, then walks back from it: a chain that stood still,
        or a local one whose clock was moved, has long gaps.
        """
        head, at, step = await self.head(), after + 1, MOST_BLOCKS
        found: Any = None
        while found is None:
            last = min(at + MOST_BLOCKS, head.number)
            heights = range(at, last + 1) if at < head.number else (head.number,)
            answers = await self._pool.batch([_block(height) for height in heights])
            found = next((one for one in answers if not isinstance(one, RpcError)), None)
            if found is None and at >= head.number:
                raise LedgerUnreachable("the chain's newest block cannot be read")
            at, step = at + step, 2 * step
        while True:
            read_head(found)
            previous = {"block_id": found["header"].get("prev_hash")}
            (earlier,) = await self._pool.batch([("block", previous)])
            if isinstance(earlier, RpcError) or read_head(earlier).number <= after:
                return read_head(found).number
            found = earlier

    async def _extend(self, low: int, high: int) -> bool:
        """Read the blocks between two heights, all or none; whether there were any."""
        requests = [_block(height) for height in range(low, high + 1)]
        answers = await self._pool.agreed(requests, _facts)
        found = [(read_head(one), one) for one in answers if not isinstance(one, RpcError)]
        last = next(reversed(self._blocks.values()), None)
        fresh: dict[int, Block] = {}
        for head, answer in found:
            previous = str(answer["header"].get("prev_hash"))
            if last is not None and previous != last.hash:
                # Replaced meanwhile, or a hole: blocks that these endpoints have thrown away.
                self._lowest = self._next = 0
                raise _gone(f"the chain's blocks before {head.number} cannot be read")
            last = Block(height=head.number, hash=head.hash, previous=previous, time=head.time)
            fresh[head.number] = last
        callers = await self._read_chunks(fresh, [(head.number, one) for head, one in found])
        self._blocks |= fresh
        for height in sorted(callers):
            self._track(height, callers[height])
        self._strip(high - REACH)
        return bool(fresh)

    def _strip(self, below: int) -> None:
        """Forget other people's transactions that no receipt can refer to any more."""
        for block in reversed(self._blocks.values()):
            if block.height < self._stripped:
                break
            if block.height < below and block.sent:
                self._blocks[block.height] = msgspec.structs.replace(block, sent=())
        self._stripped = max(self._stripped, below)

    async def _read_chunks(
        self, fresh: dict[int, Block], blocks: list[tuple[int, Any]]
    ) -> dict[int, set[AccountId]]:
        """Fill blocks with what their chunks hold; who called us in each."""
        wanted = [
            (height, chunk.chunk_hash)
            for height, answer in blocks
            for chunk in read_as(list[_ChunkPlace], answer.get("chunks"))
            # A shard without a new chunk repeats its last one.
            if chunk.height_included == height
        ]
        requests: list[Request] = [("chunk", {"chunk_id": hash_}) for _, hash_ in wanted]
        answers = await self._pool.agreed(requests, _facts) if requests else []
        callers: dict[int, set[AccountId]] = {}
        for (height, _), answer in zip(wanted, answers, strict=True):
            if isinstance(answer, RpcError):
                raise _gone(f"a chunk of block {height} cannot be read: {answer}")
            called = callers.setdefault(height, set())
            fresh[height] = self._with_chunk(fresh[height], answer, called)
        return callers

    def _with_chunk(self, block: Block, answer: Any, callers: set[AccountId]) -> Block:  # noqa: ANN401
        try:
            sent = tuple(
                Sent(str(one["hash"]), one["signer_id"], one["receiver_id"])
                for one in answer["transactions"]
            )
            listed, arrived = dict(block.receipts), block.arrived
            for order, receipt in enumerate(answer["receipts"], arrived):
                arrived += 1
                if receipt["receiver_id"] not in self._decoder.accounts:
                    continue
                listed[str(receipt["receipt_id"])] = order
                action = receipt["receipt"].get("Action")
                if action is not None and receipt["predecessor_id"] != _SYSTEM:
                    callers.add(action["signer_id"])
        except (KeyError, TypeError, AttributeError) as error:
            raise MalformedMessage(f"not a chunk: {error!r}") from error
        return msgspec.structs.replace(
            block, sent=(*block.sent, *sent), receipts=listed, arrived=arrived
        )

    def _track(self, height: int, callers: set[AccountId]) -> None:
        """Remember the block's transactions to us, and the callers' of the last blocks."""
        recent = range(max(self._lowest, height - REACH), height) if callers else range(0)
        for at in (*recent, height):
            block = self._blocks.get(at)
            for order, one in enumerate(block.sent if block is not None else ()):
                ours = at == height and one.receiver in self._decoder.accounts
                if (ours or one.signer in callers) and one.hash not in self._tracked:
                    self._tracked[one.hash] = Tracked(at, order, one.signer)

    async def _settle(self) -> None:
        """Ask about every transaction that is not done."""
        wanted = [(hash_, one) for hash_, one in self._tracked.items() if not one.is_done]
        if not wanted:
            return
        requests = [tx_status(hash_, one.signer) for hash_, one in wanted]
        answers = await self._pool.agreed(requests, _facts)
        for (_, one), answer in zip(wanted, answers, strict=True):
            if isinstance(answer, dict) and "receipts_outcome" in answer:
                one.outcomes = tuple(
                    outcome
                    for outcome in read_outcomes(answer)
                    if outcome.outcome.executor_id in self._decoder.accounts
                )
                one.is_told = True
                one.is_done = str(answer.get("final_execution_status")) in _DONE

    def _between(self, low: int, high: int) -> Iterator[Block]:
        for height in range(max(low, self._lowest), min(high, self._next - 1) + 1):
            if (block := self._blocks.get(height)) is not None:
                yield block

    def _records(self, low: int, high: int) -> Iterator[LedgerRecord]:
        blocks = {block.hash: block for block in self._between(low, high)}
        found: list[LedgerRecord] = []
        for hash_, one in self._tracked.items():
            if one.block > high or one.block < low - REACH:
                continue
            for outcome in one.outcomes:
                block = blocks.get(outcome.block_hash)
                if block is not None and block.height <= one.block + REACH:
                    found += self._events(block, hash_, one, outcome)
        return iter(sorted(found, key=lambda record: record.position))

    def _events(
        self, block: Block, hash_: str, one: Tracked, outcome: Outcome
    ) -> Iterator[LedgerRecord]:
        body = outcome.outcome
        if isinstance(body.status, dict) and "Failure" in body.status:
            return  # whatever it logged was undone
        order = block.receipts.get(outcome.id)
        if order is None:
            order = _UNLISTED + (one.block << 12 | one.order) % _UNLISTED
        number = order * _LINES
        for line in body.logs:
            for event in self._decoder.decode(body.executor_id, line):
                at = Position(block.height, number, block.hash, block.time, hash_)
                yield LedgerRecord(at, event)
                number += 1

    def _forget(self, low: int) -> None:
        """Keep the window bounded, and what is about to be read."""
        keep = min(low - REACH, self._next - KEPT_BLOCKS)
        if self._lowest >= keep:
            return
        for height in range(self._lowest, keep):
            self._blocks.pop(height, None)
        self._tracked = {hash_: one for hash_, one in self._tracked.items() if one.block >= keep}
        self._lowest = keep


def _gone(what: str) -> LedgerUnreachable:
    hint = "an index that starts far back needs archival endpoints"
    return LedgerUnreachable(what, hint=hint)


def _block(height: int) -> Request:
    return "block", {"block_id": height}


def read_head(answer: object) -> Head:
    """A block's height, hash and time; raises `MalformedMessage`."""
    try:
        header: Any = answer["header"]  # type: ignore[index]
        return Head(int(header["height"]), str(header["hash"]), int(header["timestamp"]) // 10**9)
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedMessage(f"not a block: {str(answer)[:80]}") from error


def _facts(answers: Sequence[Any]) -> object:
    """What two endpoints must tell alike about blocks, chunks and transactions."""
    return [_fact(answer) for answer in answers]


def _fact(answer: Any) -> object:  # noqa: ANN401 - JSON
    if not isinstance(answer, dict):
        return answer.name if isinstance(answer, RpcError) else answer
    header = answer.get("header")
    if isinstance(header, dict):
        name = header.get("hash", header.get("chunk_hash"))
        listed = [one.get("receipt_id") for one in answer.get("receipts", ())]
        return name, [one.get("hash") for one in answer.get("transactions", ())], listed
    outcomes = answer.get("receipts_outcome", ())
    return [(one.get("id"), one.get("block_hash"), _told(one.get("outcome"))) for one in outcomes]


def _told(outcome: Any) -> object:  # noqa: ANN401 - JSON
    if not isinstance(outcome, dict):
        return None
    return outcome.get("executor_id"), outcome.get("logs"), str(outcome.get("status"))
