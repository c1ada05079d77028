"""A pool of locked workers over the installed workloads: the port `Workbench`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import trio

from deai.errors import ExecutionFailed, LimitExceeded, NodeFault, WorkloadFault
from deai.ports import BatchExecutor, Computation, Executor, Output, Progress, SandboxReport
from deai.tasks import FaultCode, Policy
from workloads import wire
from workloads.faults import fault
from workloads.inputs import InstalledWorkloads
from workloads.keeper import Bay, Keeper, PoolConfig, Worker, expect
from workloads.lanes import BatchLane
from workloads.spec import SandboxLevel

__all__ = ["PoolConfig", "WorkerPool", "judge", "open_workbench", "open_worker_pool"]

PROBE_TIMEOUT: Final = 60.0
COMPARE_TIMEOUT: Final = 120.0
AT_REST_AFTER: Final = ("runner", "model_missing", "underpaid")
"""Failures that a worker reported in order, so that it can take the next request."""

T = TypeVar("T")


class WorkerPool(Keeper):
    """Satisfies the port `Workbench`; made by `open_worker_pool`."""

    def __init__(self, config: PoolConfig) -> None:
        super().__init__(config)
        self._installed = InstalledWorkloads.load(extra=config.extra, only=config.workloads)
        self._urgent = trio.Semaphore(1)
        self._sandbox = SandboxReport(level=SandboxLevel.NONE.value, details={})

    @property
    def catalogue(self) -> InstalledWorkloads:
        """What can be computed here, behind the lock that holds here."""
        return self._installed

    @property
    def sandbox(self) -> SandboxReport:
        """What the start-up probe found."""
        return self._sandbox

    def stats(self) -> dict[str, Any]:
        """Workers by state, work done, restarts, memory in bytes."""
        return {
            **self._counts,
            "busy": self._computing.held,
            "idle": len(self._computing.idle),
            "waiting": self._computing.waiting,
            "slots": self._config.workers,
            "lanes_busy": self._lanes.held,
            "lanes_idle": len(self._lanes.idle),
            "lanes_waiting": self._lanes.waiting,
            "lanes_slots": self._lanes.size,
            "peak_memory_bytes": self._peak_bytes,
            "template_mapped_bytes": self._server.mapped_bytes if self._server else 0,
            "worker_pids": sorted(self._live),
        }

    def executor(
        self, client: str, *, urgent: bool = False
    ) -> AbstractAsyncContextManager[Executor]:
        """A worker for one client; see the port `Workbench`."""
        return self._executor(client, self._urgent if urgent else self._computing.slots)

    @asynccontextmanager
    async def _executor(self, client: str, slots: trio.Semaphore) -> AsyncIterator[Executor]:
        bay = self._computing
        if bay.waiting >= self._config.queue:
            raise LimitExceeded(
                f"{bay.waiting} computations wait for a worker already", hint="try again later"
            )
        async with bay.taken(slots):
            lease = _Lease(self, client, bay)
            try:
                yield lease
            finally:
                await self.give_back(lease.worker, bay)

    @asynccontextmanager
    async def batches(self, client: str) -> AsyncIterator[BatchExecutor]:
        """A worker for one client's small tasks; see the port `Workbench`."""
        async with (
            self._lanes.taken() as holder,
            BatchLane(self, self._lanes, holder, client, self._installed) as lane,
        ):
            yield lane

    async def run(
        self, worker: Worker, computation: Computation, on_progress: Progress, timeout: float
    ) -> Output:
        """One computation on one worker; see `Executor.run`."""
        config = self._config
        if computation.workload not in self._installed:
            raise NodeFault(f"{computation.workload[:80]} is not offered here", code="not_offered")
        if len(computation.input) > config.max_input_bytes:
            fault(FaultCode.INPUT_TOO_LARGE, f"at most {config.max_input_bytes} bytes of input")
        request = wire.Run(
            workload=computation.workload,
            version=computation.version,
            model=computation.model,
            parameters=computation.parameters,
            seed=computation.seed,
            input_bytes=len(computation.input),
            max_units=computation.max_units,
        )

        async def converse() -> Output:
            await worker.process.send(request, (computation.input,))
            while isinstance(reply := await worker.process.receive(), wire.Progress):
                on_progress(reply.fraction)
            done = expect(reply, wire.Done)
            limit = config.max_output_bytes
            data = await worker.process.receive_blob(done.output_bytes, limit)
            evidence = await worker.process.receive_blob(done.evidence_bytes, limit)
            return Output(
                data=data,
                evidence=evidence,
                units=done.units,
                seconds=done.seconds,
                measurements=dict(done.measured),
            )

        return await self._supervise(worker, converse, timeout)

    async def compare(
        self, worker: Worker, computation: Computation, policy: Policy, outputs: Sequence[bytes]
    ) -> list[list[bool]]:
        """Compare untrusted outputs on one worker; see `Executor.compare`."""
        request = wire.Compare(
            workload=computation.workload,
            version=computation.version,
            policy=policy.label,
            model=computation.model,
            parameters=computation.parameters,
            sizes=[len(output) for output in outputs],
        )

        async def converse() -> list[list[bool]]:
            await worker.process.send(request, outputs)
            try:
                agree = expect(await worker.process.receive(), wire.Compared).agree
            except WorkloadFault as error:
                # Whatever is wrong with a task was found when it was computed.
                raise NodeFault(f"not compared: {error}", code="runner") from error
            if [len(row) for row in agree] != [len(outputs)] * len(outputs):
                raise NodeFault("the comparison has another shape", code="worker_babbled")
            return agree

        return await self._supervise(worker, converse, COMPARE_TIMEOUT)

    async def _supervise(
        self, worker: Worker, converse: Callable[[], Awaitable[T]], timeout: float
    ) -> T:
        """Let `converse` talk within its time and the worker's memory, and count how it ended."""
        worker.sound = False
        worker.served += 1
        self._counts["tasks"] += 1
        result: T | None = None
        failure: ExecutionFailed | None = NodeFault(
            f"the worker did not finish within {timeout:g} s", code="timeout"
        )
        with trio.move_on_after(timeout), worker.process.limited(self._config.memory_bytes):
            try:
                result = await converse()
                failure = None
            except ExecutionFailed as error:
                failure = error
        if failure is None:
            assert result is not None
            worker.sound = True
            return result
        # A fault and a runner's own exception leave the worker at rest between two requests.
        worker.sound = isinstance(failure, WorkloadFault) or failure.reason_code in AT_REST_AFTER
        self._counts["faults" if isinstance(failure, WorkloadFault) else "failures"] += 1
        raise failure

    async def probe(self) -> None:
        """Try the lock from inside a worker of our own, and remember what it achieved."""
        worker = await self.obtain("", self._computing)
        try:
            with trio.fail_after(PROBE_TIMEOUT):
                await worker.process.send(wire.Probe())
                probed = expect(await worker.process.receive(), wire.Probed)
        except trio.TooSlowError as error:
            raise NodeFault("the sandbox probe hung", code="worker_failed") from error
        finally:
            await self.bury(worker)
        self._sandbox = judge(worker.ready, probed.denied)
        self._installed = self._installed.within(SandboxLevel(self._sandbox.level))


class _Lease:
    """One client's hold on a worker; replaces it when it breaks. Satisfies `Executor`."""

    def __init__(self, pool: WorkerPool, client: str, bay: Bay) -> None:
        self._pool = pool
        self._client = client
        self._bay = bay
        self.worker: Worker | None = None

    async def run(
        self, computation: Computation, *, on_progress: Progress, timeout: float
    ) -> Output:
        """Compute; see the port."""
        return await self._pool.run(await self._sound(), computation, on_progress, timeout)

    async def compare(
        self, computation: Computation, policy: Policy, outputs: Sequence[bytes]
    ) -> list[list[bool]]:
        """Compare; see the port."""
        return await self._pool.compare(await self._sound(), computation, policy, outputs)

    async def _sound(self) -> Worker:
        held, self.worker = self.worker, None
        self.worker = await self._pool.exchange(held, self._client, self._bay)
        return self.worker


@asynccontextmanager
async def open_worker_pool(config: PoolConfig) -> AsyncIterator[WorkerPool]:
    """Start the template, probe the lock, and keep workers until the block ends.

    Raises `NodeFault` when the template cannot start or its probe fails.
    """
    pool = WorkerPool(config)
    try:
        await pool.probe()
        yield pool
    finally:
        await pool.stop()


def open_workbench(
    models: Path, *, threads: int = 1, workloads: tuple[str, ...] = ()
) -> AbstractAsyncContextManager[WorkerPool]:
    """A pool of one worker for somebody's own use (entry point of `deai.adapters`).

    `models` is the store, usually `<home>/models`; `workloads` limits what is imported.
    """
    return open_worker_pool(PoolConfig(models=models, threads=threads, workloads=workloads))


def judge(ready: wire.Ready, denied: Mapping[str, bool]) -> SandboxReport:
    """`full`: all three layers hold and every attempt failed; `partial`: limits and one layer."""
    layers = (ready.landlock > 0, ready.seccomp)
    if ready.rlimits and all(layers) and all(denied.values()):
        level = SandboxLevel.FULL
    elif ready.rlimits and any(layers):
        level = SandboxLevel.PARTIAL
    else:
        level = SandboxLevel.NONE
    details = {
        "rlimits": ready.rlimits, "landlock": layers[0], "seccomp": layers[1],
        **{f"denies_{name}": held for name, held in denied.items()},
    }  # fmt: skip
    notes = (f"landlock ABI {ready.landlock}", *ready.problems)
    return SandboxReport(level=level.value, details=details, notes=notes)
