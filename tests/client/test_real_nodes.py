"""The real client and real nodes together, on the verified fakes of chain and wire."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from deai.client.client import Client
from deai.client.handle import TaskOutcome
from deai.client.journal import CRASH_POINTS
from deai.events import TaskPosted
from deai.money import UNIT
from deai.receipts import read_receipt, verify_receipt
from node.ports import Ports
from tests.client.test_crashes import Killed
from tests.node.support.bench import SmallBench
from tests.node.support.customer import customer
from tests.node.support.world import Provider, World, open_world

pytestmark = pytest.mark.world

TEXT = b"hello there"


async def run(client: Client, workload: str = "shout", data: bytes = TEXT, **options: Any) -> Any:
    options.setdefault("max_fee", UNIT)
    handle = await client.submit(workload, data, **options)
    with trio.fail_after(4000):
        return await handle.wait()


def check(outcome: TaskOutcome) -> None:
    document = outcome.document
    sums = [int(document[name]) for name in ("held", "paid", "refunded", "protocol_fee")]
    assert sum(sums) == int(document["escrowed"])
    receipt = read_receipt(Path(document["receipt"]).read_bytes())
    report = verify_receipt(receipt, outcome.data)
    assert report.ok, [one for one in report.checks if not one.ok]


def states(outcome: TaskOutcome) -> dict[str, str]:
    return {one["node_id"]: one["state"] for one in outcome.document["attempts"]}


async def test_three_nodes_agree_bit_for_bit(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as world:
        for name in ("a", "b", "c"):
            await world.provider(name)
        async with customer(world, tmp_path / "home") as client:
            outcome = await run(client)
            assert outcome.data == b"HELLO THERE"
            assert list(states(outcome).values()) == ["paid"] * 3
            check(outcome)


async def test_outputs_within_tolerance_are_approved_and_one_far_off_is_not(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(tmp_path) as world:
        await world.provider("a", bench=SmallBench(noise=1e-4))
        await world.provider("b", bench=SmallBench(noise=-1e-4))
        far = await world.provider("c", bench=SmallBench(noise=5.0))
        async with customer(world, tmp_path / "home") as client:
            outcome = await run(client, "drift", b"1 2 3")
            assert outcome.ok
            found = states(outcome)
            assert found.pop(far.node_id) == "forfeited"
            assert set(found.values()) == {"paid"}
            check(outcome)


async def test_one_trusted_node_is_enough_without_checks(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(tmp_path) as world:
        await world.provider("a")
        async with customer(world, tmp_path / "home") as client:
            outcome = await run(client, policy="none/1")
            assert outcome.data == b"HELLO THERE"
            check(outcome)


async def test_a_liar_is_outvoted(tmp_path: Path, autojump_clock: MockClock) -> None:
    class Liar(SmallBench):
        async def run(self, computation: Any, *, on_progress: Any, timeout: float) -> Any:
            honest = await super().run(computation, on_progress=on_progress, timeout=timeout)
            return type(honest)(
                data=b"LIES", evidence=b"", units=1, seconds=honest.seconds, measurements={}
            )

    def lie(ports: Ports) -> Ports:
        return replace(ports, workbench=Liar())

    async with open_world(tmp_path) as world:
        await world.provider("a")
        liar = await world.provider("b", wrap=lie)
        await world.provider("c")
        async with customer(world, tmp_path / "home") as client:
            outcome = await run(client)
            assert outcome.data == b"HELLO THERE"
            assert states(outcome)[liar.node_id] == "forfeited"
            check(outcome)


async def test_a_node_killed_while_it_computes_is_replaced(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(tmp_path) as world:
        for name in ("a", "b", "c", "d"):
            await world.provider(name, bench=SmallBench(seconds=8))
        async with customer(world, tmp_path / "home") as client:
            handle = await client.submit("shout", TEXT, max_fee=UNIT, deadline=200)
            victim: Provider | None = None
            async for update in handle.follow():
                if update.kind == "progress" and victim is None:
                    victim = next(p for p in world.providers if p.node_id == update.node)
                    await victim.kill()
            outcome = await handle.wait()
            assert victim is not None
            assert outcome.data == b"HELLO THERE"
            assert states(outcome)[victim.node_id] == "replaced"
            assert list(states(outcome).values()).count("paid") == 3
            check(outcome)


async def test_a_node_that_fails_gives_its_seat_back_and_another_takes_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(tmp_path) as world:
        for name in ("a", "b", "c", "d"):
            await world.provider(name)
        async with customer(world, tmp_path / "home") as client:
            holder: Provider | None = None
            handle = await client.submit("shout", TEXT, max_fee=UNIT, deadline=200)
            async for update in handle.follow():
                if update.kind == "posted":
                    holder = first_holder(world)
                    holder.bench.fail = "out of memory"
            outcome = await handle.wait()
            assert holder is not None
            assert outcome.data == b"HELLO THERE"
            assert states(outcome)[holder.node_id] == "replaced"
            check(outcome)


async def test_an_input_that_only_nodes_find_bad_is_a_result(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    class Trusting(SmallBench):
        def check(self, workload: str, parameters: bytes, data: bytes) -> Any:
            return type(super().check(workload, parameters, b"fine"))(1, len(data))

    async with open_world(tmp_path) as world:
        for name in ("a", "b", "c"):
            await world.provider(name)
        async with customer(world, tmp_path / "home") as client:
            object.__setattr__(client.tools, "catalogue", Trusting())
            outcome = await run(client, data=b"bad")
            assert outcome.state == "failed"
            assert outcome.document["detail"] == "the task itself is bad: malformed_input"


async def test_nodes_finish_a_task_whose_client_left_and_the_output_can_be_fetched(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(tmp_path) as world:
        for name in ("a", "b", "c"):
            await world.provider(name)
        async with customer(world, tmp_path / "home") as client:
            left = await run(client, detach=True)
            assert left.state == "assigned"
        await trio.sleep(3000)
        assert world.view(left.task_id).is_over
        async with customer(world, tmp_path / "home") as client:
            outcome = await client.result(left.task_id)
            assert outcome.data == b"HELLO THERE"


@pytest.mark.parametrize("point", [p for p in CRASH_POINTS if p != "seat_reassigned"])
async def test_a_client_killed_there_goes_on_with_real_nodes(
    point: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    def crash(reached: str) -> None:
        if reached == point:
            raise Killed

    async with open_world(tmp_path) as world:
        for name in ("a", "b", "c"):
            await world.provider(name)
        with pytest.raises(Killed):
            async with customer(world, tmp_path / "home", crash=crash) as client:
                await run(client)
        async with customer(world, tmp_path / "home") as client:
            outcome = await run(client)
            assert outcome.data == b"HELLO THERE"
        posted = sum(isinstance(r.event, TaskPosted) for r in world.chain.records)
        assert posted == (2 if point == "ending_saved" else 1)


def first_holder(world: World) -> Provider:
    """The node that holds seat 0 of the newest task."""
    for record in reversed(world.chain.records):
        committee = getattr(record.event, "committee", None)
        if committee:
            return next(p for p in world.providers if p.node_id == committee[0].node)
    raise AssertionError("nothing was assigned")
