"""What becomes of a voucher that somebody brings, over p2p or in a file."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

import trio

from deai.chain.ledger import Ledger
from deai.channels import Channel, ChannelRecord, Voucher, payable
from deai.client.tower.shelf import Held, Shelf
from deai.client.tower.watch import Watchtower
from deai.errors import LedgerUnreachable, LimitExceeded
from deai.ids import ChannelId, NodeId
from deai.lane.tower import KEEP_SECONDS, NotKept, check_voucher

PACE_SLACK: Final = 0.5
"""What left a node in good order may arrive closer together."""
READERS: Final = 4


class Intake:
    """Checks vouchers against the chain and puts them on the shelf."""

    def __init__(self, ledger: Ledger, shelf: Shelf, tower: Watchtower) -> None:
        self._ledger, self._shelf, self._tower = ledger, shelf, tower
        self._domain = ledger.info.channels
        self._readers = trio.CapacityLimiter(READERS)

    def check(self, channel: Channel, voucher: Voucher) -> None:
        """Raise `BadSignature` or `MalformedMessage` for what is no voucher of this channel."""
        check_voucher(self._domain, channel, voucher)

    def newest(self, channel: ChannelId) -> Voucher | None:
        """What is held of a channel."""
        held = self._shelf.held.get(channel)
        return None if held is None else held.voucher

    async def take_in(
        self, channel: Channel, voucher: Voucher, *, is_paced: bool = False
    ) -> ChannelRecord | NotKept:
        """What the chain has of the channel now, or why its voucher is not kept."""
        held = self._shelf.held.get(voucher.channel)
        rest = KEEP_SECONDS * PACE_SLACK
        if is_paced and held is not None and trio.current_time() - held.taken_at < rest:
            return NotKept(voucher.channel, "too_fast", "one voucher a second and channel")
        record = None if held is None or held.is_gone else held.record
        if record is None or record.epoch != voucher.epoch:
            if held is None and (full := self._full(channel.node)) is not None:
                return NotKept(voucher.channel, "full", full)
            try:
                async with self._readers:
                    record = await self._ledger.channel(voucher.channel)
            except LedgerUnreachable:
                return NotKept(voucher.channel, "chain", "the chain does not answer")
        if not record.deposit or record.epoch != voucher.epoch:
            state = record.state.label
            return NotKept(
                voucher.channel, "gone", f"the channel is {state} in epoch {record.epoch}"
            )
        if not payable(record, int(voucher.cumulative_amount)):
            return NotKept(voucher.channel, "nothing_new", "as much was claimed already")
        if self._shelf.writer.problem:
            return NotKept(voucher.channel, "store_full", self._shelf.writer.problem)
        return record

    def _full(self, node: NodeId) -> str | None:
        try:
            self._shelf.has_room(node)
        except LimitExceeded as error:
            return str(error)
        return None

    async def import_vouchers(self, vouchers: Collection[tuple[Channel, Voucher]]) -> list[NotKept]:
        """Hold vouchers that somebody brought; what was not kept, once the rest is durable.

        They were checked (`decode_vouchers`). Raises what ends the shelf's writer.
        """
        refused = []
        for channel, voucher in vouchers:
            answer = await self.take_in(channel, voucher)
            if not isinstance(answer, NotKept):
                try:
                    self.hold(channel, voucher, answer, _ignore)
                    continue
                except LimitExceeded as error:
                    answer = NotKept(voucher.channel, "full", str(error))
            refused.append(answer)
        await self._shelf.writer.flushed()
        return refused

    def hold(
        self, channel: Channel, voucher: Voucher, record: ChannelRecord, done: Callable[[], None]
    ) -> Held:
        """Put a voucher on the shelf; `done` once it is durable. Raises `LimitExceeded`."""
        before = self._shelf.held.get(voucher.channel)
        was_watched = before is not None and not before.is_gone
        held = self._shelf.put(channel, voucher, record, done)
        held.taken_at = trio.current_time()
        # What happened between reading the record and now was nobody's to notice.
        self._tower.look(() if was_watched else (held.id,))
        return held


def _ignore() -> None:
    """Nobody waits for this one alone."""
