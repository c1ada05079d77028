"""A submitted task in the hands of its client: follow it, wait for it, or leave it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import trio

from deai.client.updates import Feed, Reader
from deai.errors import Declined
from deai.ids import TaskId
from deai.lifecycle import TaskState


@dataclass(frozen=True, slots=True)
class TaskOutcome:
    """How a task ended: its document, and the output if one won."""

    document: dict[str, Any]
    data: bytes | None = field(repr=False)

    @property
    def task_id(self) -> TaskId:
        """The task."""
        return TaskId(self.document["task_id"])

    @property
    def state(self) -> str:
        """`completed`, `failed` or `cancelled`; anything else means it still goes on."""
        return str(self.document["state"])

    @property
    def ok(self) -> bool:
        """Whether it completed and the output is here."""
        return self.state == TaskState.COMPLETED and self.data is not None

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing: the output is here, or there is none."""
        return self.data is not None or self.document["result"] is None


class TaskHandle:
    """A submitted task: follow it, wait for it, or leave it."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._done = trio.Event()
        self._known = trio.Event()
        self._has_output = trio.Event()
        self._output: bytes | None = None
        self._outcome: TaskOutcome | None = None
        self._error: Exception | None = None
        self.scope = trio.CancelScope()
        self.task_id: TaskId | None = None
        """Set once the task is on chain (`await posted()`)."""

    def follow(self) -> Reader:
        """Updates to iterate over: everything from the beginning, until it has ended."""
        return self._feed.read()

    async def posted(self) -> TaskId:
        """Wait until the task is on chain; raise what stopped it."""
        await self._known.wait()
        if self.task_id is None:
            assert self._error is not None
            raise self._error
        return self.task_id

    async def output(self) -> bytes:
        """Wait for the verified output, which is here a little before its task is settled.

        Raises what stopped the submission (`DeaiError`), or `Declined` (`no_output`) for a task
        that ended without one.
        """
        await self._has_output.wait()
        if self._output is not None:
            return self._output
        if self._error is not None:
            raise self._error
        raise Declined(f"task {self.task_id} ended without an output", code="no_output")

    async def wait(self) -> TaskOutcome:
        """Wait for the end; raise what stopped the submission (`DeaiError`)."""
        await self._done.wait()
        if self._error is not None:
            raise self._error
        assert self._outcome is not None
        return self._outcome

    def leave(self) -> None:
        """Stop following. A task that was posted goes on without its client."""
        self.scope.cancel()

    def is_posted(self, task: TaskId) -> None:
        """For the client: the task is on chain."""
        self.task_id = task
        self._known.set()

    def has_output(self, data: bytes) -> None:
        """For the client: the verified output is here."""
        self._output = data
        self._has_output.set()

    def ended(self, outcome: TaskOutcome | None, error: Exception | None) -> None:
        """For the client: nothing more will happen."""
        self._outcome, self._error = outcome, error
        if outcome is not None and self._output is None:
            self._output = outcome.data
        self._has_output.set()
        self._feed.close()
        self._known.set()
        self._done.set()
