"""What surrounds every request: bounds, security headers, figures. Plain ASGI."""

from __future__ import annotations

import time
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coordinator.api.problems import problem
from coordinator.metrics import Metrics

MAX_QUERY_BYTES: Final = 6 * 1024
MAX_PATH_BYTES: Final = 512
_POLICY: Final = (
    b"default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    b"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = (
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class Guard:
    """Refuses what is too long, answers HEAD as GET, adds headers, counts."""

    def __init__(self, app: ASGIApp, metrics: Metrics, hosts: frozenset[str]) -> None:
        """`hosts` that a request may name; empty: any."""
        self._app = app
        self._metrics = metrics
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if scope["type"] == "websocket":
            if refusal is not None:
                await send({"type": "websocket.close", "code": 1008})
                return
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], *_HEADERS]}
            await send(message)

        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        try:
            await (self._app if refusal is None else refusal)(scope, receive, answer)
        finally:
            # The template of the route, never the path: a stranger must not make label values.
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.request_seconds.labels(route).observe(time.perf_counter() - started)

    def _refusal(self, scope: Scope) -> Any:  # noqa: ANN401 - a response or None
        if len(scope["query_string"]) > MAX_QUERY_BYTES:
            return problem(414, "query_too_long", f"a query has at most {MAX_QUERY_BYTES} bytes")
        if len(scope.get("raw_path") or scope["path"]) > MAX_PATH_BYTES:
            return problem(414, "path_too_long", f"a path has at most {MAX_PATH_BYTES} bytes")
        named = [value for name, value in scope["headers"] if name == b"host"]
        if len(named) != 1:
            return problem(400, "bad_host", "a request names one host")
        host = named[0].decode("latin-1").lower()
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if self._hosts and name.strip("[]") not in self._hosts:
            return problem(400, "bad_host", "this coordinator does not answer to that host name")
        return None
