"""A client killed at any named point: the same request goes on, and nothing is paid twice."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from deai.client.journal import CRASH_POINTS
from deai.errors import UsageError
from deai.events import TaskPosted
from deai.money import UNIT
from tests.client.support.node import Script
from tests.client.support.world import World, open_world

pytestmark = pytest.mark.world


class Killed(BaseException):
    """Ends a client's life on the spot, as SIGKILL would: nothing cleans up after it."""


async def live_until(world: World, home: Path, point: str) -> bool:
    """One life of a client that dies at `point`; False if it never came there."""

    def crash(reached: str) -> None:
        if reached == point:
            raise Killed

    try:
        async with world.client(home, crash=crash, seed=f"life that ends at {point}") as client:
            handle = await client.submit("matmul-proof", b"", max_fee=UNIT)
            await handle.wait()
    except Killed:
        return True
    return False


def posted(world: World) -> int:
    return sum(isinstance(record.event, TaskPosted) for record in world.chain.records)


@pytest.mark.parametrize("point", CRASH_POINTS)
async def test_a_client_killed_there_goes_on_with_the_same_task(
    point: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    first = Script(releases=True) if point == "seat_reassigned" else Script()
    async with open_world(first, Script(), Script(), *[Script()] * (first.releases)) as world:
        died = False
        for number in range(40):
            # A node that gives seats back must be drawn once for its seat to be reassigned.
            home = tmp_path / str(number)
            before = posted(world)
            died = await live_until(world, home, point)
            if died:
                break
        assert died
        async with world.client(home, seed="the next life") as client:
            handle = await client.submit("matmul-proof", b"", max_fee=UNIT)
            with trio.fail_after(400):
                outcome = await handle.wait()
        assert outcome.ok
        assert posted(world) - before == (1 if point != "ending_saved" else 2)
        assert world.chain.total_tokens() == 10**9 * UNIT


async def test_a_finished_request_starts_anew_without_a_key_and_not_with_one(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(Script(), Script(), Script()) as world, world.client(tmp_path) as client:

        async def run(key: str) -> str:
            handle = await client.submit("matmul-proof", b"", max_fee=UNIT, idempotency_key=key)
            return (await handle.wait()).task_id

        assert await run("") != await run("")
        assert await run("mine") == await run("mine")
        assert await run("mine") != await run("another")
        assert posted(world) == 4


async def test_a_key_that_belongs_to_another_request_is_refused(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(Script(), Script(), Script()) as world, world.client(tmp_path) as client:
        first = await client.submit("matmul-proof", max_fee=UNIT, idempotency_key="k")
        await first.wait()
        second = await client.submit(
            "matmul-proof", params={"seed": 7}, max_fee=UNIT, idempotency_key="k"
        )
        with pytest.raises(UsageError) as caught:
            await second.wait()
        assert caught.value.reason_code == "idempotency_conflict"
        assert posted(world) == 1


async def test_a_client_that_leaves_finds_its_result_later_by_the_task_alone(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    scripts = [Script(seconds=6.0)] * 3
    async with open_world(*scripts) as world:
        async with world.client(tmp_path) as client:
            handle = await client.submit("matmul-proof", b"", max_fee=UNIT, detach=True)
            left = await handle.wait()
            assert left.state == "assigned"
        async with world.client(tmp_path) as client:
            outcome = await client.result(left.task_id[:10])
            assert outcome.ok
            again = await client.result(left.task_id)
            assert again.data == outcome.data
        assert posted(world) == 1


async def test_an_output_that_was_deleted_is_fetched_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_world(Script(), Script(), Script()) as world:
        async with world.client(tmp_path) as client:
            handle = await client.submit("matmul-proof", b"", max_fee=UNIT)
            outcome = await handle.wait()
            Path(outcome.document["result"]["path"]).unlink()
            again = await client.result(outcome.task_id)
            assert again.data == outcome.data
