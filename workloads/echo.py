"""Does nothing: the output is the input. For measuring and trying the way of a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from deai.ports import Estimate
from deai.tasks import FaultCode, Policy
from workloads.faults import fault, invalid, malformed
from workloads.spec import Determinism, Report, RunnerOutput, RunnerTask, WorkloadSpec

MAX_BYTES: Final = 1024 * 1024
BYTES_PER_UNIT: Final = 64 * 1024
"""A task of the fast lane is one unit, whatever its size."""


def check_parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """There are none."""
    for key in given:
        invalid(f"echo has no parameter {key[:40]!r}")
    return {}


def check_input(parameters: Mapping[str, Any], data: bytes) -> Estimate:
    """Any bytes, at least one; an item is a byte."""
    size = len(data)
    if size > MAX_BYTES:
        fault(FaultCode.INPUT_TOO_LARGE, f"{size} bytes; at most {MAX_BYTES}")
    if not size:
        malformed("there is nothing to give back")
    return Estimate(size, -(-size // BYTES_PER_UNIT))


def check_output(data: bytes, estimate: Estimate) -> None:
    """Raise `ValueError` unless it is as long as the input."""
    if len(data) != estimate.items:
        raise ValueError(f"{len(data)} bytes for {estimate.items}")


def run(task: RunnerTask, report: Report) -> RunnerOutput:
    """Give the input back."""
    return RunnerOutput(task.input)


SPEC: Final = WorkloadSpec(
    id="echo",
    version=1,
    title="Echo",
    description="Does nothing: the output is the input. For measuring and trying things out.",
    policies=(Policy.EXACT, Policy.NONE),
    default_policy=Policy.EXACT,
    determinism=Determinism.BITWISE,
    unit="64 KiB",
    output_type="bytes",
    input_form="any bytes, 1 byte to 1 MiB",
    parameters_schema={"type": "object", "additionalProperties": False, "properties": {}},
    check_parameters=check_parameters,
    check_input=check_input,
    check_output=check_output,
    runner="workloads.echo:run",
    memory_bytes=64 << 20,
    examples=(({}, b"hello, node\n"), ({}, bytes(range(256)))),
)
