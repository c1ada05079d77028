"""What a worker has at hand, and how it reads the terms of a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from deai.codec import decode_value
from deai.errors import DeaiError, NodeFault
from deai.ports import Estimate
from deai.tasks import FaultCode
from workloads.faults import fault
from workloads.spec import ManyRunner, ModelFiles, Runner, WorkloadSpec


class Tools(msgspec.Struct, frozen=True):
    """What the template imported for its workers."""

    specs: Mapping[tuple[str, int], WorkloadSpec]
    runners: Mapping[tuple[str, int], Runner]
    many: Mapping[tuple[str, int], ManyRunner]
    comparers: Mapping[tuple[str, int], Callable[..., list[list[bool]]]]
    load_model: Callable[[Path, str], ModelFiles]
    models: Path
    threads: int
    memory_bytes: int

    def model(
        self, spec: WorkloadSpec, named: str, parameters: Mapping[str, Any]
    ) -> ModelFiles | None:
        """The model that checked parameters name; raise `WorkloadFault` or `NodeFault`."""
        if not spec.models:
            return None
        digest = str(parameters["model"])
        if named and named != digest:
            fault(
                FaultCode.INVALID_PARAMETERS,
                "the task names one model, its parameters another",
            )
        return self.load_model(self.models, digest)


def read_parameters(spec: WorkloadSpec, encoded: bytes) -> dict[str, Any]:
    """Canonical parameters, checked again; raise `WorkloadFault`."""
    try:
        given = decode_value(encoded)
    except DeaiError as error:
        fault(FaultCode.INVALID_PARAMETERS, str(error))
    if not isinstance(given, dict):
        fault(FaultCode.INVALID_PARAMETERS, "parameters are not an object")
    return spec.check_parameters(given)


def refuse_unpaid(estimate: Estimate, max_units: int | None) -> None:
    """Raise `NodeFault` with the reason code `underpaid` for more units than are paid for."""
    if max_units is not None and estimate.units > max_units:
        raise NodeFault(f"{estimate.units} units, of which {max_units} are paid", code="underpaid")
