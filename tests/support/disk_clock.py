"""A clock that jumps over waiting, but never while a thread of the program writes to the disk."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from math import inf

import pytest
import trio
from trio.abc import Instrument
from trio.testing import MockClock

from deai.lane.writer import Done, Row, Writer

_AT_REST = 0.002
"""Seconds of real time in which nothing happens before the clock jumps."""


def disk_clock(patch: pytest.MonkeyPatch) -> MockClock:
    """Runs as real time does while rows of any `Writer` wait to be durable, and jumps otherwise."""
    clock = MockClock(rate=1.0, autojump_threshold=_AT_REST)
    put = Writer.put
    under_way = 0

    def counted(writer: Writer, rows: Iterable[Row], done: Done, *, lazy: bool = False) -> None:
        nonlocal under_way

        def written() -> None:
            nonlocal under_way
            under_way -= 1
            if not under_way:
                clock.autojump_threshold = _AT_REST
            done()

        under_way += 1
        clock.autojump_threshold = inf
        put(writer, rows, written, lazy=lazy)

    patch.setattr(Writer, "put", counted)
    return clock


def use_clock(request: pytest.FixtureRequest, clock: MockClock) -> None:
    """Run a test by this clock though it names none: pytest-trio looks only at what it declares."""

    def run(
        main: Callable[[], Awaitable[None]], *, instruments: Sequence[Instrument], **_: object
    ) -> None:
        trio.run(main, clock=clock, instruments=instruments)

    if inspect.iscoroutinefunction(request.function):
        request.node.add_marker(pytest.mark.trio(run=run), append=False)  # before the plugin's own
