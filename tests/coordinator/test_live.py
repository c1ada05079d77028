"""The WebSocket: every event once and in order, resumable, and never more than it may cost."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket_url

from coordinator.api import live
from tests.coordinator.support import Running, running
from tests.coordinator.world import Chain

pytestmark = pytest.mark.network


@pytest.fixture
async def coordinator(tmp_path: Path) -> AsyncIterator[Running]:
    chain = Chain(6)
    async with running(tmp_path, chain) as started:
        await started.settle()
        yield started


def address(coordinator: Running, query: str = "") -> str:
    return coordinator.url.replace("http", "ws") + "/api/v1/ws" + query


async def read(socket: WebSocketConnection) -> dict[str, Any]:
    with trio.fail_after(10):
        found: dict[str, Any] = json.loads(await socket.get_message())
    return found


async def read_until_task(socket: WebSocketConnection, task_id: str, status: str) -> list[Any]:
    found = []
    while True:
        found.append(await read(socket))
        data = found[-1]["data"]
        if data.get("task_id") == task_id and data["status"] == status:
            return found


async def close_of(socket: WebSocketConnection) -> tuple[int, str]:
    """Read until the server closes; code and reason."""
    with trio.fail_after(30):
        try:
            while True:
                await socket.get_message()
        except ConnectionClosed as closed:
            assert closed.reason is not None
            return closed.reason.code, closed.reason.reason or ""


def run_task(coordinator: Running) -> str:
    chain = coordinator.chain
    chain.mine()
    opened = chain.post()
    chain.assign(opened)
    for seat in range(3):
        chain.commit(opened, seat)
    chain.finalise(opened)
    coordinator.ledger.grow()
    return opened.task_id


async def test_a_task_is_told_step_by_step(coordinator: Running) -> None:
    async with open_websocket_url(address(coordinator)) as socket:
        task = run_task(coordinator)
        told = await read_until_task(socket, task, "completed")
    updates = [one for one in told if one["event"] == "task_update"]
    assert [one["data"]["status"] for one in updates] == [
        "pending", "assigned", "in_progress", "in_progress", "in_progress", "completed",
    ]  # fmt: skip
    assert all(
        set(one["data"]) == {"task_id", "status", "progress", "estimated_completion"}
        for one in updates
    )
    assert all(set(one) == {"seq", "event", "data"} for one in told)


async def test_the_figures_of_the_network_come_every_second(coordinator: Running) -> None:
    async with open_websocket_url(address(coordinator)) as socket:
        await socket.send_message('{"subscribe": ["network_stats"]}')
        first = await read(socket)
        while first["event"] != "network_stats":
            first = await read(socket)
        second = await read(socket)
    assert second["event"] == "network_stats"
    assert second["seq"] > first["seq"]
    assert {"active_nodes", "pending_tasks", "throughput"} <= set(second["data"])


async def test_resuming_leaves_no_gap_and_repeats_nothing(coordinator: Running) -> None:
    async with open_websocket_url(address(coordinator)) as whole:
        async with open_websocket_url(address(coordinator)) as part:
            first = run_task(coordinator)
            before = await read_until_task(part, first, "in_progress")
        last = run_task(coordinator)
        run_task(coordinator)
        query = f"?cursor={before[-1]['seq']}"
        async with open_websocket_url(address(coordinator, query)) as part:
            after = await read_until_task(part, last, "completed")
        expected = await read_until_task(whole, last, "completed")
    resumed = {one["seq"]: one for one in before + after}
    assert len(resumed) == len(before) + len(after)
    start = before[0]["seq"]
    assert [resumed[one["seq"]] for one in expected if one["seq"] >= start] == [
        one for one in expected if one["seq"] >= start
    ]
    numbers = sorted(resumed)
    assert numbers == list(range(numbers[0], numbers[-1] + 1))


async def test_the_whole_history_can_be_read_from_the_start(coordinator: Running) -> None:
    tasks = [run_task(coordinator) for _ in range(60)]
    await coordinator.settle()
    async with open_websocket_url(address(coordinator, "?cursor=0")) as socket:
        await socket.send_message('{"subscribe": ["task_update"]}')
        told = await read_until_task(socket, tasks[-1], "completed")
    done = [one["data"]["task_id"] for one in told if one["data"].get("status") == "completed"]
    assert done == tasks
    assert [one["seq"] for one in told] == sorted({one["seq"] for one in told})


@pytest.mark.parametrize("cursor", ["x", "-1", "1.5", "9" * 40, "999999999", "%00"])
async def test_a_cursor_that_this_feed_never_gave_is_refused(
    coordinator: Running, cursor: str
) -> None:
    async with open_websocket_url(address(coordinator, f"?cursor={cursor}")) as socket:
        code, reason = await close_of(socket)
    assert code == live.REFUSED
    assert "cursor" in reason


@pytest.mark.parametrize(
    "message",
    ["", "hello", "{}", '{"subscribe": 1}', '{"subscribe": ["all"]}', "[" * 1000,
     '{"subscribe": [], "more": 1}'],
)  # fmt: skip
async def test_a_message_that_means_nothing_ends_the_connection(
    coordinator: Running, message: str
) -> None:
    async with open_websocket_url(address(coordinator)) as socket:
        await socket.send_message(message)
        code, _ = await close_of(socket)
    assert code == live.REFUSED


async def test_a_message_that_is_too_long_ends_the_connection(coordinator: Running) -> None:
    async with open_websocket_url(address(coordinator)) as socket:
        await socket.send_message("x" * 100_000)
        code, _ = await close_of(socket)
    assert code == 1009
    await coordinator.get("/health")


async def test_who_does_not_read_is_told_where_to_resume(
    coordinator: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "SEND_SECONDS", 0.5)
    chain = coordinator.chain
    fast = open_websocket_url(address(coordinator, "?cursor=0"))
    slow = open_websocket_url(
        address(coordinator, "?cursor=0"), message_queue_size=1, receive_buffer_size=1024
    )
    async with fast as reader, slow as idle:
        for _ in range(40):
            for _ in range(150):
                chain.post()
            chain.mine()
        last = chain.post()
        coordinator.ledger.grow()
        told = await read_until_task(reader, last.task_id, "pending")
        with trio.fail_after(30):
            while not await dropped(coordinator):
                await trio.sleep(0.2)
        code, reason = await close_of(idle)
    assert code == live.TRY_AGAIN
    resume = int(reason.rpartition(" ")[2])
    assert resume < told[-1]["seq"]
    async with open_websocket_url(address(coordinator, f"?cursor={resume}")) as socket:
        rest = await read_until_task(socket, last.task_id, "pending")
    assert rest[0]["seq"] == resume + 1


async def dropped(coordinator: Running) -> bool:
    text = (await coordinator.http.get(coordinator.document["metrics_url"])).text
    return "deai_coordinator_websockets_dropped_total 1.0" in text


async def test_stopping_does_not_wait_for_subscribers(tmp_path: Path) -> None:
    with trio.fail_after(20):
        async with running(tmp_path, Chain(7)) as coordinator:
            await coordinator.settle()
            async with open_websocket_url(address(coordinator)):
                started = trio.current_time()
                coordinator.scope.cancel()
                with trio.CancelScope(shield=True):
                    await trio.sleep(0)
        assert trio.current_time() - started < 6
