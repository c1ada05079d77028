"""One JSON-RPC endpoint over HTTP: batches, timeouts, bounded answers, errors told apart.

Either the endpoint failed (`EndpointFailed`: try another one, or again) or it answered; an
answer may itself be an error (`RpcError`), which is information and not a failure.
"""

from __future__ import annotations

import itertools
import ssl
from collections.abc import Sequence
from functools import cache
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import msgspec

from deai.chain.pool import AnswerError, EndpointFailed, Request
from deai.chain.sei.quantities import quantity
from deai.errors import MalformedMessage
from deai.ids import hexed

MAX_ANSWER_BYTES: Final = 32 << 20
MAX_BATCH: Final = 500
REVERTED: Final = 3
_LOCAL: Final = frozenset({"127.0.0.1", "localhost", "::1"})
# Answers that mean "ask again, maybe elsewhere"; all others are answers.
_BUSY: Final = (
    "rate limit", "too many requests", "timeout", "timed out", "header not found",
    "missing trie node", "temporarily", "overloaded", "mempool is full", "internal error",
)  # fmt: skip


class RpcError(AnswerError):
    """An answer that is an error; `number` is JSON-RPC's, `data` what a contract reverted with."""

    def __init__(self, number: int, message: str, data: bytes | None) -> None:
        super().__init__(message)
        self.number: Final = number
        self.message: Final = message
        self.data: Final = data

    @property
    def is_revert(self) -> bool:
        """Whether a contract refused (and not the node)."""
        return self.number == REVERTED or bool(self.data) or "revert" in self.message.lower()


@cache
def _tls() -> ssl.SSLContext:
    """One for all endpoints: reading the authorities takes a tenth of a second."""
    return httpx.create_ssl_context()


class Endpoint:
    """One URL; `number` is its place in the configuration.

    The URL may carry a key, so no text of ours shows more of it than the host.
    """

    def __init__(self, number: int, url: str, *, timeout: float) -> None:
        parts = urlsplit(url)
        self.number: Final = number
        self.host: Final = parts.hostname or "?"
        self._url = url
        self._ids = itertools.count(1)
        self._http = httpx.AsyncClient(
            timeout=timeout,
            verify=_tls() if parts.scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            trust_env=self.host not in _LOCAL,
            limits=httpx.Limits(max_connections=16, max_keepalive_connections=8),
        )

    def __repr__(self) -> str:
        return f"Endpoint({self.number}, {self.host})"

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def batch(self, requests: Sequence[Request]) -> list[Any]:
        """Answers in the order of the requests; an `RpcError` stands for an answer that is one.

        Raises `EndpointFailed`.
        """
        answers: list[Any] = []
        for start in range(0, len(requests), MAX_BATCH):
            answers += await self._post(requests[start : start + MAX_BATCH])
        return answers

    async def send(self, raw: bytes) -> RpcError | None:
        """Hand a signed transaction over; None: accepted. Raises `EndpointFailed`."""
        (answer,) = await self.batch([("eth_sendRawTransaction", [hexed(raw)])])
        return answer if isinstance(answer, RpcError) else None

    async def tip(self) -> tuple[int, str]:
        """Number and hash of the newest block; raises `EndpointFailed`, `MalformedMessage`."""
        (block,) = await self.batch([("eth_getBlockByNumber", ["latest", False])])
        if not isinstance(block, dict) or "hash" not in block:
            raise MalformedMessage("not a block")
        return quantity(block.get("number")), str(block["hash"])

    async def hashes(self, numbers: Sequence[int]) -> list[str | None]:
        """The hash of each of these blocks, None for one that is not there."""
        blocks = await self.batch(
            [("eth_getBlockByNumber", [hex(number), False]) for number in numbers]
        )
        return [
            str(block["hash"]) if isinstance(block, dict) and "hash" in block else None
            for block in blocks
        ]

    async def _post(self, requests: Sequence[Request]) -> list[Any]:
        calls = {next(self._ids): request for request in requests}
        body: Any = [
            {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
            for number, (method, params) in calls.items()
        ]
        content = msgspec.json.encode(body[0] if len(body) == 1 else body)
        answer = self._parse(await self._exchange(content))
        by_id = {one.get("id"): one for one in answer if isinstance(one, dict)}
        if len(answer) == 1 and len(calls) > 1:
            raise self._failed(f"answered a batch with {str(answer[0])[:200]}")
        return [self._read(by_id.get(number)) for number in calls]

    async def _exchange(self, content: bytes) -> bytes:
        received = bytearray()
        headers = {"content-type": "application/json"}
        try:
            async with self._http.stream(
                "POST", self._url, content=content, headers=headers
            ) as response:
                async for piece in response.aiter_bytes():
                    received += piece
                    if len(received) > MAX_ANSWER_BYTES:
                        raise self._failed("its answer is too large")
                status = response.status_code
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
            raise self._failed(type(error).__name__) from error
        if status >= 400 and not received.startswith((b"{", b"[")):
            raise self._failed(f"HTTP {status}")
        return bytes(received)

    def _parse(self, received: bytes) -> list[Any]:
        try:
            parsed = msgspec.json.decode(received)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self._failed("its answer is no JSON") from error
        return parsed if isinstance(parsed, list) else [parsed]

    def _read(self, answer: object) -> Any:  # noqa: ANN401 - JSON
        if not isinstance(answer, dict):
            raise self._failed("it left a request unanswered")
        if (error := answer.get("error")) is None:
            if "result" not in answer:
                raise self._failed("its answer has no result")
            return answer["result"]
        if not isinstance(error, dict):
            raise self._failed("its error has no form")
        message = str(error.get("message", ""))[:1000]
        data = _revert_data(error.get("data"))
        if data is None and any(busy in message.lower() for busy in _BUSY):
            raise self._failed(message[:200])
        number = error.get("code")
        return RpcError(number if isinstance(number, int) else 0, message, data)

    def _failed(self, why: str) -> EndpointFailed:
        return EndpointFailed(f"endpoint {self.number} ({self.host}): {why}")


def _revert_data(data: object) -> bytes | None:
    if isinstance(data, dict):  # some nodes wrap it
        data = data.get("data")
    if not isinstance(data, str) or not data.startswith("0x"):
        return None
    try:
        return bytes.fromhex(data[2:])
    except ValueError:
        return None
