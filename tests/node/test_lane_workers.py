"""The lane over real locked workers, in real time."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from deai.codec import encode_value
from deai.lane.messages import Agreed, Welcome
from node.config import NodeConfig
from tests.node.lane.support import PRICE, lane_client, lane_provider
from tests.node.support.world import CONFIG, open_world
from workloads.pool import PoolConfig, open_worker_pool

pytestmark = pytest.mark.slow


async def test_tasks_cross_into_a_locked_worker_and_are_paid(tmp_path: Path) -> None:
    pool_config = PoolConfig(
        models=tmp_path,
        workloads=("odd",),
        extra=("tests.workloads.odd:SPEC",),
        memory_bytes=256 << 20,
    )
    config: NodeConfig = msgspec.structs.replace(CONFIG, min_sandbox="none", listen_for_twin=0.1)
    async with open_worker_pool(pool_config) as pool, open_world(tmp_path) as world:
        node = await lane_provider(world, bench=pool, config=config)
        async with lane_client(world, node) as client:
            assert isinstance(await client.connect(), Welcome)
            assert isinstance(
                await client.agree(workload="odd", parameters=encode_value({"mood": ""})), Agreed
            )
            inputs = [b"%d" % number for number in range(500)]
            ids = await client.work_off(*inputs)
            assert client.faults == {}
            assert [client.outputs[one] for one in ids] == inputs
            assert client.cumulative == 500 * PRICE
            (account,) = node.whole.book.entries.values()  # type: ignore[union-attr]
            assert account.promised == 500 * PRICE
