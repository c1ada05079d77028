"""Ports that the vocabulary's client and the node's daemon share: what computes and compares.

`workloads` implements them; nothing here imports torch. Entry-point group `deai.adapters`
names the implementations: `net` (p2p), `workbench` (workloads).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import msgspec

from deai.tasks import Policy

Progress = Callable[[float], None]
"""Called with the fraction done, 0 to 1; must not block."""


class WorkloadInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What anybody may know about a workload without running it."""

    id: str
    version: int
    title: str
    description: str
    policies: tuple[str, ...]
    default_policy: str
    determinism: str
    unit: str
    """What the cost model counts, e.g. `text of 64 tokens`."""
    models: tuple[str, ...]
    parameters: dict[str, Any]
    """JSON schema of the parameters."""
    output_type: str
    """`safetensors`, `json`, `digest` or `bytes`."""
    input: str = ""
    """What an input consists of, in a sentence."""
    example: str = ""
    """An input that is computed as it stands."""


class Estimate(msgspec.Struct, frozen=True):
    """A valid input: how many items and cost units it has; the same on every machine."""

    items: int
    units: int


class Computation(msgspec.Struct, frozen=True, kw_only=True):
    """One computation: what a runner is given and nothing else."""

    workload: str
    version: int
    model: str
    parameters: bytes
    input: bytes
    seed: bytes
    """32 bytes all seats of a task share: the task id, or zeros outside a task."""
    max_units: int | None = None
    """Cost units that are paid for: an input with more is parsed and not computed."""


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """A canonical, checked output. `measurements` is beside the digest, never in it."""

    data: bytes
    evidence: bytes
    units: int
    seconds: float
    measurements: dict[str, float]


class SandboxReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the start-up probe of the worker achieved: `full`, `partial` or `none`, and why."""

    level: str
    details: dict[str, bool]
    notes: tuple[str, ...] = ()


class Catalogue(Protocol):
    """Knows workloads and checks inputs; pure, no torch, no network."""

    def list(self) -> tuple[WorkloadInfo, ...]:
        """Every workload installed here."""
        ...

    def info(self, workload: str) -> WorkloadInfo:
        """One of them; raise `WorkloadFault` if it is unknown."""
        ...

    def parameters(self, workload: str, given: dict[str, Any]) -> bytes:
        """Check parameters, fill in defaults, return canonical bytes (`codec.encode_value`).

        Raises `WorkloadFault(fault=INVALID_PARAMETERS)`.
        """
        ...

    def check(self, workload: str, parameters: bytes, data: bytes) -> Estimate:
        """Parse an input as every node will; raise `WorkloadFault` with its code."""
        ...

    def convert(self, workload: str, data: bytes, suffix: str) -> bytes:
        """An output in another file format (`.npy`, `.jsonl`, `.json`); raise `WorkloadFault`."""
        ...


class Executor(Protocol):
    """Runs computations of one client in a locked worker."""

    async def run(
        self, computation: Computation, *, on_progress: Progress, timeout: float
    ) -> Output:
        """Compute; raise `WorkloadFault` (the task is bad) or `NodeFault` (this node failed).

        More units than `Computation.max_units` are a `NodeFault` with the reason code `underpaid`.
        """
        ...

    async def compare(
        self, computation: Computation, policy: Policy, outputs: Sequence[bytes]
    ) -> list[list[bool]]:
        """Pairwise: is output i within the policy's tolerance of output j?

        Outputs are untrusted bytes and are parsed in the worker; one that cannot be read is
        within tolerance of nothing.
        """
        ...


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Many small tasks of one kind, handed over together; see `Computation` for the fields."""

    workload: str
    version: int
    model: str
    parameters: bytes
    seed: bytes
    max_units: int
    inputs: Sequence[bytes]


class Failure(msgspec.Struct, frozen=True):
    """In the place of an output: the task is bad (`fault` > 0), or this node failed (0)."""

    fault: int
    reason: str


class BatchExecutor(Protocol):
    """A locked worker that one client's small tasks pass through, a few batches at a time."""

    @property
    def free(self) -> int:
        """How many more batches may be submitted now."""
        ...

    @property
    def is_wanted(self) -> bool:
        """Whether somebody else waits for a worker, so that this one should be given back soon."""
        ...

    def submit(
        self, batch: Batch, done: Callable[[Sequence[bytes | Failure]], None], *, timeout: float
    ) -> None:
        """Compute; `done` is called on the event loop, once, with an answer for every input.

        A worker that dies or takes longer than `timeout` seconds gives a `Failure` for each task
        it had; the next batch finds a new one. Raises `LimitExceeded` where nothing is free and
        for more than 512 inputs or 1 MiB of them, `NodeFault` for a workload not offered here.
        """
        ...


class Workbench(Protocol):
    """A pool of locked workers over a catalogue."""

    def batches(self, client: str) -> AbstractAsyncContextManager[BatchExecutor]:
        """A worker for the small tasks of one client; entering waits until one is free, in turn.

        Leaving gives it back; what is under way is waited for. Raises `NodeFault`.
        """
        ...

    @property
    def catalogue(self) -> Catalogue:
        """What can be computed here."""
        ...

    @property
    def sandbox(self) -> SandboxReport:
        """What the workers are locked into."""
        ...

    def executor(
        self, client: str, *, urgent: bool = False
    ) -> AbstractAsyncContextManager[Executor]:
        """A worker for one client's computation; waits (bounded queue) until one is free.

        One that is `urgent` (judging others before a window ends) waits for no computation.
        Raises `LimitExceeded` when the queue is full.
        """
        ...

    def stats(self) -> dict[str, Any]:
        """Workers by state, tasks served, restarts, memory; for `status` and metrics."""
        ...
