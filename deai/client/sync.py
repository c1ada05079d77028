"""The client without async: the same calls, run in a thread of their own."""

from __future__ import annotations

import math
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Generic, Self, TypeVar

import trio

from deai.client.alone import one_error
from deai.client.client import Client
from deai.client.handle import TaskHandle, TaskOutcome
from deai.client.lane import Lane
from deai.client.lane.stream import Outputs
from deai.client.updates import TaskUpdate
from deai.errors import DeaiError
from deai.ids import NodeId

T = TypeVar("T")

BUNCH: Final = 256
"""Outputs that pass between the threads at once, at most."""


class SyncClient:
    """A `Client` for code without an event loop.

    `with SyncClient(lambda: connect(...)) as client: client.run("embedding", data, ...)`.
    """

    def __init__(self, opener: Callable[[], AbstractAsyncContextManager[Client]]) -> None:
        self._opener = opener
        self._thread = threading.Thread(target=self._live, name="deai client", daemon=True)
        self._ready = threading.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._stop: trio.Event | None = None
        self._client: Client | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            self._thread.join()
            raise self._error
        return self

    def __exit__(self, *_: object) -> None:
        if self._stop is not None and self._thread.is_alive():
            with suppress(trio.RunFinishedError):
                trio.from_thread.run_sync(self._stop.set, trio_token=self._token)
        self._thread.join()
        if self._error is not None:
            raise self._error

    def submit(self, workload: str, data: bytes = b"", **options: Any) -> SyncHandle:  # noqa: ANN401
        """As `Client.submit`."""
        handle = self._call(lambda client: client.submit(workload, data, **options))
        return SyncHandle(self, handle)

    def run(self, workload: str, data: bytes = b"", **options: Any) -> TaskOutcome:  # noqa: ANN401
        """Submit a task and wait for its end."""
        return self.submit(workload, data, **options).wait()

    @contextmanager
    def lane(self, workload: str, **options: Any) -> Iterator[SyncLane]:  # noqa: ANN401
        """As `Client.lane`: `with client.lane("echo", max_fee=…) as lane:`."""
        opened = self._call(lambda client: _enter(client.lane(workload, **options)))
        try:
            yield SyncLane(self, opened.value)
        finally:
            self.call(opened.close)

    def result(self, task: str) -> TaskOutcome:
        """As `Client.result`."""
        return self._call(lambda client: client.result(task))

    def show(self, task: str) -> dict[str, Any]:
        """As `Client.show`."""
        return self._call(lambda client: client.show(task))

    def call(self, function: Callable[[], Awaitable[T]]) -> T:
        """Run a coroutine function beside the client; raise what it raises."""
        return self._call(lambda _client: function())

    def _call(self, function: Callable[[Client], Awaitable[T]]) -> T:
        async def there() -> T:
            assert self._client is not None
            return await function(self._client)

        return trio.from_thread.run(there, trio_token=self._token)

    def _live(self) -> None:
        try:
            trio.run(self._main)
        except (DeaiError, OSError, ExceptionGroup) as error:
            self._error = error
        finally:
            self._ready.set()

    async def _main(self) -> None:
        with one_error():
            async with self._opener() as self._client:
                self._token = trio.lowlevel.current_trio_token()
                self._stop = trio.Event()
                self._ready.set()
                await self._stop.wait()


class SyncHandle:
    """A submitted task, for code without an event loop."""

    def __init__(self, client: SyncClient, handle: TaskHandle) -> None:
        self._client = client
        self._handle = handle

    def wait(self, timeout: float = math.inf) -> TaskOutcome:
        """Wait for the end; raise `TimeoutError` after `timeout` seconds, else as `TaskHandle`."""
        return self._within(timeout, self._handle.wait)

    def output(self, timeout: float = math.inf) -> bytes:
        """Wait for the verified output; raise `TimeoutError` as `wait`, else as `TaskHandle`."""
        return self._within(timeout, self._handle.output)

    def _within(self, timeout: float, what: Callable[[], Awaitable[T]]) -> T:
        async def there() -> T:
            with trio.fail_after(timeout):
                return await what()

        try:
            return self._client.call(there)
        except trio.TooSlowError as error:
            raise TimeoutError(f"the task goes on after {timeout:g} s") from error

    def follow(self) -> Iterator[TaskUpdate]:
        """Everything that happens to the task, until it has ended."""
        reader = self._handle.follow()

        async def there() -> TaskUpdate | None:
            try:
                return await anext(reader)
            except StopAsyncIteration:
                return None

        while (update := self._client.call(there)) is not None:
            yield update


class SyncLane:
    """A `Lane`, for code without an event loop."""

    def __init__(self, client: SyncClient, lane: Lane) -> None:
        self._client = client
        self._lane = lane

    @property
    def nodes(self) -> tuple[NodeId, ...]:
        """Those that take tasks now."""
        return self._lane.nodes

    def call(self, data: bytes) -> bytes:
        """As `Lane.call`."""
        return self._client.call(lambda: self._lane.call(data))

    def map(self, inputs: Iterable[bytes], **options: Any) -> Iterator[bytes]:  # noqa: ANN401
        """As `Lane.map`; inputs are taken on the client's thread, outputs given in bunches."""

        async def begin() -> Outputs:
            return self._lane.map(inputs, **options)

        outputs = self._client.call(begin)
        try:
            while bunch := self._client.call(lambda: outputs.bunch(BUNCH)):
                yield from bunch
        finally:
            self._client.call(outputs.aclose)


@dataclass(frozen=True, slots=True)
class _Entered(Generic[T]):
    """A context that was entered on the client's thread."""

    value: T
    stack: AsyncExitStack

    async def close(self) -> None:
        """Leave it."""
        await self.stack.aclose()


async def _enter(context: AbstractAsyncContextManager[T]) -> _Entered[T]:
    stack = AsyncExitStack()
    return _Entered(await stack.enter_async_context(context), stack)
