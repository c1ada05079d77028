"""uvicorn's protocols with the bounds that they lack: size and duration of a request's head."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent

MAX_REQUEST_BYTES: Final = 32 * 1024
"""Request line, headers and body; nothing here takes a body."""
REQUEST_SECONDS: Final = 10.0
"""From connecting, or from the first byte of a further request, to the end of its head."""
LINGER_SECONDS: Final = 1.0
ABORT_SECONDS: Final = 15.0
"""After the close of a WebSocket: then it is dropped, whatever is still unsent."""

_TOO_LARGE: Final = (
    b'{"type":"https://deai.dev/problems/too_large","title":"too large","status":431,'
    b'"code":"too_large","detail":"a request has at most 32 KiB"}'
)


class BoundedHttp(HttpToolsProtocol):
    """HTTP/1.1 for requests that fit in `MAX_REQUEST_BYTES` and arrive in time."""

    _pending = 0
    _refused = False
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return  # let the peer finish sending, or it would lose the answer
        if self._timer is None:
            self._arm()
        # What completes a request resets the count, so only an unfinished one adds up.
        self._pending += len(data)
        super().data_received(data)
        if self._pending > MAX_REQUEST_BYTES:
            self._refuse()

    def on_message_complete(self) -> None:
        self._pending = 0
        self._disarm()
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        self._disarm()
        self._pending = 0
        super().handle_websocket_upgrade()

    def _refuse(self) -> None:
        self._refused = True
        self._disarm()
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(
                b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
                b"content-type: application/problem+json\r\nconnection: close\r\n"
                b"content-length: %d\r\n\r\n%b" % (len(_TOO_LARGE), _TOO_LARGE)
            )
        self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def _arm(self) -> None:
        self._timer = self.loop.call_later(REQUEST_SECONDS, self._too_slow)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        self._refused = True
        self.transport.close()


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket whose close frame goes out behind what is queued, also to a slow reader."""

    async def send(self, message: ASGISendEvent) -> None:
        closing = message["type"] == "websocket.close"
        if closing:
            self.writable.set()
        await super().send(message)
        if closing:
            self.loop.call_later(ABORT_SECONDS, self._abort)

    def _abort(self) -> None:
        transport: Any = self.transport
        transport.abort()
