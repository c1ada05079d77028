"""Where blocking calls run: a few threads of one's own, so that a slow disk stalls nobody else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import trio

T = TypeVar("T")


class Caller(Protocol):
    """Runs a blocking function and waits for it, also when the waiter is cancelled."""

    async def __call__(self, work: Callable[[], T], /) -> T:
        """What `work` returns or raises."""
        ...


class InThreads:
    """At most `count` calls at a time, each in a thread; with one, they run in turn."""

    def __init__(self, count: int) -> None:
        self._limiter = trio.CapacityLimiter(count)

    async def __call__(self, work: Callable[[], T], /) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._limiter)


class Inline:
    """In the caller itself: for simulations under a mock clock, which would outrun a thread."""

    async def __call__(self, work: Callable[[], T], /) -> T:
        await trio.lowlevel.checkpoint()
        return work()
