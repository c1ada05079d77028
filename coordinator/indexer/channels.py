"""One event of a payment channel folded into the index; pure, like the reducer that calls it.

Every event is held against the record before: the table of `deai.channels` says what may follow,
and the sums of an event must be those that the contract had to report.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple, TypeAlias

import msgspec

from coordinator.indexer.state import ChannelEntry, NodeChannels, Rows
from deai.channels import ChannelEvent, ChannelState, advance_channel
from deai.errors import IllegalTransition
from deai.events import (
    ChannelClosed,
    ChannelClosing,
    ChannelOpened,
    ChannelToppedUp,
    Position,
    VoucherRedeemed,
)
from deai.ids import ChannelId

LiveEvent: TypeAlias = ChannelToppedUp | VoucherRedeemed | ChannelClosing | ChannelClosed

_NOTHING: Final[Mapping[str, int]] = {}
_change = msgspec.structs.replace


class ChannelChange(NamedTuple):
    """What is different after an event; `sums` are to be added to those of the chain."""

    entry: ChannelEntry
    node: NodeChannels
    sums: Mapping[str, int]
    paid: int
    """To the node's owner."""


def fold_channel(rows: Rows, event: ChannelOpened | LiveEvent, at: Position) -> ChannelChange:
    """The channel and its sums after `event`; raise `IllegalTransition` if it cannot follow."""
    before = rows.channel(event.channel_id)
    if isinstance(event, ChannelOpened):
        after, sums = _opened(before, event, at), {"deposited": int(event.deposit)}
    elif before is None:
        raise IllegalTransition(f"channel {event.channel_id} was never opened")
    else:
        after, sums = _moved(before, event)
        after = _change(after, updated_at=at.time)
    was = ChannelState.NONE if before is None else before.state
    node = rows.node_channels(after.channel.node) or NodeChannels(node=after.channel.node)
    counts = _counts(was, after.state)
    return ChannelChange(
        entry=after,
        node=_grown(node, {**counts, **sums}),
        sums={**{f"channels_{name}": value for name, value in counts.items()}, **sums},
        paid=sums.get("redeemed", 0),
    )


def _opened(before: ChannelEntry | None, event: ChannelOpened, at: Position) -> ChannelEntry:
    after = ChannelEntry(
        id=event.channel_id,
        channel=event.channel,
        state=advance_channel(
            ChannelState.NONE if before is None else before.state, ChannelEvent.OPENED
        ),
        epoch=event.epoch,
        deposit=int(event.deposit),
        opened_block=at.block,
        opened_idx=at.index,
        opened_at=at.time,
        updated_at=at.time,
    )
    was = 0 if before is None else before.epoch
    if event.epoch != was + 1:
        raise IllegalTransition(f"epoch {event.epoch} of {event.channel_id} after {was}")
    if before is None:
        return after
    if event.channel != before.channel:
        raise IllegalTransition(f"{event.channel_id} names two channels")
    first = {name: getattr(before, name) for name in ("opened_block", "opened_idx", "opened_at")}
    return _change(after, redeemed=before.redeemed, **first)


def _moved(before: ChannelEntry, event: LiveEvent) -> tuple[ChannelEntry, dict[str, int]]:
    match event:
        case ChannelToppedUp(amount=added, deposit=deposit):
            _agree(event.channel_id, int(deposit), before.deposit + added)
            state = advance_channel(before.state, ChannelEvent.TOPPED_UP)
            after = _change(before, state=state, deposit=int(deposit))
            return after, {"deposited": int(added)}
        case VoucherRedeemed(paid=paid, claimed=claimed, receipts_root=root):
            _agree(event.channel_id, int(claimed), before.claimed + paid)
            if claimed > before.deposit:
                raise IllegalTransition(f"{event.channel_id} paid more than its deposit")
            state = advance_channel(before.state, ChannelEvent.REDEEMED)
            after = _change(
                before, state=state, claimed=int(claimed), redeemed=before.redeemed + int(paid),
                receipts_root=root,
            )  # fmt: skip
            return after, {"redeemed": int(paid)}
        case ChannelClosing(closes_at=closes_at):
            state = advance_channel(before.state, ChannelEvent.CLOSE_REQUESTED)
            return _change(before, state=state, closes_at=closes_at), {}
        case ChannelClosed(epoch=epoch, claimed=claimed, refunded=refunded):
            _agree(event.channel_id, epoch, before.epoch)
            _agree(event.channel_id, int(claimed), before.claimed)
            _agree(event.channel_id, int(refunded), before.held)
            # By the owner at once or after the challenge period: both end in one state.
            state = advance_channel(before.state, ChannelEvent.CLOSED)
            after = _change(before, state=state, refunded=int(refunded), closes_at=0)
            return after, {"returned": int(refunded)}


def _agree(channel: ChannelId, told: int, known: int) -> None:
    if told != known:
        raise IllegalTransition(f"{channel} tells {told} where {known} follows")


def _counts(was: ChannelState, now: ChannelState) -> Mapping[str, int]:
    if was is now:
        return _NOTHING
    left = _NOTHING if was is ChannelState.NONE else {was.label: -1}
    return {**left, now.label: 1}


def _grown(node: NodeChannels, sums: Mapping[str, int]) -> NodeChannels:
    return _change(node, **{name: getattr(node, name) + more for name, more in sums.items()})
