"""Small real computations in place of the workloads."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import Any, TypeAlias

import trio

from deai.chain.background import Background
from deai.codec import decode_value, encode_value
from deai.errors import LimitExceeded, NodeFault, WorkloadFault
from deai.ports import (
    Batch,
    BatchExecutor,
    Computation,
    Estimate,
    Executor,
    Failure,
    Output,
    SandboxReport,
    WorkloadInfo,
)
from deai.tasks import (
    FaultCode,
    Policy,
)

Matrix: TypeAlias = list[list[bool]]
Done: TypeAlias = Callable[[Sequence[bytes | Failure]], None]


class SmallBench:
    """A workbench of two small real computations, with faults on demand.

    `shout` (exact) upper-cases text; `drift` (tolerance) adds up numbers with `noise` that
    differs by node. Input `bad` is a task at fault; `fail` makes this node fail.
    """

    def __init__(self, *, seconds: float = 1.0, noise: float = 0.0) -> None:
        self.seconds = seconds
        self.noise = noise
        self.fail: str = ""
        self.fail_code: str = ""
        self.runs = 0
        self.batch_seconds = 0.001
        self.slots = trio.CapacityLimiter(1)
        self.lanes = trio.Semaphore(2)

    @property
    def catalogue(self) -> SmallBench:
        return self

    @property
    def sandbox(self) -> SandboxReport:
        return SandboxReport(level="full", details={})

    def list(self) -> tuple[WorkloadInfo, ...]:
        return (self.info("shout"), self.info("drift"))

    def info(self, workload: str) -> WorkloadInfo:
        if workload not in ("shout", "drift"):
            raise WorkloadFault("unknown", fault=int(FaultCode.INVALID_PARAMETERS))
        exact = workload == "shout"
        return WorkloadInfo(
            id=workload,
            version=1,
            title=workload,
            description=workload,
            policies=("exact/1", "none/1") if exact else ("tol32/1", "none/1"),
            default_policy="exact/1" if exact else "tol32/1",
            determinism="bitwise" if exact else "tolerance",
            unit="byte",
            models=(),
            parameters={},
            output_type="json",
        )

    def parameters(self, workload: str, given: dict[str, Any]) -> bytes:
        return encode_value(given)

    def check(self, workload: str, parameters: bytes, data: bytes) -> Estimate:
        self._parse(data)
        return Estimate(1, len(data))

    def convert(self, workload: str, data: bytes, suffix: str) -> bytes:
        return data

    def _parse(self, data: bytes) -> str:
        if data == b"bad":
            raise WorkloadFault("bad input", fault=int(FaultCode.MALFORMED_INPUT))
        return data.decode()

    def stats(self) -> dict[str, Any]:
        return {"busy": self.slots.borrowed_tokens}

    @asynccontextmanager
    async def executor(self, client: str, *, urgent: bool = False) -> AsyncIterator[Executor]:
        async with nullcontext() if urgent else self.slots:
            yield self

    @asynccontextmanager
    async def batches(self, client: str) -> AsyncIterator[BatchExecutor]:
        async with self.lanes, Background() as nursery:
            lane = SmallLane(self)
            nursery.start_soon(lane.work)
            yield lane
            await lane.until_done()

    async def run(
        self, computation: Computation, *, on_progress: Callable[[float], None], timeout: float
    ) -> Output:
        if computation.max_units is not None and len(computation.input) > computation.max_units:
            raise NodeFault(f"{len(computation.input)} units", code="underpaid")
        self.runs += 1
        for step in range(10):
            on_progress(step / 10)
            await trio.sleep(self.seconds / 10)
        if self.fail:
            raise NodeFault(self.fail, code=self.fail_code)
        return Output(
            data=self.compute(computation.workload, computation.parameters, computation.input),
            evidence=b"",
            units=len(computation.input),
            seconds=self.seconds,
            measurements={},
        )

    def compute(self, workload: str, parameters: bytes, given: bytes) -> bytes:
        text = self._parse(given)
        if workload == "shout":
            return text.upper().encode() * int(decode_value(parameters).get("repeat", 1))
        return struct.pack("<d", sum(map(float, text.split())) + self.noise)

    async def compare(
        self, computation: Computation, policy: Policy, outputs: Sequence[bytes]
    ) -> Matrix:
        await trio.lowlevel.checkpoint()
        values = [struct.unpack("<d", one)[0] if len(one) == 8 else None for one in outputs]
        return [
            [a is not None and b is not None and abs(a - b) <= 1e-3 for b in values] for a in values
        ]


class SmallLane:
    """Two batches at a time, each a millisecond of the clock; see `SmallBench` for the faults."""

    def __init__(self, bench: SmallBench) -> None:
        self.bench = bench
        self.under_way: deque[tuple[Batch, Done]] = deque()
        self._changed = trio.lowlevel.ParkingLot()

    @property
    def free(self) -> int:
        return 2 - len(self.under_way)

    @property
    def is_wanted(self) -> bool:
        return bool(self.bench.lanes.statistics().tasks_waiting)

    def submit(self, batch: Batch, done: Done, *, timeout: float) -> None:
        if not self.free:
            raise LimitExceeded("two batches are under way")
        self.under_way.append((batch, done))
        self._changed.unpark_all()

    async def until_done(self) -> None:
        while self.under_way:
            await self._changed.park()

    async def work(self) -> None:
        while True:
            while not self.under_way:
                await self._changed.park()
            await trio.sleep(self.bench.batch_seconds)
            batch, done = self.under_way.popleft()
            self.bench.runs += len(batch.inputs)
            done([self._answer(batch, given) for given in batch.inputs])
            self._changed.unpark_all()

    def _answer(self, batch: Batch, given: bytes) -> bytes | Failure:
        if self.bench.fail:
            return Failure(0, self.bench.fail)
        if len(given) > batch.max_units:
            return Failure(0, f"underpaid: {len(given)} units")
        try:
            return self.bench.compute(batch.workload, batch.parameters, given)
        except WorkloadFault as error:
            return Failure(error.fault, str(error))
