"""Small real computations in place of the workloads."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import Any, TypeAlias

import trio

from deai.codec import decode_value, encode_value
from deai.errors import NodeFault, WorkloadFault
from deai.ports import Computation, Estimate, Executor, Output, SandboxReport, WorkloadInfo
from deai.tasks import (
    FaultCode,
    Policy,
)

Matrix: TypeAlias = list[list[bool]]


class SmallBench:
    """A workbench of two small real computations, with faults on demand.

    `shout` (exact) upper-cases text; `drift` (tolerance) adds up numbers with `noise` that
    differs by node. Input `bad` is a task at fault; `fail` makes this node fail.
    """

    def __init__(self, *, seconds: float = 1.0, noise: float = 0.0) -> None:
        self.seconds = seconds
        self.noise = noise
        self.fail: str = ""
        self.runs = 0
        self.slots = trio.CapacityLimiter(1)

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
            raise NodeFault(self.fail)
        text = self._parse(computation.input)
        repeat = decode_value(computation.parameters).get("repeat", 1)
        if computation.workload == "shout":
            data = text.upper().encode() * repeat
        else:
            data = struct.pack("<d", sum(map(float, text.split())) + self.noise)
        return Output(
            data=data,
            evidence=b"",
            units=len(computation.input),
            seconds=self.seconds,
            measurements={},
        )

    async def compare(
        self, computation: Computation, policy: Policy, outputs: Sequence[bytes]
    ) -> Matrix:
        await trio.lowlevel.checkpoint()
        values = [struct.unpack("<d", one)[0] if len(one) == 8 else None for one in outputs]
        return [
            [a is not None and b is not None and abs(a - b) <= 1e-3 for b in values] for a in values
        ]
