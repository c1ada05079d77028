"""The public API of the lane against honest nodes."""

from __future__ import annotations

from pathlib import Path

from deai.money import UNIT
from tests.client.lane.node import Cheat
from tests.client.lane.world import PRICE, lane_world


async def test_a_call_gives_the_output_and_pays_for_it(tmp_path: Path) -> None:
    async with lane_world(tmp_path, Cheat()) as world, world.client() as client:
        async with client.lane("shout", max_fee=UNIT) as lane:
            assert await lane.call(b"hello") == b"HELLO"
            assert await lane.call(b"again") == b"AGAIN"
        account = world.nodes[0].account
        assert (account.paid, account.cumulative, len(account.due)) == (2, 2 * PRICE, 0)


async def test_a_thousand_tasks_come_back_in_order_and_are_paid(tmp_path: Path) -> None:
    inputs = [b"task %d" % number for number in range(1000)]
    async with lane_world(tmp_path, Cheat()) as world, world.client() as client:
        async with client.lane("shout", max_fee=UNIT) as lane:
            outputs = [output async for output in lane.map(inputs)]
        assert outputs == [data.upper() for data in inputs]
        account = world.nodes[0].account
        assert (account.paid, account.cumulative) == (1000, 1000 * PRICE)
        assert account.paid_ahead_most <= PRICE
