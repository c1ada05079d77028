"""Killed at any named point and started again: the same bytes, nothing lost, nothing said twice."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio.testing

from deai.errors import PeerUnreachable
from deai.ids import TaskId
from deai.lifecycle import SeatState, TaskState
from deai.messages import Accepted, Assigned, Member
from deai.tasks import Policy, Task, TaskSpec
from node.ports import CRASH_POINTS
from tests.node.support.bench import SmallBench
from tests.node.support.client import ScriptedClient
from tests.node.support.names import until
from tests.node.support.world import Provider, World, open_world

pytestmark = pytest.mark.world

Clock = trio.testing.MockClock
WITH_CLIENT = [
    point
    for point in CRASH_POINTS
    if not point.startswith(("approval", "approve", "reveal", "finalise", "commit.sub"))
]
ALONE = ["commit.submitting", "commit.submitted", "opened.journalled", "ended.journalled"]
ALONE_TOLERANCE = ["approval.journalled", "approval.told", "finalise.submitted"]
NOBODY_TALKS = ["reveal.submitted", "approve.submitted"]


async def stay_alive(world: World, provider: Provider) -> None:
    """Start a node again whenever it has died, as a service manager does."""
    while True:
        await provider.stopped.wait()
        await trio.sleep(0.5)
        await provider.start()


async def prove(
    world: World, client: ScriptedClient, nodes: list[Provider], name: TaskId, *, crashed: bool
) -> None:
    """What holds whatever happened to node 0."""
    heard = client.heard[name, 0]
    assert crashed, "the point was never reached"
    assert len(heard.commits) <= 1, "two commitments for one attempt"
    assert len(heard.openings) <= 1, "two results for one attempt"
    view = world.view(name)
    assert view.state is TaskState.COMPLETED
    assert view.attempt(0).state is SeatState.PAID
    await until(lambda: nodes[0].node is not None and not nodes[0].node.engagements)
    days = await nodes[0].live.ports.journal.days()
    settlement = view.attempt(0).settlement
    assert settlement is not None
    assert sum(day.paid for day in days) == settlement.payment


@pytest.mark.parametrize(
    ("point", "times"),
    [(point, 4000) for point in WITH_CLIENT]
    # Small enough for the journal: input and output have no moment of their own.
    + [(p, 1) for p in ("assigned.journalled", "input.journalled", "result.journalled",
                        "output.told", "ended.journalled")],
)  # fmt: skip
async def test_a_node_killed_there_still_finishes_and_is_paid_once(
    point: str, times: int, tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        nodes = [await world.provider(f"node-{i}", bench=SmallBench()) for i in range(3)]
        client = await world.client()
        data = bytes(range(65, 91)) * times
        task, spec = client.make(data)
        name = client.name(task)
        nodes[0].crash_at = point
        world.nursery.start_soon(stay_alive, world, nodes[0])
        accepts = []
        for seat, node in enumerate(nodes):
            accepts.append(await insist(client, node, task, spec, seat))
        await client.post(task, accepts)
        world.nursery.start_soon(keep_telling, client, nodes, name, data)
        await client.relay_commits(task, [0, 1, 2])
        await until(lambda: all(client.heard[name, seat].opened for seat in range(3)))
        world.nursery.start_soon(keep_relaying, client, nodes, name)
        await until(lambda: client.heard[name, 0].output == data.upper())
        if point != "ended.journalled":
            await until(lambda: point in nodes[0].crashes)
        await client.finalise(task)
        if point == "ended.journalled":
            await until(lambda: nodes[0].crashes.count(point) and nodes[0].node is not None)
        await prove(world, client, nodes, name, crashed=point in nodes[0].crashes)


@pytest.mark.parametrize("point", [*ALONE, *ALONE_TOLERANCE, *NOBODY_TALKS])
async def test_a_node_killed_there_finishes_without_a_client(
    point: str, tmp_path: Path, autojump_clock: Clock
) -> None:
    tolerance = point not in ALONE
    async with open_world(tmp_path) as world:
        nodes = [
            await world.provider(f"node-{i}", bench=SmallBench(noise=i * 1e-4)) for i in range(3)
        ]
        client = await world.client()
        data = b"1 2 3"
        task, spec = client.make(
            data,
            workload="drift" if tolerance else "shout",
            policy=Policy.TOL32 if tolerance else Policy.EXACT,
        )
        name = await client.engage(nodes, task, spec)
        if point not in NOBODY_TALKS:
            await client.assigned(nodes, name)
        for node in nodes:
            await client.send_input(node, name, data)
        await until(lambda: all(node.live.engagements[name].has_input for node in nodes))
        nodes[0].crash_at = point
        world.nursery.start_soon(stay_alive, world, nodes[0])
        for node in nodes:
            await client.hang_up(node)
        await until(lambda: world.view(name).is_over)
        await until(lambda: point in nodes[0].crashes)
        if point in NOBODY_TALKS:
            # Outputs never met, so nobody could approve anybody: no winner, and no loss of stake.
            assert world.view(name).is_over
            assert world.view(name).revealed
            return
        await prove(world, client, nodes, name, crashed=True)


async def insist(
    client: ScriptedClient, node: Provider, task: Task, spec: TaskSpec, seat: int
) -> Accepted:
    """Propose until the node, which may be starting again, accepts."""
    with trio.fail_after(120):
        while True:
            try:
                with trio.fail_after(5):
                    reply = await client.propose(node, task, spec, seat)
            except (PeerUnreachable, trio.TooSlowError, AssertionError):
                pass
            else:
                if isinstance(reply, Accepted):
                    return reply
            await client.hang_up(node)
            await trio.sleep(0.5)


async def keep_telling(
    client: ScriptedClient, nodes: list[Provider], name: TaskId, data: bytes
) -> None:
    """Committee and input, again whenever a link was lost, as a client does."""
    members = tuple(Member(seat, p.peer_id, p.address.addresses) for seat, p in enumerate(nodes))
    told: dict[int, object] = {}
    while not client.world.view(name).is_over:
        for seat, node in enumerate(nodes):
            known = client.links.get(node.peer_id)
            if known is not None and told.get(seat) is known:
                continue
            try:
                link = await client.link(node)
                await link.send(Assigned(name, 0, client.committee(name), members))
                await client.resume(node, name)
                if not client.heard[name, seat].committed:
                    await client.send_input(node, name, data)
                told[seat] = link
            except PeerUnreachable:
                continue
        await trio.sleep(0.3)


async def keep_relaying(client: ScriptedClient, nodes: list[Provider], name: TaskId) -> None:
    """Openings to everybody, again and again."""
    while not client.world.view(name).is_over:
        for seat in range(len(nodes)):
            message = client.heard[name, seat].opened
            for other, node in enumerate(nodes):
                if other == seat or message is None:
                    continue
                try:
                    await (await client.link(node)).send(message)
                except PeerUnreachable:
                    continue
        await trio.sleep(0.5)


def test_every_crash_point_is_tried() -> None:
    assert {*WITH_CLIENT, *ALONE, *ALONE_TOLERANCE, *NOBODY_TALKS} == set(CRASH_POINTS)
