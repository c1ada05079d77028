"""The list of channels, page by page: what every adapter makes of the chain's openings.

A channel may be opened often; it is listed where it was opened first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, TypeAlias

from deai.chain.ledger import MAX_CHANNEL_PAGE, ChannelMark, ChannelPage, OpenedChannel
from deai.channels import ChannelRecord
from deai.errors import LimitExceeded
from deai.events import ChannelOpened, LedgerRecord
from deai.ids import AccountId, NodeId

PAGE_RANGES: Final = 16
"""Ranges of blocks that one page looks into."""

Opening: TypeAlias = tuple[ChannelMark, ChannelOpened]
Cut: TypeAlias = tuple[Sequence[Opening], ChannelMark | None]


def check_limit(limit: int) -> None:
    """Raise `LimitExceeded` unless a page may have so many channels."""
    if not 1 <= limit <= MAX_CHANNEL_PAGE:
        raise LimitExceeded(f"a page has 1 to {MAX_CHANNEL_PAGE} channels, not {limit}")


def first_openings(
    records: Iterable[LedgerRecord],
    client: AccountId | None,
    node: NodeId | None,
    after: ChannelMark | None,
) -> list[Opening]:
    """The first openings among `records` behind `after`, of a client, for a node."""
    found = []
    for record in records:
        event, at = record.event, ChannelMark(record.position.block, record.position.index)
        if (
            isinstance(event, ChannelOpened)
            and event.epoch == 1
            and client in (None, event.channel.client)
            and node in (None, event.channel.node)
            and (after is None or at > after)
        ):
            found.append((at, event))
    return found


async def read_ranges(
    read: Callable[[int, int], Awaitable[Sequence[Opening]]],
    low: int,
    high: int,
    *,
    most: int,
    limit: int,
) -> Cut:
    """A page of what `read` finds in the blocks `low` to `high`.

    It is asked for at most `most` blocks at a time, and not more often than `PAGE_RANGES`.
    """
    found: list[Opening] = []
    for _ in range(PAGE_RANGES):
        if low > high or len(found) > limit:
            break
        until = min(high, low + most - 1)
        found += await read(low, until)
        low = until + 1
    return cut(found, limit, ChannelMark(low, -1) if low <= high else None)


def cut(found: Sequence[Opening], limit: int, unread: ChannelMark | None = None) -> Cut:
    """At most `limit` of them, and where the next page begins.

    `unread`: the chain was read up to there only; None: to its head.
    """
    if len(found) > limit:
        return found[:limit], found[limit - 1][0]
    return found, unread


def page_of(
    found: Sequence[Opening], records: Sequence[ChannelRecord], next_: ChannelMark | None
) -> ChannelPage:
    """Openings and the records that their channels have now."""
    items = [
        OpenedChannel(event.channel_id, event.channel, record)
        for (_, event), record in zip(found, records, strict=True)
    ]
    return ChannelPage(tuple(items), next_)
