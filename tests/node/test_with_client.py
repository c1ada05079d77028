"""The real client and real nodes, every policy, over a chain and a wire in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import trio.testing

from deai.actions import Action
from deai.chain.ledger import Ledger, Transaction
from deai.chain.memory import DEFAULT_PARAMETERS
from deai.codec import encode_value
from deai.errors import LedgerRejected
from deai.events import TaskPosted
from deai.lifecycle import SeatState
from deai.money import UNIT
from deai.ports import Batch, BatchExecutor, Computation, Failure, Output
from deai.standing import Standing
from devnet import behaviours
from node.ports import Ports
from tests.node.support.bench import SmallBench
from tests.node.support.customer import customer
from tests.node.support.names import until
from tests.node.support.world import open_world
from tests.support.polling import eventually

pytestmark = pytest.mark.world

Clock = trio.testing.MockClock


class Liar:
    """An executor that answers something else."""

    def __init__(self, inner: SmallBench, data: bytes) -> None:
        self.inner = inner
        self.data = data

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    @asynccontextmanager
    async def executor(self, client: str, *, urgent: bool = False) -> AsyncIterator[Any]:
        yield self

    @asynccontextmanager
    async def batches(self, client: str) -> AsyncIterator[Any]:
        async with self.inner.batches(client) as honest:
            yield LyingLane(honest, self.data)

    async def run(
        self, computation: Computation, *, on_progress: Callable[[float], None], timeout: float
    ) -> Output:
        honest = await self.inner.run(computation, on_progress=on_progress, timeout=timeout)
        return msgspec.structs.replace(honest, data=self.data)


class LyingLane:
    """The same for small tasks."""

    def __init__(self, inner: BatchExecutor, data: bytes) -> None:
        self.inner = inner
        self.data = data

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def submit(self, batch: Batch, done: Callable[..., None], *, timeout: float) -> None:
        def lie(honest: Sequence[bytes | Failure]) -> None:
            done([one if isinstance(one, Failure) else self.data for one in honest])

        self.inner.submit(batch, lie, timeout=timeout)


def lying(data: bytes) -> Callable[[Ports], Ports]:
    def wrap(ports: Ports) -> Ports:
        assert isinstance(ports.workbench, SmallBench)
        return replace(ports, workbench=Liar(ports.workbench, data))

    return wrap


@pytest.mark.parametrize(
    ("workload", "policy", "data"),
    [("shout", "exact/1", b"hello"), ("drift", "tol32/1", b"1 2 3"), ("shout", "none/1", b"hello")],
)
async def test_a_task_of_each_policy_completes(
    workload: str, policy: str, data: bytes, tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        for index in range(4):
            await world.provider(f"node-{index}", bench=SmallBench(noise=index * 1e-4))
        async with customer(world, tmp_path / "client") as client:
            began = trio.current_time()
            handle = await client.submit(workload, data, policy=policy, max_fee=UNIT)
            outcome = await handle.wait()
            assert outcome.ok
            assert trio.current_time() - began < 20


async def test_a_liar_is_outvoted_and_loses_its_fee(tmp_path: Path, autojump_clock: Clock) -> None:
    async with open_world(tmp_path) as world:
        await world.provider("node-0")
        await world.provider("node-1")
        liar = await world.provider("node-2", wrap=lying(b"LIES"))
        async with customer(world, tmp_path / "client") as client:
            handle = await client.submit("shout", b"hello", max_fee=UNIT)
            outcome = await handle.wait()
        view = world.view(outcome.task_id)
        states = {one.seat.node: one.state for one in view.attempts}
        assert outcome.ok
        assert states[liar.node_id] is SeatState.FORFEITED


@pytest.mark.parametrize(
    ("behaviour", "bad_is_found"), [(behaviours.lazy, False), (behaviours.wrong_weights, True)]
)
async def test_who_lies_about_tasks_lies_about_small_ones_too(
    behaviour: Callable[[Ports], Ports],
    bad_is_found: bool,
    tmp_path: Path,
    autojump_clock: Clock,
) -> None:
    inputs = [b"room 101", b"bad", b"room 7"]
    batch = Batch(
        workload="shout",
        version=1,
        model="",
        parameters=encode_value({}),
        seed=bytes(32),
        max_units=9,
        inputs=inputs,
    )

    async def compute(ports: Ports) -> list[bytes | Failure]:
        answers: list[bytes | Failure] = []
        async with ports.workbench.batches("client") as lane:
            lane.submit(batch, answers.extend, timeout=9)
        return answers

    seen: list[Ports] = []

    def note(ports: Ports) -> Ports:
        seen.append(ports)
        return ports

    async with open_world(tmp_path) as world:
        await world.provider("node-0", wrap=note)
        honest = await compute(seen[0])
        lies = await compute(behaviour(seen[0]))
    assert [type(one) for one in honest] == [bytes, Failure, bytes]
    assert len(lies) == len(inputs)
    assert lies[0] != honest[0]
    assert lies[2] != honest[2]
    assert isinstance(lies[1], Failure) == bad_is_found


async def test_an_equivocator_loses_stake_and_is_jailed(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        await world.provider("node-0")
        await world.provider("node-1")
        cheat = await world.provider("node-2", wrap=behaviours.equivocator)
        async with customer(world, tmp_path / "client") as client:
            handle = await client.submit("shout", b"hello", max_fee=UNIT)
            outcome = await handle.wait()
            assert outcome.ok

            async def jailed() -> bool:
                record = await world.chain.ledger().node(cheat.node_id)
                return record is not None and record.standing is Standing.JAILED

            await eventually(jailed, 60)
        await until(lambda: "jailed" in cheat.live.problems, seconds=60)
        assert await cheat.live.ports.journal.slashed() == 100 * UNIT
        # Whoever proved it was paid a bounty; nobody honest lost anything.
        for one in world.providers[:2]:
            assert await one.live.ports.journal.slashed() == 0


class Refusals:
    """A ledger that notes what the contract refused."""

    def __init__(self, inner: Ledger, found: list[str]) -> None:
        self.inner = inner
        self.found = found

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def submit(self, action: Action, *, key: str = "") -> Transaction:
        try:
            return await self.inner.submit(action, key=key)
        except LedgerRejected as error:
            self.found.append(f"{type(action).__name__}: {error}")
            raise


@pytest.mark.parametrize(("workload", "data"), [("shout", b"hello"), ("drift", b"1 2 3")])
async def test_nobody_sends_what_the_contract_must_refuse_when_one_copied_its_commitment(
    workload: str, data: bytes, tmp_path: Path, autojump_clock: Clock
) -> None:
    refused: list[str] = []

    def noted(ports: Ports) -> Ports:
        return replace(ports, ledger=cast("Ledger", Refusals(ports.ledger, refused)))

    # Long enough for every turn, and short: each second costs three nodes a dozen looks.
    parameters = msgspec.structs.replace(DEFAULT_PARAMETERS, min_window=100)
    async with open_world(tmp_path, parameters) as world:
        for index in range(2):
            bench = SmallBench(noise=index * 1e-4)
            await world.provider(f"node-{index}", bench=bench, wrap=noted)
        copycat = await world.provider(
            "node-2", wrap=lambda ports: behaviours.copycat(noted(ports))
        )
        async with customer(world, tmp_path / "client") as client:
            ledger = Refusals(client.tools.ledger, refused)
            object.__setattr__(client.tools, "ledger", ledger)
            handle = await client.submit(workload, data, max_fee=UNIT)
            outcome = await handle.wait()
        assert outcome.ok
        view = world.view(outcome.task_id)
        values = [value for _, value in view.commitments]
        assert len(values) == len(set(values)) + 1, "nobody copied"
        paid = {one.seat.node for one in view.attempts if one.state is SeatState.PAID}
        assert paid == {one.node_id for one in world.providers} - {copycat.node_id}
        assert not refused


async def test_a_node_that_dies_is_replaced(tmp_path: Path, autojump_clock: Clock) -> None:
    async with open_world(tmp_path) as world:
        for index in range(4):
            await world.provider(f"node-{index}", bench=SmallBench(seconds=10))
        async with customer(world, tmp_path / "client") as client:
            handle = await client.submit("shout", b"hello", max_fee=UNIT, deadline=300)
            await until(lambda: any(one.live.running for one in world.providers))
            victim = next(one for one in world.providers if one.live.running)
            await victim.kill()
            outcome = await handle.wait()
        view = world.view(outcome.task_id)
        assert outcome.ok
        replaced = [one for one in view.attempts if one.state is SeatState.REPLACED]
        assert [one.seat.node for one in replaced] == [victim.node_id]


async def test_a_client_that_is_killed_gets_the_same_task_and_its_output(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        for index in range(3):
            await world.provider(f"node-{index}", bench=SmallBench(seconds=5))
        async with customer(world, tmp_path / "client") as client:
            await client.submit("shout", b"hello", max_fee=UNIT, idempotency_key="k")
            await until(lambda: any(one.live.running for one in world.providers))
        async with customer(world, tmp_path / "client") as client:
            again = await client.submit("shout", b"hello", max_fee=UNIT, idempotency_key="k")
            outcome = await again.wait()
        assert outcome.ok
        posted = [one for one in world.chain.records if isinstance(one.event, TaskPosted)]
        assert len(posted) == 1
