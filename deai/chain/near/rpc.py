"""One NEAR endpoint: py-near's provider with a time limit, bounded answers, errors told apart.

Of py-near's provider only the request itself is used (`call_rpc_request`, one URL each): its
failover never leaves an endpoint that hangs, it reads answers of any size, and its typed errors
raise `KeyError` where an error has no `data` and lose the ones that nearcore writes as plain text.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import msgspec
import trio
from loguru import logger
from py_near.providers import JsonProvider

from deai.chain.near.loop import AsyncioLoop, open_loop
from deai.chain.pool import AnswerError, EndpointFailed, Pool, Request
from deai.errors import MalformedMessage

MAX_ANSWER_BYTES: Final = 32 << 20
MAX_AT_ONCE: Final = 16
TRIES: Final = 4
FINAL: Final = {"finality": "final"}
_LOCAL: Final = frozenset({"127.0.0.1", "localhost", "::1"})
# Answers that mean "ask again, maybe elsewhere"; all others are answers.
_BUSY: Final = frozenset({
    "TIMEOUT_ERROR", "INTERNAL_ERROR", "NO_SYNCED_BLOCKS", "NOT_SYNCED_YET", "UNAVAILABLE_SHARD",
    "DOES_NOT_TRACK_SHARD", "REQUEST_ROUTED", "RPC_ERROR",
})  # fmt: skip
_HTTP: Final = "RPC_ERROR"
"""The name under which py-near hides an answer whose HTTP status is not 200."""

logger.disable("py_near")  # it logs every failed request as an error; we count and tell them


class RpcError(AnswerError):
    """An answer that is an error; `name` is nearcore's cause, `info` and `data` belong to it."""

    def __init__(self, name: str, info: object, data: object) -> None:
        super().__init__(f"{name}: {str(data)[:200]}")
        self.name: Final = name
        self.info: Final = info
        self.data: Final = data

    @property
    def invalid(self) -> object:
        """Nearcore's `InvalidTxError`, None if this is something else."""
        for place in (self.data, self.info):
            inner = place.get("TxExecutionError") if isinstance(place, dict) else None
            if isinstance(inner, dict) and "InvalidTxError" in inner:
                return inner["InvalidTxError"]
        return None


class _Bounded(aiohttp.ClientResponse):
    """An answer that is given up when it is too large."""

    async def read(self) -> bytes:
        if self._body is None:
            received = bytearray()
            async for piece in self.content.iter_any():
                received += piece
                if len(received) > MAX_ANSWER_BYTES:
                    self.close()
                    raise aiohttp.ClientPayloadError("its answer is too large")
            self._body = bytes(received)
        return self._body


class Endpoint:
    """One URL; `number` is its place in the configuration.

    The URL may carry a key, so no text of ours shows more of it than the host.
    """

    def __init__(self, number: int, url: str, loop: AsyncioLoop, *, timeout: float) -> None:
        self._number = number
        self.host: Final = urlsplit(url).hostname or "?"
        self._loop = loop
        self._timeout = timeout
        self._provider = JsonProvider(url)
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"Endpoint({self.number}, {self.host})"

    @property
    def number(self) -> int:
        return self._number

    async def open(self) -> None:
        """Make the session ourselves: py-near's would wait 600 s and read without a bound."""

        async def make() -> aiohttp.ClientSession:
            return aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=MAX_AT_ONCE),
                response_class=_Bounded,
                trust_env=self.host not in _LOCAL,
            )

        self._session = await self._loop.run(make())
        self._provider._client = self._session  # noqa: SLF001 - it has no other way in

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._loop.run(self._session.close())

    async def batch(self, requests: Sequence[Request]) -> list[Any]:
        """Answers in the order of the requests, asked for at the same time.

        There are no batches on NEAR: some of many may fail, and those are asked again. An
        `RpcError` stands for an answer that is one. Raises `EndpointFailed`.
        """
        answers: dict[int, Any] = {}
        failed: EndpointFailed | None = None
        for attempt in range(TRIES):
            wanted = [place for place in range(len(requests)) if place not in answers]
            received = await self._loop.run(self._all([requests[place] for place in wanted]))
            for place, one in zip(wanted, received, strict=True):
                try:
                    answers[place] = self._read(one)
                except EndpointFailed as error:
                    failed = error
            if len(answers) == len(requests):
                return [answers[place] for place in range(len(requests))]
            if not answers:
                break  # not one got through: another endpoint may do
            await trio.sleep(0.05 * 2**attempt)
        raise failed if failed is not None else self._failed("it left a request unanswered")

    async def send(self, raw: bytes) -> Any:  # noqa: ANN401 - JSON
        """Hand a signed transaction over; an `RpcError` when no block may hold it.

        Returns when the transaction is in a block, or its status. Raises `EndpointFailed`.
        """
        parameters = {"signed_tx_base64": b64encode(raw).decode(), "wait_until": "INCLUDED"}
        (answer,) = await self.batch([("send_tx", parameters)])
        return answer

    async def tip(self) -> tuple[int, str]:
        """Height and hash of the newest final block; raises `EndpointFailed`."""
        (block,) = await self.batch([("block", FINAL)])
        header = block.get("header") if isinstance(block, dict) else None
        if not isinstance(header, dict) or not isinstance(header.get("height"), int):
            raise MalformedMessage("not a block")
        return header["height"], str(header.get("hash"))

    async def hashes(self, numbers: Sequence[int]) -> list[str | None]:
        """The hash of the block at each height; None where none was made or is kept."""
        blocks = await self.batch([("block", {"block_id": number}) for number in numbers])
        return [
            str(block["header"]["hash"])
            if isinstance(block, dict) and isinstance(block.get("header"), dict)
            else None
            for block in blocks
        ]

    async def _all(self, requests: Sequence[Request]) -> list[Any]:
        found: list[Any] = []
        for start in range(0, len(requests), MAX_AT_ONCE):
            some = requests[start : start + MAX_AT_ONCE]
            found += await asyncio.gather(*(self._one(name, given) for name, given in some))
        return found

    async def _one(self, method: str, parameters: object) -> Any:  # noqa: ANN401 - JSON
        try:
            async with asyncio.timeout(self._timeout):
                return await self._provider.call_rpc_request(method, parameters)
        except TimeoutError:
            return None

    def _read(self, answer: object) -> Any:  # noqa: ANN401 - JSON
        if not isinstance(answer, dict):
            raise self._failed("no answer in time, or one that is no JSON")
        error = answer.get("error")
        if error is None:
            if "result" not in answer:
                raise self._failed("its answer has no result")
            return answer["result"]
        return self._read_error(error)

    def _read_error(self, error: object) -> RpcError:
        if not isinstance(error, dict):
            raise self._failed("its error has no form")
        cause = error.get("cause")
        cause = cause if isinstance(cause, dict) else {}
        name, data = str(cause.get("name", "")), error.get("data")
        if name == _HTTP and isinstance(data, str) and (inner := _inner_error(data)) is not None:
            return self._read_error(inner)  # nearcore's own error, under a status like 408
        if name in _BUSY or not name:
            told = cause.get("message") or error.get("message") or name
            raise self._failed(str(told)[:100])
        return RpcError(name, cause.get("info"), data)

    def _failed(self, why: str) -> EndpointFailed:
        return EndpointFailed(f"endpoint {self.number} ({self.host}): {why}")


def _inner_error(text: str) -> dict[str, Any] | None:
    try:
        body = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict) or not isinstance(error.get("cause"), dict):
        return None
    return error if error["cause"].get("name") != _HTTP else None


@asynccontextmanager
async def open_pool(urls: Sequence[str], *, timeout: float) -> AsyncIterator[Pool]:
    """The endpoints behind `urls`, in the order of trust when they contradict each other."""
    async with open_loop() as loop:
        endpoints = [
            Endpoint(number, url, loop, timeout=timeout) for number, url in enumerate(urls, 1)
        ]
        for endpoint in endpoints:
            await endpoint.open()
        try:
            yield Pool(endpoints)
        finally:
            with trio.CancelScope(shield=True):
                for endpoint in endpoints:
                    await endpoint.aclose()
