"""Services beside a body of code, whose exceptions reach the caller as they are."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from types import TracebackType

import trio


class Background(AbstractAsyncContextManager[trio.Nursery]):
    """A nursery that is cancelled when its body ends.

    A nursery would wrap what the body raises in an `ExceptionGroup`, also the refusal of a
    contract that a caller wants to catch. What a service raises still comes as a group.
    """

    def __init__(self) -> None:
        self._manager = trio.open_nursery()
        self._nursery: trio.Nursery | None = None

    async def __aenter__(self) -> trio.Nursery:
        self._nursery = await self._manager.__aenter__()
        return self._nursery

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()
            await self._manager.__aexit__(None, None, None)
