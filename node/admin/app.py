"""Handlers of the local HTTP interface: they translate, they decide nothing.

Bearer token from a 0600 file, compared in constant time; `Host` must be a loopback name and a
browser's `Origin` is refused, so that no web page reaches it through the operator's browser.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from deai.errors import DeaiError
from node import documents, metrics
from node.daemon import Daemon, Mode
from node.shapes import when

MAX_BODY: Final = 4096
MAX_PAUSE: Final = 30 * 24 * 3600
_HOSTS: Final = ("127.0.0.1", "localhost", "[::1]")


def make_app(daemon: Daemon, token: str) -> ASGIApp:
    """The application for one live daemon."""

    async def status(_request: Request) -> Response:
        return JSONResponse(await documents.status(daemon))

    async def why(_request: Request) -> Response:
        return JSONResponse(documents.why(daemon))

    async def tasks(_request: Request) -> Response:
        return JSONResponse(await documents.tasks(daemon))

    async def earnings(_request: Request) -> Response:
        return JSONResponse(await documents.earnings(daemon))

    async def metrics_(_request: Request) -> Response:
        paid = int((await documents.earnings(daemon))["paid"])
        return Response(metrics.render(daemon, paid), media_type=metrics.CONTENT_TYPE)

    async def channels(request: Request) -> Response:
        after = request.query_params.get("cursor", "0")
        if not after.isascii() or not after.isdigit() or len(after) > 9:
            return _error(400, "bad_request", "`cursor` is what the page before said")
        return JSONResponse(documents.channels(daemon, int(after)))

    async def redeem(request: Request) -> Response:
        chain = request.query_params.get("chain")
        asked = [
            {"chain": one.chain, "channel_id": one.channel_id, "amount": str(one.unredeemed)}
            for node in daemon.nodes
            if node.lanes is not None and chain in (None, node.info.name)
            for one in node.lanes.redeeming.ask()
        ]
        return JSONResponse({"items": asked})

    async def drain(_request: Request) -> Response:
        daemon.stop.set()
        return JSONResponse({"state": Mode.DRAINING.value})

    async def pause(request: Request) -> Response:
        seconds = await _seconds(request)
        if seconds is None:
            return _error(400, "bad_request", "`for_s` is a positive number of seconds")
        if daemon.mode is not Mode.RUNNING and daemon.mode is not Mode.PAUSED:
            return _error(409, "not_running", f"the node is {daemon.mode.value}")
        daemon.pause(seconds)
        return JSONResponse({"state": daemon.mode.value, "until": when(daemon.held_until)})

    async def resume(_request: Request) -> Response:
        daemon.resume()
        return JSONResponse({"state": daemon.mode.value})

    routes = [
        Route("/status", _guarded(status), methods=["GET"]),
        Route("/why", _guarded(why), methods=["GET"]),
        Route("/tasks", _guarded(tasks), methods=["GET"]),
        Route("/earnings", _guarded(earnings), methods=["GET"]),
        Route("/metrics", _guarded(metrics_), methods=["GET"]),
        Route("/channels", _guarded(channels), methods=["GET"]),
        Route("/redeem", _guarded(redeem), methods=["POST"]),
        Route("/drain", _guarded(drain), methods=["POST"]),
        Route("/pause", _guarded(pause), methods=["POST"]),
        Route("/resume", _guarded(resume), methods=["POST"]),
    ]
    return _Guard(Starlette(routes=routes), token)


def _guarded(
    handler: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        try:
            return await handler(request)
        except DeaiError as error:
            return _error(503, error.reason_code, str(error), error.hint)

    return handle


async def _seconds(request: Request) -> float | None:
    """`for_s` of the body; 0 when there is no body, None when it is no number of seconds."""
    body = b""
    async with aclosing(request.stream()) as pieces:
        async for piece in pieces:
            body += piece
            if len(body) > MAX_BODY:
                return None
    if not body:
        return 0.0
    try:
        value: Any = json.loads(body)["for_s"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 < value <= MAX_PAUSE else None


def _error(status: int, code: str, message: str, hint: str = "") -> Response:
    body = {"error": {"code": code, "message": message, "hint": hint}}
    return JSONResponse(body, status_code=status)


class _Guard:
    """Turns away whoever is not the operator's own program on this machine."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        host = headers.get(b"host", b"").decode("latin-1")
        if host.rsplit(":", 1)[0] not in _HOSTS:
            return _error(403, "forbidden_host", "this interface is for this machine only")
        if b"origin" in headers:
            return _error(403, "forbidden_origin", "this interface is not for web pages")
        given = headers.get(b"authorization", b"")
        if not hmac.compare_digest(given, self._expected):
            return _error(401, "unauthorised", "send the token of the node's admin.token file")
        return None
