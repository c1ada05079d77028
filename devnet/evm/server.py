"""JSON-RPC over HTTP (``POST /``) and WebSocket (the same path), and the pace of the blocks.

Everything runs in one asyncio loop: a request is answered between two blocks, never during one.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from devnet.evm import params
from devnet.evm.blocks import Sealed
from devnet.evm.chain import Chain
from devnet.evm.errors import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    PARSE_ERROR,
    RESPONSE_TOO_LARGE,
    RpcError,
    invalid_params,
    refused,
)
from devnet.evm.rpc import Rpc, failure, parse_request, request_id, success
from devnet.evm.rules import MAX_BATCH, MAX_BATCH_ANSWER_BYTES, MAX_BODY_BYTES
from devnet.serving import OnFailure, StorageFailed, at_a_pace, body_of

MAX_SUBSCRIPTIONS: Final = 32  # per connection
MAX_UNSENT: Final = 4_096  # messages per connection; a reader that slow is cut off
EXECUTING_SHARE: Final = 0.75  # of the block time; the rest answers requests
PAUSE_EVERY_S: Final = 0.02  # a long batch lets others in this often
SEND_S: Final = 10  # for one message
POLICY_VIOLATION: Final = 1008


class Answers:
    """Turns message bytes into answer bytes, one request or a batch."""

    def __init__(self, rpc: Rpc) -> None:
        self.rpc = rpc

    async def to(self, message: bytes) -> bytes | None:
        """Return the answer to a message; None if it holds only notifications."""
        try:
            body = _decoded(message)
        except RpcError as error:
            return failure(None, error)
        if not isinstance(body, list):
            return self.rpc.answer(body)
        return await self._batch(body)

    async def _batch(self, batch: list[object]) -> bytes | None:
        if not batch:
            return failure(None, RpcError(INVALID_REQUEST, "empty batch"))
        if len(batch) > MAX_BATCH:
            return failure(None, RpcError(INVALID_REQUEST, f"batch too large, at most {MAX_BATCH}"))
        answers: list[bytes] = []
        size = 0
        loop = asyncio.get_running_loop()
        last_pause = loop.time()
        for request in batch:
            if size > MAX_BATCH_ANSWER_BYTES:
                error = RpcError(RESPONSE_TOO_LARGE, "response too large")
                answers.append(failure(request_id(request), error))
                continue
            answer = self.rpc.answer(request)
            if answer is not None:
                answers.append(answer)
                size += len(answer)
            if loop.time() - last_pause > PAUSE_EVERY_S:
                await asyncio.sleep(0)
                last_pause = loop.time()
        return b"[" + b",".join(answers) + b"]" if answers else None


@dataclass
class Connection:
    """One WebSocket: its subscriptions and what waits to be sent."""

    rpc: Rpc
    unsent: asyncio.Queue[bytes] = field(default_factory=lambda: asyncio.Queue(MAX_UNSENT))
    heads: set[str] = field(default_factory=set)
    logs: dict[str, params.LogFilter] = field(default_factory=dict)
    overrun: bool = False
    _last: int = 0

    def send(self, message: bytes) -> None:
        """Queue a message; a connection that does not keep up is marked for closing."""
        try:
            self.unsent.put_nowait(message)
        except asyncio.QueueFull:
            self.overrun = True

    def subscription(self, request: object) -> bytes | None:
        """Answer ``eth_subscribe`` and ``eth_unsubscribe``; None for every other method."""
        call = parse_request(request)
        if isinstance(call, RpcError) or call[0] not in {"eth_subscribe", "eth_unsubscribe"}:
            return None
        name, arguments, _ = call
        act = self._subscribe if name == "eth_subscribe" else self._unsubscribe
        try:
            return success(request_id(request), act(arguments))
        except RpcError as error:
            return failure(request_id(request), error)

    def announce(self, block: Sealed) -> None:
        """Queue what the subscriptions want to know of a new block."""
        for identity in self.heads:
            self._notify(identity, block.header)
        for identity, wanted in self.logs.items():
            for log in block.logs:
                if _matches(wanted, log.address, log.topics):
                    self._notify(identity, log.body)

    def _subscribe(self, arguments: list[object]) -> str:
        if len(self.heads) + len(self.logs) >= MAX_SUBSCRIPTIONS:
            raise refused(f"more than {MAX_SUBSCRIPTIONS} subscriptions on one connection")
        kind = arguments[0] if arguments else None
        if kind not in ("newHeads", "logs"):
            raise invalid_params("no such subscription: newHeads and logs exist")
        wanted = params.log_filter(arguments[1] if len(arguments) > 1 else {})
        self._last += 1
        identity = hex(self._last)
        if kind == "newHeads":
            self.heads.add(identity)
        else:
            self.logs[identity] = wanted
        return identity

    def _unsubscribe(self, arguments: list[object]) -> bool:
        identity = arguments[0] if len(arguments) == 1 else None
        if not isinstance(identity, str):
            raise invalid_params("one subscription id expected")
        if identity in self.heads:
            self.heads.remove(identity)
            return True
        if self.logs.pop(identity, None) is None:
            raise refused("subscription not found")
        return True

    def _notify(self, identity: str, result: bytes) -> None:
        body = {"subscription": identity, "result": msgspec.Raw(result)}
        self.send(
            msgspec.json.encode({"jsonrpc": "2.0", "method": "eth_subscription", "params": body})
        )


def application(chain: Chain, failed: OnFailure) -> Starlette:
    """Return the ASGI application that serves ``chain``; ``failed`` must end the server."""
    answers = Answers(Rpc(chain))

    async def http(request: Request) -> Response:
        try:
            message = await body_of(request, MAX_BODY_BYTES)
        except ClientDisconnect:
            return Response(status_code=400)
        if message is None:
            error = RpcError(INVALID_REQUEST, f"request too large, at most {MAX_BODY_BYTES} bytes")
            return Response(failure(None, error), 413, media_type="application/json")
        try:
            answer = await answers.to(message)
        except StorageFailed as error:
            failed(error)
            told = failure(None, RpcError(INTERNAL_ERROR, str(error)))
            return Response(told, 500, media_type="application/json")
        return Response(answer or b"", media_type="application/json")

    async def websocket(socket: WebSocket) -> None:
        await socket.accept()
        connection = Connection(answers.rpc)
        chain.watchers.append(connection.announce)
        sender = asyncio.create_task(_send_all(socket, connection))
        try:
            await _receive_all(socket, connection, answers)
        except StorageFailed as error:
            failed(error)
        finally:
            chain.watchers.remove(connection.announce)
            sender.cancel()

    return Starlette(
        routes=[Route("/", http, methods=["POST"]), WebSocketRoute("/", websocket)],
    )


async def produce_blocks(chain: Chain, block_time: float) -> None:
    """Make a block every ``block_time`` seconds until cancelled; raise :class:`StorageFailed`."""
    budget = block_time * EXECUTING_SHARE
    await at_a_pace(block_time, lambda: chain.mine(budget=budget))


async def _receive_all(socket: WebSocket, connection: Connection, answers: Answers) -> None:
    while True:
        received = await socket.receive()
        if received["type"] == "websocket.disconnect":
            return
        # web3.py sends its requests as binary frames.
        text = received.get("text")
        message: bytes = text.encode() if text is not None else received.get("bytes") or b""
        answer = _subscription(message, connection) or await answers.to(message)
        if answer is not None:
            connection.send(answer)


def _subscription(message: bytes, connection: Connection) -> bytes | None:
    if b"subscribe" not in message:
        return None
    try:
        return connection.subscription(_decoded(message))
    except RpcError as error:
        return failure(None, error)


def _decoded(message: bytes) -> object:
    try:
        return msgspec.json.decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RpcError(PARSE_ERROR, "parse error") from error


async def _send_all(socket: WebSocket, connection: Connection) -> None:
    try:
        while True:
            message = await connection.unsent.get()
            if connection.overrun:
                await socket.close(POLICY_VIOLATION, "too slow")
                return
            async with asyncio.timeout(SEND_S):
                await socket.send_text(message.decode())
    except TimeoutError:
        await socket.close(POLICY_VIOLATION, "too slow")
    except (WebSocketDisconnect, RuntimeError):
        return  # the other side has gone; the receiving half ends by itself


def _matches(wanted: params.LogFilter, address: bytes, topics: tuple[bytes, ...]) -> bool:
    if wanted.addresses and address not in wanted.addresses:
        return False
    if len(topics) < len(wanted.topics):
        return False
    return all(
        not accepted or topic in accepted
        for accepted, topic in zip(wanted.topics, topics, strict=False)
    )
