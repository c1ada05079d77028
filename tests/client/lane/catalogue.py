"""Workloads that tests of the lane need: one that shouts, whose units are the input's length."""

from __future__ import annotations

from typing import Any

from deai.codec import encode_value
from deai.errors import WorkloadFault
from deai.ports import Estimate, WorkloadInfo

SHOUT = WorkloadInfo(
    id="shout",
    version=1,
    title="Shout",
    description="The input in capitals.",
    policies=("none/1",),
    default_policy="none/1",
    determinism="exact",
    unit="byte",
    models=(),
    parameters={},
    output_type="text",
)


class Shouting:
    """Satisfies `Catalogue`."""

    def list(self) -> tuple[WorkloadInfo, ...]:
        return (SHOUT,)

    def info(self, workload: str) -> WorkloadInfo:
        if workload != SHOUT.id:
            raise WorkloadFault(f"no workload {workload}", fault=1)
        return SHOUT

    def parameters(self, workload: str, given: dict[str, Any]) -> bytes:
        return encode_value(given)

    def check(self, workload: str, parameters: bytes, data: bytes) -> Estimate:
        if data.startswith(b"invalid"):
            raise WorkloadFault("an input that cannot be meant", fault=2)
        return Estimate(1, max(1, len(data)))

    def convert(self, workload: str, data: bytes, suffix: str) -> bytes:
        raise WorkloadFault("no other format", fault=1)
