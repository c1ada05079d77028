"""A node that is paid by vouchers, and whoever talks to it."""

from __future__ import annotations

from pathlib import Path

from trio.testing import MockClock

from deai.lane.messages import Agreed, Welcome
from tests.node.lane.support import lane_client, lane_provider
from tests.node.support.world import open_world


async def test_tasks_are_computed_paid_and_acknowledged(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    autojump_clock.autojump_threshold = 0.02
    async with open_world(tmp_path) as world:
        node = await lane_provider(world)
        async with lane_client(world, node) as client:
            assert isinstance(await client.connect(), Welcome)
            assert isinstance(await client.agree(), Agreed)
            ids = await client.work_off(*[b"task %d" % i for i in range(300)])
            assert [client.outputs[i] for i in ids] == [b"TASK %d" % i for i in range(300)]
            assert client.halts == []
