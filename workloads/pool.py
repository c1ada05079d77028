"""A pool of locked workers: one client per worker life, bounded, replaced when in doubt."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import trio

from deai.errors import ExecutionFailed, LimitExceeded, NodeFault, WorkloadFault
from deai.hashing import MAX_BLOB_BYTES
from deai.ports import Computation, Executor, Output, Progress, SandboxReport
from deai.tasks import FaultCode, Policy
from workloads import template, wire
from workloads.faults import fault
from workloads.forkserver import ForkServer
from workloads.inputs import InstalledWorkloads
from workloads.process import WorkerProcess
from workloads.spec import SandboxLevel

READY_TIMEOUT: Final = 60.0
PROBE_TIMEOUT: Final = 60.0
COMPARE_TIMEOUT: Final = 120.0
AT_REST_AFTER: Final = ("runner", "model_missing", "underpaid")
"""Failures that a worker reported in order, so that it can take the next request."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """How many workers, and what each may use. Bytes and seconds."""

    models: Path
    workers: int = 1
    threads: int = 1
    memory_bytes: int = 2 << 30
    """Above the mapped libraries; also the most a worker may hold resident of its own."""
    max_input_bytes: int = MAX_BLOB_BYTES
    max_output_bytes: int = MAX_BLOB_BYTES
    queue: int = 64
    """Executors that may wait for a worker; one more is refused."""
    worker_tasks: int = 1000
    worker_seconds: float = 3600.0
    workloads: tuple[str, ...] = ()
    """Ids to offer; empty: all installed."""
    extra: tuple[str, ...] = ()
    """More `WorkloadSpec`s as `module:attribute`, beside the entry points."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to the template's, which is otherwise built from nothing."""


@dataclass(slots=True)
class _Worker:
    """A live worker and what is known about it."""

    process: WorkerProcess
    server: ForkServer
    client: str
    born: float
    ready: wire.Ready
    served: int = 0
    sound: bool = True
    """False from the moment a request starts until its answer is complete."""


class WorkerPool:
    """Satisfies the port `Workbench`; made by `open_worker_pool`."""

    def __init__(self, config: PoolConfig) -> None:
        self._config = config
        self._installed = InstalledWorkloads.load(extra=config.extra, only=config.workloads)
        self._server: ForkServer | None = None
        self._restarting = trio.Lock()
        self._slots = trio.Semaphore(config.workers)
        self._urgent = trio.Semaphore(1)
        self._idle: deque[_Worker] = deque()
        self._live: set[int] = set()
        self._waiting = 0
        self._busy = 0
        self._counts = dict.fromkeys(
            ("tasks", "faults", "failures", "workers_started", "template_starts"), 0
        )
        self._peak_bytes = 0
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
            "busy": self._busy,
            "idle": len(self._idle),
            "waiting": self._waiting,
            "slots": self._config.workers,
            "peak_memory_bytes": self._peak_bytes,
            "template_mapped_bytes": self._server.mapped_bytes if self._server else 0,
            "worker_pids": sorted(self._live),
        }

    def executor(
        self, client: str, *, urgent: bool = False
    ) -> AbstractAsyncContextManager[Executor]:
        """A worker for one client; see the port `Workbench`."""
        return self._executor(client, self._urgent if urgent else self._slots)

    @asynccontextmanager
    async def _executor(self, client: str, slots: trio.Semaphore) -> AsyncIterator[Executor]:
        if self._waiting >= self._config.queue:
            raise LimitExceeded(
                f"{self._waiting} computations wait for a worker already", hint="try again later"
            )
        try:
            slots.acquire_nowait()
        except trio.WouldBlock:
            self._waiting += 1
            try:
                await slots.acquire()
            finally:
                self._waiting -= 1
        self._busy += 1
        lease = _Lease(self, client)
        try:
            yield lease
        finally:
            await self._give_back(lease.worker)
            self._busy -= 1
            slots.release()

    async def exchange(self, held: _Worker | None, client: str) -> _Worker:
        """`held` if it can take another request of its client, else a fresh worker."""
        if held is not None:
            if self._is_fresh(held):
                return held
            await self._bury(held)
        return await self.obtain(client)

    async def obtain(self, client: str) -> _Worker:
        """This client's idle worker, or a fresh one; never one that served somebody else."""
        for worker in list(self._idle):
            if worker.client == client:
                self._idle.remove(worker)
                if self._is_fresh(worker):
                    return worker
                await self._bury(worker)
        # Idle workers hold memory: those of other clients make room.
        while self._idle and len(self._idle) + self._busy > self._config.workers:
            await self._bury(self._idle.popleft())
        server = await self._running_server()
        process = await server.fork()
        self._counts["workers_started"] += 1
        try:
            with trio.fail_after(READY_TIMEOUT):
                ready = _expect(await process.receive(), wire.Ready)
        except BaseException as error:
            await server.bury(process)
            if isinstance(error, trio.TooSlowError):
                message = "a new worker did not lock itself in"
                raise NodeFault(message, code="worker_failed") from error
            raise
        worker = _Worker(process, server, client, trio.current_time(), ready)
        self._live.add(process.pid)
        return worker

    def _is_fresh(self, worker: _Worker) -> bool:
        age = trio.current_time() - worker.born
        return (
            worker.sound
            and worker.server.alive
            and not worker.process.has_ended()
            and worker.served < self._config.worker_tasks
            and age < self._config.worker_seconds
        )

    async def _give_back(self, worker: _Worker | None) -> None:
        if worker is None:
            return
        if self._is_fresh(worker):
            self._idle.append(worker)
        else:
            await self._bury(worker)

    async def _bury(self, worker: _Worker) -> None:
        self._live.discard(worker.process.pid)
        peak = await worker.server.bury(worker.process)
        self._peak_bytes = max(self._peak_bytes, peak)

    async def run(
        self, worker: _Worker, computation: Computation, on_progress: Progress, timeout: float
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
            done = _expect(reply, wire.Done)
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
        self, worker: _Worker, computation: Computation, policy: Policy, outputs: Sequence[bytes]
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
                agree = _expect(await worker.process.receive(), wire.Compared).agree
            except WorkloadFault as error:
                # Whatever is wrong with a task was found when it was computed.
                raise NodeFault(f"not compared: {error}", code="runner") from error
            if [len(row) for row in agree] != [len(outputs)] * len(outputs):
                raise NodeFault("the comparison has another shape", code="worker_babbled")
            return agree

        return await self._supervise(worker, converse, COMPARE_TIMEOUT)

    async def _supervise(
        self, worker: _Worker, converse: Callable[[], Awaitable[T]], timeout: float
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

    async def _running_server(self) -> ForkServer:
        """The template, started anew if it has died."""
        async with self._restarting:
            if self._server is None or not self._server.alive:
                await self.stop()
                setup = template.Setup(
                    workloads=list(self._config.workloads),
                    extra=list(self._config.extra),
                    models=str(self._config.models.absolute()),
                    threads=self._config.threads,
                    memory_bytes=self._config.memory_bytes,
                )
                self._server = await ForkServer.start(setup, self._config.environment)
                self._counts["template_starts"] += 1
            return self._server

    async def probe(self) -> None:
        """Try the lock from inside a worker of our own, and remember what it achieved."""
        worker = await self.obtain("")
        try:
            with trio.fail_after(PROBE_TIMEOUT):
                await worker.process.send(wire.Probe())
                probed = _expect(await worker.process.receive(), wire.Probed)
        except trio.TooSlowError as error:
            raise NodeFault("the sandbox probe hung", code="worker_failed") from error
        finally:
            await self._bury(worker)
        self._sandbox = judge(worker.ready, probed.denied)
        self._installed = self._installed.within(SandboxLevel(self._sandbox.level))

    async def stop(self) -> None:
        """End every worker and the template."""
        while self._idle:
            await self._bury(self._idle.popleft())
        if self._server is not None:
            await self._server.stop()


class _Lease:
    """One client's hold on a worker; replaces it when it breaks. Satisfies `Executor`."""

    def __init__(self, pool: WorkerPool, client: str) -> None:
        self._pool = pool
        self._client = client
        self.worker: _Worker | None = None

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

    async def _sound(self) -> _Worker:
        held, self.worker = self.worker, None
        self.worker = await self._pool.exchange(held, self._client)
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


def _expect(reply: wire.Reply, kind: type[T]) -> T:
    """The reply if it is of `kind`; its failure, or the worker's confusion, as an error."""
    match reply:
        case wire.Fault(code=code, message=message):
            if code not in list(FaultCode):
                raise NodeFault(f"no such fault: {code}", code="worker_babbled")
            raise WorkloadFault(message, fault=code)
        case wire.Failed(reason=reason, message=message):
            raise NodeFault(message, code=reason)
        case _:
            pass
    if not isinstance(reply, kind):
        raise NodeFault(f"an answer out of turn: {type(reply).__name__}", code="worker_babbled")
    return reply
