"""JSON-RPC over HTTP (``POST /``), and the pace of the blocks.

Everything runs in one asyncio loop: a request is answered between two blocks, never during one.
"""

import asyncio
from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from devnet.near.chain import Chain
from devnet.near.errors import internal_error, parse_error
from devnet.near.rpc import Answer, Rpc, failure
from devnet.serving import OnFailure, StorageFailed, at_a_pace, body_of

MAX_BODY_BYTES: Final = 10 << 20  # nearcore's
EXECUTING_SHARE: Final = 0.75  # of the block time; the rest answers requests
ON_DEMAND_BUDGET_S: Final = 0.2  # of executing at a time, when blocks are made on demand


def application(rpc: Rpc, failed: OnFailure) -> Starlette:
    """Return the ASGI application that serves ``rpc``; ``failed`` must end the server."""

    async def http(request: Request) -> Response:
        try:
            message = await body_of(request, MAX_BODY_BYTES)
        except ClientDisconnect:
            return Response(status_code=400)
        if message is None:
            error = parse_error(f"request too large, at most {MAX_BODY_BYTES} bytes")
            told = Answer(failure(None, error).body, 413)
        else:
            told = await _answer(rpc, message, failed)
        return Response(told.body, told.status, media_type="application/json")

    async def status(_request: Request) -> Response:
        return Response(msgspec.json.encode(rpc.status()), media_type="application/json")

    return Starlette(
        routes=[Route("/", http, methods=["POST"]), Route("/status", status, methods=["GET"])]
    )


async def produce_blocks(chain: Chain, block_time: float, work: asyncio.Event) -> None:
    """Make a block every ``block_time`` seconds, or (0) as soon as ``work`` is set.

    Ends when cancelled; raises :class:`StorageFailed`.
    """
    if block_time:
        budget = block_time * EXECUTING_SHARE
        await at_a_pace(block_time, lambda: chain.produce(budget=budget))
    else:
        await _on_demand(chain, work)


async def _on_demand(chain: Chain, work: asyncio.Event) -> None:
    while True:
        if not chain.is_busy:
            await work.wait()
        work.clear()
        # Whoever else has sent by now is in the same block.
        await asyncio.sleep(0)
        chain.settle(budget=ON_DEMAND_BUDGET_S)


async def _answer(rpc: Rpc, message: bytes, failed: OnFailure) -> Answer:
    try:
        request = msgspec.json.decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return failure(None, parse_error("Failed to parse the request as JSON"))
    try:
        return await rpc.answer(request)
    except StorageFailed as error:
        failed(error)
        return failure(None, internal_error(str(error)))
