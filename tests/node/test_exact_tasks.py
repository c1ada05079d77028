"""Whole tasks under exact/1 and none/1: three nodes, a chain and a wire in memory."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
import trio.testing

from deai.hashing import leaf
from deai.lifecycle import SeatState, TaskState
from deai.messages import (
    Accepted,
    Assigned,
    BlobChunk,
    BlobHeader,
    DeclinedSeat,
    Opened,
    Propose,
    Refused,
)
from deai.tasks import FaultCode, Policy, fault_digest
from node.planner import INPUT_WAIT
from tests.node.support.bench import SmallBench
from tests.node.support.client import send_blob
from tests.node.support.names import FEE, LEASE, WINDOW, until
from tests.node.support.world import begin, open_world

pytestmark = pytest.mark.world

Clock = trio.testing.MockClock


async def test_three_nodes_and_a_client_complete_a_task(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        client, nodes, task, name = await begin(world)
        await client.relay_commits(task, [0, 1, 2])
        await client.relay_openings(nodes, name, [0, 1, 2])
        await until(lambda: client.heard[name, 0].output == b"HELLO")
        await client.finalise(task)
        assert world.view(name).state is TaskState.COMPLETED
        await until(lambda: not any(node.live.engagements for node in nodes))
        day = (await nodes[0].live.ports.journal.days())[0]
        settlement = world.view(name).attempt(0).settlement
        assert settlement is not None
        assert day.paid == settlement.payment > 0


async def test_nodes_finish_alone_when_the_client_leaves_after_the_input(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        client, nodes, _, name = await begin(world)
        await until(lambda: all(node.live.engagements[name].has_input for node in nodes))
        for node in nodes:
            await client.hang_up(node)
        began = world.chain.now
        await until(lambda: world.view(name).is_over)
        # They committed and opened to each other, so nobody had to wait for the window.
        assert world.view(name).state is TaskState.COMPLETED
        assert world.chain.now - began < 60
        assert {world.view(name).attempt(seat).state for seat in range(3)} == {SeatState.PAID}
        # The client comes back later and still gets what it paid for.
        await client.resume(nodes[1], name)
        await until(lambda: client.heard[name, 1].output == b"HELLO")


@pytest.mark.slow
async def test_a_silent_member_costs_the_others_only_time(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        client, nodes, task, name = await begin(world)
        await client.relay_commits(task, [0, 1, 2])
        await nodes[2].kill()
        await until(lambda: world.view(name).is_over)
        view = world.view(name)
        assert view.state is TaskState.COMPLETED
        assert view.attempt(2).state is SeatState.SILENT
        assert [view.attempt(seat).state for seat in (0, 1)] == [SeatState.PAID] * 2
        assert view.updated.time - view.window_from <= WINDOW + 30
        await until(lambda: client.heard[name, 0].output == b"HELLO")


async def test_an_output_stays_until_enough_openings_agree_with_it(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        client, nodes, task, name = await begin(world, introduce=False, feed=False)
        # No members named and nothing relayed: each node knows its own opening only.
        for node in nodes:
            await client.send_input(node, name, b"hello")
        await client.relay_commits(task, [0, 1, 2])
        await until(lambda: all(client.heard[name, seat].opened for seat in range(3)))
        await trio.sleep(WINDOW // 8)
        assert all(client.heard[name, seat].header is None for seat in range(3))
        # A quarter of the window later they open on chain, and see each other there.
        await until(lambda: client.heard[name, 0].output == b"HELLO")
        assert world.view(name).revealed


async def test_a_seat_whose_input_never_comes_is_given_back(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        client, nodes, _, name = await begin(world, feed=False)
        await until(lambda: world.view(name).released == 0b111)
        view = world.view(name)
        assert INPUT_WAIT < view.updated.time - view.posted.time <= INPUT_WAIT + 3
        await until(lambda: all(client.heard[name, seat].failed for seat in range(3)))
        failed = client.heard[name, 0].failed
        assert failed is not None
        assert failed.code == "no_input"
        assert "no_input" in nodes[0].live.reasons


async def test_an_input_with_another_digest_is_refused_and_the_right_one_still_taken(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        client, nodes, _, name = await begin(world, introduce=False, feed=False)
        link = await client.link(nodes[0])
        await send_blob(link, name, "input", 0, b"jello")
        await until(lambda: any(isinstance(one, Refused) for one in client.replies))
        assert all(one.code == "wrong_digest" for one in client.replies if isinstance(one, Refused))
        # Right header, wrong chunk.
        await link.send(BlobHeader(name, "input", 0, 5, (leaf(b"hello"),)))
        await link.send(BlobChunk(name, "input", 0, 0, b"jello"))
        await trio.sleep(1)
        assert nodes[0].bench.runs == 0
        await link.send(BlobChunk(name, "input", 0, 0, b"hello"))
        await until(lambda: client.heard[name, 0].committed)
        assert nodes[0].live.counters["bad_blobs"] >= 2


async def test_an_input_that_came_with_the_proposal_is_computed_also_after_a_crash(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        client, nodes = await world.client(), [await world.provider(f"node{n}") for n in range(3)]
        task, spec = client.make(b"hello")
        accepts = []
        for seat, node in enumerate(nodes):
            # The second time on a link that has not brought it yet.
            for data in (None, b"hello") if seat == 1 else (b"hello",):
                reply = await client.ask(node, Propose(task, spec, seat, 0, data))
            assert isinstance(reply, Accepted)
            accepts.append(reply)
        await nodes[0].kill()
        await nodes[0].start()
        await client.post(task, accepts)
        name = client.name(task)
        await until(lambda: all(node.live.engagements[name].result for node in nodes))
        assert {node.live.engagements[name].small_output for node in nodes} == {b"HELLO"}


async def test_nothing_runs_for_a_committee_that_is_not_on_chain(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        nodes = [await world.provider(f"node-{i}") for i in range(3)]
        other = await world.provider("other")
        client = await world.client()
        task, spec = client.make(b"hello")
        accepts = [await client.propose(node, task, spec, i) for i, node in enumerate(nodes)]
        late = await client.propose(other, task, spec, 0)
        assert not any(isinstance(one, DeclinedSeat) for one in (*accepts, late))
        # The client assigns the first three and tells the fourth that it has a seat.
        await client.post(task, accepts)  # type: ignore[arg-type]
        name = client.name(task)
        seats = list(client.committee(name))
        seats[0] = msgspec.structs.replace(
            seats[0], node=other.node_id, operator=other.signer.account
        )
        link = await client.link(other)
        await link.send(Assigned(name, 0, tuple(seats), ()))
        await client.send_input(other, name, b"hello")
        await trio.sleep(10)
        assert other.bench.runs == 0
        assert name not in other.live.engagements


async def test_a_node_that_cannot_compute_says_so_and_another_takes_over(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        broken = SmallBench()
        broken.fail = "out of memory"
        nodes = [
            await world.provider("node-0", bench=broken),
            await world.provider("node-1"),
            await world.provider("node-2"),
        ]
        spare = await world.provider("spare")
        client = await world.client()
        task, spec = client.make(b"hello")
        name = await client.engage(nodes, task, spec)
        await client.assigned(nodes, name)
        for node in nodes:
            await client.send_input(node, name, b"hello")
        await until(lambda: client.heard[name, 0].failed)
        await until(lambda: world.view(name).released & 1)
        accept = await client.propose(spare, task, spec, 0, 1)
        assert not isinstance(accept, DeclinedSeat)
        await client.reassign(task, 0, accept)
        nodes[0] = spare
        await client.assigned(nodes, name)
        await client.send_input(spare, name, b"hello")
        await client.relay_commits(task, [0, 1, 2])
        await client.relay_openings(nodes, name, [0, 1, 2])
        await until(lambda: client.heard[name, 0].output == b"HELLO")
        await client.finalise(task)
        assert world.view(name).state is TaskState.COMPLETED
        assert world.view(name).attempt(0).seat.node == spare.node_id


async def test_a_bad_task_ends_with_the_fault_that_all_nodes_found(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        client, nodes, task, name = await begin(world, b"bad")
        await client.relay_commits(task, [0, 1, 2])
        await client.relay_openings(nodes, name, [0, 1, 2])
        wanted = fault_digest(name, FaultCode.MALFORMED_INPUT)
        opened = [client.heard[name, seat].opened for seat in range(3)]
        assert [one.digest if one else None for one in opened] == [wanted] * 3
        await client.finalise(task)
        view = world.view(name)
        assert view.state is TaskState.FAILED
        assert view.settlement is not None
        assert view.settlement.fault
        assert view.money.paid == 3 * (FEE // 10)
        assert client.heard[name, 0].header is None


async def test_an_unchecked_task_is_delivered_by_the_node_itself_without_a_client(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        node = await world.provider("node-0")
        client = await world.client()
        task, spec = client.make(b"hello", policy=Policy.NONE, seats=1)
        name = await client.engage([node], task, spec)
        await client.send_input(node, name, b"hello")
        await until(lambda: node.live.engagements[name].has_input)
        await client.hang_up(node)
        await until(lambda: world.view(name).delivered)
        assert client.heard[name, 0].output is None
        await client.resume(node, name)
        await until(lambda: client.heard[name, 0].output == b"HELLO")
        await until(lambda: world.view(name).is_over)
        assert world.view(name).attempt(0).state is SeatState.PAID


async def test_a_client_relays_an_unchecked_result_and_then_gets_the_output(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        node = await world.provider("node-0")
        client = await world.client()
        task, spec = client.make(b"hello", policy=Policy.NONE, seats=1)
        name = await client.engage([node], task, spec)
        await client.send_input(node, name, b"hello")
        await client.deliver(task)
        await until(lambda: client.heard[name, 0].output == b"HELLO")


async def test_progress_comes_well_within_a_third_of_the_lease(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        client, _, task, name = await begin(
            world, benches=[SmallBench(seconds=25) for _ in range(3)], introduce=False
        )
        await client.relay_commits(task, [0, 1, 2])
        times = [at for at, _ in client.heard[name, 0].progress]
        gaps = [b - a for a, b in pairwise(times)]
        assert len(times) >= 4
        assert max(gaps) < LEASE / 3
        done = [value for _, value in client.heard[name, 0].progress]
        assert done == sorted(done)
        assert done[-1] > 500


async def test_openings_that_fit_no_commitment_are_refused(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with open_world(tmp_path) as world:
        client, nodes, task, name = await begin(world)
        await client.relay_commits(task, [0, 1, 2])
        await until(lambda: client.heard[name, 1].opened)
        true = client.heard[name, 1].opened
        assert true is not None
        forged: Opened = msgspec.structs.replace(true, digest=b"\x07" * 32)
        link = await client.link(nodes[0])
        await link.send(forged)
        await until(lambda: nodes[0].live.counters["bad_openings"])
        unsigned = msgspec.structs.replace(true, signature=bytes(63) + b"\x01")
        await link.send(unsigned)
        await until(lambda: nodes[0].live.counters["bad_openings"] == 2)
        assert client.heard[name, 0].header is None


async def test_a_chain_reorganisation_is_followed(tmp_path: Path, autojump_clock: Clock) -> None:
    async with open_world(tmp_path) as world:
        nodes = [await world.provider(f"node-{i}") for i in range(3)]
        client = await world.client()
        task, spec = client.make(b"hello")
        accepts = [await client.propose(node, task, spec, i) for i, node in enumerate(nodes)]
        restore = world.chain.snapshot()
        await client.post(task, accepts)  # type: ignore[arg-type]
        name = client.name(task)
        await until(lambda: all(node.live.engagements[name].chain for node in nodes))
        restore()
        await until(lambda: not any(node.live.engagements[name].chain for node in nodes))
        await trio.sleep(1)
        await client.post(task, accepts)  # type: ignore[arg-type]
        for node in nodes:
            await client.send_input(node, name, b"hello")
        await client.relay_commits(task, [0, 1, 2])
        assert world.view(name).committed == 0b111
