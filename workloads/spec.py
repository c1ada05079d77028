"""The contract of a workload: what it is called, takes, gives, costs, and how it is checked.

Everything here is data and pure functions, importable without torch. The runner is named, not
imported: only a worker process ever loads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import msgspec

from deai.ports import Estimate
from deai.tasks import Policy


class Determinism(StrEnum):
    """What two honest nodes agree on."""

    BITWISE = "bitwise"  # every byte, on any processor, thread count and batch size
    TOLERANCE = "tolerance"  # within the thresholds of the model's manifest


class SandboxLevel(StrEnum):
    """How much of the lock holds around a worker, weakest first."""

    NONE = "none"  # at most resource limits
    PARTIAL = "partial"  # resource limits and one of Landlock and seccomp
    FULL = "full"  # all three

    @property
    def rank(self) -> int:
        """0 to 2."""
        return list(SandboxLevel).index(self)


class ModelFiles(msgspec.Struct, frozen=True):
    """A verified model on this machine: its manifest's free-form part and its directory."""

    digest: str
    directory: Path
    architecture: dict[str, Any]
    tolerances: dict[str, dict[str, float]]


class RunnerTask(msgspec.Struct, frozen=True):
    """What a runner is given: canonical parameters (already checked), input, model, seed.

    Tasks of one batch share their parameters: a runner leaves them as they are.
    """

    parameters: dict[str, Any]
    input: bytes
    model: ModelFiles | None
    seed: bytes
    threads: int


class RunnerOutput(msgspec.Struct, frozen=True):
    """What a runner gives back; `measurements` never enters a digest."""

    data: bytes
    evidence: bytes = b""
    measurements: dict[str, float] = {}


Report: TypeAlias = Callable[[float], None]
"""Called by a runner with the fraction done, 0 to 1."""


class Runner(Protocol):
    """The torch code of one workload, loaded in the template and kept for a worker's life."""

    def __call__(self, task: RunnerTask, report: Report) -> RunnerOutput:
        """Compute; raise `WorkloadFault` only for what parsing the input decides."""
        ...


class ManyRunner(Protocol):
    """The same for many small inputs at once, where that is faster than one by one."""

    def __call__(self, task: RunnerTask, inputs: Sequence[bytes]) -> Iterable[bytes]:
        """The output of each, as `Runner` would find it; `task.input` is empty.

        Whatever it raises, every input is then run for itself.
        """
        ...


def _nothing_to_convert(data: bytes, suffix: str) -> bytes | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadSpec:
    """One named, versioned, typed computation.

    `check_parameters` fills in defaults and raises `WorkloadFault(INVALID_PARAMETERS)`;
    `check_input` parses an input exactly as the runner will and prices it;
    `check_output` raises `ValueError` unless the bytes are *the* canonical form of a result:
    right types, right shape, finite. Only such bytes are ever hashed.
    """

    id: str
    version: int
    title: str
    description: str
    policies: tuple[Policy, ...]
    default_policy: Policy
    determinism: Determinism
    unit: str
    output_type: str
    parameters_schema: Mapping[str, Any]
    input_form: str = ""
    """What an input consists of, in a sentence for people."""
    check_parameters: Callable[[Mapping[str, Any]], dict[str, Any]]
    check_input: Callable[[Mapping[str, Any], bytes], Estimate]
    check_output: Callable[[bytes, Estimate], None]
    runner: str
    """`module:callable`, imported in the worker's template only."""
    run_many: str = ""
    """`module:callable` for batches of small tasks: a `ManyRunner`."""
    warm_up: str = ""
    """`module:callable` run once in the template before it forks."""
    compare: str = ""
    """`module:callable(outputs, tolerances) -> matrix`; needed by tolerance policies."""
    convert: Callable[[bytes, str], bytes | None] = _nothing_to_convert
    models: tuple[str, ...] = ()
    """Names of manifests; empty where no weights are needed."""
    sandbox: SandboxLevel = SandboxLevel.PARTIAL
    memory_bytes: int = 1 << 30
    """What a worker needs above the mapped libraries."""
    examples: tuple[tuple[Mapping[str, Any], bytes], ...] = field(default=())
    """Valid (parameters, input) pairs that the conformance suite runs."""
