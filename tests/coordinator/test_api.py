"""The API of a coordinator that was really started, over real sockets."""

from __future__ import annotations

from pathlib import Path

import pydantic
import pytest

from coordinator.api import models
from tests.coordinator.support import running
from tests.coordinator.world import Chain


async def test_every_answer_is_what_the_description_promises(tmp_path: Path) -> None:
    chain = Chain(3)
    chain.run(400)
    async with running(tmp_path, chain) as coordinator:
        await coordinator.settle()
        models.NetworkStats.model_validate(await coordinator.get("/api/v1/network/stats"))
        models.NetworkHealth.model_validate(await coordinator.get("/api/v1/network/health"))
        models.NodesStats.model_validate(await coordinator.get("/api/v1/nodes/stats"))
        models.Ready.model_validate(await coordinator.get("/ready"))
        models.Alive.model_validate(await coordinator.get("/health"))
        nodes = models.NodePage.model_validate(await coordinator.get("/api/v1/nodes", limit=2))
        node = await coordinator.get(f"/api/v1/nodes/{nodes.items[0].node_id}/status")
        models.NodeStatus.model_validate(node)
        for task in (await coordinator.get("/api/v1/tasks", limit=100))["items"]:
            models.TaskSummary.model_validate(task)
            shown = models.Task.model_validate(
                await coordinator.get(f"/api/v1/tasks/{task['task_id']}")
            )
            assert int(shown.escrowed) == sum(
                int(part) for part in (shown.held, shown.paid, shown.refunded, shown.protocol_fee)
            )


def test_a_model_refuses_what_it_does_not_describe() -> None:
    with pytest.raises(pydantic.ValidationError):
        models.Day.model_validate({"day": "2026-01-01", "earned": "1", "completed": 1, "more": 1})
