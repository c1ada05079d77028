"""Waiting, with a deadline, for what raises no event here: another process, a file, a socket."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import trio

T = TypeVar("T")

_FINEST: Final = 0.002
_PART: Final = 100


def _pause(waited: float, took: float = 0.0) -> float:
    """Seconds until the next look: a hundredth of the wait so far, so that none is long.

    And what the last look took: one that starts a process would leave nothing for what it waits.
    """
    return max(_FINEST, waited / _PART, took)


async def until(condition: Callable[[], T], seconds: float = 60.0) -> T:
    """The first true value of `condition`; `trio.TooSlowError` if there is none in time."""

    async def look() -> T:
        return condition()

    return await eventually(look, seconds)


async def eventually(look: Callable[[], Awaitable[T]], seconds: float = 60.0) -> T:
    """The same for a look that has to ask somebody."""
    begin = trio.current_time()
    with trio.fail_after(seconds):
        while not (found := await look()):
            await trio.sleep(_pause(trio.current_time() - begin))
    return found


def wait(condition: Callable[[], T], seconds: float = 90.0) -> T:
    """The same where no event loop runs."""
    begin = looked = time.monotonic()
    while not (found := condition()):
        now = time.monotonic()
        assert now - begin < seconds, f"still {found!r} after {seconds} s"
        time.sleep(_pause(now - begin, now - looked))
        looked = time.monotonic()
    return found
