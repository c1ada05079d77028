"""One run of `deai task map`: what is to be done, and the lines that are under way."""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from deai.cli.map_lines import Lines, read_line
from deai.cli.map_results import Results
from deai.errors import DeaiError, LimitExceeded, UsageError, WorkloadFault

if TYPE_CHECKING:
    from pathlib import Path

    from deai.cli.task_diary import Run
    from deai.client.lane import Lane
    from deai.client.lane.tasks import Task
    from deai.ids import NodeId

_BREATH: Final = 64
"""Lines after which others get their turn, where nothing has to be waited for."""


@dataclass
class Job:
    """What is to be done, checked; `done` lines of it stand in the output already."""

    workload: str
    params: dict[str, Any]
    prefix: bytes
    lines: Lines
    run: Run
    form: str
    results: Results
    output: Path | None
    max_fee: int
    max_units: int
    top_up: int
    nodes: tuple[NodeId, ...]
    in_flight: int
    coordinator: str | None
    tasks: int = 0
    """Lines that have their result in the output."""
    failed: int = 0
    received_before: int = 0
    """Results that an earlier run received and did not write in their place."""
    first_failed: str = ""
    """Why, of those that this run computed."""
    lane: Lane | None = None
    """Once it was open."""

    def noted(self, state: str, detail: str) -> None:
        """Write into the diary how far this run came, if it began; blocks."""
        if self.lane is not None:
            paid = sum(share.paid for share in self.lane.shares)
            self.run.keep(
                tasks=self.tasks, failed=self.failed, paid=paid, state=state, detail=detail
            )

    def close(self) -> None:
        """Let the files go."""
        self.results.close()
        self.lines.close()

    def key(self, data: bytes) -> str:
        """Names a task: its workload, parameters and input."""
        return hashlib.sha256(self.prefix + data).hexdigest()[:32]


@dataclass(eq=False, slots=True)
class _Line:
    """A line that was read and whose result is not in its place yet."""

    index: int
    key: str
    row: bytes | None = None
    error: DeaiError | None = None
    """None of the line's own: it ends the command."""
    is_failed: bool = False


class UnderWay:
    """Lines on their way to being results, at most `in_flight` of them.

    A result is written where it is heard of, which is before it is paid.
    """

    def __init__(self, job: Job, lane: Lane) -> None:
        import trio

        self._job = job
        self._lane = lane
        self._lines: deque[_Line] = deque()
        self._news = trio.Event()
        self._to_print = trio.Event()
        self._problem: DeaiError | None = None

    async def run(self) -> None:
        """Until every line has its result; raises what ended it before."""
        import trio

        job, index = self._job, self._job.tasks
        async for line in job.lines:
            self._start(index, read_line(line, job.form, index))
            index += 1
            if not index % _BREATH:
                await trio.lowlevel.checkpoint()
            while len(self._lines) >= job.in_flight or job.results.is_full:
                await self._wait()
            self._raise()
        while self._lines or not job.results.is_printed:
            await self._wait()

    async def print_on(self) -> None:
        """Give standard output what it should have; raises `UsageError`."""
        import trio

        while True:
            self._to_print = trio.Event()
            if self._job.results.is_printed:
                await self._to_print.wait()
            await self._job.results.print_on()
            self._news.set()

    def _start(self, index: int, data: bytes) -> None:
        job = self._job
        line = _Line(index, job.key(data))
        self._lines.append(line)
        if (early := job.results.early(index, line.key)) is not None:
            line.row, line.is_failed = early
            job.received_before += 1
            self._go_on()
            return
        try:
            self._lane.start(data, partial(self._ended, line))
        except DeaiError as error:
            self._fail(line, error)
            self._go_on()

    def _ended(self, line: _Line, task: Task) -> None:
        """Called by the lane before it pays; nothing may be raised here."""
        self._lane.ended(task)
        if task.error is not None:
            self._fail(line, task.error)
        else:
            line.row = self._job.results.row(line.index, line.key, task.output, None)
        try:
            if line.row is not None and (self._lines[0] is not line or self._problem is not None):
                self._job.results.put_by(line.index, line.row)
        except UsageError as error:
            self._problem = self._problem or error
        self._go_on()

    def _fail(self, line: _Line, error: DeaiError) -> None:
        if not isinstance(error, WorkloadFault | LimitExceeded):
            line.error = error  # no fault of this line's: the same command goes on with it
            return
        line.row, line.is_failed = (
            self._job.results.row(line.index, line.key, None, error), True,
        )  # fmt: skip
        if not self._job.first_failed:
            self._job.first_failed = f"line {line.index + 1}: {error}"

    def _go_on(self) -> None:
        """Write the results whose turn it is."""
        job, lines = self._job, self._lines
        first, rows = job.tasks, list[bytes]()
        while lines and lines[0].row is not None and self._problem is None:
            line = lines.popleft()
            assert line.row is not None
            rows.append(line.row)
            job.tasks += 1
            job.failed += line.is_failed
        if rows:
            try:
                job.results.add(first, rows)
            except UsageError as error:
                self._problem = error
            self._to_print.set()
        if lines and lines[0].error is not None:
            self._problem = self._problem or lines[0].error
        self._news.set()

    async def _wait(self) -> None:
        import trio

        self._raise()
        self._news = trio.Event()
        await self._news.wait()
        self._raise()

    def _raise(self) -> None:
        if self._problem is not None:
            raise self._problem
