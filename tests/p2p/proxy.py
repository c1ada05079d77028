"""A TCP proxy on loopback that can fall silent, cut its connections, and slow them down."""

from __future__ import annotations

import trio


class Proxy:
    """Forwards to `port` of loopback; `rate` is bytes per second each way, None for no limit."""

    def __init__(self, port: int, *, rate: float | None = None) -> None:
        self.port = port
        self.rate = rate
        self.connections = 0
        self._passable = trio.Event()
        self._passable.set()
        self._scopes: set[trio.CancelScope] = set()

    async def run(self, *, task_status: trio.TaskStatus[int]) -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        task_status.started(listener.socket.getsockname()[1])
        await trio.serve_listeners(self._serve, [listener])

    def freeze(self) -> None:
        self._passable = trio.Event()

    def thaw(self) -> None:
        self._passable.set()

    def drop(self) -> None:
        for scope in self._scopes:
            scope.cancel()

    async def _serve(self, client: trio.SocketStream) -> None:
        self.connections += 1
        scope = trio.CancelScope()
        self._scopes.add(scope)
        try:
            with scope:
                server = await trio.open_tcp_stream("127.0.0.1", self.port)
                async with server, client, trio.open_nursery() as nursery:
                    nursery.start_soon(self._pump, client, server)
                    await self._pump(server, client)
                    nursery.cancel_scope.cancel()
        except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self._scopes.discard(scope)

    async def _pump(self, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        while data := await source.receive_some(16 * 1024):
            await self._passable.wait()
            if self.rate is not None:
                await trio.sleep(len(data) / self.rate)
            await sink.send_all(data)
