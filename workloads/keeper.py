"""Keeps worker processes: one client per worker life, bounded, replaced when in doubt.

Small tasks come from many clients at once, each of which needs a worker of its own. A worker that
changes hands is a new process: about 25 ms of one core, and with 64 clients on four workers a
client would wait two seconds for its next slice of 100 ms. One that stays with its client costs
memory alone: 3 MiB of its own after small exact work, 100 MiB with the embedding model. So
there may be as many as a part of the machine's memory holds, and only beyond that do clients take
turns.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import trio

from deai.errors import NodeFault, WorkloadFault
from deai.hashing import MAX_BLOB_BYTES
from deai.tasks import FaultCode
from workloads import template, wire
from workloads.forkserver import ForkServer
from workloads.process import WorkerProcess

READY_TIMEOUT: Final = 60.0
STARTING_AT_ONCE: Final = 2
LEAST_LANES: Final = 4
MOST_LANES: Final = 64
MEMORY_PER_LANE: Final = 512 << 20
"""Bytes of the machine for each: four times what one holds that has loaded the largest model."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """How many workers, and what each may use. Bytes and seconds."""

    models: Path
    workers: int = 1
    lane_workers: int = 0
    """As many workers more for batches of small tasks; 0: what the machine's memory allows, 4 to
    64. Each client holds one; where there are more clients than workers, they take turns."""
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
class Worker:
    """A live worker and what is known about it."""

    process: WorkerProcess
    server: ForkServer
    client: str
    born: float
    """On trio's clock, in seconds."""
    ready: wire.Ready
    served: int = 0
    sound: bool = True
    """False from the moment a request starts until its answer is complete."""


@dataclass(slots=True)
class Bay:
    """The workers of one purpose: `size` may exist at once, of them `spare` without a client."""

    size: int
    spare: int
    slots: trio.Semaphore
    idle: deque[Worker] = field(default_factory=deque)
    waiting: int = 0
    starting: int = 0
    """Workers that are being started now."""
    holders: list[int] = field(default_factory=list)
    """A number for each place that is taken, the oldest first."""
    resting: set[int] = field(default_factory=set)
    """Holders that have nothing to do."""
    taken_ever: int = 0

    @classmethod
    def of(cls, size: int, *, spare: int) -> Bay:
        """An empty one."""
        return cls(size, spare, trio.Semaphore(size))

    @property
    def held(self) -> int:
        """How many places are taken."""
        return len(self.holders)

    def is_wanted(self, holder: int) -> bool:
        """Whether this place should be left to one who waits.

        As many are as wait: those at rest first, then the oldest. But while workers are being
        started for others already all go on working: a machine starts a few dozen in a second.
        """
        if not self.waiting or self.starting >= STARTING_AT_ONCE:
            return False
        first = sorted(self.holders, key=lambda one: (one not in self.resting, one))
        return holder in first[: self.waiting]

    @asynccontextmanager
    async def taken(self, slots: trio.Semaphore | None = None) -> AsyncIterator[int]:
        """Wait, first come first served, and hold one place (of `slots`, if given)."""
        slots = slots or self.slots
        try:
            slots.acquire_nowait()
        except trio.WouldBlock:
            self.waiting += 1
            try:
                await slots.acquire()
            finally:
                self.waiting -= 1
        self.taken_ever += 1
        holder = self.taken_ever
        self.holders.append(holder)
        try:
            yield holder
        finally:
            self.holders.remove(holder)
            self.resting.discard(holder)
            slots.release()


class Keeper:
    """Makes, lends and buries the workers of one template."""

    def __init__(self, config: PoolConfig) -> None:
        self._config = config
        self._server: ForkServer | None = None
        self._restarting = trio.Lock()
        self._computing = Bay.of(config.workers, spare=config.workers)
        self._lanes = Bay.of(_lanes(config), spare=max(LEAST_LANES, config.workers))
        self._live: set[int] = set()
        self._counts = dict.fromkeys(
            ("tasks", "faults", "failures", "workers_started", "template_starts"), 0
        )
        self._peak_bytes = 0

    async def exchange(self, held: Worker | None, client: str, bay: Bay) -> Worker:
        """`held` if it can take another request of its client, else a fresh worker."""
        if held is not None:
            if self.is_fresh(held):
                return held
            await self.bury(held)
        return await self.obtain(client, bay)

    async def obtain(self, client: str, bay: Bay) -> Worker:
        """This client's idle worker, or a fresh one; never one that served somebody else.

        Raises `NodeFault`.
        """
        for worker in list(bay.idle):
            if worker.client == client:
                bay.idle.remove(worker)
                if self.is_fresh(worker):
                    return worker
                await self.bury(worker)
        bay.starting += 1
        try:
            # Idle workers hold memory: those of other clients make room.
            while bay.idle and len(bay.idle) + bay.held > bay.size:
                await self.bury(bay.idle.popleft())
            return await self._start(client)
        finally:
            bay.starting -= 1

    async def _start(self, client: str) -> Worker:
        server = await self._running_server()
        process = await server.fork()
        self._counts["workers_started"] += 1
        try:
            with trio.fail_after(READY_TIMEOUT):
                ready = expect(await process.receive(), wire.Ready)
        except BaseException as error:
            # Cancelled, too: whoever was to have the process is gone, and nobody else knows of it.
            await server.bury(process)
            if isinstance(error, trio.TooSlowError):
                message = "a new worker did not lock itself in"
                raise NodeFault(message, code="worker_failed") from error
            raise
        worker = Worker(process, server, client, trio.current_time(), ready)
        self._live.add(process.pid)
        return worker

    def is_fresh(self, worker: Worker) -> bool:
        """Whether it can take another request of its client."""
        return (
            worker.sound
            and worker.server.alive
            and not worker.process.has_ended()
            and worker.served < self._config.worker_tasks
            and not self.is_old(worker)
        )

    def is_old(self, worker: Worker) -> bool:
        """Whether it has lived as long as any may."""
        return trio.current_time() - worker.born >= self._config.worker_seconds

    @property
    def memory_bytes(self) -> int:
        """What a worker may hold more than when it was born."""
        return self._config.memory_bytes

    def count(self, what: str, tasks: int) -> None:
        """Add to `tasks`, `faults` or `failures`."""
        self._counts[what] += tasks

    async def give_back(self, worker: Worker | None, bay: Bay) -> None:
        """Keep it for its client, unless it is not fit for more."""
        if worker is None:
            return
        if self.is_fresh(worker):
            bay.idle.append(worker)
        else:
            await self.bury(worker)
        while len(bay.idle) > bay.spare:
            await self.bury(bay.idle.popleft())

    async def bury(self, worker: Worker) -> None:
        """End it for good."""
        self._live.discard(worker.process.pid)
        peak = await worker.server.bury(worker.process)
        self._peak_bytes = max(self._peak_bytes, peak)

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

    async def stop(self) -> None:
        """End every worker and the template."""
        for bay in (self._computing, self._lanes):
            while bay.idle:
                await self.bury(bay.idle.popleft())
        if self._server is not None:
            await self._server.stop()


def _lanes(config: PoolConfig) -> int:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    allowed = max(LEAST_LANES, config.workers, min(MOST_LANES, memory // MEMORY_PER_LANE))
    return config.lane_workers or allowed


def expect(reply: wire.Reply, kind: type[T]) -> T:
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
