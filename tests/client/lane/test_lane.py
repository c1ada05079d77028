"""The public API of the lane against honest nodes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from deai.actions import CloseChannel, RequestClose
from deai.client.lane.book import BookReader
from deai.client.lane.tasks import Task, fair_share, rounded_units
from deai.errors import (
    InsufficientFunds,
    LimitExceeded,
    NotSetUp,
    TaskDeclined,
    UsageError,
    WorkloadFault,
)
from deai.lane.proof import verify_lane_receipt
from deai.lane.receipts import MAX_TASK_BYTES
from deai.money import UNIT
from tests.client.lane.node import Cheat
from tests.client.lane.world import PRICE, QUICK, LaneWorld, lane_world
from tests.client.support.world import signer
from tests.support.polling import until

pytestmark = pytest.mark.world


def paid(world: LaneWorld) -> int:
    """Base units that all nodes hold vouchers for."""
    return sum(a.cumulative for node in world.nodes for a in node.accounts.values())


async def test_a_call_gives_the_output_and_pays_for_it(tmp_path: Path) -> None:
    async with lane_world(tmp_path, Cheat()) as world, world.client() as client:
        async with client.lane("shout", max_fee=UNIT) as lane:
            assert await lane.call(b"hello") == b"HELLO"
            assert await lane.call(b"again") == b"AGAIN"
            assert (lane.tasks, lane.failed) == (2, 0)
        account = world.nodes[0].account
        assert (account.paid, account.cumulative, len(account.due)) == (2, 2 * PRICE, 0)


async def test_a_lone_call_and_its_voucher_wait_for_no_others(tmp_path: Path) -> None:
    patience = replace(QUICK, gap=4.0)
    async with (
        lane_world(tmp_path, Cheat()) as world,
        world.client(patience=patience) as client,
        client.lane("shout", max_fee=UNIT) as lane,
    ):
        with trio.fail_after(4):
            for _ in range(8):
                assert await lane.call(b"alone") == b"ALONE"


async def test_a_node_that_is_stuck_does_not_hold_up_another_lane(tmp_path: Path) -> None:
    patience = replace(QUICK, silent=60)
    async with (
        lane_world(tmp_path, Cheat("silent", places=2), Cheat()) as world,
        world.client(patience=patience) as client,
    ):
        stuck, good = (node.base.node for node in world.nodes)
        async with (
            client.lane("shout", max_fee=UNIT, nodes=[stuck]) as one,
            client.lane("shout", max_fee=UNIT, nodes=[good]) as other,
        ):
            for number in range(5):
                one.start(b"%d" % number, lambda _: None)
            await until(lambda: world.nodes[0].heard.get("Work"))
            with trio.fail_after(10):
                for _ in range(3):
                    await wait_all_tasks_blocked(0.1)  # nobody is awake who would look for work
                    assert await other.call(b"a") == b"A"
            client._hub.sessions[stuck].abandon()


async def test_many_callers_share_messages(tmp_path: Path) -> None:
    async with lane_world(tmp_path, Cheat()) as world, world.client() as client:
        async with client.lane("shout", max_fee=UNIT) as lane:
            for _ in range(3):  # credit grows with what was paid
                assert len([_ async for _ in lane.map([b"x"] * 300)]) == 300
            before = world.nodes[0].heard["Work"]

            async def call(number: int) -> None:
                assert await lane.call(b"call %d" % number) == b"CALL %d" % number

            async with trio.open_nursery() as nursery:
                for number in range(200):
                    nursery.start_soon(call, number)
            assert world.nodes[0].heard["Work"] - before <= 4
        assert paid(world) == 1100 * PRICE


async def test_an_output_is_handed_over_before_it_is_paid(tmp_path: Path) -> None:
    async with lane_world(tmp_path, Cheat()) as world, world.client() as client:
        async with client.lane("shout", max_fee=UNIT) as lane:
            (session,) = lane._hub.sessions.values()
            handed: list[bool] = []
            done = trio.Event()

            def ended(task: Task) -> None:
                handed.append(session.talk.payer.promised.received <= task.index)
                if len(handed) == 300:
                    done.set()

            for number in range(300):
                lane.start(b"%d" % number, ended)
            await done.wait()
            assert all(handed)


def resident() -> int:
    """Bytes that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.slow
async def test_a_hundred_thousand_tasks_pass_in_order_in_bounded_memory(tmp_path: Path) -> None:
    pulled = 0
    seen = 0
    most = 0

    def inputs() -> Iterator[bytes]:
        nonlocal pulled, most
        for number in range(100_000):
            pulled += 1
            most = max(most, pulled - seen)
            yield b"%d" % number

    async with (
        lane_world(tmp_path, Cheat(), fee=10, deposit=UNIT) as world,
        world.client() as client,
    ):
        async with client.lane("shout", max_fee=UNIT) as lane:
            before = 0
            async for output in lane.map(inputs(), in_flight=500):
                assert output == b"%d" % seen
                seen += 1
                if seen % 10_000 == 0:
                    world.nodes[0].computed.clear()
                if seen == 30_000:
                    before = resident()
            assert resident() < before + 12_000_000  # a fifth of a kibibyte for each task since
        assert seen == 100_000
        assert most <= 500 + 1
        assert world.nodes[0].most_asked <= 500
        assert paid(world) == 1_000_000


async def test_results_may_come_as_they_are_ready(tmp_path: Path) -> None:
    async with (
        lane_world(tmp_path, Cheat(seconds=0.02), Cheat()) as world,
        world.client() as client,
    ):
        async with client.lane("shout", max_fee=UNIT) as lane:
            inputs = [b"%d" % n for n in range(300)]
            outputs = [out async for out in lane.map(inputs, ordered=False)]
        assert sorted(outputs) == sorted(inputs)
        fast, slow = len(world.nodes[1].computed), len(world.nodes[0].computed)
        assert fast + slow == 300
        assert slow > 0


async def test_inputs_may_come_later(tmp_path: Path) -> None:
    async def inputs() -> AsyncIterator[bytes]:
        for number in range(50):
            await trio.lowlevel.checkpoint()
            yield b"%d" % number

    async def broken() -> AsyncIterator[bytes]:
        yield b"a"
        raise ValueError("mine")

    async with lane_world(tmp_path, Cheat()) as world, world.client() as client:
        async with client.lane("shout", max_fee=UNIT) as lane:
            assert [out async for out in lane.map(inputs(), in_flight=7)] == [
                b"%d" % n for n in range(50)
            ]
            outputs = lane.map(broken())
            assert await anext(outputs) == b"A"
            with pytest.raises(ValueError, match="mine"):
                await anext(outputs)


async def test_an_input_that_cannot_be_meant_is_not_sent(tmp_path: Path) -> None:
    async with lane_world(tmp_path, Cheat()) as world, world.client() as client:
        async with client.lane("shout", max_fee=UNIT) as lane:
            with pytest.raises(WorkloadFault):
                await lane.call(b"invalid")
            with pytest.raises(LimitExceeded):
                await lane.call(bytes(MAX_TASK_BYTES + 1))
            ended = [task async for task in lane.results([b"a", b"invalid", b"c"])]
            assert [task.output for task in ended] == [b"A", None, b"C"]
            assert isinstance(ended[1].error, WorkloadFault)
            with pytest.raises(UsageError):
                lane.map([], in_flight=0)
        assert paid(world) == 2 * PRICE


async def test_large_inputs_pass_and_are_cut_into_messages(tmp_path: Path) -> None:
    async with lane_world(tmp_path, Cheat()) as world, world.client() as client:
        async with client.lane("shout", max_fee=UNIT) as lane:
            inputs = [bytes([65 + n % 20]) * MAX_TASK_BYTES for n in range(60)]
            assert [out async for out in lane.map(inputs)] == inputs
        assert paid(world) == 60 * PRICE


async def test_leaving_early_pays_for_what_was_received(tmp_path: Path) -> None:
    async with lane_world(tmp_path, Cheat()) as world, world.client() as client:
        async with client.lane("shout", max_fee=UNIT) as lane:
            async for output in lane.map(b"%d" % n for n in range(10_000)):
                if output == b"500":
                    break
        account = world.nodes[0].account
        assert not account.due
        assert 501 * PRICE <= account.cumulative == account.paid * PRICE
        assert account.paid < 3000  # the rest was never asked for


async def test_being_cancelled_pays_for_what_was_received(tmp_path: Path) -> None:
    async with lane_world(tmp_path, Cheat(seconds=0.01)) as world, world.client() as client:
        with trio.move_on_after(0.5) as scope:
            async with client.lane("shout", max_fee=UNIT) as lane:
                async for _ in lane.map(b"%d" % n for n in range(100_000)):
                    pass
        assert scope.cancelled_caught
        account = world.nodes[0].account
        assert account.paid > 0
        assert account.cumulative == account.paid * PRICE
        assert not account.due


async def test_a_caller_that_gives_up_does_not_disturb_the_others(tmp_path: Path) -> None:
    async with lane_world(tmp_path, Cheat(seconds=0.02)) as world, world.client() as client:
        async with client.lane("shout", max_fee=UNIT) as lane:
            with trio.move_on_after(0.001):
                await lane.call(b"never mind")
            assert await lane.call(b"hello") == b"HELLO"


async def test_tasks_are_spread_over_nodes_and_all_of_them_are_paid(tmp_path: Path) -> None:
    async with (
        lane_world(tmp_path, *[Cheat(seconds=0.001)] * 4) as world,
        world.client() as client,
    ):
        async with client.lane("shout", max_fee=UNIT) as lane:
            inputs = [b"%d" % n for n in range(2000)]
            assert [out async for out in lane.map(inputs)] == inputs
            assert len(lane.nodes) == 4
            assert sum(share.tasks for share in lane.shares) == 2000
        assert all(len(node.computed) > 100 for node in world.nodes)
        assert paid(world) == 2000 * PRICE


async def test_a_halted_node_hands_its_tasks_to_another(tmp_path: Path) -> None:
    for code in ("draining", "closing", "paused"):
        async with (
            lane_world(tmp_path / code, Cheat(halt=code, after=30), Cheat()) as world,
            world.client() as client,
        ):
            async with client.lane("shout", max_fee=UNIT) as lane:
                inputs = [b"%d" % n for n in range(500)]
                assert [out async for out in lane.map(inputs)] == inputs
                assert len(lane.nodes) == 1
            assert paid(world) <= 501 * PRICE


async def test_the_reason_of_a_lone_node_reaches_the_user(tmp_path: Path) -> None:
    async with lane_world(tmp_path, Cheat(halt="draining")) as world, world.client() as client:
        async with client.lane("shout", max_fee=UNIT) as lane:
            with pytest.raises(TaskDeclined) as caught:
                await lane.call(b"hello")
            assert caught.value.reason_code == "draining"
    async with (
        lane_world(tmp_path / "b", Cheat(refuse="sandbox")) as world,
        world.client() as client,
    ):
        async with client.lane("shout", max_fee=UNIT) as lane:
            with pytest.raises(TaskDeclined) as caught:
                await lane.call(b"hello")
            assert caught.value.reason_code == "sandbox"


async def test_a_deposit_that_is_used_up_is_said_with_what_helps(tmp_path: Path) -> None:
    async with (
        lane_world(tmp_path, Cheat(), deposit=10 * PRICE) as world,
        world.client() as client,
    ):
        async with client.lane("shout", max_fee=UNIT) as lane:
            ended = [task async for task in lane.results(b"%d" % n for n in range(12))]
            assert [task.error is None for task in ended] == [True] * 10 + [False] * 2
            error = ended[-1].error
            assert error is not None
            assert error.reason_code == "deposit"
            assert f"deai channel top-up {world.nodes[0].base.node}" in error.hint
        assert paid(world) == 10 * PRICE


async def test_deposits_are_added_to_within_the_limit(tmp_path: Path) -> None:
    async with (
        lane_world(tmp_path, Cheat(), deposit=10 * PRICE) as world,
        world.client() as client,
    ):
        async with client.lane("shout", max_fee=UNIT, auto_top_up=25 * PRICE) as lane:
            ended = [task async for task in lane.results(b"%d" % n for n in range(50))]
            assert [task.error is None for task in ended] == [True] * 35 + [False] * 15
        assert (await world.record(world.nodes[0])).deposit == 35 * PRICE
        assert paid(world) == 35 * PRICE


async def test_a_wallet_that_is_empty_is_named(tmp_path: Path) -> None:
    async with (
        lane_world(tmp_path, Cheat(), deposit=700 * UNIT, fee=70 * UNIT) as world,
        world.client() as client,
    ):
        async with client.lane("shout", max_fee=100 * UNIT, auto_top_up=700 * UNIT) as lane:
            ended = [task async for task in lane.results(b"%d" % n for n in range(12))]
            assert [task.error is None for task in ended] == [True] * 10 + [False] * 2
            assert isinstance(ended[-1].error, InsufficientFunds)


async def test_without_an_open_channel_it_says_which_to_open(tmp_path: Path) -> None:
    async with lane_world(tmp_path, Cheat(), deposit=0) as world, world.client() as client:
        node = world.nodes[0]
        with pytest.raises(NotSetUp) as caught:
            async with client.lane("shout", max_fee=UNIT):
                pass
        assert caught.value.reason_code == "no_channel"
        await world.open_channel(node, UNIT)
        with pytest.raises(TaskDeclined) as dear:
            async with client.lane("shout", max_fee=PRICE - 1):
                pass
        assert dear.value.reason_code == "price_below_every_offer"
        payer = world.world.chain.ledger(world.world.payer)
        await payer.submit(RequestClose(world.channel(node)[0], 1))
        with pytest.raises(TaskDeclined) as closing:
            async with client.lane("shout", max_fee=UNIT):
                pass
        assert closing.value.reason_code == "closing"


async def test_only_the_named_nodes_are_asked(tmp_path: Path) -> None:
    async with lane_world(tmp_path, Cheat(), Cheat()) as world, world.client() as client:
        named = world.nodes[1].base.node
        async with client.lane("shout", max_fee=UNIT, nodes=[named]) as lane:
            assert lane.nodes == (named,)
            assert await lane.call(b"hello") == b"HELLO"
        assert not world.nodes[0].computed


async def test_two_lanes_share_a_channel_and_the_last_one_settles(tmp_path: Path) -> None:
    async with lane_world(tmp_path, Cheat()) as world, world.client() as client:
        async with client.lane("shout", max_fee=UNIT) as one:
            async with client.lane("shout", params={"loud": 1}, max_fee=UNIT) as two:
                assert await one.call(b"a") == b"A"
                assert await two.call(b"b") == b"B"
            assert await one.call(b"c") == b"C"
        assert world.nodes[0].links == 1
        assert paid(world) == 3 * PRICE
        async with client.lane("shout", max_fee=UNIT) as again:
            assert await again.call(b"d") == b"D"
        assert paid(world) == 4 * PRICE


async def test_a_result_can_be_proven_offline(tmp_path: Path) -> None:
    async with lane_world(tmp_path, Cheat()) as world, world.client() as client:
        async with client.lane("shout", max_fee=UNIT) as lane:
            results = [await lane.result(b"task %d" % n) for n in range(5)]
            for given in results:
                assert given.fee == PRICE
                receipt = await lane.receipt(given)
                assert receipt is not None
                assert verify_lane_receipt(receipt, given.data, given.output).ok
                assert not verify_lane_receipt(receipt, given.data, b"another").ok
                assert not verify_lane_receipt(receipt, b"another").ok
        reader = BookReader(tmp_path)
        _, id_ = world.channel(world.nodes[0])
        assert all(reader.proof(id_, 1, index) is not None for index in range(5))
        assert reader.proof(id_, 1, 5) is None
        reader.close()


async def test_a_result_of_an_epoch_that_is_over_can_still_be_proven(tmp_path: Path) -> None:
    async with lane_world(tmp_path, Cheat()) as world:
        node = world.nodes[0]
        async with world.client() as client, client.lane("shout", max_fee=UNIT) as lane:
            old = await lane.result(b"old")
            await lane.result(b"older ones have another index")
        owner = world.world.chain.ledger(signer("owner of node-0"))
        await owner.submit(CloseChannel(world.channel(node)[0], 1, node.account.voucher))
        node.accounts.clear()
        await world.open_channel(node, UNIT, epoch=2)
        async with world.client() as client, client.lane("shout", max_fee=UNIT) as lane:
            new = await lane.result(b"new")
            assert (old.terms.epoch, new.terms.epoch, old.index) == (1, 2, new.index)
            for given in (old, new):
                receipt = await lane.receipt(given)
                assert receipt is not None
                assert verify_lane_receipt(receipt, given.data, given.output).ok
                assert receipt.terms.epoch == given.terms.epoch


@pytest.mark.slow
async def test_more_kinds_of_terms_than_a_link_holds_are_agreed_on_new_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deai.client.lane.agreements.MAX_ASKS", 8)
    async with lane_world(tmp_path, Cheat(asks=8), fee=10) as world, world.client() as client:
        async with client.lane("shout", max_fee=UNIT) as busy, trio.open_nursery() as nursery:

            async def one(number: int) -> None:
                lane = client.lane("shout", params={"number": number}, max_fee=UNIT)
                async with lane as mine:
                    assert await mine.call(b"%d" % number) == b"%d" % number
                    assert await mine.call(b"x") == b"X"

            async def go_on() -> None:
                async for _ in busy.map(b"busy" for _ in iter(int, 1)):
                    pass

            with trio.fail_after(60):
                for number in range(12):  # one after the other, beside one that is never done
                    await one(number)
                    if not number:
                        nursery.start_soon(go_on)
                async with trio.open_nursery() as together:
                    for number in range(100, 124):
                        together.start_soon(one, number)
            nursery.cancel_scope.cancel()
        node = world.nodes[0]
        assert node.links > 2
        assert node.account.settled == node.account.cumulative == paid(world)


async def test_inputs_of_many_sizes_need_few_terms_and_pay_little_more(tmp_path: Path) -> None:
    async with lane_world(tmp_path, Cheat()) as world, world.client() as client:
        async with client.lane("shout", max_fee=UNIT) as lane:
            inputs = [b"a" * n for n in range(1, 400)]
            assert [out async for out in lane.map(inputs)] == [data.upper() for data in inputs]
            with pytest.raises(LimitExceeded):
                async with client.lane("shout", max_fee=UNIT, max_units=3) as small:
                    await small.call(b"four")
        assert world.nodes[0].heard["Ask"] < 40


def test_units_are_rounded_up_by_a_quarter_at_most() -> None:
    for units in range(1, 5000):
        rounded = rounded_units(units)
        assert units <= rounded <= units * 5 // 4
    assert len({rounded_units(units) for units in range(1, 1 << 16)}) < 70


def test_shares_are_fair_and_leave_nothing() -> None:
    assert fair_share(1, 0, []) == 1
    assert fair_share(100, 0, [0]) == 50
    assert fair_share(10, 100, [0]) == 0
    assert fair_share(10, 0, [100]) == 10
    waiting, hands = 1000, [3, 70, 0, 12]
    for at in range(4):
        taken = fair_share(waiting, hands[at], hands[at + 1 :])
        waiting, hands[at] = waiting - taken, hands[at] + taken
    assert waiting == 0
