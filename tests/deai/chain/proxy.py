"""A JSON-RPC proxy that misbehaves in front of a real chain."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
import msgspec
import trio

from deai.hashing import keccak
from deai.ids import hexed

PASS = object()
"""What a fault returns to let the chain answer."""


class Broken(Exception):
    """The connection is cut."""


class Status(Exception):
    """An HTTP status instead of an answer."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


Fault = Callable[[dict[str, Any]], Awaitable[object]]
Tamper = Callable[[dict[str, Any], Any], Any]


async def healthy(_: dict[str, Any]) -> object:
    return PASS


class Proxy:
    """Forwards to `target`.

    `gate` may fail an exchange, `fault` may answer a request instead, `tamper` may change an
    answer.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.url = ""
        self.fault: Fault = healthy
        self.gate: Callable[[], None] = lambda: None
        self.tamper: Tamper = lambda request, result: result
        self.asked: Counter[str] = Counter()

    async def serve(self, stream: trio.SocketStream, http: httpx.AsyncClient) -> None:
        received = bytearray()
        try:
            while (body := await _read_request(stream, received)) is not None:
                await stream.send_all(await self._answer(body, http))
        except (Broken, trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await trio.aclose_forcefully(stream)

    async def _answer(self, body: bytes, http: httpx.AsyncClient) -> bytes:
        parsed: Any = msgspec.json.decode(body)
        requests = parsed if isinstance(parsed, list) else [parsed]
        try:
            self.gate()
            answers = [await self._one(request, http) for request in requests]
        except Status as status:
            return f"HTTP/1.1 {status.status} no\r\ncontent-length: 0\r\n\r\n".encode()
        content = msgspec.json.encode(answers if isinstance(parsed, list) else answers[0])
        head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(content)}\r\n"
        return head.encode() + b"content-type: application/json\r\n\r\n" + content

    async def _one(self, request: dict[str, Any], http: httpx.AsyncClient) -> dict[str, Any]:
        self.asked[request["method"]] += 1
        result = await self.fault(request)
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": request["id"]}
        if result is not PASS:
            return (
                {**answer, **result} if isinstance(result, dict) else {**answer, "result": result}
            )
        answer = (await http.post(self.target, json=request)).json()
        if "result" in answer:
            answer["result"] = self.tamper(request, answer["result"])
        return answer


@asynccontextmanager
async def open_proxy(target: str) -> AsyncIterator[Proxy]:
    """A proxy on a port of its own."""
    proxy = Proxy(target)
    async with (
        httpx.AsyncClient(trust_env=False, timeout=30) as http,
        trio.open_nursery() as beside,
    ):
        listeners = await beside.start(
            partial(trio.serve_tcp, lambda stream: proxy.serve(stream, http), 0, host="127.0.0.1")
        )
        proxy.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        yield proxy
        beside.cancel_scope.cancel()


async def _read_request(stream: trio.SocketStream, received: bytearray) -> bytes | None:
    while b"\r\n\r\n" not in received:
        if not (piece := await stream.receive_some()):
            return None
        received += piece
    head, _, _ = bytes(received).partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1])
        for line in head.lower().split(b"\r\n")
        if line.startswith(b"content-length:")
    )
    end = len(head) + 4 + length
    while len(received) < end:
        received += await stream.receive_some()
    body = bytes(received[len(head) + 4 : end])
    del received[:end]
    return body


# --- faults --------------------------------------------------------------------------------------


async def down(_: dict[str, Any]) -> object:
    raise Broken


async def failing(_: dict[str, Any]) -> object:
    raise Status(500)


async def busy(_: dict[str, Any]) -> object:
    return {"error": {"code": -32005, "message": "rate limit exceeded"}}


def slow(seconds: float) -> Fault:
    async def fault(_: dict[str, Any]) -> object:
        await trio.sleep(seconds)
        return PASS

    return fault


def swallowing(request: dict[str, Any]) -> str:
    """The hash of a transaction that is accepted and forgotten."""
    return hexed(keccak(bytes.fromhex(request["params"][0][2:])))


def lossy(proxy: Proxy, errors: float, losses: float, seed: int = 1) -> None:
    """Fail some exchanges, and forget some transactions that were accepted."""
    chance = random.Random(seed)

    def gate() -> None:
        if chance.random() < errors:
            raise chance.choice([Broken(), Status(503)])

    async def fault(request: dict[str, Any]) -> object:
        if request["method"] == "eth_sendRawTransaction" and chance.random() < losses:
            return swallowing(request)
        return PASS

    proxy.gate, proxy.fault = gate, fault


def forgetting(count: int) -> Fault:
    """Forgets the first `count` transactions that it is sent."""
    left = [count]

    async def fault(request: dict[str, Any]) -> object:
        if request["method"] == "eth_sendRawTransaction" and left[0] > 0:
            left[0] -= 1
            return swallowing(request)
        return PASS

    return fault
