"""Signed orders from end to end: the real client and real nodes, a chain and a wire in memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio.testing

from tests.node.orders.support import fund, nodes, payer, settlements, submit
from tests.node.support.names import until
from tests.node.support.world import open_world

Clock = trio.testing.MockClock

pytestmark = pytest.mark.world


async def test_an_order_is_computed_by_its_seats_and_settled_by_one_of_them(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        await nodes(world)
        await fund(world)
        async with payer(world, tmp_path / "client") as client:
            handle = await submit(client)
            outcome = await handle.wait()
            assert outcome.ok
            assert outcome.data == b"HELLO"
            await until(lambda: settlements(world))
            (settled,) = settlements(world)
            assert str(settled.order_id) == outcome.task_id
            assert all(settled.payments)
            shown = await client.show(outcome.task_id)
            assert shown["paid"] == str(sum(settled.payments))
