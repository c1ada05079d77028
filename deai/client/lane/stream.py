"""Inputs on their way to being outputs: `lane.map` and `lane.results`, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

import outcome
import trio

from deai.client.lane.tasks import Task
from deai.errors import DeaiError, UsageError

if TYPE_CHECKING:
    from deai.client.lane.lane import Lane

MAX_IN_FLIGHT: Final = 1 << 16


class Stream:
    """Inputs on their way to being outputs: never more than `limit` of them."""

    def __init__(
        self, lane: Lane, inputs: Iterable[bytes] | AsyncIterable[bytes], limit: int,
        *, ordered: bool,
    ) -> None:  # fmt: skip
        self._line: deque[Task] = deque()
        """Those to be yielded: all of them in the order of the inputs, or those that ended."""
        self._running: set[Task] = set()
        """Where there is no order, those that have not ended."""
        self._lane = lane
        self._inputs = iter(inputs) if isinstance(inputs, Iterable) else None
        self._later = None if isinstance(inputs, Iterable) else aiter(inputs)
        if not 0 < limit <= MAX_IN_FLIGHT:
            raise UsageError(f"between 1 and {MAX_IN_FLIGHT} tasks can be in flight")
        self._limit = limit
        self._ended = self._ended_in_line if ordered else self._ended_anywhere
        self._ordered = ordered
        self._held = 0
        self._waiter: trio.lowlevel.Task | None = None
        self._puller: trio.lowlevel.Task | None = None
        self._is_out = False
        self._problem: outcome.Error | None = None
        self._scope = trio.CancelScope()
        lane.begin(self)
        if self._later is not None:
            lane.spawn(self._pull_later)

    async def next(self) -> Task | None:
        """The next ended task; None after the last."""
        while True:
            if self._inputs is not None and not self._is_out:
                self._pull(self._inputs)
            line = self._line
            if line and line[0].done is None:
                task = line.popleft()
                self._held -= 1
                self._lane.ended(task)
                if self._puller is not None:
                    puller, self._puller = self._puller, None
                    trio.lowlevel.reschedule(puller)
                return task
            if self._is_out and not self._held:
                if self._problem is not None:
                    self._problem.unwrap()
                return None
            self._waiter = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._stop_waiting)

    @property
    def is_ready(self) -> bool:
        """Whether the next one is here, and has an output."""
        return bool(self._line) and self._line[0].done is None and self._line[0].error is None

    def drop(self) -> None:
        """Nobody wants the rest."""
        self._is_out = True
        self._scope.cancel()
        self._forget()

    async def aclose(self) -> None:
        """The same, for `contextlib.aclosing`."""
        self.drop()
        await trio.lowlevel.checkpoint()

    def __del__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._is_out, self._held = True, 0
        for task in (*self._line, *self._running):
            task.done = None
        self._line.clear()
        self._running.clear()

    def _pull(self, inputs: Iterator[bytes]) -> None:
        while self._held < self._limit:
            self._got(outcome.capture(next, inputs))
            if self._is_out:
                return

    async def _pull_later(self) -> None:
        assert self._later is not None
        with self._scope:
            while not self._is_out:
                if self._held >= self._limit:
                    self._puller = trio.lowlevel.current_task()
                    await trio.lowlevel.wait_task_rescheduled(self._stop_pulling)
                    continue
                self._got(await outcome.acapture(anext, self._later))

    def _got(self, got: outcome.Value[bytes] | outcome.Error) -> None:
        if isinstance(got, outcome.Value):
            self._take(got.value)
            return
        self._is_out = True
        if not isinstance(got.error, StopIteration | StopAsyncIteration):
            self._problem = got  # raised behind the outputs of what came before
        self._wake()

    def _take(self, data: bytes) -> None:
        self._held += 1
        try:
            task = self._lane.start(data, self._ended)
        except DeaiError as error:
            task = Task(data, None, None)
            task.error = error
            self._line.append(task)
            self._wake()
            return
        if self._ordered:
            self._line.append(task)
            if task.done is None:
                self._wake()
        elif task.done is not None:
            self._running.add(task)

    def _ended_in_line(self, task: Task) -> None:
        if self._line and self._line[0] is task:
            self._wake()

    def _ended_anywhere(self, task: Task) -> None:
        self._running.discard(task)
        self._line.append(task)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None:
            waiter, self._waiter = self._waiter, None
            trio.lowlevel.reschedule(waiter)

    def _stop_waiting(self, _: object) -> trio.lowlevel.Abort:
        self._waiter = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _stop_pulling(self, _: object) -> trio.lowlevel.Abort:
        self._puller = None
        return trio.lowlevel.Abort.SUCCEEDED


class Outputs(Stream):
    """The outputs of a `map`."""

    def __aiter__(self) -> Outputs:
        return self

    async def __anext__(self) -> bytes:
        task = await self.next()
        if task is None:
            raise StopAsyncIteration
        if task.error is not None:
            self.drop()
            raise task.error
        return task.output or b""

    async def bunch(self, most: int) -> list[bytes]:
        """The next output and those that are here behind it; none after the last.

        Raises as `__anext__` does, behind what came before.
        """
        found = []
        async for output in self:
            found.append(output)
            if len(found) == most or not self.is_ready:
                break
        return found


class Ended(Stream):
    """The ended tasks of `results`."""

    def __aiter__(self) -> Ended:
        return self

    async def __anext__(self) -> Task:
        task = await self.next()
        if task is None:
            raise StopAsyncIteration
        return task
