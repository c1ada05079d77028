"""Whole tasks under exact/1: three nodes, a chain and a wire in memory."""

from __future__ import annotations

from pathlib import Path

import trio.testing

from deai.lifecycle import TaskState
from tests.node.support import open_world, until


async def test_three_nodes_and_a_client_complete_a_task(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_world(tmp_path) as world:
        nodes = [await world.provider(f"node-{i}") for i in range(3)]
        client = await world.client()
        task, spec = client.make(b"hello")
        name = await client.engage(nodes, task, spec)
        await client.assigned(nodes, name)
        for node in nodes:
            await client.send_input(node, name, b"hello")
        await client.relay_commits(task, [0, 1, 2])
        await client.relay_openings(nodes, name, [0, 1, 2])
        await until(lambda: client.heard[name, 0].output == b"HELLO")
        await client.finalise(task)
        assert world.view(name).state is TaskState.COMPLETED
        await until(lambda: not any(node.live.engagements for node in nodes))
        day = (await nodes[0].live.ports.journal.days())[0]
        settlement = world.view(name).attempt(0).settlement
        assert settlement is not None
        assert day.paid == settlement.payment > 0
