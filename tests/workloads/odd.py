"""A workload whose inputs say how their task goes wrong, for batches of small tasks."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from deai.lane.receipts import MAX_TASK_BYTES
from deai.ports import Estimate
from deai.tasks import FaultCode, Policy
from tests.attacks.worker.hostile import _pipe
from workloads import wire
from workloads.faults import fault, invalid
from workloads.spec import Determinism, Report, RunnerOutput, RunnerTask, WorkloadSpec

HELD: Final[list[bytearray]] = []


def check_parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    if given.get("mood") == "bad":
        invalid("not in this mood")
    return {"mood": "", **given}


def check_input(parameters: Mapping[str, Any], data: bytes) -> Estimate:
    if data == b"bad":
        fault(FaultCode.MALFORMED_INPUT, "a bad task")
    return Estimate(1, 5 if data == b"dear" else 1)


def check_output(data: bytes, estimate: Estimate) -> None:
    if data == b"NOT CANONICAL":
        raise ValueError("not canonical")


def run(task: RunnerTask, report: Report) -> RunnerOutput:
    match task.input:
        case b"raise":
            raise ZeroDivisionError("by zero")
        case b"no memory":
            HELD.append(bytearray(1 << 40))
        case b"hold memory":
            HELD.append(bytearray(b"x" * (96 << 20)))
            time.sleep(600)
        case b"hang":
            time.sleep(600)
        case b"exit":
            os._exit(0)
        case b"pid":
            return RunnerOutput(str(os.getpid()).encode())
        case b"largest" | b"too large":
            return RunnerOutput(bytes(MAX_TASK_BYTES + (task.input == b"too large")))
        case b"tell":
            return RunnerOutput(task.seed + repr(task.parameters).encode())
        case b"answer twice":
            os.write(_pipe(), TWICE)
        case data if data in BABBLE:
            os.write(_pipe(), BABBLE[data])
        case _:
            pass
    return RunnerOutput(task.input.upper())


def run_many(task: RunnerTask, inputs: Sequence[bytes]) -> list[bytes]:
    """Marks what was computed together."""
    if b"raise" in inputs:
        raise ZeroDivisionError("by zero")
    outputs = [run(_with(task, data), lambda fraction: None).data + b"!" for data in inputs]
    return outputs[: -1 if b"few" in inputs else None]


def _with(task: RunnerTask, data: bytes) -> RunnerTask:
    return RunnerTask(task.parameters, data, task.model, task.seed, task.threads)


def _done(outputs: list[bytes], *missing: wire.Missing, number: int = 1) -> bytes:
    return bytes(wire.batch_frame(wire.BatchDone(number, outputs, list(missing))))


BABBLE: Final = {
    b"say more": _done([b"x"] * 4),
    b"say nothing": _done([]),
    b"say another": _done([b"x"] * 3, number=2),
    b"say large": _done([bytes(MAX_TASK_BYTES + 1)]),
    b"say nowhere": _done([b""], wire.Missing(1, 0, "")),
    b"say unknown fault": _done([b""], wire.Missing(0, 99, "")),
    b"say whole unknown fault": wire.frame(wire.Fault(99, "")),
    b"say progress": wire.frame(wire.Progress(0.5)),
    b"say data": wire.HEADER.pack(wire.DATA, 1) + b"x",
    b"say huge": wire.HEADER.pack(wire.BATCH, wire.MAX_BATCH_FRAME_BYTES + 1),
    b"say junk": b"GET / HTTP/1.1\r\n\r\n",
    b"say other columns": wire.HEADER.pack(wire.BATCH, 3) + b"\x92\x01\x01",
}
"""What a worker may write of its own accord while the first batch, of three, is computed."""
TWICE: Final = _done([b"x"])

SPEC: Final = WorkloadSpec(
    id="odd",
    version=1,
    title="Odd",
    description="Odd.",
    policies=(Policy.NONE,),
    default_policy=Policy.NONE,
    determinism=Determinism.BITWISE,
    unit="task",
    output_type="bytes",
    parameters_schema={},
    check_parameters=check_parameters,
    check_input=check_input,
    check_output=check_output,
    runner="tests.workloads.odd:run",
)

TOGETHER: Final = dataclasses.replace(SPEC, id="together", run_many="tests.workloads.odd:run_many")
