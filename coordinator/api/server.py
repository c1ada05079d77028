"""uvicorn in a thread of its own, started and stopped from the trio side."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from contextlib import suppress
from typing import Final

import uvicorn

from coordinator.api.app import Web
from coordinator.api.transport import BoundedHttp, BoundedWebSocket
from deai.errors import ConfigError

logger = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 2048
SEND_BUFFER: Final = 128 * 1024
GRACE_SECONDS: Final = 3
START_SECONDS: Final = 20.0


def bind(host: str, port: int) -> socket.socket:
    """A listening socket (port 0: any free one); raise `ConfigError` if it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Inherited by every connection: what the kernel keeps for a reader that is slow.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        # Likewise: asyncio sets it on sockets of its own making only, and an answer in two
        # segments waits for the reader's delayed acknowledgement (40 ms) without it.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror}",
            hint="set coordinator.listen to an address that is free",
            code="port_taken",
        ) from error
    return listener


class HttpThread:
    """One uvicorn server; `start` returns when it serves, `stop` when it has drained."""

    def __init__(self, web: Web, listener: socket.socket) -> None:
        self._web = web
        self._listener = listener
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started = threading.Event()
        self._server = uvicorn.Server(
            uvicorn.Config(
                web.app,
                http=BoundedHttp,
                ws=BoundedWebSocket,
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                ws_max_size=16 * 1024,
                ws_max_queue=16,
                ws_per_message_deflate=False,
                limit_concurrency=MAX_CONNECTIONS,
                backlog=1024,
                timeout_keep_alive=5,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    def start(self) -> None:
        """Serve; blocks until the first answer can be given. Raises `ConfigError`."""
        self._thread.start()
        if not self._started.wait(START_SECONDS) or self._loop is None:
            raise ConfigError("the HTTP server did not start; see the log")

    def wake(self) -> None:
        """Tell subscribers that something was committed; once per commit, any thread."""
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # it closed this very moment
                loop.call_soon_threadsafe(self._web.feed.wake)

    @property
    def is_well(self) -> bool:
        """Whether it serves what is true now."""
        return self._thread.is_alive() and self._web.is_fresh

    def stop(self) -> None:
        """Stop accepting, let requests finish, close WebSockets; at most a few seconds."""
        self._server.should_exit = True
        self._thread.join(GRACE_SECONDS + 1.5)
        if self._thread.is_alive():
            logger.warning("HTTP did not drain in time")

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        try:
            serving = asyncio.create_task(self._server.serve(sockets=[self._listener]))
            while not self._server.started and not serving.done():
                await asyncio.sleep(0.01)
            if self._server.started:
                self._loop = asyncio.get_running_loop()
            self._started.set()
            await serving
        finally:
            self._loop = None
            self._started.set()
