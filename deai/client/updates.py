"""What happens to a task, told as it happens."""

from __future__ import annotations

from typing import Final, Literal

import msgspec
import trio

from deai.ids import NodeId

Kind = Literal[
    "matched",
    "posted",
    "assigned",
    "input",
    "progress",
    "committed",
    "silent",
    "released",
    "replaced",
    "opened",
    "output",
    "approved",
    "settled",
    "caught",
    "note",
]
MAX_HISTORY: Final = 10_000
"""Updates kept per task; only `progress` is left out beyond this."""


class TaskUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened. `at` is seconds since the submission began."""

    kind: Kind
    at: float
    message: str = ""
    seat: int | None = None
    attempt: int = 0
    node: NodeId | None = None
    done: float = 0.0
    """`progress`: the fraction done."""
    transaction: str = ""
    amount: int = 0


class Feed:
    """Updates of one task for any number of readers, each of whom gets all of them."""

    def __init__(self) -> None:
        self.history: list[TaskUpdate] = []
        self.is_over = False
        self._changed = trio.Event()

    def publish(self, update: TaskUpdate) -> None:
        """Add an update and wake the readers."""
        if update.kind == "progress" and len(self.history) >= MAX_HISTORY:
            return
        self.history.append(update)
        self._wake()

    def close(self) -> None:
        """There will be no more."""
        self.is_over = True
        self._wake()

    def read(self) -> Reader:
        """Every update from the first on, then live until the end."""
        return Reader(self)

    async def changed(self) -> None:
        """Wait for the next update or the end."""
        await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


class Reader:
    """One reader's place in a feed; may be left at any time."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._position = 0

    def __aiter__(self) -> Reader:
        return self

    async def __anext__(self) -> TaskUpdate:
        await trio.lowlevel.checkpoint()
        while self._position >= len(self._feed.history):
            if self._feed.is_over:
                raise StopAsyncIteration
            await self._feed.changed()
        self._position += 1
        return self._feed.history[self._position - 1]
