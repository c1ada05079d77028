"""Nodes that cheat: each is left at once, and is paid for what it did and at most one task."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from deai.errors import DeaiError, NodeFault, ProtocolError, WorkloadFault
from deai.money import UNIT
from tests.client.lane.node import Cheat
from tests.client.lane.world import PRICE, QUICK, LaneWorld, lane_world

pytestmark = pytest.mark.world

HASTY = replace(QUICK, silent=1.0, last=0.5)
LIES = (
    "wrong index",
    "missing result",
    "extra result",
    "the same result twice in a message",
    "other terms",
    "answers twice",
    "fault of nobody",
    "credit to a node",
    "bad window signature",
    "no window signature",
    "receipts for more",
)


@pytest.fixture
def autojump() -> MockClock:
    """A clock that waits for the writer's thread before it jumps."""
    return MockClock(autojump_threshold=0.05)


def check_paid(world: LaneWorld, received: int) -> None:
    """The client promised what it got and one task more, at most."""
    account = world.nodes[0].account
    assert account.cumulative <= (received + 1) * PRICE
    assert account.paid_ahead_most <= PRICE


async def collect(outputs: AsyncIterator[bytes]) -> tuple[list[bytes], DeaiError | None]:
    """What came, and what ended it."""
    got: list[bytes] = []
    try:
        async for output in outputs:
            got.append(output)  # noqa: PERF401 - kept where it raises
    except DeaiError as error:
        return got, error
    return got, None


@pytest.mark.parametrize("after", [0, 200])
@pytest.mark.parametrize("how", LIES)
async def test_a_node_that_lies_gets_no_more_tasks(how: str, after: int, tmp_path: Path) -> None:
    async with (
        lane_world(tmp_path, Cheat(how, after=after)) as world,
        world.client(patience=HASTY) as client,
    ):
        with trio.fail_after(20):
            async with client.lane("shout", max_fee=UNIT) as lane:
                got, error = await collect(lane.map(b"%d" % n for n in range(600)))
                # A result that is left out is seen by the index of the next, or by the silence.
                silent = how == "missing result"
                assert isinstance(error, ProtocolError) or (
                    error is not None and silent and error.reason_code == "silent"
                )
                with pytest.raises(type(error)):  # and it stays so
                    await lane.call(b"one more")
        check_paid(world, len(world.nodes[0].computed))
        assert got == [b"%d" % n for n in range(len(got))]


@pytest.mark.parametrize("how", LIES)
async def test_an_honest_node_does_what_the_liar_did_not(how: str, tmp_path: Path) -> None:
    inputs = [b"%d" % n for n in range(1000)]
    async with (
        lane_world(tmp_path, Cheat(how, after=100), Cheat()) as world,
        world.client(patience=HASTY) as client,
    ):
        with trio.fail_after(20):
            async with client.lane("shout", max_fee=UNIT) as lane:
                assert [output async for output in lane.map(inputs)] == inputs
        honest = world.nodes[1].account
        assert honest.cumulative == honest.paid * PRICE
        check_paid(world, len(world.nodes[0].computed))


async def test_a_node_that_never_answers_is_given_up_and_paid_one_task_at_most(
    tmp_path: Path, autojump: MockClock
) -> None:
    async with lane_world(tmp_path, Cheat("silent")) as world, world.client() as client:
        async with client.lane("shout", max_fee=UNIT) as lane:
            with pytest.raises(DeaiError) as caught:
                await lane.call(b"hello")
            assert caught.value.reason_code == "silent"
        assert world.nodes[0].account.cumulative <= PRICE


async def test_a_node_that_stops_working_is_paid_for_what_it_did(
    tmp_path: Path, autojump: MockClock
) -> None:
    async with lane_world(tmp_path, Cheat("silent", after=300)) as world, world.client() as client:
        async with client.lane("shout", max_fee=UNIT) as lane:
            outputs, error = await collect(lane.map(b"%d" % n for n in range(600)))
            assert error is not None
            assert error.reason_code == "silent"
        account = world.nodes[0].account
        assert len(outputs) * PRICE <= account.cumulative <= (len(outputs) + 1) * PRICE


async def test_a_node_that_swallows_vouchers_is_not_asked_without_end(
    tmp_path: Path, autojump: MockClock
) -> None:
    async with (
        lane_world(tmp_path, Cheat("swallows vouchers", after=10)) as world,
        world.client() as client,
    ):
        async with client.lane("shout", max_fee=UNIT) as lane:
            _, error = await collect(lane.map(b"%d" % n for n in range(100_000)))
            assert error is not None
        account = world.nodes[0].account
        assert account.cumulative <= (len(world.nodes[0].computed) + 1) * PRICE


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("says nothing to terms", "silent"),
        ("hangs up on work", "silent"),
        ("claims a result more", "bad_index"),
    ],
)
async def test_a_node_that_gets_nowhere_is_given_up(
    how: str, code: str, tmp_path: Path, autojump: MockClock
) -> None:
    async with lane_world(tmp_path, Cheat(how)) as world, world.client() as client:
        with trio.fail_after(60), pytest.raises(DeaiError) as caught:
            async with client.lane("shout", max_fee=UNIT) as lane:
                await lane.call(b"hello")
        assert caught.value.reason_code == code
        node = world.nodes[0]
        assert node.links < 40, "a storm of links"
        assert sum(one.cumulative for one in node.accounts.values()) <= PRICE


async def test_an_answer_that_nobody_waits_for_ends_the_session_and_not_the_client(
    tmp_path: Path,
) -> None:
    async with (
        lane_world(tmp_path, Cheat("refuses twice"), Cheat()) as world,
        world.client() as client,
    ):
        with trio.fail_after(20):
            async with client.lane("shout", max_fee=UNIT) as lane:
                inputs = [b"%d" % n for n in range(200)]
                assert [one async for one in lane.map(inputs)] == inputs


async def test_a_node_that_forgets_vouchers_is_not_paid_twice(tmp_path: Path) -> None:
    cheat = Cheat("forgets vouchers", drops_after=200)
    async with lane_world(tmp_path, cheat) as world, world.client() as client:
        with trio.fail_after(20):
            async with client.lane("shout", max_fee=UNIT) as lane:
                _, error = await collect(lane.map(b"%d" % n for n in range(600)))
                assert error is not None
                assert error.reason_code == "node_forgot"
        check_paid(world, len(world.nodes[0].computed))


async def test_a_voucher_of_somebody_else_is_not_adopted(tmp_path: Path) -> None:
    async with (
        lane_world(tmp_path, Cheat("somebody else's voucher")) as world,
        world.client() as client,
    ):
        with trio.fail_after(20), pytest.raises(ProtocolError):
            async with client.lane("shout", max_fee=UNIT) as lane:
                await lane.call(b"hello")
        assert world.nodes[0].account.cumulative == 0


async def test_a_fault_is_the_tasks_own_and_costs_nothing(tmp_path: Path) -> None:
    async with lane_world(tmp_path, Cheat(), Cheat()) as world, world.client() as client:
        async with client.lane("shout", max_fee=UNIT) as lane:
            with pytest.raises(WorkloadFault) as caught:
                await lane.call(b"fault of mine")
            assert caught.value.fault == 7
            assert await lane.call(b"hello") == b"HELLO"
        assert sum(node.account.paid for node in world.nodes) == 1


async def test_a_task_that_nobody_can_do_is_tried_three_times(tmp_path: Path) -> None:
    nodes = [Cheat()] * 4
    async with lane_world(tmp_path, *nodes) as world, world.client() as client:
        async with client.lane("shout", max_fee=UNIT) as lane:
            with pytest.raises(NodeFault):
                await lane.call(b"broken everywhere")
        asked = [node.heard.get("Work", 0) for node in world.nodes]
        assert sorted(asked) == [0, 1, 1, 1]
