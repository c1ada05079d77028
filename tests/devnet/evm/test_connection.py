"""A WebSocket reader that does not keep up."""

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest
from starlette.websockets import WebSocket

from devnet.evm.rpc import Rpc
from devnet.evm.server import MAX_UNSENT, POLICY_VIOLATION, Connection, _send_all
from tests.devnet.evm.tools import a_chain

pytestmark = pytest.mark.slow


class RecordingSocket:
    """The sending half of a WebSocket."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.closed: int | None = None

    async def send_text(self, text: str) -> None:
        self.sent.append(text)

    async def close(self, code: int, _reason: str) -> None:
        self.closed = code


def subscribe() -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"]}


def test_what_waits_for_a_slow_reader_is_bounded_and_it_is_cut_off(tmp_path: Path) -> None:
    with a_chain(tmp_path) as chain:
        connection = Connection(Rpc(chain))
        assert b"result" in (connection.subscription(subscribe()) or b"")
        chain.watchers.append(connection.announce)
        chain.mine_many(MAX_UNSENT)
        overrun_before = connection.overrun
        chain.mine()
        assert (overrun_before, connection.overrun) == (False, True)
        assert connection.unsent.qsize() == MAX_UNSENT
    socket = RecordingSocket()
    asyncio.run(_send_all(cast("WebSocket", socket), connection))
    assert (socket.sent, socket.closed) == ([], POLICY_VIOLATION)


def test_a_reader_that_keeps_up_gets_every_head_in_order(tmp_path: Path) -> None:
    with a_chain(tmp_path) as chain:
        connection = Connection(Rpc(chain))
        connection.subscription(subscribe())
        chain.watchers.append(connection.announce)
        chain.mine_many(3)
    socket = RecordingSocket()

    async def send() -> None:
        sending = asyncio.create_task(_send_all(cast("WebSocket", socket), connection))
        while not connection.unsent.empty():
            await asyncio.sleep(0)
        sending.cancel()

    asyncio.run(send())
    numbers = [f'"number":"{hex(number)}"' for number in (1, 2, 3)]
    assert len(socket.sent) == 3
    assert all(number in text for number, text in zip(numbers, socket.sent, strict=True))
