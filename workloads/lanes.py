"""The node's side of small tasks: batches of one client go through a worker of its own.

Two batches are under way at once, so that the worker finds the next one in its pipe when it has
done one. Nothing here happens per task, and no task of trio's is started per batch: a batch is
written where it is submitted as far as the pipe takes it, and one reader answers them in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Container, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, TypeAlias

import trio

from deai.errors import ExecutionFailed, LimitExceeded, MalformedMessage, NodeFault
from deai.ports import Batch, Failure
from deai.tasks import FaultCode
from workloads import wire
from workloads.keeper import Bay, Keeper, Worker
from workloads.process import MEMORY_POLL

OUTSTANDING: Final = 2
_FAULTS: Final = frozenset((0, *FaultCode))

Answer: TypeAlias = bytes | Failure
Done: TypeAlias = Callable[[Sequence[Answer]], None]


@dataclass(slots=True)
class _Submitted:
    """A batch under way: how many tasks, what the worker has answered so far."""

    number: int
    count: int
    done: Done
    timeout: float
    deadline: float
    """On trio's clock; the time of a batch begins when those before it are done."""
    answers: list[Answer] = field(default_factory=list)


class BatchLane(AbstractAsyncContextManager["BatchLane"]):
    """One client's hold on a worker for batches. Satisfies `BatchExecutor`."""

    def __init__(
        self, keeper: Keeper, bay: Bay, holder: int, client: str, offered: Container[str]
    ) -> None:
        self._keeper = keeper
        self._bay = bay
        self._holder = holder
        self._offered = offered
        self._client = client
        self._worker: Worker | None = None
        self._is_live = False
        self._is_leaving = False
        self._number = 0
        self._under_way: deque[_Submitted] = deque()
        self._unsent: deque[memoryview] = deque()
        self._submitted = trio.lowlevel.ParkingLot()
        self._to_write = trio.lowlevel.ParkingLot()
        self._at_rest = trio.lowlevel.ParkingLot()
        self._manager = trio.open_nursery()
        self._nursery: trio.Nursery | None = None

    @property
    def free(self) -> int:
        """How many more batches may be submitted now."""
        return 0 if self._is_leaving else OUTSTANDING - len(self._under_way)

    @property
    def is_wanted(self) -> bool:
        """Whether another client waits for this place; not after it was given back."""
        return not self._is_leaving and self._bay.is_wanted(self._holder)

    def submit(self, batch: Batch, done: Done, *, timeout: float) -> None:
        """Compute; see the port."""
        if self.free <= 0:
            raise LimitExceeded(f"{len(self._under_way)} batches are under way", hint="wait")
        if batch.workload not in self._offered:
            raise NodeFault(f"{batch.workload[:80]} is not offered here", code="not_offered")
        size, count = sum(map(len, batch.inputs)), len(batch.inputs)
        if not 0 < count <= wire.MAX_BATCH_TASKS or size > wire.MAX_BATCH_BYTES:
            raise LimitExceeded(
                f"a batch of {count} tasks and {size} bytes; at most {wire.MAX_BATCH_TASKS} and "
                f"{wire.MAX_BATCH_BYTES}"
            )
        number = self._number + 1
        frame = wire.batch_frame(
            wire.RunBatch(
                number,
                batch.workload,
                batch.version,
                batch.model,
                batch.parameters,
                batch.seed,
                batch.max_units,
                batch.inputs,
            )
        )
        self._number = number
        self._bay.resting.discard(self._holder)
        self._under_way.append(
            _Submitted(number, count, done, timeout, trio.current_time() + timeout)
        )
        self._keeper.count("tasks", count)
        self._send(memoryview(frame))
        self._submitted.unpark_all()

    def _send(self, frame: memoryview) -> None:
        """Write it at once where nothing else waits to be written."""
        if self._is_live and not self._unsent:
            assert self._worker is not None
            self._worker.sound = False
            try:
                frame = frame[self._worker.process.write_now(frame) :]
            except NodeFault:
                return  # the reader finds the same, and answers for everything under way
            if not frame:
                return
        self._unsent.append(frame)
        self._to_write.unpark_all()

    async def __aenter__(self) -> BatchLane:
        self._worker = await self._keeper.obtain(self._client, self._bay)
        self._nursery = await self._manager.__aenter__()
        self._rest()
        self._nursery.start_soon(self._run)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # What the body raises reaches the caller as it is, not in a group of the nursery's.
        self._is_leaving = True
        try:
            while error is None and self._under_way:
                await self._at_rest.park()
        finally:
            assert self._nursery is not None
            self._nursery.cancel_scope.cancel()
            try:
                await self._manager.__aexit__(None, None, None)
            finally:
                self._fail(NodeFault("the client's lane was closed", code="cancelled"))
                worker, self._worker = self._worker, None
                await self._keeper.give_back(worker, self._bay)

    async def _run(self) -> None:
        """One life of a worker after the other, each begun when there is work for it."""
        while True:
            while not self._under_way:
                await self._submitted.park()
            try:
                held, self._worker = self._worker, None
                self._worker = await self._keeper.exchange(held, self._client, self._bay)
                await self._live(self._worker)
            except ExecutionFailed as error:
                self._fail(error)

    async def _live(self, worker: Worker) -> None:
        """Let batches pass until this worker is too old; raise what ended it otherwise."""
        failures: list[ExecutionFailed] = []
        worker.sound = False
        self._under_way[0].deadline = trio.current_time() + self._under_way[0].timeout
        self._is_live = True

        async def guard(step: Callable[[Worker], Awaitable[None]]) -> None:
            try:
                await step(worker)
            except ExecutionFailed as error:
                failures.append(error)
            nursery.cancel_scope.cancel()

        try:
            async with trio.open_nursery() as nursery:
                for step in (self._write, self._watch, self._read):
                    nursery.start_soon(guard, step)
        finally:
            self._is_live = False
        if failures:
            worker.sound = False
            raise failures[0]

    async def _write(self, worker: Worker) -> None:
        """Write what the pipe did not take when it was submitted."""
        while True:
            while self._unsent:
                frame = self._unsent[0]
                written = worker.process.write_now(frame)
                if written == len(frame):
                    self._unsent.popleft()
                    continue
                self._unsent[0] = frame[written:]
                await worker.process.until_writable()
            await self._to_write.park()

    async def _watch(self, worker: Worker) -> None:
        """Look at the worker's memory and at the time of its batch."""
        while True:
            while not self._under_way:
                await self._submitted.park()
            head = self._under_way[0]
            if trio.current_time() > head.deadline:
                raise NodeFault(
                    f"the worker did not finish within {head.timeout:g} s", code="timeout"
                )
            held = worker.process.resident_bytes() - worker.process.born_with
            if held > self._keeper.memory_bytes:
                raise NodeFault(f"the worker holds {held} bytes", code="memory_limit")
            await trio.sleep(MEMORY_POLL)

    async def _read(self, worker: Worker) -> None:
        while True:
            for kind, payload in await worker.process.receive_frames():
                self._take(kind, payload, worker)
            if not self._under_way and self._keeper.is_old(worker):
                self._is_live = False  # from here on batches wait for the next one
                return

    def _take(self, kind: int, payload: bytes, worker: Worker) -> None:
        """Believe one message as far as it can be checked; a batch that is complete is done."""
        if not self._under_way:
            raise NodeFault("an answer to no batch", code="worker_babbled")
        head = self._under_way[0]
        try:
            if kind == wire.BATCH:
                self._add(head, wire.decode_batch_done(payload))
            else:
                failure = _refusal(wire.decode_reply(payload))
                rest = head.count - len(head.answers)
                head.answers += [failure] * rest
                self._keeper.count("faults" if failure.fault else "failures", rest)
        except MalformedMessage as error:
            raise NodeFault(f"the worker babbled: {error}", code="worker_babbled") from error
        if len(head.answers) > head.count:
            raise NodeFault("more outputs than tasks", code="worker_babbled")
        if len(head.answers) < head.count:
            return
        self._under_way.popleft()
        if self._under_way:
            self._under_way[0].deadline = trio.current_time() + self._under_way[0].timeout
        else:
            worker.sound = True
            self._rest()
        head.done(head.answers)

    def _rest(self) -> None:
        """Nothing is under way."""
        self._bay.resting.add(self._holder)
        self._at_rest.unpark_all()

    def _add(self, head: _Submitted, part: wire.BatchDone) -> None:
        """Outputs, with a failure in the place of each missing one; raise `MalformedMessage`."""
        if part.number != head.number:
            raise MalformedMessage(f"batch {part.number} instead of {head.number}")
        first = len(head.answers)
        head.answers += part.outputs
        for one in part.missing:
            if one.position >= len(part.outputs) or one.fault not in _FAULTS:
                raise MalformedMessage(f"no such task or fault: {one.position}, {one.fault}")
            head.answers[first + one.position] = Failure(one.fault, one.reason)
            self._keeper.count("faults" if one.fault else "failures", 1)

    def _fail(self, error: ExecutionFailed) -> None:
        """Give up everything that is under way; the next batch finds another worker."""
        lost, self._under_way = self._under_way, deque()
        self._unsent.clear()
        self._rest()
        reason = f"{error.reason_code}: {error}"[: wire.MAX_REASON]
        for batch in lost:
            self._keeper.count("failures", batch.count)
            batch.done([Failure(0, reason)] * batch.count)


def _refusal(reply: wire.Reply) -> Failure:
    """Why nothing of a batch was computed; raise `MalformedMessage` for any other reply."""
    match reply:
        case wire.Fault(code=code, message=message) if code in list(FaultCode):
            return Failure(code, message[: wire.MAX_REASON])
        case wire.Failed(reason=reason, message=message):
            return Failure(0, f"{reason}: {message}"[: wire.MAX_REASON])
        case _:
            raise MalformedMessage(f"{type(reply).__name__} to a batch")
