"""Lists of channels over a long chain: every one once, and never more work than a page allows."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, strategies as st

from deai.chain.channel_pages import PAGE_RANGES, Opening, first_openings, read_ranges
from deai.chain.ledger import ChannelMark
from deai.channels import Channel
from deai.events import ChannelOpened, LedgerRecord, Position, TokensMoved
from deai.ids import AccountId, ChannelId, NodeId
from deai.money import Amount
from tests.support.examples import examples

CLIENT, OTHER = AccountId("0x" + "c1" * 20), AccountId("0x" + "c2" * 20)
NODE = NodeId("0x" + "0e" * 32)
MOST = 10
places = st.tuples(st.integers(1, 900), st.integers(0, 3))


def opened(place: tuple[int, int], client: AccountId = CLIENT, epoch: int = 1) -> LedgerRecord:
    id_ = ChannelId(f"0x{place[0] * 10 + place[1]:064x}")
    event = ChannelOpened(id_, Channel(client, NODE, CLIENT), epoch, Amount(1))
    return LedgerRecord(Position(*place, "0x", 0, "0x"), event)


@given(st.lists(places, unique=True, max_size=60).map(sorted), st.integers(1, 9))
@examples(60)
async def test_all_pages_together_are_the_list(places: list[tuple[int, int]], limit: int) -> None:
    records = [opened(place) for place in places]
    asked: list[tuple[int, int]] = []
    after: ChannelMark | None = None

    async def read(low: int, high: int) -> Sequence[Opening]:
        asked.append((low, high))
        assert high - low < MOST
        inside = [one for one in records if low <= one.position.block <= high]
        return first_openings(inside, CLIENT, None, after)

    seen: list[tuple[int, int]] = []
    for _ in range(200):
        asked.clear()
        low = 1 if after is None else after.block
        found, after = await read_ranges(read, low, 1_000, most=MOST, limit=limit)
        assert len(found) <= limit
        assert len(asked) <= PAGE_RANGES
        seen += [(mark.block, mark.index) for mark, _ in found]
        if after is None:
            break
    assert seen == places
    assert after is None


def test_a_channel_is_listed_where_it_was_opened_first_and_to_whom_it_belongs() -> None:
    moved = TokensMoved(CLIENT, OTHER, Amount(1))
    records = [
        opened((1, 0)), opened((2, 0), OTHER), opened((3, 0), epoch=2),
        LedgerRecord(Position(4, 0, "0x", 0, "0x"), moved), opened((5, 1)),
    ]  # fmt: skip

    def blocks(client: AccountId | None, node: NodeId | None, after: ChannelMark | None) -> object:
        return [mark.block for mark, _ in first_openings(records, client, node, after)]

    assert blocks(None, None, None) == [1, 2, 5]
    assert blocks(CLIENT, NODE, None) == [1, 5]
    assert blocks(OTHER, NODE, None) == [2]
    assert blocks(None, NodeId("0x" + "0f" * 32), None) == []
    assert blocks(None, None, ChannelMark(1, 0)) == [2, 5]
    assert blocks(None, None, ChannelMark(5, 0)) == [5]
    assert blocks(None, None, ChannelMark(5, 1)) == []
