"""Whole tasks under tol32/1: members judge each other's outputs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import trio.testing

from deai.chain.ledger import Cursor, EventBatch, Ledger
from deai.events import ResultCommitted
from deai.ids import TaskId
from deai.lifecycle import SeatState, TaskState
from deai.tasks import FaultCode, Policy, Task, fault_digest
from node.ports import Ports
from tests.node.support.bench import SmallBench
from tests.node.support.client import ScriptedClient, send_blob
from tests.node.support.names import WINDOW, until
from tests.node.support.world import Provider, World, begin, open_world

pytestmark = pytest.mark.world

Clock = trio.testing.MockClock
SUM = b"1.5 2.5 4"


async def drift(
    world: World, noises: list[float], data: bytes = SUM
) -> tuple[ScriptedClient, list[Provider], Task, TaskId]:
    """A task under tolerance on three nodes that differ by their noise."""
    benches = [SmallBench(noise=noise) for noise in noises]
    return await begin(world, data, benches=benches, workload="drift", policy=Policy.TOL32)


async def test_members_within_tolerance_approve_each_other(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        client, nodes, task, name = await drift(world, [0.0, 1e-4, -1e-4])
        await client.relay_commits(task, [0, 1, 2])
        await client.relay_openings(nodes, name, [0, 1, 2])
        await client.relay_outputs(nodes, name, [0, 1, 2])
        await until(lambda: all(client.heard[name, seat].approval for seat in range(3)))
        masks = [client.heard[name, seat].approval for seat in range(3)]
        assert [one.mask if one else 0 for one in masks] == [0b111] * 3
        await client.finalise(task)
        assert world.view(name).state is TaskState.COMPLETED


async def test_members_judge_while_every_slot_computes_for_somebody_else(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        client, nodes, task, name = await drift(world, [0.0, 1e-4, -1e-4])
        await client.relay_commits(task, [0, 1, 2])
        for node in nodes:
            bench = node.live.ports.workbench
            assert isinstance(bench, SmallBench)
            bench.slots.acquire_on_behalf_of_nowait("somebody else")
        await client.relay_openings(nodes, name, [0, 1, 2])
        await client.relay_outputs(nodes, name, [0, 1, 2])
        await until(lambda: all(client.heard[name, seat].approval for seat in range(3)))


async def test_a_member_outside_tolerance_is_approved_by_nobody(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        client, nodes, task, name = await drift(world, [0.0, 1e-4, 0.5])
        await client.relay_commits(task, [0, 1, 2])
        await client.relay_openings(nodes, name, [0, 1, 2])
        await client.relay_outputs(nodes, name, [0, 1, 2])
        await until(lambda: all(client.heard[name, seat].approval for seat in range(3)))
        masks = [client.heard[name, seat].approval for seat in range(3)]
        assert [one.mask if one else 0 for one in masks] == [0b011, 0b011, 0b100]
        await client.finalise(task)
        view = world.view(name)
        assert [view.attempt(seat).state for seat in range(3)] == [
            SeatState.PAID,
            SeatState.PAID,
            SeatState.FORFEITED,
        ]


async def test_members_judge_and_settle_without_a_client(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        client, nodes, _, name = await drift(world, [0.0, 1e-4, -1e-4])
        await until(lambda: all(node.live.engagements[name].has_input for node in nodes))
        for node in nodes:
            await client.hang_up(node)
        began = world.chain.now
        await until(lambda: world.view(name).is_over)
        assert world.view(name).state is TaskState.COMPLETED
        assert world.chain.now - began < 120
        assert {world.view(name).attempt(seat).state for seat in range(3)} == {SeatState.PAID}


@pytest.mark.slow
async def test_a_withheld_output_does_not_hold_up_the_approvals_of_the_others(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        client, nodes, task, name = await drift(world, [0.0, 1e-4, -1e-4])
        await client.relay_commits(task, [0, 1, 2])
        await until(lambda: all(client.heard[name, seat].opened for seat in range(3)))
        await client.relay_openings(nodes, name, [0, 1, 2])
        await nodes[2].kill()
        await client.relay_outputs(nodes, name, [0, 1])
        await until(lambda: world.view(name).is_over)
        view = world.view(name)
        assert view.state is TaskState.COMPLETED
        assert [view.attempt(seat).state for seat in (0, 1)] == [SeatState.PAID] * 2
        # It opened, so its approval was due; unapproved it is not paid.
        assert view.attempt(2).state is not SeatState.PAID


class Late:
    """A ledger that tells of events so many seconds later."""

    def __init__(self, inner: Ledger, seconds: float) -> None:
        self.inner = inner
        self.seconds = seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    @asynccontextmanager
    async def follow(self, cursor: Cursor | None) -> AsyncIterator[AsyncIterator[EventBatch]]:
        async def later(batches: AsyncIterator[EventBatch]) -> AsyncIterator[EventBatch]:
            async for batch in batches:
                if any(isinstance(one.event, ResultCommitted) for one in batch.records):
                    await trio.sleep(self.seconds)
                yield batch

        async with self.inner.follow(cursor) as batches:
            yield later(batches)


def hears_late(seconds: float) -> Callable[[Ports], Ports]:
    def wrap(ports: Ports) -> Ports:
        return replace(ports, ledger=cast("Ledger", Late(ports.ledger, seconds)))

    return wrap


async def test_a_member_that_hears_late_of_the_last_commitment_still_waits_for_the_outputs(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    late = WINDOW // 4 + 10
    async with open_world(tmp_path) as world:
        nodes = [
            await world.provider(
                f"node-{index}",
                bench=SmallBench(noise=index * 1e-4),
                wrap=hears_late(late) if index == 0 else None,
            )
            for index in range(3)
        ]
        client = await world.client()
        task, spec = client.make(SUM, workload="drift", policy=Policy.TOL32)
        name = await client.engage(nodes, task, spec)
        for node in nodes:
            await client.send_input(node, name, SUM)
        await client.relay_commits(task, [0, 1, 2])
        # All but the late one open at once; it judges when it knows that it may.
        await client.relay_openings(nodes, name, [1, 2])
        await until(lambda: client.heard[name, 0].opened)
        await client.relay_openings(nodes, name, [0])
        await trio.sleep(5)
        assert client.heard[name, 0].approval is None
        await client.relay_outputs(nodes, name, [0, 1, 2])
        await until(lambda: client.heard[name, 0].approval)
        approval = client.heard[name, 0].approval
        assert approval is not None
        assert approval.mask == 0b111


async def test_a_bad_task_needs_no_output_to_be_judged(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        client, nodes, _, name = await drift(world, [0.0, 0.0, 0.0], data=b"bad")
        await until(lambda: all(node.live.engagements[name].has_input for node in nodes))
        for node in nodes:
            await client.hang_up(node)
        await until(lambda: world.view(name).is_over)
        view = world.view(name)
        assert view.settlement is not None
        assert view.settlement.fault
        assert view.settlement.result == fault_digest(name, FaultCode.MALFORMED_INPUT)


async def test_an_output_that_is_not_the_opened_one_is_refused(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        client, nodes, task, name = await drift(world, [0.0, 1e-4, -1e-4])
        await client.relay_commits(task, [0, 1, 2])
        await client.relay_openings(nodes, name, [0, 1, 2])
        await send_blob(await client.link(nodes[0]), name, "output", 1, bytes(8))
        await until(lambda: nodes[0].live.counters["bad_blobs"])
        assert 1 not in nodes[0].live.engagements[name].outputs
