"""The WebSocket: every event once and in order, resumable, and never more than it may cost."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from coordinator.api import live
from tests.coordinator.support import Running, running
from tests.coordinator.world import Chain
from tests.support.polling import eventually

pytestmark = pytest.mark.network


@pytest.fixture
async def coordinator(tmp_path: Path) -> AsyncIterator[Running]:
    chain = Chain(6)
    async with running(tmp_path, chain) as started:
        await started.settle()
        yield started


def address(coordinator: Running, query: str = "") -> str:
    return coordinator.url.replace("http", "ws") + "/api/v1/ws" + query


class Client:
    """A WebSocket client, each call in a thread of its own."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def get_message(self) -> str:
        text = await trio.to_thread.run_sync(lambda: self._connection.recv(timeout=120))
        assert isinstance(text, str)
        return text

    async def send_message(self, text: str) -> None:
        await trio.to_thread.run_sync(self._connection.send, text)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Client]:
    connection = await trio.to_thread.run_sync(
        lambda: connect(url, proxy=None, open_timeout=60, ping_timeout=None)
    )
    try:
        yield Client(connection)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(connection.close)


async def read(client: Client) -> dict[str, Any]:
    with trio.fail_after(90):
        found: dict[str, Any] = json.loads(await client.get_message())
    return found


async def read_until_task(client: Client, task_id: str, status: str) -> list[Any]:
    found = []
    while True:
        found.append(await read(client))
        data = found[-1]["data"]
        if data.get("task_id") == task_id and data["status"] == status:
            return found


async def close_of(client: Client) -> tuple[int, str]:
    """Read until the server closes; code and reason."""
    with trio.fail_after(90):
        while True:
            try:
                await client.get_message()
            except ConnectionClosed as error:
                closed = error.rcvd
                break
    assert closed is not None
    return closed.code, closed.reason


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
    async with opened(address(coordinator)) as client:
        task = run_task(coordinator)
        told = await read_until_task(client, task, "completed")
    updates = [one for one in told if one["event"] == "task_update"]
    assert [one["data"]["status"] for one in updates] == [
        "pending", "assigned", "in_progress", "in_progress", "in_progress", "completed",
    ]  # fmt: skip
    assert all(
        set(one["data"]) == {"task_id", "chain", "status", "progress", "estimated_completion"}
        for one in updates
    )
    assert all(set(one) == {"seq", "event", "data"} for one in told)


async def test_the_figures_of_the_network_come_every_second(coordinator: Running) -> None:
    async with opened(address(coordinator)) as client:
        await client.send_message('{"subscribe": ["network_stats"]}')
        first = await read(client)
        while first["event"] != "network_stats":
            first = await read(client)
        second = await read(client)
    assert second["event"] == "network_stats"
    assert second["seq"] > first["seq"]
    assert {"active_nodes", "pending_tasks", "throughput"} <= set(second["data"])


async def test_resuming_leaves_no_gap_and_repeats_nothing(coordinator: Running) -> None:
    async with opened(address(coordinator)) as whole:
        async with opened(address(coordinator)) as part:
            first = run_task(coordinator)
            before = await read_until_task(part, first, "in_progress")
        last = run_task(coordinator)
        run_task(coordinator)
        query = f"?cursor={before[-1]['seq']}"
        async with opened(address(coordinator, query)) as part:
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
    async with opened(address(coordinator, "?cursor=0")) as client:
        await client.send_message('{"subscribe": ["task_update"]}')
        told = await read_until_task(client, tasks[-1], "completed")
    done = [one["data"]["task_id"] for one in told if one["data"].get("status") == "completed"]
    assert done == tasks
    assert [one["seq"] for one in told] == sorted({one["seq"] for one in told})


@pytest.mark.parametrize("cursor", ["x", "-1", "1.5", "9" * 40, "999999999", "%00"])
async def test_a_cursor_that_this_feed_never_gave_is_refused(
    coordinator: Running, cursor: str
) -> None:
    async with opened(address(coordinator, f"?cursor={cursor}")) as client:
        code, reason = await close_of(client)
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
    async with opened(address(coordinator)) as client:
        await client.send_message(message)
        code, _ = await close_of(client)
    assert code == live.REFUSED


async def test_a_message_that_is_too_long_ends_the_connection(coordinator: Running) -> None:
    async with opened(address(coordinator)) as client:
        await client.send_message("x" * 100_000)
        code, _ = await close_of(client)
    assert code == 1009
    await coordinator.get("/health")


async def test_who_does_not_read_is_told_where_to_resume(
    coordinator: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "SEND_SECONDS", 4.0)  # who does read may stall for long
    chain = coordinator.chain
    idle = idle_subscriber(coordinator)
    async with opened(address(coordinator, "?cursor=0")) as reader:
        chain.mine()
        for _ in range(6_000):
            chain.post()
        last = chain.post()
        coordinator.ledger.grow()
        told = await read_until_task(reader, last.task_id, "pending")
        await eventually(lambda: dropped(coordinator))
    with idle:
        data = await trio.to_thread.run_sync(read_all, idle)
    frames = list(frames_of(data))
    opcode, payload = frames[-1]
    assert opcode == 8
    assert int.from_bytes(payload[:2], "big") == live.TRY_AGAIN
    resume = int(payload[2:].decode().rpartition(" ")[2])
    # A machine that is slow lets the server ping between the last event and the close.
    last_told = [payload for opcode, payload in frames if opcode == 1][-1]
    assert json.loads(last_told)["seq"] == resume < told[-1]["seq"]
    async with opened(address(coordinator, f"?cursor={resume}")) as client:
        assert (await read(client))["seq"] == resume + 1


def idle_subscriber(coordinator: Running) -> socket.socket:
    """Subscribed, with little room to receive, and not reading."""
    where = urlsplit(coordinator.url)
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.settimeout(60)
    made.connect((where.hostname, where.port))
    made.sendall(
        b"GET /api/v1/ws?cursor=0 HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
        b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    return made


def read_all(connection: socket.socket) -> bytes:
    found = b""
    while True:
        try:
            piece = connection.recv(65536)
        except OSError:
            return found
        if not piece:
            return found
        found += piece
        if b"too slow: resume from" in piece:
            return found


def frames_of(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Unmasked frames of a server after its handshake."""
    at = data.index(b"\r\n\r\n") + 4
    while at < len(data):
        opcode, length = data[at] & 15, data[at + 1]
        at += 2
        if length == 126:
            length = int.from_bytes(data[at : at + 2], "big")
            at += 2
        yield opcode, data[at : at + length]
        at += length


async def dropped(coordinator: Running) -> bool:
    text = (await coordinator.http.get(coordinator.document["metrics_url"])).text
    return "deai_coordinator_websockets_dropped_total 1.0" in text


async def test_stopping_does_not_wait_for_subscribers(tmp_path: Path) -> None:
    with trio.fail_after(120):
        async with running(tmp_path, Chain(7)) as coordinator:
            await coordinator.settle()
            async with opened(address(coordinator)) as client:
                with trio.CancelScope(shield=True):
                    coordinator.scope.cancel()
                    # It is the server that hangs up; this side would stay for ever.
                    await close_of(client)
