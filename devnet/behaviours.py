"""Nodes that misbehave, for demonstrations and attack tests; never part of an honest node.

A behaviour is `wrap(ports) -> ports`. It changes what a node computes, says, or sends, and
nothing else: everything honest around it is the honest node's own code.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, NoReturn, TypeVar

import msgspec
import trio

from deai import tasks
from deai.events import ResultCommitted
from deai.hashing import keccak
from deai.ids import PeerId, TaskId
from deai.messages import Committed, Opened, Progress, TaskMessage
from deai.net import Dialect, Link, LinkHandler, Net, PeerAddress
from deai.ports import (
    Batch,
    BatchExecutor,
    Catalogue,
    Computation,
    Executor,
    Failure,
    Output,
    Progress as OnProgress,
    SandboxReport,
    Workbench,
)
from deai.tasks import Policy
from node.ports import Ports

M = TypeVar("M")

_WIDTH: Final = 384
_LOOK_AGAIN: Final = 0.2
_LOOKS: Final = 50


def lazy(ports: Ports) -> Ports:
    """Answers at once, without computing: well-formed outputs with invented numbers."""
    return _computing(ports, _invent, _LazyLane)


def wrong_weights(ports: Ports) -> Ports:
    """Computes with slightly other weights: every number is off by about a percent."""

    async def run(
        inner: Executor, computation: Computation, on_progress: OnProgress, timeout: float
    ) -> Output:
        honest = await inner.run(computation, on_progress=on_progress, timeout=timeout)
        return msgspec.structs.replace(honest, data=_disturbed(honest.data))

    return _computing(ports, run, _WrongLane)


def silent(ports: Ports) -> Ports:
    """Takes seats and never answers: no progress, no commitment."""

    async def run(
        _inner: Executor, _computation: Computation, _on: OnProgress, _timeout: float
    ) -> Output:
        await trio.sleep_forever()

    async def say(_ports: Ports, message: TaskMessage) -> Sequence[TaskMessage]:
        return () if isinstance(message, Progress) else (message,)

    return _talking(_computing(ports, run), say)


def crasher(ports: Ports) -> Ports:
    """Dies, as by SIGKILL, in the middle of every computation."""

    async def run(
        inner: Executor, computation: Computation, on_progress: OnProgress, timeout: float
    ) -> Output:
        def die(done: float) -> None:
            on_progress(done)
            os.kill(os.getpid(), signal.SIGKILL)

        await inner.run(computation, on_progress=die, timeout=timeout)
        die(1.0)
        raise AssertionError("unreachable")

    return _computing(ports, run)


def equivocator(ports: Ports) -> Ports:
    """Signs two results for one seat and attempt, and shows both."""

    async def say(ports: Ports, message: TaskMessage) -> Sequence[TaskMessage]:
        if not isinstance(message, Opened):
            return (message,)
        other = keccak(b"another output", message.digest)
        digest = tasks.result_digest(
            ports.ledger.info.escrow, message.task_id, message.seat, message.attempt, other,
            message.evidence,
        )  # fmt: skip
        second = msgspec.structs.replace(message, digest=other, signature=ports.signer.sign(digest))
        return (message, second)

    return _talking(ports, say)


def copycat(ports: Ports) -> Ports:
    """Computes nothing and commits to what another seat committed to, hoping to open it later."""

    async def say(ports: Ports, message: TaskMessage) -> Sequence[TaskMessage]:
        if not isinstance(message, Committed):
            return (message,)
        copied = await _anothers_commitment(ports, message.task_id, message.seat)
        if copied is None:
            return (message,)
        digest = tasks.commit_digest(
            ports.ledger.info.escrow, message.task_id, message.seat, message.attempt, copied
        )
        return (
            msgspec.structs.replace(message, value=copied, signature=ports.signer.sign(digest)),
        )

    return _talking(_computing(ports, _invent), say)


BEHAVIOURS: Final[dict[str, str]] = {
    "lazy": "devnet.behaviours:lazy",
    "wrong-weights": "devnet.behaviours:wrong_weights",
    "copycat": "devnet.behaviours:copycat",
    "equivocator": "devnet.behaviours:equivocator",
    "silent": "devnet.behaviours:silent",
    "crasher": "devnet.behaviours:crasher",
}
"""Name on the command line → callable."""


async def _anothers_commitment(ports: Ports, task: TaskId, seat: int) -> bytes | None:
    for _ in range(_LOOKS):
        for record in await ports.ledger.task_events(task, since=0):
            event = record.event
            if isinstance(event, ResultCommitted) and event.seat != seat:
                return event.value
        await trio.sleep(_LOOK_AGAIN)
    return None


async def _invent(
    _inner: Executor, computation: Computation, on_progress: OnProgress, _timeout: float
) -> Output:
    on_progress(1.0)
    data = _invented(computation.workload, computation.input)
    return Output(data=data, evidence=b"", units=1, seconds=0.0, measurements={})


def _invented(workload: str, given: bytes) -> bytes:
    return _vectors(given) if workload == "embedding" else _figures(given)


def _vectors(given: bytes) -> bytes:
    """Unit-free float32 rows by hash: safetensors as the embedding runner would write it."""
    rows = max(1, given.count(b"\n") + (not given.endswith(b"\n")))
    header = json.dumps(
        {
            "embeddings": {
                "dtype": "F32",
                "shape": [rows, _WIDTH],
                "data_offsets": [0, rows * _WIDTH * 4],
            }
        },
        separators=(",", ":"),
    ).encode()
    header += b" " * (-len(header) % 8)
    noise = hashlib.shake_128(given).digest(rows * _WIDTH)
    floats = struct.pack(f"<{rows * _WIDTH}f", *((byte - 127.5) / 1500 for byte in noise))
    return struct.pack("<Q", len(header)) + header + floats


def _figures(given: bytes) -> bytes:
    """A small JSON answer that nobody computed."""
    guess = int.from_bytes(hashlib.sha256(given).digest()[:4], "big") / 1000
    return json.dumps({"cvar": {"0.95": guess * 1.3}, "var": {"0.95": guess}}).encode()


def _disturbed(data: bytes) -> bytes:
    """Another answer of the same form: floats of a tensor times 1.01, or a digit of a text."""
    if len(data) > 8:
        length = struct.unpack("<Q", data[:8])[0]
        if length < len(data) and data[8:9] == b"{":
            body = data[8 + length :]
            count = len(body) // 4
            floats = struct.unpack(f"<{count}f", body[: 4 * count])
            shifted = (value * 1.01 + 0.003 * (-1) ** i for i, value in enumerate(floats))
            return data[: 8 + length] + struct.pack(f"<{count}f", *shifted)
    swapped = bytes.maketrans(b"123456789", b"234567891")
    return data.translate(swapped)


Answers = Sequence[bytes | Failure]
Run = Callable[[Executor, Computation, OnProgress, float], Awaitable[Output]]
Say = Callable[[Ports, TaskMessage], Awaitable[Sequence[TaskMessage]]]


@dataclass(frozen=True)
class _Computing:
    """An executor that computes otherwise and compares honestly."""

    inner: Executor
    how: Run

    async def run(
        self, computation: Computation, *, on_progress: OnProgress, timeout: float
    ) -> Output:
        return await self.how(self.inner, computation, on_progress, timeout)

    async def compare(
        self, computation: Computation, policy: Policy, outputs: Sequence[bytes]
    ) -> list[list[bool]]:
        return await self.inner.compare(computation, policy, outputs)


@dataclass(frozen=True)
class _Lane:
    """An honest lane of small tasks; what lies overrides `submit`."""

    inner: BatchExecutor

    @property
    def free(self) -> int:
        return self.inner.free

    @property
    def is_wanted(self) -> bool:
        return self.inner.is_wanted

    def submit(self, batch: Batch, done: Callable[[Answers], None], *, timeout: float) -> None:
        self.inner.submit(batch, done, timeout=timeout)


class _WrongLane(_Lane):
    """Every output is disturbed."""

    def submit(self, batch: Batch, done: Callable[[Answers], None], *, timeout: float) -> None:
        def disturb(honest: Answers) -> None:
            done([one if isinstance(one, Failure) else _disturbed(one) for one in honest])

        self.inner.submit(batch, disturb, timeout=timeout)


class _LazyLane(_Lane):
    """No input reaches a worker but the first of a batch, which keeps the batches in order."""

    def submit(self, batch: Batch, done: Callable[[Answers], None], *, timeout: float) -> None:
        def invent(_honest: Answers) -> None:
            done([_invented(batch.workload, given) for given in batch.inputs])

        first = msgspec.structs.replace(batch, inputs=batch.inputs[:1])
        self.inner.submit(first, invent, timeout=timeout)


@dataclass(frozen=True)
class _Bench:
    """A workbench whose executors are wrapped."""

    inner: Workbench
    how: Run
    lane: Callable[[BatchExecutor], BatchExecutor]

    @property
    def catalogue(self) -> Catalogue:
        return self.inner.catalogue

    @property
    def sandbox(self) -> SandboxReport:
        return self.inner.sandbox

    @asynccontextmanager
    async def executor(self, client: str, *, urgent: bool = False) -> AsyncIterator[Executor]:
        async with self.inner.executor(client, urgent=urgent) as inner:
            yield _Computing(inner, self.how)

    @asynccontextmanager
    async def batches(self, client: str) -> AsyncIterator[BatchExecutor]:
        async with self.inner.batches(client) as inner:
            yield self.lane(inner)

    def stats(self) -> dict[str, Any]:
        return self.inner.stats()


def _computing(
    ports: Ports, how: Run, lane: Callable[[BatchExecutor], BatchExecutor] = _Lane
) -> Ports:
    return replace(ports, workbench=_Bench(ports.workbench, how, lane))


@dataclass(frozen=True)
class _Talk:
    """A link on which other things are said."""

    inner: Link[Any]
    ports: Ports
    say: Say

    @property
    def peer_id(self) -> PeerId:
        return self.inner.peer_id

    @property
    def has_room(self) -> bool:
        return False  # what is said instead may take its time

    async def send(self, message: Any) -> None:  # noqa: ANN401 - any protocol's message
        for changed in await self.say(self.ports, message):
            await self.inner.send(changed)

    async def drained(self) -> None:
        await self.inner.drained()

    async def receive(self) -> Any:  # noqa: ANN401 - any protocol's message
        return await self.inner.receive()

    async def aclose(self) -> None:
        await self.inner.aclose()


@dataclass(frozen=True)
class _Net:
    """A net whose links are wrapped."""

    inner: Net
    ports: Ports
    say: Say

    @property
    def peer_id(self) -> PeerId:
        return self.inner.peer_id

    @property
    def addresses(self) -> tuple[str, ...]:
        return self.inner.addresses

    @asynccontextmanager
    async def dial(
        self, peer: PeerAddress, dialect: Dialect[M], *, timeout: float
    ) -> AsyncIterator[Link[M]]:
        async with self.inner.dial(peer, dialect, timeout=timeout) as link:
            yield _Talk(link, self.ports, self.say)

    async def serve(
        self,
        dialect: Dialect[M],
        handler: LinkHandler[M],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> NoReturn:
        async def wrapped(link: Link[M]) -> None:
            await handler(_Talk(link, self.ports, self.say))

        await self.inner.serve(dialect, wrapped, task_status=task_status)
        raise AssertionError("unreachable")

    def stats(self) -> dict[str, Any]:
        return self.inner.stats()


def _talking(ports: Ports, say: Say) -> Ports:
    return replace(ports, net=_Net(ports.net, ports, say))
